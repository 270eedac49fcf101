"""Machine code in memory, by LLVM, which is loaded when it is first needed; `placing.py` does without it."""

import ctypes
import sys

symbols = {}  # what machine code calls by name, and where it stands
_engines = []  # machine code lives as long as its engine


def provide(name, address):
    """Let machine code that is linked from now on find something by its name."""
    symbols[name] = address
    if "llvmlite.binding" in sys.modules:  # Numba may be linking what a user has compiled
        tell_llvm()


def tell_llvm(absent=()):
    """Let LLVM find what was provided; `absent` as of `linked`."""
    from llvmlite import binding

    for name, address in symbols.items():
        binding.add_symbol(name, address)
    for name in absent:  # an engine that misses one leaves all others null
        if not binding.address_of_symbol(name):
            binding.add_symbol(name, address_of_abort())


def address_of_abort():
    """Where what ends the process stands."""
    return ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value


def target_machine():
    """What makes code for this machine; a new one each time, as an engine takes it over."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    features = binding.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True)


def linked(code, symbol, absent=()):
    """The address of the function of an object file in this process; 0 where it is not there.

    absent   names that need not be known, because nobody calls what calls them: the process is aborted if it is
    """
    from llvmlite import binding

    tell_llvm(absent)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(symbol)

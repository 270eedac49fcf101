"""Machine code of a module's functions: from the cache, else compiled by Numba and kept there.

An entry is the object file that LLVM makes of a function that Numba has compiled, behind a line that names its symbol
and its hash. It is valid for one processor type and one version of LLVM, which its name says. Loading one needs
llvmlite alone, so a process that finds all it needs in the cache never imports Numba.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import llvmlite
from llvmlite import binding

from ..symbolic.errors import InternalError
from .load import cache_folder, load, write_whole
from .team import Team

OF_NUMBA: Final = ("numba_", "NRT_")  # reports of exceptions, which kernels never raise
PHASE: Final = "void(int64, int64, CPointer(int64))"
_HERE: Final = Path(__file__).parent
FORMAT: Final = "chainrule object 1"

_engines: list[Any] = []  # machine code lives as long as its engine


def _target() -> Any:
    """A new one each time: an engine takes it over."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    features = binding.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True)


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor, LLVM and Python that machine code is made for, as a short hash."""
    said = [
        binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_process_triple(),
        llvmlite.__version__, ".".join(map(str, binding.llvm_version_info)), *map(str, sys.version_info[:2]),
    ]  # fmt: skip
    return hashlib.sha256("\x00".join(said).encode()).hexdigest()[:12]


class Code:
    """The machine code of some functions, each compiled when its address is first wanted.

    stem       where entries are kept: a path without its ending, named by the hash of the source
    compiled   name -> the function compiled by Numba, as a `cfunc`
    """

    def __init__(self, stem: Path, compiled: Callable[[str], Any]) -> None:
        self.stem, self.compiled = stem, compiled
        self._known: dict[str, int] = {}

    def address(self, name: str) -> int:
        """Where a function's machine code stands."""
        if name not in self._known:
            path = self.stem.with_name(f"{self.stem.name}.{name}.{machine()}.o")
            self._known[name] = _loaded(path) or self._made(name, path)
        return self._known[name]

    def _made(self, name: str, path: Path) -> int:
        function = self.compiled(name)
        entry = _entry(function)
        with suppress(OSError):  # a cache that cannot be written: this process has the code all the same
            write_whole(path, entry, mode=0o600)
        address = _linked(entry)
        if address is None:
            raise InternalError(f"{path}: its own machine code cannot be linked")
        return address


def _entry(function: Any) -> bytes:
    """A cache entry of a compiled function."""
    module = binding.parse_assembly(function.inspect_llvm())
    of_numba = sorted(f.name for f in module.functions if f.is_declaration and f.name.startswith(OF_NUMBA))
    code = _target().emit_object(module)
    head = {"format": FORMAT, "symbol": function.native_name, "of_numba": of_numba}
    head["sha256"] = hashlib.sha256(code).hexdigest()
    return json.dumps(head).encode() + b"\n" + code


@lru_cache(maxsize=1)
def _abort() -> int:
    """What stands in for Numba's reports of exceptions where Numba is not loaded."""
    return ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0


def _loaded(path: Path) -> int | None:
    try:
        entry = None if path.is_symlink() else path.read_bytes()
    except OSError:
        return None
    return None if entry is None else _linked(entry)


def _linked(entry: bytes) -> int | None:
    """The address of an entry's function in this process; None where the entry is damaged."""
    line, _, code = entry.partition(b"\n")
    try:
        head = json.loads(line)
        if head["format"] != FORMAT or head["sha256"] != hashlib.sha256(code).hexdigest():
            return None
        symbol, of_numba = head["symbol"], head["of_numba"]
    except (ValueError, KeyError, TypeError):
        return None
    for name in of_numba:  # all must be known: an engine that misses one leaves the others null
        if not binding.address_of_symbol(name):
            binding.add_symbol(name, _abort())
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol)) or None


@lru_cache(maxsize=1)
def team() -> Team:
    """The threads of this process, and the driver that they run."""
    sources = [_HERE / f"{name}.py" for name in ("control", "driver", "products", "tiles")]
    digest = hashlib.sha256(b"\x00".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return Team(Code(cache_folder() / f"driver_{digest}", _driver))


def _driver(name: str) -> Any:
    from .driver import compiled

    return compiled(name)


def kernels(path: Path) -> Code:
    """The machine code of the phases of a generated module."""

    def compiled(name: str) -> Any:
        from numba import cfunc

        module = load(path)
        return cfunc(PHASE, **module.OPTIONS)(getattr(module, name))

    return Code(path.with_suffix(""), compiled)

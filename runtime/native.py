"""Machine code of a module's functions: from the cache, else compiled by Numba and kept there.

An entry is the object file that LLVM makes of a function that Numba has compiled, behind a line that names its symbol.
It is valid for one type of processor and one version of everything that shapes it, which its name says. Loading one
needs llvmlite alone, so a process that finds all it needs in the cache never imports Numba.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import llvmlite
import numpy as np
from llvmlite import binding

from ..symbolic.errors import InternalError
from .cache import cache_folder, read_entry, turn, write_entry
from .load import load
from .team import Team

OF_NUMBA: Final = ("numba_", "NRT_")  # reports of exceptions, which kernels never raise
PHASE: Final = "void(int64, int64, CPointer(int64))"
OF_RUNNING: Final = ("CACHE", "THREAD", "NUM_THREADS", "WARN")  # settings of Numba that shape no machine code
_HERE: Final = Path(__file__).parent

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
    """The processor, and all that makes machine code for it, as a short hash."""
    names = sorted(n for n in os.environ if n.startswith("NUMBA_") and not n[6:].startswith(OF_RUNNING))
    said = [
        binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_process_triple(),
        llvmlite.__version__, ".".join(map(str, binding.llvm_version_info)), *map(str, sys.version_info[:2]),
        version("numba"), np.__version__, *(f"{name}={os.environ[name]}" for name in names),
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
        with turn(path):
            known = _loaded(path)  # made by another process meanwhile
            if known is not None:
                return known
            entry = _entry(self.compiled(name))
            with suppress(OSError):  # a cache that cannot be written: this process has the code all the same
                write_entry(path, entry)
        address = _linked(entry)
        if address is None:
            raise InternalError(f"{path}: its own machine code cannot be linked")
        return address


def _entry(function: Any) -> bytes:
    """A cache entry of a compiled function."""
    module = binding.parse_assembly(function.inspect_llvm())
    of_numba = sorted(f.name for f in module.functions if f.is_declaration and f.name.startswith(OF_NUMBA))
    code = _target().emit_object(module)
    head = {"symbol": function.native_name, "of_numba": of_numba}
    return json.dumps(head).encode() + b"\n" + code


@lru_cache(maxsize=1)
def _abort() -> int:
    """What stands in for Numba's reports of exceptions where Numba is not loaded."""
    return ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0


def _loaded(path: Path) -> int | None:
    entry = read_entry(path)
    return None if entry is None else _linked(entry)


def _linked(entry: bytes) -> int | None:
    """The address of an entry's function in this process; None where it is not there."""
    line, _, code = entry.partition(b"\n")
    head = json.loads(line)
    for name in head["of_numba"]:  # all must be known: an engine that misses one leaves the others null
        if not binding.address_of_symbol(name):
            binding.add_symbol(name, _abort())
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(head["symbol"])) or None


@lru_cache(maxsize=1)
def team() -> Team:
    """The threads of this process, and the driver that they run."""
    sources = [_HERE / f"{name}.py" for name in ("control", "driver", "products", "tiles")]
    digest = hashlib.sha256(b"\x00".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return Team(Code(cache_folder() / f"driver_{digest}", _driver))


def _driver(name: str) -> Any:
    from .driver import compiled

    return compiled(name)


def kernels(path: Path, source: str) -> Code:
    """The machine code of the phases of a generated module, whose source stands in a file."""

    def compiled(name: str) -> Any:
        from numba import cfunc

        module = load(path, source)
        return cfunc(PHASE, **module.OPTIONS)(getattr(module, name))

    return Code(path.with_suffix(""), compiled)

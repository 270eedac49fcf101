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
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import llvmlite
import numpy as np
from llvmlite import binding

from ..symbolic.errors import InternalError
from .ahead import open_workshop, workshop
from .assembly import Assembled, linked
from .cache import cache_folder, read_entry, turn, write_entry
from .folder import chosen_folder
from .load import load
from .team import Team

OF_NUMBA: Final = ("numba_", "NRT_")  # reports of exceptions, which kernels never raise
PHASE: Final = "void(int64, int64, CPointer(int64))"
OF_RUNNING: Final = ("CACHE", "THREAD", "NUM_THREADS", "WARN")  # settings of Numba that shape no machine code
PRODUCTS: Final = ("chainrule_product_float32", "chainrule_product_float64")
DECLARED: Final = re.compile(r'^declare .*?@"?([\w.$]+)"?\(', flags=re.MULTILINE)
_HERE: Final = Path(__file__).parent


def _numba() -> str:
    """Which Numba there is, by its own file: `importlib.metadata` takes 30 ms to import."""
    found = find_spec("numba")
    file = Path((found and found.origin) or "numba").with_name("_version.py")
    if file.is_absolute() and file.is_file():
        return file.read_text("utf-8")
    from importlib.metadata import version

    return version("numba")


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor, and all that makes machine code for it, as a short hash."""
    names = sorted(n for n in os.environ if n.startswith("NUMBA_") and not n[6:].startswith(OF_RUNNING))
    said = [
        binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_process_triple(),
        llvmlite.__version__, ".".join(map(str, binding.llvm_version_info)), *map(str, sys.version_info[:2]),
        _numba(), np.__version__, *(f"{name}={os.environ[name]}" for name in names),
    ]  # fmt: skip
    return hashlib.sha256("\x00".join(said).encode()).hexdigest()[:12]


def entry_path(stem: Path, name: str) -> Path:
    """Where a function's entry is kept."""
    return stem.with_name(f"{stem.name}.{name}.{machine()}.o")


class Code:
    """The machine code of some functions, each compiled when its address is first wanted.

    stem       where entries are kept: a path without its ending, named by the hash of the source
    compiled   name -> the function compiled by Numba, as a `cfunc`
    order      has functions of these names compiled elsewhere: `order(self, names)`; whether they will be
    """

    def __init__(
        self, stem: Path, compiled: Callable[[str], Any], order: Callable[[Code, list[str]], bool] | None = None
    ) -> None:
        self.stem, self.compiled, self.order = stem, compiled, order
        self._known: dict[str, int] = {}
        self._made: dict[str, bytes] = {}  # compiled, but not linked
        self._ordered: set[str] = set()

    def address(self, name: str) -> int:
        """Where a function's machine code stands."""
        if name not in self._known:
            self.prepare((name,))
            entry = self._made.pop(name, None) or self._entry(name)
            address = _linked(entry)
            if address is None:
                raise InternalError(f"{self.path(name)}: its own machine code cannot be linked")
            self._known[name] = address
        return self._known[name]

    def path(self, name: str) -> Path:
        """Where a function's entry is kept."""
        return entry_path(self.stem, name)

    def prepare(self, names: Iterable[str]) -> None:
        """Compile what is missing, but link nothing yet: what it calls need not be there before it is linked."""
        for name in self.begin(names):
            self._made[name] = self._entry(name)

    def begin(self, names: Iterable[str]) -> list[str]:
        """Have what is missing compiled elsewhere; what cannot be."""
        there = {*self._known, *self._made, *self._ordered}
        missing = [n for n in names if n not in there and not self.path(n).is_file()]
        if missing and self.order is not None and self.order(self, missing):
            self._ordered.update(missing)
            return []
        return missing

    def is_coming(self, name: str) -> bool:
        """Whether a function is still being compiled elsewhere."""
        other = workshop() if name in self._ordered and name not in self._known else None
        return other is not None and other.works_on(self.path(name))

    def _entry(self, name: str) -> bytes:
        """What is kept of a function, made where it is missing."""
        path, other = self.path(name), workshop()
        if other is not None:
            other.wait(path)
        return read_entry(path) or self._compiled(name, path)

    def _compiled(self, name: str, path: Path) -> bytes:
        with turn(path):
            known = read_entry(path)  # made by another process meanwhile
            if known is not None:
                return known
            entry = _entry_of(self.compiled(name))
            with suppress(OSError):  # a cache that cannot be written: this process has the code all the same
                write_entry(path, entry)
        return entry


def _entry_of(function: Any) -> bytes:
    """A cache entry of a compiled function: of Numba's the object file that it would keep itself."""
    if isinstance(function, Assembled):
        symbol, of_numba, code = function.symbol, [], function.code
    else:
        library, symbol = function._library, function.native_name
        _, _, (code, _) = library.serialize_using_object_code()
        of_numba = sorted({name for name in DECLARED.findall(library.get_llvm_str()) if name.startswith(OF_NUMBA)})
    return json.dumps({"symbol": symbol, "of_numba": of_numba}).encode() + b"\n" + code


@lru_cache(maxsize=1)
def _abort() -> int:
    """What stands in for Numba's reports of exceptions where Numba is not loaded."""
    return ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0


def _linked(entry: bytes) -> int | None:
    """The address of an entry's function in this process; None where it is not there."""
    line, _, code = entry.partition(b"\n")
    head = json.loads(line)
    for name in head["of_numba"]:  # all must be known: an engine that misses one leaves the others null
        if not binding.address_of_symbol(name):
            binding.add_symbol(name, _abort())
    return int(linked(code, head["symbol"])) or None


@lru_cache(maxsize=1)
def team() -> Team:
    """The threads of this process, and the driver that they run."""
    return Team(Code(cache_folder() / _name_of_driver(), compiled_of_driver, _order_of_driver))


def _name_of_driver() -> str:
    sources = [_HERE / f"{name}.py" for name in ("assembly", "control", "driver", "products", "tiles")]
    digest = hashlib.sha256(b"\x00".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return f"driver_{digest}"


def prepare_driver(dtype: str) -> None:
    """Have another process compile what a training needs of the driver, if it can and something is missing."""
    team().code.begin((f"product_{dtype}", "alone", "team"))


@lru_cache(maxsize=1)  # it is asked for with every name
def expect_compiling() -> None:
    """Begin the process that compiles, where not even the driver is there: it is ready when the first model is."""
    with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home; it is said where kernels are made
        if not entry_path(chosen_folder() / _name_of_driver(), "alone").is_file():
            open_workshop()


def _order_of_driver(code: Code, names: list[str]) -> bool:
    other = open_workshop()
    return other is not None and other.order(code.stem, {name: code.path(name) for name in names}, None)


def compiled_of_driver(name: str) -> Any:
    """One of the driver's functions, compiled."""
    from .driver import compiled

    return compiled(name)


def kernels(path: Path, source: str, checked: bool = False) -> Code:
    """The machine code of the phases of a generated module, whose source stands in a file.

    checked   it is known to be what the emitter writes
    """

    def compiled(name: str) -> Any:
        from numba import cfunc

        from .lean import Lean, slim

        module = load(path, source, checked)
        slim(module)
        _stand_in(PRODUCTS)
        return cfunc(PHASE, pipeline_class=Lean, **module.OPTIONS)(getattr(module, name))

    def order(code: Code, names: list[str]) -> bool:
        other = open_workshop()
        if other is None:
            return False
        from ..codegen.grammar import check_source

        check_source(source)
        return other.order(code.stem, {name: code.path(name) for name in names}, source)

    return Code(path.with_suffix(""), compiled, order)


def _stand_in(symbols: Iterable[str]) -> None:
    """Let Numba link its own copy of a function, which nobody calls, where what it calls is not there."""
    for symbol in symbols:
        if not binding.address_of_symbol(symbol):
            binding.add_symbol(symbol, _abort())

"""Machine code of a module's functions: from the cache, else compiled by Numba and kept there.

An entry is the object file that LLVM makes of a function that Numba has compiled, behind a line that names its symbol.
It is valid for one type of processor and one version of everything that shapes it, which its name says. Loading one
needs neither Numba nor, on Linux on x86-64, LLVM (`placing.py`), so a process that finds all it needs in the cache
imports none of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ..symbolic.errors import InternalError
from .ahead import open_workshop, workshop
from .cache import cache_folder, read_entry, turn, write_entry
from .folder import chosen_folder
from .linking import tell_llvm
from .load import load
from .placing import linked
from .processor import machine
from .team import Team

OF_NUMBA: Final = ("numba_", "NRT_")  # reports of exceptions, which kernels never raise
PHASE: Final = "void(int64, int64, CPointer(int64))"
PRODUCTS: Final = ("chainrule_product_float32", "chainrule_product_float64")
DECLARED: Final = re.compile(r'^declare .*?@"?([\w.$]+)"?\(', flags=re.MULTILINE)
_HERE: Final = Path(__file__).parent


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
    if not hasattr(function, "native_name"):  # it is `Assembled`
        symbol, of_numba, code = function.symbol, [], function.code
    else:
        library, symbol = function._library, function.native_name
        _, _, (code, _) = library.serialize_using_object_code()
        of_numba = sorted({name for name in DECLARED.findall(library.get_llvm_str()) if name.startswith(OF_NUMBA)})
    return json.dumps({"symbol": symbol, "of_numba": of_numba}).encode() + b"\n" + code


def _linked(entry: bytes) -> int | None:
    """The address of an entry's function in this process; None where it is not there."""
    line, _, code = entry.partition(b"\n")
    head = json.loads(line)
    return int(linked(code, head["symbol"], absent=head["of_numba"])) or None


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
    team().code.begin((f"product_{dtype}", "alone", "shuffle", "team"))


@lru_cache(maxsize=1)  # it is asked for with every name
def expect_compiling() -> None:
    """Where not even the driver is there, have it compiled, for the type that trainers have unless they are told: it
    is ready, and so is what compiles, when the first model is.
    """
    with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home; it is said where kernels are made
        if not entry_path(chosen_folder() / _name_of_driver(), "alone").is_file() and open_workshop() is not None:
            prepare_driver("float32")


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
        tell_llvm(PRODUCTS)  # for Numba's own copy of a function, which nobody calls
        return cfunc(PHASE, pipeline_class=Lean, **module.OPTIONS)(getattr(module, name))

    def order(code: Code, names: list[str]) -> bool:
        other = open_workshop()
        if other is None:
            return False
        if not checked:
            from ..codegen.grammar import check_source

            check_source(source)
        return other.order(code.stem, {name: code.path(name) for name in names}, source)

    return Code(path.with_suffix(""), compiled, order)

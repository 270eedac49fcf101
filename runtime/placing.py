"""Object files put where they can run, without LLVM: to load it takes 46 MB, and a tenth of a start with a full cache.

What LLVM writes for x86-64 in its large code model needs one kind of relocation, the address of a symbol in 64 bits,
and no writable data: that is placed here. Any other object file, and any other system, is left to LLVM (`linking.py`).

System V Application Binary Interface, chapter 4 (object files); its AMD64 supplement, section 4.4 (relocation).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NamedTuple

from . import linking

HEADER: Final = struct.Struct("<7s9xHH20xQ10xHH2x")
MAGIC: Final = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian
OBJECT_FILE, X86_64 = 1, 62
SECTION: Final = struct.Struct("<4xIQ8xQQIIQ8x")
SYMBOLS, ADDENDS, EMPTY, UNWINDING = 2, 4, 8, 0x70000001  # kinds of sections; nothing here is unwound
WRITABLE, IN_MEMORY, EXECUTABLE = 1, 2, 4  # flags of sections
SYMBOL: Final = struct.Struct("<I2xHQ8x")
RELOCATION: Final = struct.Struct("<QIIq")
ADDRESS: Final = 1  # the relocation R_X86_64_64
READ, RUN = 1, 4  # what memory may be used for

_kept: list[mmap.mmap] = []  # machine code lives as long as the memory that it is in


class ForLLVM(Exception):  # noqa: N818  it is no error
    """An object file that is not of the kind that is placed here."""


class Section(NamedTuple):
    """A part of an object file: its place there, and what it belongs to."""

    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int

    @property
    def needed(self) -> bool:
        """Whether it must be in memory."""
        return bool(self.flags & IN_MEMORY) and self.kind != UNWINDING

    @property
    def runs(self) -> bool:
        return bool(self.flags & EXECUTABLE)

    def content(self, code: bytes) -> bytes:
        return code[self.offset : self.offset + self.size]


def linked(code: bytes, symbol: str, absent: Collection[str] = ()) -> int:
    """As `linking.linked`: the address of the function of an object file in this process; 0 where it is not there."""
    with suppress(ForLLVM, OSError):
        return placed(code, symbol, absent)
    return int(linking.linked(code, symbol, absent))


def placed(code: bytes, symbol: str, absent: Collection[str] = ()) -> int:
    """The same, or `ForLLVM`."""
    sections = _sections(code)
    offsets, data, size = _laid_out(sections)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for k, offset in offsets.items():
        if sections[k].kind != EMPTY:
            memory[offset : offset + sections[k].size] = sections[k].content(code)
    starts = {k: start + offset for k, offset in offsets.items()}
    symbols = {k: list(_symbols(code, s, sections, starts)) for k, s in enumerate(sections) if s.kind == SYMBOLS}
    for section in sections:
        if section.kind == ADDENDS and section.info in offsets:
            for at, address in _addresses(section.content(code), symbols[section.link], absent):
                struct.pack_into("<Q", memory, offsets[section.info] + at, address)
    _protect(start, data, READ | RUN)
    _protect(start + data, size - data, READ)
    _kept.append(memory)
    return next((place for table in symbols.values() for name, place in table if name == symbol and place), 0)


def _sections(code: bytes) -> list[Section]:
    if sys.platform != "linux" or len(code) < HEADER.size:
        raise ForLLVM
    magic, kind, machine, at, size, count = HEADER.unpack_from(code)
    if (magic, kind, machine, size) != (MAGIC, OBJECT_FILE, X86_64, SECTION.size):
        raise ForLLVM
    return [Section(*SECTION.unpack_from(code, at + size * k)) for k in range(count)]


def _laid_out(sections: Iterable[Section]) -> tuple[dict[int, int], int, int]:
    """(offsets in memory by the numbers of sections, where what is only read begins, the size of all).

    What runs and what is read stand on pages of their own.
    """
    needed = sorted(((k, s) for k, s in enumerate(sections) if s.needed), key=lambda numbered: not numbered[1].runs)
    if any(s.flags & WRITABLE for _, s in needed):
        raise ForLLVM
    offsets, end, data = {}, 0, 0
    for k, section in needed:
        if not section.runs and not data:
            end = data = _up(end, mmap.PAGESIZE)
        offsets[k] = _up(end, max(section.align, 1))
        end = offsets[k] + section.size
    size = _up(max(end, 1), mmap.PAGESIZE)
    return offsets, data or size, size


def _up(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _symbols(
    code: bytes, table: Section, sections: list[Section], starts: dict[int, int]
) -> Iterator[tuple[str, int | None]]:
    """(name, address) of each symbol; of those that stand elsewhere the address is None."""
    names = sections[table.link].content(code)
    for at, section, offset in SYMBOL.iter_unpack(table.content(code)):
        name = names[at : names.index(b"\0", at)].decode()
        yield name, starts[section] + offset if section in starts else None


def _addresses(
    relocations: bytes, symbols: list[tuple[str, int | None]], absent: Collection[str]
) -> Iterator[tuple[int, int]]:
    """(offset in its section, address to write there) of each relocation."""
    for at, kind, number, more in RELOCATION.iter_unpack(relocations):
        if kind != ADDRESS:
            raise ForLLVM
        name, place = symbols[number]
        yield at, (_outside(name, absent) if place is None else place) + more


def _outside(name: str, absent: Collection[str]) -> int:
    """Where something stands that is not in the object file."""
    if name in linking.symbols:
        return int(linking.symbols[name])
    with suppress(AttributeError, ValueError):
        return ctypes.cast(getattr(_process(), name), ctypes.c_void_p).value or 0
    if name not in absent:
        raise ForLLVM
    llvm: Any = sys.modules.get("llvmlite.binding")  # to which Numba, where it is there, has told its own
    return int((llvm and llvm.address_of_symbol(name)) or linking.address_of_abort())


def _protect(start: int, size: int, use: int) -> None:
    """Say what some pages may be used for from now on."""
    if size and _process().mprotect(start, size, use):
        raise OSError(ctypes.get_errno(), "mprotect")


@lru_cache(maxsize=1)
def _process() -> ctypes.CDLL:
    """What this process knows by name."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return library

"""What `check` found, as a value and as a table for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

DTYPES: Final = ("float64", "float32")
WIDEST: Final = 46  # of a formula in the table
LINE: Final = 110


@dataclass(frozen=True)
class Measured:
    """One formula as it was compiled in one type.

    error     the largest relative error; where given terms cancel, relative to what they add up to without signs
    ulp       the same in units of the last place
    low       the smallest and
    high      the largest size of an argument at which it was tried and was right, with nothing wrong in between
    fault     where it exceeds its bound, and by how much; empty where it holds
    remark    what happens beyond arguments of 1000, which is said and not held against it
    """

    error: float
    ulp: float
    low: float
    high: float
    count: int
    at: str = ""
    fault: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Row:
    """One printed equation: how it was proven, and what its compiled lines compute.

    proven   the largest difference from what it was proven against; None where it is not derived, but written
    """

    number: str
    name: str
    formula: str
    proven: float | None = None
    against: str = ""
    unproven: str = ""
    measured: Mapping[str, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measured", MappingProxyType(dict(self.measured)))

    @property
    def unseen(self) -> bool:
        """Whether it has lines that were to be looked at, and no number that they made could be."""
        return bool(self.measured) and not all(m.count for m in self.measured.values())

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, each naming the formula and the point."""
        place = f"({self.number}) {self.formula}"
        said = [f"{place}: {self.unproven}"] if self.unproven else []
        said += [f"{place}: {dtype}: {m.fault}" for dtype, m in self.measured.items() if m.fault]
        return tuple(said)


@dataclass(frozen=True)
class Whole:
    """A check of whole kernels: what was compared, the largest error, its bound, and where it is exceeded."""

    what: str
    error: float
    bound: float
    fault: str = ""


@dataclass(frozen=True)
class Certificate:
    """All that was found of a model; `holds` where every formula is proven and computed within its bounds.

    rows     one for each printed equation
    wholes   checks of whole kernels
    notes    what was not seen
    """

    title: str
    rows: tuple[Row, ...]
    wholes: tuple[Whole, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """Every formula that does not hold, with the point."""
        return (
            *(f for row in self.rows for f in row.faults),
            *(f"{w.what}: {w.fault}" for w in self.wholes if w.fault),
        )

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The table, what it found, and whether all hold."""
        lines = [self.title, "", *aligned([HEADINGS, *(cells(row) for row in self.rows)]), ""]
        lines += [f"{w.what}: {w.error:.1e} (bound {w.bound:.0e})" for w in self.wholes]
        remarks = list(self._remarks())
        lines += ["", "Beyond arguments of 1000, or the range of the type:", *remarks] if remarks else []
        notes = [*self.notes, *(f"never looked at: ({row.number}) {row.name}" for row in self.rows if row.unseen)]
        lines += ["", *notes] if notes else []
        proven = sum(row.proven is not None for row in self.rows)
        held = sum(any(m.count for m in row.measured.values()) for row in self.rows)
        if self.holds:
            all_hold = f"all hold: {proven} equations proven, the lines of {held} held against 50 digits"
            return "\n".join([*lines, "", all_hold])
        said = [line for fault in self.faults for line in _wrapped(fault)]
        return "\n".join([*lines, "", f"{len(self.faults)} do not hold:", *said])

    def _remarks(self) -> Iterator[str]:
        for row in self.rows:
            for dtype, measured in row.measured.items():
                if measured.remark:
                    yield from _wrapped(f"({row.number}) {row.name}, {dtype}: {measured.remark}")


HEADINGS: Final = ("", "formula", "proven", *(h for d in DTYPES for h in (d, "ulp", "arguments")))


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row."""
    proven = "no" if row.unproven else "" if row.proven is None else "yes"
    found = [cell for dtype in DTYPES for cell in _measured(row.measured.get(dtype))]
    return (f"({row.number})", textwrap.shorten(row.formula, WIDEST, placeholder=" ..."), proven, *found)


def _measured(measured: Measured | None) -> tuple[str, str, str]:
    if measured is None or not measured.count:
        return ("", "", "")
    error = "exact" if measured.error == 0 else f"{measured.error:.0e}"
    low, high = _size(measured.low), _size(measured.high)
    ulp = "0" if measured.error == 0 else f"{measured.ulp:.1f}" if measured.ulp < 100 else f"{measured.ulp:.0f}"
    return (f"{error}{'!' if measured.fault else ''}", ulp, high if low == "0" or low == high else f"{low}..{high}")


def _size(value: float) -> str:
    return "none" if value != value else "0" if value == 0 else f"{value:.0e}".replace("e+0", "e+").replace("e-0", "e-")


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines whose columns are under one another; the first three to the left."""
    rows = list(rows)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            f"{c:<{w}}" if k < 3 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE, initial_indent="  ", subsequent_indent="    ", break_long_words=False)

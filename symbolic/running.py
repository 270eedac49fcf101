"""A whole program in 50 digits, with a bound for what rounding may do to each number: running error analysis.

An entry may be off by what its own line may lose (`PER_LINE` of it, and some units in the last place of every argument,
as much as these do to it) and by what the entries that it reads are off, times its slopes by them (Higham 2002,
chapter 3). A bound is relative to sums of absolute terms, so that a value that cancels is not asked for digits that
no evaluation in that order could give. Second-order terms are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sympy as sp
from mpmath import mp

from .exact import Compiled, Where, compiled, slopes_in, value_in
from .language import SAMPLES, Equation, Kind, Program

PER_LINE: Final[Mapping[str, float]] = {"float64": 1e-12, "float32": 1e-5}  # what a line may be off
UNIT: Final[Mapping[str, float]] = {"float64": 2.0**-52, "float32": 2.0**-23}
LAST_DIGITS: Final = 16  # units in the last place of the arguments, whose effect on the value is allowed
DIGITS: Final = 50

Position = tuple[int, ...]
Table = dict[Position, Any]


@dataclass
class Running:
    """Values of all entries, and bounds of what rounding does to them, type by type.

    margin   how far the nearest kink is
    """

    sizes: Mapping[sp.Symbol, int]
    values: dict[str, Table]
    bounds: dict[str, dict[str, dict[Position, float]]] = field(default_factory=lambda: {d: {} for d in UNIT})
    margin: float = math.inf

    def compute(self, name: str, position: Position, function: Compiled, at: Mapping[Any, int], terms: int = 0) -> Any:
        """Compute one entry and keep it."""
        where = Where({**self.sizes, **at}, self.values, slopes=True)
        made = function(where)
        value, slopes = value_in(made), slopes_in(made)
        effects = [(abs(float(slope)), read) for read, slope in slopes.items() if slope]
        sized = sum(s * abs(float(self.values[n][p])) for s, (n, p) in effects)
        for dtype, known in self.bounds.items():
            carried = sum(s * known.get(n, {}).get(p, 0.0) for s, (n, p) in effects)
            own = PER_LINE[dtype] * abs(float(value)) + (LAST_DIGITS + 2 * terms) * UNIT[dtype] * sized
            known.setdefault(name, {})[position] = carried + own
        self.margin = min(self.margin, float(where.margin))
        self.values.setdefault(name, {})[position] = value
        return value


def run_exactly(program: Program, given: Mapping[str, Table], samples: int) -> Running:
    """Every entry of every equation of a program."""
    sizes = {**program.sizes, SAMPLES: samples}
    running = Running(sizes, {name: dict(table) for name, table in given.items()})
    with mp.workdps(DIGITS):
        for equation in program.equations:
            function = compiled(equation.expr)
            running.values[equation.name] = {}
            terms = terms_of(equation, sizes)
            for position in positions(program, equation.name, samples):
                at = {i.symbol: k for i, k in zip(equation.indices, position, strict=True)}
                value = running.compute(equation.name, position, function, at, terms)
                if equation.kind is Kind.INTEGER:
                    running.values[equation.name][position] = int(value)
    return running


def positions(program: Program, name: str, samples: int) -> list[Position]:
    """All positions of a tensor."""
    return list(itertools.product(*(range(program.size(i.extent, samples)) for i in program.by_name[name].indices)))


def terms_of(equation: Equation, sizes: Mapping[sp.Symbol, int]) -> int:
    """How many terms the sum of an equation has."""
    numbers = {symbol: sp.Integer(size) for symbol, size in sizes.items()}
    limits = getattr(equation.contraction, "limits", ())
    return math.prod(int((high + 1).xreplace(numbers)) for _, _, high in limits) if limits else 0


def work(program: Program, samples: int) -> int:
    """How many terms a program has altogether."""
    sizes = {**program.sizes, SAMPLES: samples}
    count = 0
    for equation in program.equations:
        entries = math.prod(program.size(i.extent, samples) for i in equation.indices)
        count += entries * max(1, terms_of(equation, sizes))
    return count

"""Sums over samples in parts, as lines of source: each block of samples makes its part, and a task adds the parts up.

The parts of all blocks are the rows of one matrix; a sum takes the same columns of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import sympy as sp

from ..symbolic.language import Equation
from .arrays import LINE_BYTES
from .layout import INDENT
from .loops import after_product
from .plan import Plan, Step

LINE = LINE_BYTES // 4  # numbers, of which one begins a cache line if the first does, in either type
ARGUMENTS = ("table", "at", "count", "sum_at")
COMMENT = "the sum of some numbers over all blocks of samples; they begin at the same place in the part of each"
PART, COUNT = sp.Symbol("part", integer=True, nonnegative=True), sp.Symbol("blocks", integer=True, positive=True)
PARTS = sp.IndexedBase("parts")
COUNT_BLOCKS = "blocks = (samples + table[6] - 1)//table[6]"


@dataclass(frozen=True)
class Parts:
    """The sums of a plan that are made in parts.

    item   bytes of a number
    slot   of the matrix of the parts, in the table of addresses
    """

    plan: Plan
    item: int
    slot: int

    def __contains__(self, step: Step) -> bool:
        return step.equation.name in self.places

    @cached_property
    def places(self) -> dict[str, int]:
        """The first column of each sum; all begin at a cache line."""
        places, at = {}, 0
        for step in self.plan.in_parts:
            places[step.equation.name] = at
            at += _in_lines(self._size(step.equation))
        return places

    @property
    def numbers(self) -> int:
        """Columns."""
        return sum(_in_lines(self._size(s.equation)) for s in self.plan.in_parts)

    def _size(self, equation: Equation) -> int:
        return math.prod(self.plan.program.size(i.extent) for i in equation.indices)

    # of a block

    def steps(self) -> list[Step]:
        """What a block of samples makes of each sum."""
        return [replace(s, equation=replace(s.equation, expr=s.equation.contraction)) for s in self.plan.in_parts]

    def address(self) -> str:
        """Where the part of a block begins."""
        return f"part = table[{self.slot}] + task*{self.numbers * self.item}"

    def place(self, name: str) -> str:
        """Where a sum begins in the part of a block."""
        at = self.places[name] * self.item
        return f"part + {at}" if at else "part"

    # of a task

    def view(self) -> str:
        return f"parts = view(table[{self.slot}], (blocks, {self.numbers}), real)"

    def sum_of_a_number(self, step: Step) -> Step:
        """The equation of a single number, with the sum over samples as one over blocks."""
        equation = step.equation
        total = sp.Sum(PARTS[PART, self.places[equation.name]], (PART, 0, COUNT - 1))
        return replace(step, equation=replace(equation, expr=equation.expr.xreplace({equation.contraction: total})))

    def sum_of_an_array(self, step: Step, first: str, count: str, sum_at: str) -> str:
        """The call that adds up some elements of an array, one after the other."""
        at = self.places[step.equation.name]
        return f"summed(table, {f'{at} + ' if at else ''}{first}, {count}, {sum_at})  # ({step.number})"

    def after_sum(self, step: Step) -> Step | None:
        """What is left to do once the sum stands in the array."""
        finished = after_product(step.equation)
        return None if finished is None else replace(step, equation=finished, product=None)

    def function(self) -> list[str]:
        """The lines of `summed`."""
        return [
            "samples = table[0]",
            COUNT_BLOCKS,
            self.view(),
            "total = view(sum_at, (count,), real)",
            "for k in range(count):",
            f"{INDENT}total[k] = parts[0, at + k]",
            "for part in range(1, blocks):",
            f"{INDENT}for k in range(count):",
            f"{INDENT * 2}total[k] += parts[part, at + k]",
        ]


def _in_lines(numbers: int) -> int:
    return -(-numbers // LINE) * LINE

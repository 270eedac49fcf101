"""How right is a number that a kernel computed? Held against the formula in as many digits as it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import mpmath
import numpy as np
import sympy as sp
from mpmath import mp
from numpy.typing import NDArray

from ..symbolic.exact import Compiled, Where, compiled, dependence, settled
from ..symbolic.language import SAMPLES, Equation, Program, elements, name_of, where_of
from ..symbolic.running import LAST_DIGITS, PER_LINE, terms_of

REQUIRED: Final = 1e3  # arguments up to here have to be right; beyond, what happens is said
NEAR: Final = PER_LINE  # a kink that is nearer than this part of what is compared is met
SHARED: Final = "shared with "  # the rule of an equation that a pass gave a name of its own


def spelled_out(expr: sp.Expr, shared: Mapping[str, Equation]) -> sp.Expr:
    """The formula with what is shared between equations written where it is read: its parts may cancel together."""
    for read in elements(expr):
        equation = shared.get(name_of(read))
        if equation is not None:
            at = dict(zip((i.symbol for i in equation.indices), where_of(read), strict=True))
            expr = expr.xreplace({read: spelled_out(equation.expr.xreplace(at), shared)})
    return expr


class Table(Mapping[tuple[int, ...], Any]):
    """An array as a table of exact numbers."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.integer = array, array.dtype.kind == "i"
        self.known: dict[tuple[int, ...], Any] = {}

    def __getitem__(self, position: tuple[int, ...]) -> Any:
        if position not in self.known:
            value = self.array[position] if position else self.array.reshape(-1)[0]
            self.known[position] = int(value) if self.integer else mp.mpf(float(value))
        return self.known[position]

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(np.ndindex(self.array.shape))

    def __len__(self) -> int:
        return self.array.size


@dataclass
class Verdict:
    """What was found of one formula in one type.

    error     the largest, relative to the value; where given terms cancel, to the sum of what each does to it
    ulp       the same in units of the type's precision
    size      arguments are at most this large where all is right, and at least `least`
    fault     where it fails within what is required, and how
    remark    what happens beyond, and where a factor is beyond the range of the type
    """

    name: str
    error: float = 0.0
    count: int = 0
    at: str = ""
    fault: str = ""
    remark: str = ""
    good: list[float] = field(default_factory=list)
    bad: list[float] = field(default_factory=list)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest argument between which all was right."""
        above = [s for s in self.bad if s > 1]
        below = [s for s in self.bad if s <= 1]
        low, high = max(below, default=-1.0), min(above, default=math.inf)
        inside = [s for s in self.good if low < s < high]
        return (min(inside), max(inside)) if inside else (math.nan, math.nan)


class Judge:
    """Holds computed arrays of a program's equations against its formulas."""

    def __init__(self, program: Program, dtype: str, samples: int) -> None:
        self.program, self.dtype = program, dtype
        self.sizes = {**program.sizes, SAMPLES: samples}
        info = np.finfo(dtype)
        self.unit, self.largest, self.tiny = float(info.eps), float(info.max), float(info.tiny)
        self.bound = PER_LINE[dtype]
        self.functions: dict[str, Compiled] = {}
        self.shared = {e.name: e for e in program.equations if e.rule.startswith(SHARED)}
        self.reads: dict[str, list[tuple[str, list[Compiled]]]] = {}

    def look(self, verdict: Verdict, equation: Equation, position: tuple[int, ...], arrays: Mapping[str, Any]) -> None:
        """Hold one entry of an equation against its formula, at the values that it was computed from."""
        function = self._function(equation)
        at = {i.symbol: k for i, k in zip(equation.indices, position, strict=True)}
        where = Where({**self.sizes, **at}, arrays, near=NEAR[self.dtype])
        computed = arrays[equation.name][position]
        close = self._close(computed)
        right = settled(function, where, close)
        arguments = self._arguments(equation, where)
        size = _size(arguments)
        if not mp.isfinite(right) or not math.isfinite(size):
            return
        verdict.count += 1
        error = self._error(right, computed, equation, function, where)
        if error <= self.bound or where.at_kink:
            verdict.good.append(size)
            if error > verdict.error and error <= self.bound:
                verdict.error, verdict.at = error, _words(arguments)
            return
        verdict.bad.append(size)
        beyond = not mp.isfinite(computed) and beyond_range(self._formula(equation), where, self.largest)
        how = "beyond the range of a factor" if beyond else _how(right, computed)
        said = f"{how}: {mp.nstr(computed, 8)} instead of {mp.nstr(right, 8)} at {_words(arguments)}"
        if size <= REQUIRED and not beyond:
            verdict.fault = verdict.fault or said
        else:
            verdict.remark = verdict.remark or said

    def _formula(self, equation: Equation) -> sp.Expr:
        return spelled_out(equation.expr, self.shared)

    def _function(self, equation: Equation) -> Compiled:
        if equation.name not in self.functions:
            self.functions[equation.name] = compiled(self._formula(equation))
        return self.functions[equation.name]

    def _close(self, computed: Any) -> Any:
        return lambda value: bool(mp.isfinite(computed)) and abs(value - computed) <= self.bound * abs(value)

    def _error(self, right: Any, computed: Any, equation: Equation, function: Compiled, where: Where) -> float:
        """The error as a part of the value and of what the terms add up to; above the bound where it is wrong."""
        if isinstance(computed, int):
            return 0.0 if computed == right else math.inf
        if abs(right) > self.largest * (1 - 4 * self.unit):
            return 0.0 if not mp.isfinite(computed) or abs(computed - right) < self.bound * abs(right) else math.inf
        if not mp.isfinite(computed):
            return math.inf
        difference = abs(computed - right)
        if difference <= self.tiny or difference == 0:
            return 0.0
        relative = float(min(difference / abs(right), mp.mpf("1e300"))) if right else math.inf
        if relative <= LAST_DIGITS * self.unit:
            return relative
        depends = dependence(function, where)
        allowed = min((LAST_DIGITS + 2 * terms_of(equation, self.sizes)) * self.unit, self.bound) * depends
        return float(difference / (allowed / self.bound + abs(right))) if depends else relative

    def _arguments(self, equation: Equation, where: Where) -> dict[str, Any]:
        """The real elements that an entry is computed from; of a sum, those of its first term."""
        found: dict[str, Any] = {}
        for name, places in self._reads(equation):
            table = where.values[name]
            try:
                value = table[tuple(int(place(where)) for place in places)]
            except (KeyError, IndexError):
                continue
            if not isinstance(value, int):
                found[name if name not in found else f"{name}'"] = value
        return found

    def _reads(self, equation: Equation) -> list[tuple[str, list[Compiled]]]:
        if equation.name not in self.reads:
            first = {s: 0 for s, _, _ in getattr(equation.contraction, "limits", ())}
            reads = sorted((r.xreplace(first) for r in elements(equation.expr)), key=str)
            self.reads[equation.name] = [(name_of(r), [compiled(w) for w in where_of(r)]) for r in reads]
        return self.reads[equation.name]


def beyond_range(expr: sp.Expr, where: Where, largest: float) -> bool:
    """Whether a factor of a term is itself larger than all numbers of the type, with no other that reads what it reads.

    d**2 exp(s) at s = 90 has no value in float32 for whatever d; exp(z)/(1 + exp(z)) has one in another form.
    """
    if isinstance(expr, sp.Sum):
        (symbol, _, high), *rest = reversed(expr.limits)
        inner = expr.func(expr.function, *reversed(rest)) if rest else expr.function
        count = int(compiled(high)(where)) + 1
        here = ({**where.integers, symbol: k} for k in range(count))
        return any(beyond_range(inner, replace(where, integers=at), largest) for at in here)
    if isinstance(expr, sp.Piecewise):
        return any(beyond_range(value, where, largest) for value, _ in expr.args)
    if not isinstance(expr, sp.Add | sp.Mul):
        return False
    if any(beyond_range(part, where, largest) for part in expr.args):
        return True
    return isinstance(expr, sp.Mul) and any(
        elements(part) and not elements(expr / part) & elements(part) and _larger(part, where, largest)
        for part in expr.args
    )


def _larger(factor: sp.Expr, where: Where, largest: float) -> bool:
    value = settled(compiled(factor), where)
    return bool(mp.isfinite(value) and abs(value) > largest)


def _size(arguments: Mapping[str, Any]) -> float:
    """The size of the largest argument."""
    sizes = [float(abs(v)) if mp.isfinite(v) else math.inf for v in arguments.values()]
    return max(sizes, default=0.0)


def _words(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {mp.nstr(v, 6)}" for name, v in [*arguments.items()][:3]) or "every point"


def _how(right: Any, computed: Any) -> str:
    if not mpmath.isfinite(computed):
        return "overflow"
    if computed == 0 or abs(computed - right) < abs(right) / 2:
        return "cancellation"
    return "wrong"

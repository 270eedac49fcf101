"""Formulas in as many digits as wanted, with their slopes: what kernels and derived equations are held against.

An expression is compiled to a function of positions and values, in mpmath's numbers. With `slopes` every number carries
its derivatives by the elements that it was computed from (by the rules in `RULES`, which SymPy has no part in), so that
a result comes with how much it depends on the last digits of each.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import mpmath
import sympy as sp
from mpmath import mp

from .errors import InternalError
from .functions import ArgMaxOver, MaxOver, erfc, expm1, log1p, sigmoid, softplus
from .language import is_index, name_of, where_of
from .text import expression_text

Entry = tuple[str, tuple[int, ...]]
Compiled = Callable[["Where"], Any]
HUGE: Final = 10**6  # an exponent beyond which nothing is a double, in either direction
DIGITS: Final = (50, 110, 250, 700, 2000)
AGREED: Final = mpmath.mpf("1e-25")
NOTHING: Final = mpmath.mpf("1e-340")  # far below the smallest double


def _exp(u: Any) -> Any:
    return mp.exp(u) if abs(u) <= HUGE else mp.inf if u > 0 else mp.zero


def _cosh(u: Any) -> Any:
    return mp.cosh(u) if abs(u) <= HUGE else mp.inf


def _sinh(u: Any) -> Any:
    return mp.sinh(u) if abs(u) <= HUGE else mp.inf * mp.sign(u)


def _logistic(u: Any) -> Any:
    e = _exp(-abs(u))
    return 1 / (1 + e) if u >= 0 else e / (1 + e)


def _erfc(u: Any) -> Any:
    return mp.erfc(min(u, 10**4))


def _gauss(u: Any) -> Any:
    return 2 / mp.sqrt(mp.pi) * _exp(-(u**2))


RULES: Final[Mapping[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {  # function, derivative
    sp.exp: (_exp, _exp),
    sp.log: (mp.log, lambda u: 1 / u),
    sp.sin: (mp.sin, mp.cos),
    sp.cos: (mp.cos, lambda u: -mp.sin(u)),
    sp.tan: (mp.tan, lambda u: 1 / mp.cos(u) ** 2),
    sp.sinh: (_sinh, _cosh),
    sp.cosh: (_cosh, _sinh),
    sp.tanh: (mp.tanh, lambda u: 1 / _cosh(u) ** 2),
    sp.asin: (mp.asin, lambda u: 1 / mp.sqrt(1 - u**2)),
    sp.acos: (mp.acos, lambda u: -1 / mp.sqrt(1 - u**2)),
    sp.atan: (mp.atan, lambda u: 1 / (1 + u**2)),
    sp.asinh: (mp.asinh, lambda u: 1 / mp.sqrt(1 + u**2)),
    sp.acosh: (mp.acosh, lambda u: 1 / mp.sqrt(u**2 - 1)),
    sp.atanh: (mp.atanh, lambda u: 1 / (1 - u**2)),
    sp.erf: (mp.erf, _gauss),
    sp.erfc: (_erfc, lambda u: -_gauss(u)),
    erfc: (_erfc, lambda u: -_gauss(u)),
    expm1: (lambda u: mp.expm1(u) if abs(u) <= HUGE else _exp(u) - 1, _exp),
    log1p: (mp.log1p, lambda u: 1 / (1 + u)),
    sigmoid: (_logistic, lambda u: _logistic(u) * _logistic(-u)),
    softplus: (lambda u: max(u, 0) + mp.log1p(_exp(-abs(u))), _logistic),
}
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
STEPS: Final[Mapping[type, Callable[[Any], Any]]] = {sp.floor: mp.floor, sp.ceiling: mp.ceil, sp.sign: mp.sign}


@dataclass(frozen=True)
class Dual:
    """A number and its derivatives by elements."""

    value: Any
    slopes: Mapping[Entry, Any]

    def scaled(self, factor: Any) -> dict[Entry, Any]:
        return {entry: factor * slope for entry, slope in self.slopes.items()}


@dataclass
class Where:
    """Where and with what an expression is evaluated, and what was met on the way.

    near    a condition whose sides, which are computed, differ by less than this part of them: at a kink
    sides   condition -> the truth values that it had
    margin  the least difference, not 0, of two sides that were compared: how far the next kink is
    """

    integers: dict[sp.Symbol, int]
    values: Mapping[str, Mapping[tuple[int, ...], Any]]
    slopes: bool = False
    near: Any = 0
    at_kink: bool = False
    sides: dict[str, set[bool]] = field(default_factory=dict)
    margin: Any = mpmath.inf

    def compared(self, left: Any, right: Any) -> None:
        """Keep how far two sides are apart."""
        if left != right and not (isinstance(left, int) and isinstance(right, int)):
            self.margin = min(self.margin, abs(left - right))


def value_in(number: Any) -> Any:
    return number.value if isinstance(number, Dual) else number


def slopes_in(number: Any) -> Mapping[Entry, Any]:
    return number.slopes if isinstance(number, Dual) else {}


def compiled(expr: sp.Basic) -> Compiled:
    """An expression as a function."""
    if isinstance(expr, sp.Indexed) or (isinstance(expr, sp.Symbol) and not is_index(expr)):
        return _read(expr)
    if isinstance(expr, sp.Symbol):
        return lambda where: where.integers[expr]
    if isinstance(expr, sp.Number | sp.NumberSymbol):
        return _constant(expr)
    if isinstance(expr, sp.Add):
        terms = [compiled(a) for a in expr.args]
        return lambda where: total(term(where) for term in terms)
    if isinstance(expr, sp.Mul):
        factors = [compiled(a) for a in expr.args]
        return lambda where: _product([factor(where) for factor in factors])
    if isinstance(expr, sp.Pow):
        base, exponent = compiled(expr.base), compiled(expr.exp)
        return lambda where: _power(base(where), exponent(where))
    if isinstance(expr, sp.Piecewise):
        return _choice(expr)
    if isinstance(expr, sp.Sum | MaxOver | ArgMaxOver):
        return _over(expr)
    if isinstance(expr, sp.KroneckerDelta):
        left, right = (compiled(a) for a in expr.args)
        return lambda where: int(left(where) == right(where))
    if isinstance(expr, sp.Abs):
        inner = compiled(expr.args[0])
        return lambda where: _absolute(inner(where), expr, where)
    if expr.func in STEPS:
        inner, step = compiled(expr.args[0]), STEPS[expr.func]

        def stepped(where: Where) -> int:
            value = value_in(inner(where))
            where.compared(value, 0 if expr.func is sp.sign else mp.nint(value))
            return int(step(value))

        return stepped
    if expr.func in RULES:
        inner, (function, slope) = compiled(expr.args[0]), RULES[expr.func]
        return lambda where: _applied(function, slope, inner(where))
    raise InternalError(f"exact evaluation: no rule for {expr.func.__name__} in {expr}; add one in symbolic/exact.py")


def _read(expr: sp.Expr) -> Compiled:
    name, positions = name_of(expr), [compiled(w) for w in where_of(expr)]

    def read(where: Where) -> Any:
        position = tuple(int(p(where)) for p in positions)
        value = where.values[name][position]
        return Dual(value, {(name, position): 1}) if where.slopes and not isinstance(value, int) else value

    return read


def _constant(expr: sp.Expr) -> Compiled:
    if expr.is_Integer:
        return lambda _: int(expr)
    known: dict[int, Any] = {}

    def constant(_: Where) -> Any:
        digits = mp.dps
        if digits not in known:
            exact = expr.is_Rational
            known[digits] = mp.mpf(expr.p) / expr.q if exact else mp.mpf(str(expr.evalf(digits + 5)))
        return known[digits]

    return constant


def total(numbers: Iterable[Any]) -> Any:
    """The sum of numbers."""
    value: Any = 0
    slopes: dict[Entry, Any] = {}
    for number in numbers:
        value = value + value_in(number)
        for entry, slope in slopes_in(number).items():
            slopes[entry] = slopes.get(entry, 0) + slope
    return Dual(value, slopes) if slopes else value


def _product(factors: list[Any]) -> Any:
    values = [value_in(f) for f in factors]
    value = math.prod(values, start=1)
    parts = []
    for k, factor in enumerate(factors):
        if isinstance(factor, Dual):
            parts.append(Dual(0, factor.scaled(math.prod(values[:k] + values[k + 1 :], start=1))))
    return Dual(value, slopes_in(total(parts))) if parts else value


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of a function, NaN where it has none."""
    try:
        value = function(*arguments)
    except (ZeroDivisionError, ValueError, OverflowError):
        return mp.nan
    return value if not isinstance(value, mp.mpc) else mp.nan


def _raised(base: Any, exponent: Any) -> Any:
    if exponent == mp.mpf(1) / 2:
        return mp.sqrt(base)
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        return base**exponent
    return mp.mpf(base) ** exponent


def _power(base: Any, exponent: Any) -> Any:
    b, p = value_in(base), value_in(exponent)
    value = _guarded(_raised, b, p)
    parts = []
    if isinstance(base, Dual) and p != 0:
        parts.append(Dual(0, base.scaled(p * _guarded(_raised, b, p - 1))))
    if isinstance(exponent, Dual):
        parts.append(Dual(0, exponent.scaled(value * _guarded(mp.log, b))))
    return Dual(value, slopes_in(total(parts))) if parts else value


def _absolute(number: Any, expr: sp.Expr, where: Where) -> Any:
    value = value_in(number)
    where.compared(value, 0)
    where.sides.setdefault(f"{expression_text(expr.args[0])} > 0", set()).add(bool(value > 0))
    return Dual(abs(value), number.scaled(mp.sign(value))) if isinstance(number, Dual) else abs(value)


def _applied(function: Callable[[Any], Any], slope: Callable[[Any], Any], number: Any) -> Any:
    u = mp.mpf(value_in(number))
    value = _guarded(function, u) if mp.isfinite(u) else mp.nan
    return Dual(value, number.scaled(_guarded(slope, u))) if isinstance(number, Dual) else value


def _choice(expr: sp.Piecewise) -> Compiled:
    branches = [(compiled(value), _condition(condition)) for value, condition in expr.args]

    def chosen(where: Where) -> Any:
        for value, condition in branches:
            if condition(where):
                return value(where)
        return mp.nan

    return chosen


def _condition(condition: sp.Basic) -> Callable[[Where], bool]:
    if condition in (sp.true, sp.false):
        return lambda _: bool(condition)
    if isinstance(condition, sp.And | sp.Or):
        parts = [_condition(c) for c in condition.args]
        gather = all if isinstance(condition, sp.And) else any
        return lambda where: gather([part(where) for part in parts])
    if isinstance(condition, sp.Not):
        inner = _condition(condition.args[0])
        return lambda where: not inner(where)
    left, right = compiled(condition.lhs), compiled(condition.rhs)
    computed = any(s.args and not isinstance(s, sp.Indexed) and not s.is_number for s in condition.args)
    compare, key = COMPARISONS[condition.rel_op], expression_text(condition)

    def holds(where: Where) -> bool:
        a, b = value_in(left(where)), value_in(right(where))
        where.compared(a, b)
        if computed and abs(a - b) <= where.near * (abs(a) + abs(b)):
            where.at_kink = True
        found = bool(compare(a, b))
        where.sides.setdefault(key, set()).add(found)
        return found

    return holds


def _over(expr: sp.Expr) -> Compiled:
    *rest, (symbol, _, high) = expr.limits  # the last limits are the outer loop
    inner = compiled(expr.func(expr.function, *rest) if rest else expr.function)
    last = compiled(high)

    def items(where: Where) -> list[Any]:
        before, found = where.integers.get(symbol), []
        for k in range(int(last(where)) + 1):
            where.integers[symbol] = k
            found.append(inner(where))
        if before is None:
            where.integers.pop(symbol, None)
        else:
            where.integers[symbol] = before
        return found

    if isinstance(expr, sp.Sum):
        return lambda where: total(items(where))
    if isinstance(expr, MaxOver):
        return lambda where: max(items(where), key=value_in)  # the first of the largest
    return lambda where: max(enumerate(items(where)), key=lambda pair: value_in(pair[1]))[0]


def settled(function: Compiled, where: Where, close: Callable[[Any], bool] = lambda _: False) -> Any:
    """The value of a formula, right to 25 digits: evaluated with more and more of them until two agree.

    close   whether a first value is what was expected; then it is taken as it is
    """
    before: Any = None
    for digits in DIGITS:
        with mp.workdps(digits):
            value = value_in(function(where))
            if not mp.isfinite(value) or (before is None and value != 0 and close(value)):
                return value
            agreed = before is not None and abs(value - before) <= AGREED * abs(value)
            if agreed or (before is not None and max(abs(value), abs(before)) < NOTHING):
                return value
            before = value
    return mp.nan


def dependence(function: Compiled, where: Where) -> Any:
    """The sum of |x df/dx| over all elements x that a formula reads: what their last digits do to it."""
    exactly = Where(dict(where.integers), where.values, slopes=True)
    with mp.workdps(DIGITS[1]):
        made = function(exactly)
        found = mp.mpf(0)
        for (name, position), slope in slopes_in(made).items():
            found += abs(where.values[name][position] * slope)
    return found if mp.isfinite(found) else mp.mpf(0)

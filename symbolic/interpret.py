"""What a program means: a slow and obvious interpreter, the oracle of every later test.

Values are tables from positions to numbers, `{(0, 1): 2.5, ...}`; a tensor without indices has the position `()`.
`arithmetic` is a module with the elementary functions: `math` for floats, `mpmath` for as many digits as its context
is set to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import sympy as sp

from .errors import InternalError
from .functions import ArgMaxOver, MaxOver, erfc, expm1, log1p, sigmoid, softplus
from .language import SAMPLES, Equation, Program, is_index, name_of, where_of

Table = Mapping[tuple[int, ...], Any]

NAMES = {
    sp.exp: "exp", sp.log: "log", sp.sin: "sin", sp.cos: "cos", sp.tan: "tan", sp.sinh: "sinh", sp.cosh: "cosh",
    sp.tanh: "tanh", sp.asin: "asin", sp.acos: "acos", sp.atan: "atan", sp.asinh: "asinh", sp.acosh: "acosh",
    sp.atanh: "atanh", sp.erf: "erf", sp.erfc: "erfc", erfc: "erfc", expm1: "expm1", log1p: "log1p", sp.floor: "floor",
    sp.ceiling: "ceil",
}  # fmt: skip


def interpret(
    program: Program, given: Mapping[str, Table], samples: int, arithmetic: ModuleType = math
) -> dict[str, dict[tuple[int, ...], Any]]:
    """Compute every equation of a program at every position.

    >>> from .language import Equation, Role, Tensor, index, element
    >>> i = index("i", 2)
    >>> x = Tensor("x", (i,), Role.INPUT)
    >>> double = Equation("d", (i,), 2*x.element)
    >>> interpret(Program((x,), (double,), ("d",)), {"x": {(0,): 1.0, (1,): 3.0}}, samples=1)["d"]
    {(0,): 2.0, (1,): 6.0}
    """
    values: dict[str, dict[tuple[int, ...], Any]] = {name: dict(table) for name, table in given.items()}
    sizes = {**program.sizes, SAMPLES: samples}
    for equation in program.equations:
        values[equation.name] = _table(equation, values, sizes, arithmetic)
    return values


def _table(
    equation: Equation, values: Mapping[str, Table], sizes: Mapping[sp.Symbol, int], arithmetic: ModuleType
) -> dict[tuple[int, ...], Any]:
    ranges = [range(_integer(i.extent, sizes)) for i in equation.indices]
    symbols = [i.symbol for i in equation.indices]
    return {
        position: evaluate(equation.expr, {**sizes, **dict(zip(symbols, position, strict=True))}, values, arithmetic)
        for position in itertools.product(*ranges)
    }


def _integer(expr: sp.Expr, integers: Mapping[sp.Symbol, int]) -> int:
    return int(expr.xreplace({k: sp.Integer(v) for k, v in integers.items()}))


def evaluate(expr: sp.Basic, integers: Mapping[sp.Symbol, int], values: Mapping[str, Table], arithmetic: Any) -> Any:
    """The value of one expression at one position; `integers` binds indices and extents."""

    def value(e: sp.Basic) -> Any:
        return evaluate(e, integers, values, arithmetic)

    def over(e: sp.Expr) -> list[Any]:
        ((symbol, _, high),) = e.limits[:1]
        inner = e.func(e.function, *e.limits[1:]) if len(e.limits) > 1 else e.function
        count = int(value(high)) + 1
        return [evaluate(inner, {**integers, symbol: k}, values, arithmetic) for k in range(count)]

    if isinstance(expr, sp.Indexed) or (isinstance(expr, sp.Symbol) and not is_index(expr)):
        return values[name_of(expr)][tuple(int(value(w)) for w in where_of(expr))]
    if isinstance(expr, sp.Symbol):
        return integers[expr]
    if isinstance(expr, sp.Rational):
        return expr.p if expr.q == 1 else arithmetic_number(arithmetic, expr.p) / expr.q
    if isinstance(expr, sp.Number | sp.NumberSymbol):
        return arithmetic_number(arithmetic, expr)
    if isinstance(expr, sp.Add):
        return sum(value(a) for a in expr.args)
    if isinstance(expr, sp.Mul):
        return math.prod((value(a) for a in expr.args), start=1)
    if isinstance(expr, sp.Pow):
        return _power(value(expr.base), expr.exp, value, arithmetic)
    if isinstance(expr, sp.Piecewise):
        return next(
            (value(e) for e, condition in expr.args if truth(condition, value)),
            arithmetic_number(arithmetic, "nan"),
        )
    if isinstance(expr, sp.Sum):
        return sum(over(expr))
    if isinstance(expr, MaxOver):
        return _largest(over(expr))[0]
    if isinstance(expr, ArgMaxOver):
        return _largest(over(expr))[1]
    if isinstance(expr, sp.KroneckerDelta):
        return int(value(expr.args[0]) == value(expr.args[1]))
    if isinstance(expr, sp.Abs):
        return abs(value(expr.args[0]))
    if isinstance(expr, sp.sign):
        u = value(expr.args[0])
        return (u > 0) - (u < 0)
    if isinstance(expr, sigmoid):
        u = value(expr.args[0])
        e = arithmetic.exp(-abs(u))
        return 1 / (1 + e) if u >= 0 else e / (1 + e)
    if isinstance(expr, softplus):
        u = value(expr.args[0])
        return max(u, 0) + arithmetic.log1p(arithmetic.exp(-abs(u)))
    if expr.func in NAMES:
        return getattr(arithmetic, NAMES[expr.func])(*(value(a) for a in expr.args))
    raise InternalError(f"interpreter: no rule for {expr.func.__name__} in {expr}; add one in symbolic/interpret.py")


def arithmetic_number(arithmetic: Any, number: object) -> Any:
    """A constant in the arithmetic's own numbers."""
    if arithmetic is math:
        return float(str(number)) if isinstance(number, str) else float(number)  # type: ignore[arg-type]
    if isinstance(number, sp.Basic):
        number = number.evalf(arithmetic.mp.dps + 5)
    return arithmetic.mpf(str(number))


def _largest(items: list[Any]) -> tuple[Any, int]:
    """The largest item and the first position where it stands; NaN is larger than any number."""
    best = 0
    for position, item in enumerate(items):
        if item > items[best] or (item != item and items[best] == items[best]):
            best = position
    return items[best], best


def _power(base: Any, exponent: sp.Expr, value: Any, arithmetic: Any) -> Any:
    if exponent == sp.Rational(1, 2):
        return arithmetic.sqrt(base)
    if exponent == -sp.Rational(1, 2):
        return 1 / arithmetic.sqrt(base)
    power = value(exponent)
    if isinstance(base, int) and not (isinstance(power, int) and power >= 0):
        base = arithmetic_number(arithmetic, base)  # 3**-1 of integers would be a float, whatever the arithmetic
    return base**power


def truth(condition: sp.Basic, value: Any) -> bool:
    """The truth of a condition at one position."""
    if condition in (sp.true, sp.false):
        return bool(condition)
    if isinstance(condition, sp.And):
        return all(truth(c, value) for c in condition.args)
    if isinstance(condition, sp.Or):
        return any(truth(c, value) for c in condition.args)
    if isinstance(condition, sp.Not):
        return not truth(condition.args[0], value)
    left, right = value(condition.lhs), value(condition.rhs)
    return {
        "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "==": left == right,
        "!=": left != right,
    }[condition.rel_op]  # fmt: skip

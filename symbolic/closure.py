"""A formula of plain symbols as a Python function: one walk over the SymPy tree builds nested closures.

No source text is made and nothing is evaluated as code; a call costs a few microseconds. `interpret.py` gives
the same values for whole programs; this is for single formulas that are called often: the learning rate of a
step, the scale of an initialiser, one step of an optimiser. What the elementary functions are is the caller's
choice: floats (`FLOATS`, below) or, in the runtime, arrays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import sympy as sp

from .errors import SpecError
from .functions import erfc, expm1, log1p, sigmoid, softplus

Values = Mapping[str, Any]
Closure = Callable[[Values], Any]


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """Elementary functions, the choice among the pieces of a Piecewise, and the three logical connectives."""

    functions: Mapping[type, Callable[..., Any]]
    choose: Callable[[Sequence[tuple[Closure, Closure]]], Closure]
    both: Callable[[Any, Any], Any]
    either: Callable[[Any, Any], Any]
    negate: Callable[[Any], Any]


def _first_that_holds(pieces: Sequence[tuple[Closure, Closure]]) -> Closure:
    def chosen(values: Values) -> Any:
        return next((value(values) for value, holds in pieces if holds(values)), math.nan)

    return chosen


def _sigmoid(z: float) -> float:
    small = math.exp(-abs(z))
    return (1.0 if z >= 0 else small) / (1.0 + small)


FLOATS: Final = Arithmetic(
    functions={
        **{f: getattr(math, f.__name__) for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh,
           sp.tanh, sp.asin, sp.acos, sp.atan, sp.asinh, sp.acosh, sp.atanh, sp.erf, sp.erfc, erfc, sp.floor, expm1,
           log1p)},
        sp.ceiling: math.ceil,
        sp.Abs: abs,
        sp.sign: lambda z: (z > 0) - (z < 0),
        sp.sqrt: math.sqrt,
        sigmoid: _sigmoid,
        softplus: lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    },
    choose=_first_that_holds,
    both=lambda a, b: a and b,
    either=lambda a, b: a or b,
    negate=operator.not_,
)  # fmt: skip

COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@lru_cache(maxsize=1024)
def closure(expr: sp.Basic, arithmetic: Arithmetic = FLOATS) -> Closure:
    """The function from {name: value} to the value of the formula.

    Raises SpecError where the formula holds something that has no value, such as a derivative.

    >>> a, b = sp.symbols("a b", real=True)
    >>> closure(a**2 + sp.sqrt(b))({"a": 3.0, "b": 4.0})
    11.0
    """
    if isinstance(expr, sp.Symbol):
        return operator.itemgetter(expr.name)
    if isinstance(expr, sp.Number | sp.NumberSymbol) and expr.is_finite:
        return _constant(float(expr))
    if expr in (sp.true, sp.false):
        return _constant(bool(expr))
    if isinstance(expr, sp.Piecewise):
        return arithmetic.choose(
            [(closure(value, arithmetic), closure(holds, arithmetic)) for value, holds in expr.args]
        )
    if isinstance(expr, sp.Pow) and abs(expr.exp) == sp.Rational(1, 2):
        root = _applied(arithmetic.functions[sp.sqrt], (closure(expr.base, arithmetic),))
        return root if expr.exp > 0 else _applied(lambda u: 1.0 / u, (root,))
    arguments = tuple(closure(a, arithmetic) for a in expr.args)
    if isinstance(expr, sp.core.relational.Relational):
        return _applied(COMPARISONS[expr.rel_op], arguments)
    folds = {sp.Add: operator.add, sp.Mul: operator.mul, sp.And: arithmetic.both, sp.Or: arithmetic.either}
    if expr.func in folds:
        return _folded(folds[expr.func], arguments)
    if isinstance(expr, sp.Not):
        return _applied(arithmetic.negate, arguments)
    if isinstance(expr, sp.Pow):
        return _applied(operator.pow, arguments)
    if expr.func in arithmetic.functions:
        return _applied(arithmetic.functions[expr.func], arguments)
    what = f'{expr.func.__name__} in "{expr}"'
    raise SpecError(f"formula: {what} has no value; use arithmetic and elementary functions")


def value_of(expr: sp.Basic, values: Mapping[str, float]) -> float:
    """The value of a formula for floats; NaN where it has none (1/0, log of a negative number, an overflow).

    >>> value_of(1/sp.Symbol("x", real=True), {"x": 0.0})
    nan
    """
    try:
        value = closure(expr)(values)
    except (ArithmeticError, ValueError):
        return math.nan
    return math.nan if isinstance(value, complex) else float(value)


def _constant(value: float) -> Closure:
    return lambda values: value


def _applied(function: Callable[..., Any], arguments: tuple[Closure, ...]) -> Closure:
    if len(arguments) == 1:
        (only,) = arguments
        return lambda values: function(only(values))
    if len(arguments) == 2:
        first, second = arguments
        return lambda values: function(first(values), second(values))
    return lambda values: function(*(argument(values) for argument in arguments))


def _folded(function: Callable[[Any, Any], Any], arguments: tuple[Closure, ...]) -> Closure:
    first, *rest = arguments

    def result(values: Values) -> Any:
        value = first(values)
        for argument in rest:
            value = function(value, argument(values))
        return value

    return result

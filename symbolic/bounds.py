"""What SymPy is asked to compute stays small: digits of numbers, exponents, the size and depth of expressions.

SymPy computes (1 + 1e-15)**1000 exactly, multiplies powers of powers out, and proves with minimal polynomials that a
sum of roots is 0. A formula of forty characters can ask for more than a machine has. So every power is looked at
before it is computed, and every result when it has been made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import sympy as sp

from .choices import relation, vanishes
from .errors import SpecError
from .limits import DEEPEST_EXPRESSION, LARGEST_ARGUMENT, LARGEST_EXPONENT, MOST_DIGITS, MOST_PARTS, MOST_TERMS

MOST_BITS: Final = int(MOST_DIGITS * math.log2(10))
FAULTS: Final = (ArithmeticError, NotImplementedError, RecursionError, TypeError, ValueError)  # SymPy's own


def double(constant: sp.Expr) -> float:
    """The value of a constant; infinite or NaN where it has none among the real numbers that a double can hold."""
    try:
        value = sp.N(constant, 15)
        return float(value) if value.is_real else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan


def bounded(expr: sp.Expr) -> sp.Expr:
    """An expression that was just made of bounded ones, or `SpecError`: its value, its numbers, its size."""
    if expr.is_number:
        _check_constant(expr)
    for part in (expr, *expr.args):
        number = part if part.is_Rational else part.exp if part.is_Pow else None
        if number is not None and number.is_Rational:
            if bits(number) > MOST_BITS:
                raise SpecError(f"a number comes to more than {MOST_DIGITS} digits; write it as a decimal number")
            if part.is_Pow and abs(number) > LARGEST_EXPONENT:
                raise SpecError(f"the exponent {_shown(number)} is too large; at most {LARGEST_EXPONENT}")
    size, depth = measured(expr)
    if size > MOST_PARTS:
        raise SpecError(f"it comes to more than {MOST_PARTS} parts; name some of them in equations of their own")
    if depth > DEEPEST_EXPRESSION:
        rule = f"more than {DEEPEST_EXPRESSION} levels; name its parts in equations of their own"
        raise SpecError(f"it is nested too deeply, {rule}")
    return expr


def _check_constant(expr: sp.Expr) -> None:
    if not abs(double(expr)) < math.inf:
        raise SpecError("a constant has no finite real value; stay below 1e308, and take roots of numbers above 0")
    if expr.is_Add and vanishes(expr, expr.args):
        raise SpecError("a constant comes to 0 in 60 digits; write 0")


def bits(number: sp.Rational) -> int:
    """The length of the longer of numerator and denominator."""
    return max(int(number.p).bit_length(), int(number.q).bit_length())


def _shown(number: sp.Expr) -> str:
    text = str(number)
    return text if len(text) <= 20 else f"{text[:16]}..."


def measured(expr: sp.Basic) -> tuple[int, int]:
    """Size and depth of an expression, without recursion; a size beyond the limit is not counted to its end."""
    size = deepest = 0
    todo = [(expr, 1)]
    while todo and size <= MOST_PARTS:
        node, depth = todo.pop()
        size, deepest = size + 1, max(deepest, depth)
        todo += [(a, depth + 1) for a in node.args]
    return size, deepest


def derived_parts(expr: sp.Basic) -> int:
    """About how many parts the derivative of an expression has, by the rules for sums, products and functions.

    >>> a, b, c = sp.symbols("a b c")
    >>> derived_parts(a*b*c), derived_parts(sp.exp(a*b))
    (13, 12)
    """
    return _parts_of_both(expr)[1]


def _parts_of_both(expr: sp.Basic) -> tuple[int, int]:
    """The size of an expression and about that of its derivative."""
    if not expr.args or isinstance(expr, sp.Indexed):
        return 1, 1
    sizes = [_parts_of_both(a) for a in expr.args]
    size = 1 + sum(own for own, _ in sizes)
    if expr.is_Mul:
        return size, 1 + sum(slope + size - own for own, slope in sizes)
    slopes = sum(slope for _, slope in sizes)
    is_linear = expr.is_Add or isinstance(expr, sp.Piecewise | sp.functions.elementary.piecewise.ExprCondPair)
    return size, 1 + slopes if is_linear else 1 + size + slopes


def power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """base**exponent, if it is no larger than a formula needs; else `SpecError`."""
    if exponent.is_number:
        size = abs(double(exponent))
        if not size <= LARGEST_EXPONENT:
            raise SpecError(f"the exponent {_shown(exponent)} is too large; at most {LARGEST_EXPONENT}")
        if base.is_number and base != 0 and size * abs(math.log10(abs(double(base)) or 1.0)) > 300:
            raise SpecError("a power of numbers is too large; stay below 1e300")
        if size * bits(base.as_coeff_Mul()[0]) > MOST_BITS and size > 1:
            raise SpecError(f"a power of numbers comes to more than {MOST_DIGITS} digits; write it as a decimal number")
    return bounded(base**exponent)


def applied(function: Callable[..., sp.Expr], arguments: tuple[sp.Expr, ...]) -> sp.Expr:
    """A function of its arguments; of constants only where SymPy has its value at once."""
    for argument in arguments:
        if function in (sp.floor, sp.ceiling) and argument.is_number and abs(double(argument)) > LARGEST_ARGUMENT:
            raise SpecError(f"a number is too large; floor and ceil take constants below {LARGEST_ARGUMENT:g}")
    return bounded(function(*arguments))


def with_numbers(expr: sp.Expr, values: Mapping[sp.Symbol, sp.Expr], place: str) -> sp.Expr:
    """The expression with numbers for some symbols, within the same bounds as if they had been written in it.

    >>> c = sp.Symbol("c", real=True)
    >>> with_numbers(2*c**c, {c: sp.Integer(3)}, "here")
    54
    >>> with_numbers(c**c, {c: sp.Integer(10)**9}, "here")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: here: the exponent 1000000000 is too large; at most 1000
    """
    try:
        result = _replaced(expr, values)
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None
    except FAULTS:
        raise SpecError(f"{place}: the formula has no value for its constants; change them") from None
    if result.has(sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I):
        raise SpecError(f"{place}: the formula has no finite real value for its constants; look for a division by zero")
    return result


def _replaced(node: Any, values: Mapping[sp.Symbol, sp.Expr]) -> Any:
    if node in values:
        return values[node]
    if not node.args:
        return node
    arguments = [_replaced(a, values) for a in node.args]
    if all(new is old for new, old in zip(arguments, node.args, strict=True)):
        return node
    if isinstance(node, sp.Pow):
        return power(*arguments)
    if isinstance(node, sp.core.relational.Relational):
        return relation(node.func, *arguments)
    if isinstance(node, sp.Expr) and not isinstance(node, sp.Piecewise):
        return applied(node.func, tuple(arguments))
    return node.func(*arguments)


def expanded(expr: sp.Expr) -> sp.Expr:
    """Products of sums multiplied out, or `SpecError` where they are too many: (i + j)**500 has no place in an index.

    >>> i, j = sp.symbols("i j")
    >>> expanded(2*(i + j))
    2*i + 2*j
    """
    if terms_of(expr) > MOST_TERMS:
        raise SpecError(f"an index comes to more than {MOST_TERMS} terms when it is multiplied out; write it shorter")
    return sp.expand(expr)


def expanded_if_short(expr: sp.Expr) -> sp.Expr:
    """Products of sums multiplied out where they are few, else the expression as it is."""
    return sp.expand(expr) if terms_of(expr) <= MOST_TERMS else expr


def terms_of(expr: sp.Expr) -> int:
    """At most how many terms there are once products of sums are multiplied out; the limit itself if still more."""
    most = MOST_TERMS + 1
    if expr.is_Add:
        return min(sum(terms_of(a) for a in expr.args), most)
    if expr.is_Mul:
        count = 1
        for a in expr.args:
            count = min(count * terms_of(a), most)
        return count
    if expr.is_Pow and expr.exp.is_Rational and abs(expr.exp) > 1:
        inner, exponent = terms_of(expr.base), int(abs(expr.exp))
        return min(math.comb(inner + exponent - 1, exponent), most) if inner < most else most
    return max([1, *(terms_of(a) for a in expr.args if isinstance(a, sp.Expr))])

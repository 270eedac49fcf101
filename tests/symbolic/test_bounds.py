"""What arithmetic makes of numbers and formulas stays small, or is refused."""

import math
from collections.abc import Callable

import pytest
import sympy as sp

from chainrule.symbolic.bounds import bits, bounded, double
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.limits import DEEPEST_EXPRESSION, LARGEST_EXPONENT, MOST_PARTS

Z = sp.Symbol("z", real=True)


def nested(levels: int) -> sp.Expr:
    made: sp.Expr = Z
    for _ in range(levels):
        made = sp.sin(made)
    return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.Integer(10) ** 400, "no finite real value"),
        (lambda: sp.sqrt(-2), "no finite real value"),
        (lambda: Z * sp.Integer(10) ** 1200, "more than 1000 digits"),
        (lambda: Z ** (LARGEST_EXPONENT + 1), "the exponent 1001 is too large; at most 1000"),
        (lambda: Z ** (-LARGEST_EXPONENT - 1), "the exponent -1001 is too large"),
        (lambda: Z ** sp.Integer(10) ** 40, "the exponent 1000000000000000... is too large"),
        (lambda: sp.sqrt(2) * sp.sqrt(3) - sp.sqrt(6) + sp.sin(1) ** 2 + sp.cos(1) ** 2 - 1, "comes to 0 in 60 digits"),
        (lambda: nested(DEEPEST_EXPRESSION + 1), "nested too deeply, more than 40 levels"),
        (lambda: sp.Add(*(sp.Symbol(f"z{k}") for k in range(MOST_PARTS + 1))), "more than 5000 parts"),
    ],
)
def test_refused(make: Callable[[], sp.Expr], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        bounded(make())


@pytest.mark.parametrize(
    "expr", [Z**LARGEST_EXPONENT, Z**-LARGEST_EXPONENT, nested(DEEPEST_EXPRESSION - 2), sp.sqrt(2), Z * 10**300]
)
def test_let_through(expr: sp.Expr) -> None:
    assert bounded(expr) is expr


def test_values_of_constants() -> None:
    assert double(sp.sqrt(2)) == math.sqrt(2)
    assert math.isnan(double(sp.sqrt(-2)))
    assert not math.isfinite(double(sp.exp(sp.exp(sp.Integer(50)))))
    assert (bits(sp.Rational(1, 8)), bits(sp.Rational(-255))) == (4, 8)

"""The language's own functions: their definitions, and that their derivatives follow from them."""

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic.functions import (
    CONTRACTIONS,
    ArgMaxOver,
    MaxOver,
    expm1,
    log1p,
    sigmoid,
    softplus,
    unit_max,
    unit_sum,
)
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.language import Tensor, index

z = sp.Symbol("z", real=True)
NAMED = {f.__name__: f for f in (sigmoid, softplus)}
POINTS = [-30, -3, -0.5, 0.25, 2, 30]


def at(expr: sp.Expr, value: float) -> mpmath.mpf:
    return evaluate(expr, {}, {"z": {(): mpmath.mpf(value)}}, mpmath)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("value", POINTS)
def test_value_is_that_of_the_definition(name: str, value: float) -> None:
    with mpmath.workdps(80):
        named, defined = at(NAMED[name](z), value), at(NAMED[name].definition(z), value)
        assert abs(named - defined) <= mpmath.mpf(10) ** -40 * abs(defined)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivative_is_that_of_the_definition(name: str, order: int) -> None:
    named, defined = (sp.diff(f(z), z, order) for f in (NAMED[name], NAMED[name].definition))
    assert not named.has(sp.exp), "the derivative is in the named functions again"
    with mpmath.workdps(60):
        for value in POINTS:
            assert abs(at(named, value) - at(defined, value)) < mpmath.mpf(10) ** -30 * abs(at(defined, value))


@pytest.mark.parametrize("name", NAMED)
def test_chain_rule_goes_through(name: str) -> None:
    f = NAMED[name]
    slope = sp.diff(f(z**2 + 1), z)
    with mpmath.workdps(40):
        wanted = at(sp.diff(f.definition(z**2 + 1), z), 0.7)
        assert abs(at(slope, 0.7) - wanted) < mpmath.mpf(10) ** -30


@pytest.mark.parametrize("name", NAMED)
def test_other_forms(name: str) -> None:
    f = NAMED[name]
    assert f(z).rewrite(sp.exp) == f.definition(z)
    assert abs(f(sp.Integer(2)).evalf(30) - f.definition(sp.Integer(2)).evalf(30)) < 1e-28
    assert f(sp.Integer(0)) == f.definition(sp.Integer(0))
    assert f(z).is_positive


def test_numpy_names_are_sympys_own() -> None:
    assert sp.diff(expm1(z), z) == sp.exp(z)
    assert sp.simplify(sp.diff(log1p(z), z) - 1 / (1 + z)) == 0


def test_contractions_hold_their_index() -> None:
    j = index("j", 3)
    x = Tensor("x", (j,))
    for kind in CONTRACTIONS:
        expr = kind(x.element, j.limits)
        assert j.symbol not in expr.free_symbols
        assert expr.function == x.element
        assert expr.limits[0] == sp.Tuple(j.symbol, 0, 2)
    assert ArgMaxOver(x.element, j.limits).is_integer
    assert MaxOver(x.element, j.limits).is_integer is not True


def test_marks_are_not_evaluated() -> None:
    assert unit_sum(z).args == (z,)
    assert unit_max(z + 1).args == (z + 1,)
    assert unit_sum(z) != unit_max(z)

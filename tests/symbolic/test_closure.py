"""Closures give what the interpreter of the language gives."""

import math

import pytest
import sympy as sp

from chainrule.symbolic.closure import FLOATS, closure, value_of
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.formula import FUNCTIONS, parse_formula
from chainrule.symbolic.interpret import evaluate

X, Y = sp.symbols("x y", real=True)
FORMULAS = [
    "x + 2*y - 3",
    "x*y/(1 + x**2)",
    "x**y",
    "sqrt(x)/sqrt(x + y)",
    "pi*e*x",
    "where(x < y and not (x <= 1 or y != 2), x, y)",
    "where(x == y, 1, 0)",
    *(f"{name}({', '.join(['x/3', 'y', '2'][:count])})" for name, (count, _) in FUNCTIONS.items() if name != "where"),
]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize(("x", "y"), [(0.5, 2.0), (2.0, 2.0), (1.25, -0.75)])
def test_equals_the_interpreter(text: str, x: float, y: float) -> None:
    formula = parse_formula(text, {"x": X, "y": Y})
    value = value_of(formula, {"x": x, "y": y})
    try:
        expected = evaluate(formula, {}, {"x": {(): x}, "y": {(): y}}, math)
    except ValueError:  # outside of the function's domain
        expected = math.nan
    assert value == pytest.approx(expected, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("text", ["1/x", "log(x)", "sqrt(x - 1)", "exp(1000 + x)", "(x - 1)**0.5", "acosh(x)"])
def test_what_has_no_value_is_nan(text: str) -> None:
    assert math.isnan(value_of(parse_formula(text, {"x": X}), {"x": 0.0}))


@pytest.mark.parametrize("expr", [sp.Function("f")(X), sp.Derivative(sp.Function("f")(X), X), sp.oo, sp.Heaviside(X)])
def test_what_cannot_be_computed_is_refused(expr: sp.Expr) -> None:
    with pytest.raises(SpecError, match="has no value"):
        closure(expr, FLOATS)

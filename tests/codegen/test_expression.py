"""The source of an expression has the value that the interpreter gives it."""

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import sympy as sp

from chainrule.codegen.expression import FUNCTIONS, Names, condition_source, integer_source, read_source, source
from chainrule.symbolic.errors import InternalError
from chainrule.symbolic.formula import Names as FormulaNames
from chainrule.symbolic.formula import parse_expression
from chainrule.symbolic.functions import sigmoid, softplus
from chainrule.symbolic.interpret import evaluate, truth
from chainrule.symbolic.language import Kind, element, index

from .plain_python import NAMES

I, J = (index(c, 4) for c in "ij")
X = sp.Symbol("x", real=True)
VALUES: dict[str, dict[tuple[int, ...], Any]] = {
    "x": {(): 0.6}, "y": {(): -0.7}, "u": {(k,): 0.3 * k - 0.5 for k in range(6)},
    "V": {(k, m): 0.1 * k - 0.2 * m + 0.05 for k in range(6) for m in range(6)},
    "t": {(k,): (2 * k) % 3 for k in range(6)},
    "q": {(): 2},
}  # fmt: skip
KINDS = {"t": Kind.INTEGER, "q": Kind.INTEGER}
ARRAYS = {
    name: np.array([[table[k, m] for m in range(6)] for k in range(6)]) if name == "V"
    else np.array(list(table.values()))
    for name, table in VALUES.items()
}  # fmt: skip


def parsed(text: str) -> sp.Expr:
    readers = {n: lambda where, n=n: element(n, where, KINDS.get(n, Kind.REAL)) for n in VALUES}
    return parse_expression(text, FormulaNames({}, readers, {"i": I.extent, "j": J.extent}), "test")


def run(text: str, integers: Mapping[str, int], **more: Any) -> Any:
    """The value of a source in Python, with the functions that kernels have."""
    known = {
        **vars(math), **NAMES, "np": np, "real": float, "sqrt": math.sqrt, **ARRAYS, **integers, **more,
    }  # fmt: skip
    return eval(compile(ast.parse(text, mode="eval"), "<source>", "eval"), known)  # noqa: S307  our own source


def interpreted(expr: sp.Basic, integers: Mapping[str, int]) -> Any:
    bound = {sp.Symbol(k, integer=True, nonnegative=True): v for k, v in integers.items()}
    return evaluate(expr, bound, VALUES, math)


POSITIONS = ({"i": 0, "j": 0}, {"i": 2, "j": 1}, {"i": 1, "j": 3}, {"i": 3, "j": 3})

EXPRESSIONS = [
    # precedence and signs
    "x - (y - u[i])", "x - y - u[i]", "-(x + y)", "-x**2", "(-x)**2", "x*(y + u[i])", "x/(y*u[i])", "x/y/u[i]",
    "x/(y/u[i])", "-x/y", "(x + y)**2/(x - y)**3", "1/(x + y)", "2/(3*x)", "-2*x/3", "x - 2*(y - 1)",
    "-(x - y)*(u[i] - y)",
    "x**2**2", "(x**2)**3", "x*y**-2", "1/x**2", "-1/x", "x*-y", "(x*y)**2", "1 - x", "-1 - x", "x + 1/3 - y/7",
    # powers
    "x**0.5", "x**-0.5", "x**1.5", "x**2.5", "x**-1.5", "x**(1/3)", "x**y", "2**y", "x**7", "x**64", "x**65",
    "sqrt(x)/y",
    "y**3", "exp(y)**2", "pi**y", "e**x", "sqrt(2)*x", "(1 + x)**(-3/2)", "x**(-7/2)",
    # numbers
    "0*x + 1/7", "1e-30*x", "1e30*x", "123456789012*x", "pi*x + e", "x + sqrt(2)/2", "0.1*x",
    # functions
    *(f"{f}(x)" for f in ("exp", "log", "log1p", "expm1", "abs", "sign", "sin", "cos", "tan", "sinh", "cosh", "tanh",
      "asin", "acos", "atan", "asinh", "atanh", "erf", "erfc", "floor", "ceil", "sigmoid", "softplus", "relu",
      "heaviside")),
    "acosh(1 + x)", "abs(y)", "sign(y)", "floor(-3*x)", "tanh(x + y)*exp(-x)", "sigmoid(x*y)**2",
    # branches
    "where(x < y, x, y)", "where(x >= 0 and y < 0, x*2, y*2)", "where(x < 0 or not (y < 0), 1, x)",
    "clip(y, -1/2, 1/2)",
    "max(x, y, 1/2)", "min(x, 1/2)", "1 + 2*where(x < 0, 1, y)", "where(y < -1, 1, where(y < 0, 2, 3))*x",
    "where(i == j, x, y)", "where(i < j and i > 0, u[i], 0)", "where(u[i] < u[j], 1, 2)", "where(t[i] == j, x, y)",
    "where(abs(i - j) <= 1, x, y)",
    # elements and positions
    "u[i]*V[i,j]", "u[i + 1]", "u[2*i - j + 2]", "u[3 - i]", "V[j,i]", "V[0,5]", "u[t[i]]", "V[t[i],t[j]]", "u[q]",
    "u[i - (j - 3)]", "i*x", "x/(i + 1)", "(i - j)*x + i/2", "x**i", "t[i]*x", "u[floor((i + j)/2)]", "q*x",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_source_has_the_value_of_the_interpreter(text: str) -> None:
    expr = parsed(text)
    for integers in POSITIONS:
        written = source(expr)
        assert run(written, integers) == pytest.approx(interpreted(expr, integers), rel=1e-14, abs=1e-300), written


def test_every_function_has_a_source() -> None:
    """Nothing that the language has is unknown here."""
    for function, name in FUNCTIONS.items():
        shift = 1 if name == "acosh" else 0
        expr = function(X + shift)
        assert run(source(expr), {}) == pytest.approx(interpreted(expr, {}), rel=1e-14), name
    assert {sigmoid, softplus} <= set(FUNCTIONS)


def test_delta_is_one_or_zero() -> None:
    expr = 3 * X * sp.KroneckerDelta(I.symbol, J.symbol) + sp.KroneckerDelta(element("t", (I.symbol,), Kind.INTEGER), 1)
    for integers in POSITIONS:
        assert run(source(expr), integers) == pytest.approx(interpreted(expr, integers))
    assert {float(interpreted(expr, p)) for p in POSITIONS} != {0.0}


def test_branch_that_is_not_taken_is_not_computed() -> None:
    expr = parsed("where(i >= 2, u[i - 2], 1/x)")
    text = source(expr)
    assert run(text, {"i": 0}, x=np.array([0.5])) == 2
    assert run(text, {"i": 2}, x=np.array([0.0])) == pytest.approx(-0.5)  # 1/0 is not reached


def test_no_branch_is_nan() -> None:
    assert math.isnan(run(source(sp.Piecewise((X, X > 1))), {}))


def test_constants_have_the_kernels_type() -> None:
    """A float32 kernel must not meet a double, which would draw everything after it into double precision."""
    for text in EXPRESSIONS:
        written = source(parsed(text))
        bare = re.sub(r"real\([^()]*\)", "", written)
        assert not re.search(r"(?<![\w.])\d+\.\d*", bare), written


def test_constants_without_a_type() -> None:
    names = Names(cast="")
    assert source(X / 3 - 2, names).count("real") == 0
    assert run(source(X / 3 - 2, names), {}) == pytest.approx(0.6 / 3 - 2)
    assert run(source(-2 * X**-2, names), {}) == pytest.approx(-2 / 0.36)


def test_numbers_are_exact() -> None:
    third = run(source(X * 0 + sp.Rational(1, 3)), {})
    assert third == 1 / 3
    assert run(source(sp.pi), {}) == math.pi
    assert run(source(sp.Rational(10**40, 3)), {}) == 10**40 / 3


INTEGERS = [
    "i + 1", "i - j", "2*i - 3*j", "-(i + j)", "3*(i + 1) - j", "i*j", "(i + j)*(i - 1)", "t[i] + 1", "i**2",
    "floor(i/2)",
    "ceil((i + 3*j)/2)", "floor((2*i + j - 1)/3)", "abs(i - j)", "5", "-2", "sign(i - j) + i",
    "where(i < j, i, 2*j) + 1", "where(i < j, i, where(i == j, 7, j))",
]  # fmt: skip


@pytest.mark.parametrize("text", INTEGERS)
def test_integers_stay_integers(text: str) -> None:
    expr = parsed(text)
    for integers in POSITIONS:
        got = run(integer_source(expr), integers)
        assert got == interpreted(expr, integers)
        assert isinstance(got, int | np.integer)


CONDITIONS = [
    "x < y", "x >= u[i]", "i == j", "i != j", "i < j", "2*i + j >= 3", "x < y or i > j", "i > 0 and j > 0 and x > 0",
    "not (x < y)", "not (i < j and x > 0)", "t[i] == j", "u[i] > 0 and (x < 0 or j >= 1)", "abs(i - j) < 2",
]  # fmt: skip


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions(text: str) -> None:
    (_, condition), _ = parsed(f"where({text}, x, y + 100)").args
    found = set()
    for integers in POSITIONS:
        wanted = truth(condition, lambda e, integers=integers: interpreted(e, integers))
        assert bool(run(condition_source(condition), integers)) is wanted
        found.add(wanted)
    assert found


def test_true_and_false() -> None:
    assert condition_source(sp.true) == "True"
    assert condition_source(sp.false) == "False"


def test_reads() -> None:
    names = Names(offsets={"V": "first"}, scalars={"x": "x_value"})
    assert read_source(element("V", (I.symbol, J.symbol)), names) == "V[i - first, j]"
    assert read_source(element("V", (I.symbol + 1, J.symbol)), names) == "V[i + 1 - first, j]"
    assert read_source(element("u", (I.symbol,)), names) == "u[i]"
    assert read_source(X, names) == "x_value"
    assert read_source(X, Names()) == "x[0]"


def test_source_does_not_depend_on_the_order_of_arguments() -> None:
    terms = [parsed(t) for t in ("x*y", "u[i]", "3", "-V[i,j]", "exp(x)")]
    assert source(sp.Add(*terms)) == source(sp.Add(*terms[::-1]))
    assert source(sp.Mul(*terms)) == source(sp.Mul(*terms[::-1]))


def test_what_has_no_rule_is_said() -> None:
    with pytest.raises(InternalError, match="gamma"):
        source(sp.gamma(X))
    with pytest.raises(InternalError, match="condition"):
        condition_source(sp.Symbol("c"))

"""The interpreter is the oracle of the other tests: here it is held against numbers computed by hand."""

import math
from typing import Any

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic.errors import InternalError
from chainrule.symbolic.functions import ArgMaxOver, MaxOver, sigmoid, softplus
from chainrule.symbolic.interpret import NAMES, evaluate, interpret
from chainrule.symbolic.language import (
    SAMPLE_INDEX,
    SAMPLES,
    Equation,
    Kind,
    Program,
    Role,
    Tensor,
    extent,
    index,
)

from .programs import written

u, v = sp.Symbol("u", real=True), sp.Symbol("v", real=True)
I, J = index("i", 2), index("j", 3)
i, j = I.symbol, J.symbol
M = Tensor("M", (I, J))
VALUES = {"M": {(0, 0): 1.0, (0, 1): 5.0, (0, 2): 2.0, (1, 0): 4.0, (1, 1): 4.0, (1, 2): -3.0}}


def at(expr: sp.Basic, arithmetic: Any = math, **values: Any) -> Any:
    return evaluate(sp.sympify(expr), {}, {**VALUES, **{k: {(): x} for k, x in values.items()}}, arithmetic)


@pytest.mark.parametrize("function", NAMES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("argument", [0.3, -0.6, 0.99, 1.7, -2.5, 4.0])
def test_function_is_that_of_the_math_module(function: Any, argument: float) -> None:
    name = {"ceiling": "ceil"}.get(function.__name__, function.__name__)
    try:
        wanted = getattr(math, name)(argument)
    except ValueError:
        with pytest.raises(ValueError, match=r"domain|expected"):
            at(function(u), u=argument)
        return
    assert at(function(u), u=argument) == wanted
    assert float(at(function(u), mpmath, u=mpmath.mpf(argument))) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        (u + 2 * v - 1, 1.0),
        (u * v, -1.5),
        (u / v, -6.0),
        (u**2, 9.0),
        (u ** sp.Rational(1, 2), math.sqrt(3.0)),
        (u ** -sp.Rational(1, 2), 1 / math.sqrt(3.0)),
        (u**v, 3.0**-0.5),
        (sp.Rational(1, 3) * u, 1.0),
        (sp.pi * u, 3 * math.pi),
        (sp.E + u, math.e + 3),
        (sp.Abs(v), 0.5),
        (sp.sign(v), -1),
        (sp.sign(v + sp.Rational(1, 2)), 0),
        (sp.sign(u), 1),
        (sp.Piecewise((1, u < v), (2, u > 0), (3, True)), 2),
        (sp.Piecewise((1, sp.And(u > 0, v > 0)), (2, sp.Or(u < 0, v < 0)), (3, True)), 2),
        (sp.Piecewise((1, sp.Eq(u, 3)), (2, True)), 1),
        (sp.Piecewise((1, sp.Ne(u, 3)), (2, True)), 2),
        (sp.Piecewise((1, sp.Not(sp.And(u >= 3, v <= 0))), (2, True)), 2),
    ],
)
def test_arithmetic(expr: sp.Expr, wanted: float) -> None:
    assert at(expr, u=3.0, v=-0.5) == pytest.approx(wanted, rel=1e-15)


def test_only_the_chosen_branch_is_computed() -> None:
    assert at(sp.Piecewise((sp.log(u), u > 0), (7, True)), u=-1.0) == 7
    assert math.isnan(at(sp.Piecewise((1, u > 0)), u=-1.0))


@pytest.mark.parametrize("z", [-1000.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1000.0])
def test_sigmoid_and_softplus_never_overflow(z: float) -> None:
    with mpmath.workdps(500):
        s = 1 / (1 + mpmath.exp(-z))
        p = mpmath.log(1 + mpmath.exp(z))
    assert at(sigmoid(u), u=z) == pytest.approx(float(s), rel=1e-15, abs=1e-320)
    assert at(softplus(u), u=z) == pytest.approx(float(p), rel=1e-15, abs=1e-320)


def test_contractions() -> None:
    assert at(sp.Sum(M.element, I.limits, J.limits)) == 13.0
    assert evaluate(sp.Sum(M.element * j, J.limits), {i: 0}, VALUES, math) == 5.0 + 2 * 2.0
    assert evaluate(MaxOver(M.element, J.limits), {i: 0}, VALUES, math) == 5.0
    assert evaluate(ArgMaxOver(M.element, J.limits), {i: 0}, VALUES, math) == 1
    assert evaluate(ArgMaxOver(M.element, J.limits), {i: 1}, VALUES, math) == 0, "the first of equal ones"
    assert at(sp.Sum(sp.Integer(2), I.limits)) == 4


def test_inner_index_hides_the_outer_one() -> None:
    inner = sp.Sum(M[0, j], J.limits)
    assert evaluate(inner + M[1, j], {j: 2}, VALUES, math) == 8.0 - 3.0


def test_deltas_and_positions() -> None:
    delta = sp.KroneckerDelta(i, j)
    assert [evaluate(delta, {i: 1, j: k}, VALUES, math) for k in range(3)] == [0, 1, 0]
    assert evaluate(M[1 - i, j + 1], {i: 0, j: 0}, VALUES, math) == 4.0


def test_look_up() -> None:
    t = Tensor("t", (I,), kind=Kind.INTEGER)
    values = {**VALUES, "t": {(0,): 2, (1,): 0}}
    assert [evaluate(M[1, t.element], {i: k}, values, math) for k in range(2)] == [-3.0, 4.0]


def test_integers_stay_integers() -> None:
    assert isinstance(evaluate(2 * i + 1, {i: 3}, {}, math), int)


def test_program_by_hand() -> None:
    program = written(
        {"i": 2, "j": 2},
        {"x": "input n j", "W": "parameter i j", "b": "parameter i"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j]) + b[i]
        a[n,i] = relu(z[n,i])
        L = mean(n, a[n,0] - a[n,1])
        """,
    )
    values = interpret(
        program,
        {
            "x": {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0, (1, 1): 4.0},
            "W": {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): -1.0},
            "b": {(0,): 0.5, (1,): 1.5},
        },
        samples=2,
    )
    assert values["z"] == {(0, 0): 3.5, (0, 1): 0.5, (1, 0): 7.5, (1, 1): 0.5}
    assert values["L"] == {(): (3.0 + 7.0) / 2}


def test_extents_are_those_of_the_call_and_of_the_program() -> None:
    size = extent("U")
    k = index("k", size)
    w = Tensor("w", (k,), Role.PARAMETER)
    e = Equation("L", (), sp.Sum(w.element, k.limits) * SAMPLES / size)
    program = Program((w,), (e,), ("L",), {size: 2})
    assert interpret(program, {"w": {(0,): 1.0, (1,): 2.0}}, samples=10)["L"] == {(): 15.0}
    assert interpret(program.bind({size: 1}), {"w": {(0,): 1.0}}, samples=10)["L"] == {(): 10.0}
    s = Equation("s", (SAMPLE_INDEX,), sp.Integer(1))
    assert set(interpret(Program((), (s,), ("s",)), {}, samples=3)["s"]) == {(0,), (1,), (2,)}


def test_many_digits() -> None:
    with mpmath.workdps(60):
        got = at(sp.Rational(1, 3) + sp.pi + sp.sqrt(u) + sp.exp(sp.Rational(1, 7) * u), mpmath, u=mpmath.mpf(2))
        wanted = mpmath.mpf(1) / 3 + mpmath.pi + mpmath.sqrt(2) + mpmath.exp(mpmath.mpf(2) / 7)
        assert abs(got - wanted) < mpmath.mpf(10) ** -57


def test_values_given_are_not_changed() -> None:
    program = written({"i": 2}, {"w": "parameter i"}, "L = sum(i, w[i])")
    given = {"w": {(0,): 1.0, (1,): 2.0}}
    interpret(program, given, 1)["w"][(0,)] = 9.0
    assert given == {"w": {(0,): 1.0, (1,): 2.0}}


def test_what_has_no_rule_is_an_error_of_ours() -> None:
    with pytest.raises(InternalError, match="no rule for gamma"):
        at(sp.gamma(u), u=2.0)

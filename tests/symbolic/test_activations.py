"""Laws over the table of activations; every row against a definition in plain Python."""

import math
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS, Activation, Z, activation, as_language, in_own_symbols
from chainrule.symbolic.check import check
from chainrule.symbolic.derive import Derived, derive
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.functions import unit_max, unit_sum
from chainrule.symbolic.interpret import evaluate, interpret
from chainrule.symbolic.language import Equation, Program, Role, Tensor, index
from chainrule.symbolic.layers import activated
from chainrule.symbolic.normalise import normalise

SELU = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def log_of_one_plus_exp(z: float) -> float:
    return z + math.log1p(math.exp(-z)) if z > 0 else math.log1p(math.exp(z))


PLAIN: dict[str, Callable[..., float]] = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "prelu": lambda z, alpha=0.25: z if z > 0 else alpha * z,
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "selu": lambda z: SELU[0] * (z if z > 0 else SELU[1] * math.expm1(z)),
    "gelu": lambda z: z * 0.5 * math.erfc(-z / math.sqrt(2)),
    "gelu_tanh": lambda z: z * logistic(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)),
    "sigmoid": logistic,
    "hard_sigmoid": lambda z: min(max(z + 3, 0.0), 6.0) / 6,
    "tanh": math.tanh,
    "hard_tanh": lambda z: min(max(z, -1.0), 1.0),
    "softplus": log_of_one_plus_exp,
    "softsign": lambda z: z / (1 + abs(z)),
    "silu": lambda z: z * logistic(z),
    "swish": lambda z, beta=1.0: z * logistic(beta * z),
    "hard_swish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
    "mish": lambda z: z * math.tanh(log_of_one_plus_exp(z)),
    "sin": math.sin,
    "exp": math.exp,
    "gaussian": lambda z: math.exp(-z * z),
}
OVER_UNITS = {"softmax", "log_softmax"}
POINTS = [-1000.0, -50.0, -7.0, -3.0, -1.5, -1.0, -0.3, 0.0, 1e-9, 0.4, 1.0, 2.0, 3.0, 5.5, 6.0, 40.0, 700.0]
# where the formula has a corner, or looks as if: the slope that PyTorch gives there
KINKS = {
    "relu": {0: 0.0}, "leaky_relu": {0: 0.01}, "prelu": {0: 0.25}, "relu6": {0: 0.0, 6: 0.0}, "elu": {0: 1.0},
    "selu": {0: SELU[0] * SELU[1]}, "hard_sigmoid": {-3: 0.0, 3: 0.0}, "hard_tanh": {-1: 0.0, 1: 0.0},
    "softsign": {0: 1.0}, "hard_swish": {-3: 0.0, 3: 1.0},
}  # fmt: skip
elementwise = pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - OVER_UNITS))


def formula_at(expr: sp.Expr, z: float, **symbols: float) -> mpmath.mpf:
    values = {"z": {(): mpmath.mpf(z)}, **{k: {(): mpmath.mpf(v)} for k, v in symbols.items()}}
    return evaluate(expr, {}, values, mpmath)


@lru_cache
def slope_program(row: Activation) -> Derived:
    """The activation through the whole chain rule: L = a(z), with z a parameter of one element."""
    one = index("n", 1)
    z = Tensor("z", (one,), Role.PARAMETER)
    piece = activated(row, z.element, z.indices, "a", "", "layer 1")
    loss = Equation("L", (), sp.Sum(piece.outgoing.element, one.limits))
    return derive(check(normalise(Program((z, *piece.tensors), (*piece.equations, loss), ("L",)))))


def slope_at(name: str, z: float) -> mpmath.mpf:
    row = ACTIVATIONS[name]
    made = slope_program(row)
    given: dict[str, Any] = {"z": {(0,): mpmath.mpf(z)}}
    given |= {k: {(): mpmath.mpf(v)} for k, v in row.parameters.items()}
    return interpret(made.program, given, 1, mpmath)["dz"][(0,)]


# Rows


def test_every_row_has_its_plain_definition() -> None:
    assert set(PLAIN) | OVER_UNITS == set(ACTIVATIONS)


@elementwise
@pytest.mark.parametrize("z", POINTS)
def test_formula_is_the_plain_definition(name: str, z: float) -> None:
    row = ACTIVATIONS[name]
    with mpmath.workdps(700):
        got = float(formula_at(row.expr, z, **row.parameters))
    assert got == pytest.approx(PLAIN[name](z), rel=1e-13, abs=1e-300)


@elementwise
def test_parameters_are_in_the_formula(name: str) -> None:
    row = ACTIVATIONS[name]
    assert {str(s) for s in row.expr.free_symbols} == {"z", *row.parameters}
    others = {k: v + 0.5 for k, v in row.parameters.items()}
    with mpmath.workdps(30):
        got = float(formula_at(row.expr, -1.25, **others))
    assert got == pytest.approx(PLAIN[name](-1.25, **others), rel=1e-14)


@elementwise
@pytest.mark.parametrize("z", [-4.2, -2.0, -0.3, 0.7, 2.0, 5.0, 6.5])
def test_slope_is_that_of_the_plain_definition(name: str, z: float) -> None:
    """Away from kinks; the plain definition in floats gives a slope to about 1e-9."""
    h = 1e-5
    wanted = (8 * (PLAIN[name](z + h) - PLAIN[name](z - h)) - (PLAIN[name](z + 2 * h) - PLAIN[name](z - 2 * h))) / (
        12 * h
    )
    assert float(slope_at(name, z)) == pytest.approx(wanted, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("name", "z"), [(name, z) for name, at in KINKS.items() for z in at])
def test_slope_at_a_kink(name: str, z: float) -> None:
    assert float(slope_at(name, z)) == pytest.approx(KINKS[name][z], rel=1e-15, abs=0)


@elementwise
def test_no_kink_is_undecided(name: str) -> None:
    """A slope that jumps between two sides of a point has an entry in the list above."""
    with mpmath.workdps(30):
        for tenth in range(-80, 81):
            z = tenth / 10
            left, right = slope_at(name, z - 1e-12), slope_at(name, z + 1e-12)
            if abs(left - right) > 1e-6:
                assert z in KINKS.get(name, {}), f"{name} has a kink at {z}"


@elementwise
def test_slope_is_finite_everywhere(name: str) -> None:
    with mpmath.workdps(30):
        for z in [*POINTS, *(tenth / 2 for tenth in range(-12, 13))]:
            assert mpmath.isfinite(slope_at(name, z)), z


@pytest.mark.parametrize("units", [[0.5, -1.0, 2.0], [0.0, 0.0, 0.0], [300.0, -300.0, 299.0]])
def test_softmax_and_its_logarithm(units: list[float]) -> None:
    top = max(units)
    total = sum(math.exp(u - top) for u in units)
    n, i = index("n", 1), index("i", 3)
    z = Tensor("z", (n, i), Role.INPUT)
    for name in OVER_UNITS:
        piece = activated(ACTIVATIONS[name], z.element, z.indices, "a", "", "layer 1")
        given = {"z": {(0, k): mpmath.mpf(u) for k, u in enumerate(units)}}
        with mpmath.workdps(400):
            got = interpret(Program((z,), piece.equations, ("a",)), given, 1, mpmath)["a"]
        for k, u in enumerate(units):
            wanted = math.exp(u - top) / total if name == "softmax" else u - top - math.log(total)
            assert float(got[0, k]) == pytest.approx(wanted, rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_row_is_a_value(name: str) -> None:
    row = ACTIVATIONS[name]
    assert row.name == name
    assert row == Activation(name)
    assert hash(row) == hash(Activation(name))
    assert activation(name) == row
    assert activation(row) is row


# Formulas of one's own


def test_formula_as_text_and_as_sympy_are_the_same() -> None:
    z = sp.Symbol("z")
    assert activation("z*tanh(z)").expr == activation(z * sp.tanh(z)).expr == Z * sp.tanh(Z)
    assert activation("max(z, 0)").expr == activation(sp.Max(z, 0)).expr == ACTIVATIONS["relu"].expr
    assert activation("min(max(z, 0), 6)").expr == activation(sp.Min(sp.Max(0, z), 6)).expr
    assert activation("heaviside(z)*z").expr == activation(sp.Heaviside(z) * z).expr
    assert activation(0.1 * z).expr == Z / 10, "a binary 0.1 means what was written"
    assert activation("z").expr == Z, "z is the formula, not a name"


def test_parameters_and_constants() -> None:
    made = Activation("mine", "a*z + b*tanh(c*z)", parameters={"a": 1, "b": 0.5}, constants={"c": 0.1})
    a, b = sp.Symbol("a", real=True), sp.Symbol("b", real=True)
    assert made.expr == a * Z + b * sp.tanh(Z / 10)
    assert dict(made.parameters) == {"a": 1.0, "b": 0.5}
    assert made != Activation("mine", "a*z + b*tanh(c*z)", parameters={"a": 1, "b": 0.25}, constants={"c": 0.1})
    assert dict(Activation("prelu", parameters={"alpha": 0.1}).parameters) == {"alpha": 0.1}
    assert Activation("prelu", parameters={"alpha": 0.1}).expr == ACTIVATIONS["prelu"].expr
    with pytest.raises(TypeError):
        made.parameters["a"] = 2.0  # type: ignore[index]


def test_units() -> None:
    assert activation("z/sum(abs(z))").expr == Z / unit_sum(sp.Abs(Z))
    assert activation("exp(z - max(z))").expr == sp.exp(Z - unit_max(Z))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Activation("rleu"), r"activation 'rleu' is not known.*Did you mean 'relu'\?"),
        (lambda: activation("rleu"), "activation 'rleu' is not known"),
        (lambda: activation("z*tahn(z)"), "the function 'tahn'"),
        (lambda: activation("a*z"), "'a'"),
        (lambda: activation(sp.Symbol("a") * sp.Symbol("z")), "the symbol 'a' is not declared"),
        (lambda: activation(3), "neither text nor a SymPy expression"),  # type: ignore[arg-type]
        (lambda: activation(None), "neither text nor a SymPy expression"),  # type: ignore[arg-type]
        (lambda: Activation("relu", parameters={"alpha": 1.0}), "'alpha' is not a parameter"),
        (lambda: Activation("relu", constants={"alpha": 1.0}), "'alpha' is not a parameter"),
        (lambda: Activation("prelu", parameters={"alhpa": 1.0}), "Did you mean 'alpha'"),
        (lambda: Activation("prelu", parameters={"alpha": math.nan}), "finite number"),
        (lambda: Activation("f", "a*z", parameters={"a": math.inf}), "finite number"),
        (lambda: Activation("f", "a*z", parameters={"a": True}), "finite number"),
        (lambda: Activation("f", "a*z", parameters={"a": "1"}), "finite number"),  # type: ignore[dict-item]
        (lambda: Activation("f", "a*z", constants={"a": math.nan}), "finite number"),
        (lambda: Activation("f", "z*z", parameters={"z": 1.0}), "'z' has a meaning already"),
        (
            lambda: Activation("f", "a*z", parameters={"a": 1.0}, constants={"a": 1.0}),
            "has a meaning already",
        ),
        (lambda: Activation("f", "a*z", parameters={"__a": 1.0}), "is not a name"),
    ],
)
def test_wrong_activations(build: Callable[[], object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build()


def test_helpers() -> None:
    assert as_language(sp.Max(Z, 1, 0)).has(sp.Piecewise)
    assert not as_language(sp.Max(Z, 1, 0)).has(sp.Max)
    assert in_own_symbols(sp.Symbol("z", positive=True) + 1, {"z": Z}, "here") == Z + 1


def test_copies() -> None:
    pickled = pickle.dumps(ACTIVATIONS["tanh"].expr)
    assert pickle.loads(pickled) == ACTIVATIONS["tanh"].expr

"""What comes out of the pipeline: the mapping of gradients, names, indices and text."""

from collections.abc import Mapping

import pytest
import sympy as sp

from chainrule.symbolic import derivation as pipeline
from chainrule.symbolic.check import check
from chainrule.symbolic.derivation import FORWARD_PASSES, Derivation, derived_program
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.language import Program
from chainrule.symbolic.layers import Dense, Dropout, Equations
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.penalties import L2

from .programs import PROGRAMS

MODELS = {
    "dense": Model(2, [Dense(3, "tanh"), Dense(1)]),
    "deep": Model(4, [Dense(3, "relu"), Dense(3, "gelu"), Dense(3, "softmax")], "cross_entropy", [L2(0.1)]),
    "parametric": Model(2, [Dense(3, "prelu"), Dropout(0.5), Dense(2, "swish", bias=False)], "huber"),
    "shaped": Model((2, 3), [Dense(2, "silu"), Dense(1, "sigmoid")], "binary_cross_entropy"),
    "own": Model(3, [Equations("h[n,i] = sin(sum(j, V[i,j]*x[n,j])*c)", "h", {"i": 2}, {"V": ["i", "j"], "c": []})]),
}
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_gradients(name: str, training: bool) -> None:
    model = MODELS[name]
    made = model.derivation(Variant(classes=model.loss.classes, training=training))
    parameters = {p.name: p for p in made.forward.parameters}
    assert isinstance(made.gradients, Mapping)
    assert list(made.gradients) == list(parameters)
    for parameter, equation in made.gradients.items():
        assert equation.name == f"d{parameter}"
        assert equation.indices == parameters[parameter].indices
        assert isinstance(equation.expr, sp.Expr)
        assert equation in made.backward
        assert equation.rule


def test_gradients_cannot_be_changed() -> None:
    made = MODELS["dense"].derivation()
    with pytest.raises(TypeError):
        made.gradients["W1"] = made.gradients["Wo"]  # type: ignore[index]
    with pytest.raises(KeyError):
        made.gradients["W7"]


@every_model
def test_program_holds_everything_in_order(name: str) -> None:
    made = MODELS[name].derivation()
    assert made.program.equations == (*made.forward.equations, *made.backward)
    assert made.program.outputs == ("L", "y_hat", *(f"d{p.name}" for p in made.forward.parameters))
    check(made.program)


def test_equations_of_a_small_net() -> None:
    assert [str(e) for e in MODELS["dense"].derivation().program.equations] == [
        "z1[n,i] = sum_j W1[i,j] x[n,j] + b1[i]",
        "x1[n,i] = tanh(z1[n,i])",
        "y_hat[n,i] = sum_j Wo[i,j] x1[n,j] + bo[i]",
        "l[n] = sum_i (y[n,i] - y_hat[n,i])^2/U_o",
        "L = sum_n l[n]/N",
        "dy_hat[n,i] = 2 (y_hat[n,i] - y[n,i])/(N U_o)",
        "dx1[n,i] = sum_j Wo[j,i] dy_hat[n,j]",
        "dz1[n,i] = dx1[n,i] (1 - x1[n,i]^2)",
        "dW1[i,j] = sum_n dz1[n,i] x[n,j]",
        "db1[i] = sum_n dz1[n,i]",
        "dWo[i,j] = sum_n dy_hat[n,i] x1[n,j]",
        "dbo[i] = sum_n dy_hat[n,i]",
    ]


@pytest.mark.parametrize("name", ["dense", "own"])
def test_text_fits_a_terminal(name: str) -> None:
    made = MODELS[name].derivation()
    assert str(made) == made.text()
    assert made.latex().startswith("\\documentclass")
    assert made.html().lstrip().lower().startswith("<!doctype html>")
    for line in str(made).splitlines():
        assert len(line) <= 80, line


@every_model
def test_deriving_twice_gives_the_same(name: str) -> None:
    model = MODELS[name]
    assert str(model.derivation().program) == str(model.derivation().program)


def test_variant_is_the_default_of_the_loss() -> None:
    assert MODELS["deep"].derivation().variant == Variant(classes=True)
    assert MODELS["deep"].derivation(Variant()).variant == Variant()


def test_prove_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("chainrule.symbolic.prove.prove", lambda made, **options: seen.append((made, options)))
    made = MODELS["dense"].derivation()
    made.prove(samples=4, seed=2)
    assert seen == [(made, {"samples": 4, "seed": 2})]


def test_every_stage_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that makes an ill-formed program is stopped before the next one sees it."""
    after: list[str] = []

    def broken(program: Program) -> Program:
        return program.with_equations(program.equations[1:])

    def later(program: Program) -> Program:
        after.append("seen")
        return program

    monkeypatch.setattr(pipeline, "FORWARD_PASSES", (*FORWARD_PASSES, broken, later))
    with pytest.raises(SpecError, match="has no value yet"):
        derived_program(PROGRAMS["dense"]())
    assert not after


def test_another_name_for_the_loss() -> None:
    made = derived_program(PROGRAMS["several_inputs_and_outputs"](), loss="one")
    assert "dtwo" not in {e.name for e in made.backward}
    assert set(made.wanted) == {"W", "V", "S"}


def test_a_derivation_is_a_value() -> None:
    made = MODELS["dense"].derivation()
    again = Derivation(made.model, made.variant, made.derived)
    assert again == made
    assert again.gradients == made.gradients

"""Models become programs: names, shapes, variants, and which models are wrong."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest

from chainrule.symbolic.activations import ACTIVATIONS, Activation
from chainrule.symbolic.check import check
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import SAMPLES, Kind, Program, Role
from chainrule.symbolic.layers import Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES, Loss
from chainrule.symbolic.model import LOSS, OUTPUT, Model, Variant
from chainrule.symbolic.penalties import L1, L2

from .programs import random_values

NET = Model(4, [Dense(3, "relu"), Dropout(0.25), Dense(3, "tanh"), Dense(2, "softmax")], "cross_entropy")


def shapes(program: Program) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(program.size(e) for e in t.shape) for t in program.parameters}


def given_names(program: Program, role: Role) -> list[str]:
    return [t.name for t in program.role(role)]


def test_names_are_those_of_the_note() -> None:
    assert shapes(NET.program()) == {
        "W1": (3, 4),
        "b1": (3,),
        "W2": (3, 3),
        "b2": (3,),
        "Wo": (2, 3),
        "bo": (2,),
    }
    names = [e.name for e in NET.program().equations]
    assert [n for n in names if n[0] in "zx"] == ["z1", "x1", "z2", "x2", "zo"]
    assert names[-1] == LOSS
    assert OUTPUT in names
    assert NET.program().outputs == (LOSS, OUTPUT)


def test_one_layer_is_the_output_layer() -> None:
    assert list(shapes(Model(2, [Dense(1)]).program())) == ["Wo", "bo"]


def test_what_follows_the_last_weights_is_the_prediction() -> None:
    program = Model(2, [Dense(2), Activation("tanh")]).program()
    assert list(shapes(program)) == ["Wo", "bo"]
    table = interpret(program, random_values(program, 2), 2)
    before = next(table[n] for n in table if n in ("zo", "xo"))
    assert table[OUTPUT][1, 1] == math.tanh(before[1, 1])


def test_shapes() -> None:
    assert NET.outputs == (2,)
    assert NET.targets == (2,)
    assert Model(2, [Dense(6)], "gaussian_nll").targets == (3,)
    assert Model((2, 3), [Activation("tanh")]).outputs == (2, 3)
    assert Model([2, 3], [Dense(1)]).inputs == (2, 3)


def test_rank_three_into_dense() -> None:
    inner = Equations("h[n,i,j] = V[i]*x[n,j]", "h", {"i": 3}, {"V": ["i"]})
    model = Model(2, [inner, Dense(4, "relu"), Dense(1)])
    assert shapes(model.program()) == {"V1": (3,), "W2": (4, 3, 2), "b2": (4,), "Wo": (1, 4), "bo": (1,)}
    check(model.derivation().program)


# Variants


def test_variants_change_what_is_given() -> None:
    plain = NET.program(Variant())
    assert given_names(plain, Role.WEIGHT) == given_names(plain, Role.NOISE) == []
    assert plain.by_name["y"].kind is Kind.REAL
    assert len(plain.by_name["y"].indices) == 2
    classes = NET.program(Variant(classes=True))
    assert classes.by_name["y"].kind is Kind.INTEGER
    assert len(classes.by_name["y"].indices) == 1
    assert given_names(NET.program(Variant(weighted=True)), Role.WEIGHT) == ["w"]
    assert len(given_names(NET.program(Variant(training=True)), Role.NOISE)) == 1
    assert NET.default_variant == Variant(classes=True)
    assert Model(2, [Dense(1)]).default_variant == Variant()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_every_variant_derives(weighted: bool, classes: bool, training: bool) -> None:
    derivation = NET.derivation(Variant(classes, weighted, training))
    assert set(derivation.gradients) == {"W1", "b1", "W2", "b2", "Wo", "bo"}
    check(derivation.program)


def test_parameters_are_the_same_in_every_variant() -> None:
    for variant in (Variant(), Variant(True), Variant(True, True), Variant(True, True, True)):
        assert shapes(NET.program(variant)) == shapes(NET.program())


def test_dropout_of_nothing_is_no_dropout() -> None:
    layers = [Dense(3, "tanh"), Dropout(0.0), Dense(2)]
    training = Model(2, layers).program(Variant(training=True))
    values = random_values(training, 2)
    (noise,) = given_names(training, Role.NOISE)
    values[noise] = {p: 0.5 + v / 2 for p, v in values[noise].items()}
    wanted = interpret(Model(2, layers).program(), {k: v for k, v in values.items() if k != noise}, 2)
    assert interpret(training, values, 2)["L"] == wanted["L"]


def test_mean_over_as_many_samples_as_there_are() -> None:
    program = Model(2, [Dense(1)]).program()
    assert SAMPLES in program.defined[LOSS].expr.free_symbols
    values = random_values(program, 4)
    table = interpret(program, values, 4)
    wanted = sum((values["y"][n, 0] - table[OUTPUT][n, 0]) ** 2 for n in range(4)) / 4
    assert table["L"][()] == pytest.approx(wanted)


# Gradients of whole models, through all passes


def central_difference(program: Program, values: dict[str, Any], name: str, position: tuple[int, ...]) -> Any:
    h = mpmath.mpf(10) ** -15
    losses = []
    for step in (h, -h):
        table = {**values[name], position: values[name][position] + step}
        losses.append(interpret(program, {**values, name: table}, 2, mpmath)["L"][()])
    return (losses[0] - losses[1]) / (2 * h)


ENDING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "poisson": "exp",
    "binary_cross_entropy": "sigmoid",
}
MODELS: dict[str, Callable[[], Model]] = {
    **{f"activation {a}": lambda a=a: Model(2, [Dense(2, a), Dense(1)]) for a in ACTIVATIONS},
    **{f"loss {k}": lambda k=k: Model(2, [Dense(2, ENDING.get(k, "identity"))], k) for k in LOSSES},
    "log_softmax": lambda: Model(2, [Dense(2, "log_softmax")], Loss("nll", "-y*y_hat", over="sum")),
    "penalties": lambda: Model(2, [Dense(2, "tanh"), Dense(1)], penalties=[L1(0.1), L2(0.2, on="all")]),
    "rows": lambda: Model((2, 2), [Activation("softmax"), Dense(2)]),
    "normalised": lambda: Model(2, [Dense(3, "(z - sum(z)/3)/sqrt(sum(z**2) + 1)"), Dense(1)]),
    "shifted": lambda: Model(2, [Dense(3, "exp(z - max(z))/sum(exp(z - max(z)))"), Dense(1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_central_differences(name: str) -> None:
    """Of the program as it was expanded, before any pass touched it."""
    model = MODELS[name]()
    program, derivation = model.program(), model.derivation()
    with mpmath.workdps(60):
        values: dict[str, Any] = {
            k: {p: v if isinstance(v, int) else mpmath.mpf(v) for p, v in t.items()}
            for k, t in random_values(program, 2, seed=5).items()
        }
        if program.by_name["y"].kind is Kind.REAL and model.loss.targets in ("probability", "count"):
            values["y"] = {p: abs(v) for p, v in values["y"].items()}
        table = interpret(derivation.program, values, 2, mpmath)
        assert abs(table["L"][()] - interpret(program, values, 2, mpmath)["L"][()]) < mpmath.mpf(10) ** -50
        for parameter in program.parameters:
            adjoint = derivation.gradients[parameter.name].name
            for position in values[parameter.name]:
                wanted = central_difference(program, values, parameter.name, position)
                error = abs(table[adjoint][position] - wanted)
                assert error <= 1e-20 * max(1e-3, abs(wanted)), f"{adjoint}{list(position)}"


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "softplus", "silu", "mish", "elu", "log_softmax"])
def test_derivation_stays_finite_in_floats_where_the_formula_overflows(name: str) -> None:
    model = Model(1, [Dense(2, name), Dense(1)])
    derivation = model.derivation()
    for size in (-1000.0, 1000.0):
        values = random_values(derivation.forward, 1)
        values["x"] = {(0, 0): 1.0}
        values["W1"] = {(0, 0): size, (1, 0): -size}
        table = interpret(derivation.program, values, 1)
        assert all(math.isfinite(v) for t in table.values() for v in t.values())


# What is wrong


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Model(2, []), "there is no layer"),
        (lambda: Model(2, [Dropout(0.5)]), "dropout"),
        (lambda: Model(0, [Dense(1)]), "inputs = 0"),
        (lambda: Model(-3, [Dense(1)]), "inputs = -3"),
        (lambda: Model(True, [Dense(1)]), "inputs = True"),
        (lambda: Model(2.0, [Dense(1)]), r"inputs = 2\.0"),  # type: ignore[arg-type]
        (lambda: Model(None, [Dense(1)]), "inputs = None"),  # type: ignore[arg-type]
        (lambda: Model("2", [Dense(1)]), "inputs = '2'"),  # type: ignore[arg-type]
        (lambda: Model((), [Dense(1)]), "inputs is empty"),
        (lambda: Model((2, 0), [Dense(1)]), "inputs = 0"),
        (lambda: Model(2, [Dense(1), 3]), "layer 2: 3 is not a layer"),  # type: ignore[list-item]
        (lambda: Model(2, ["relu"]), "layer 1: 'relu' is not a layer"),  # type: ignore[list-item]
        (lambda: Model(2, [Dense]), "layer 1"),  # type: ignore[list-item]
        (lambda: Model(2, Dense(1)), "layer"),  # type: ignore[arg-type]
        (lambda: Model(2, [Dense(1)], "mse"), "loss 'mse' is not known"),
        (lambda: Model(2, [Dense(1)], penalties=[Activation("relu")]), "penalt"),  # type: ignore[list-item]
        (lambda: Model(2, [Dense(1)], penalties=["l2"] * 33), "there are 33 penalties; at most 32"),
        (lambda: Model(2, [Dense(1)], penalties=["l9"]), "penalt"),  # type: ignore[list-item]
        (lambda: Model(2, [Dense(1)], tokens=0), "tokens = 0"),
        (lambda: Model(2, [Dense(1)], tokens=2.5), r"tokens = 2\.5"),  # type: ignore[arg-type]
        (lambda: Model(2, [Dense(3)], "gaussian_nll"), "'gaussian_nll' needs 2 outputs a target; 3"),
        (lambda: Model(2, [Dense(3)], "cross_entropy"), "'cross_entropy'.*'identity'.*'softmax'"),
        (lambda: Model(2, [Dense(3), Activation("identity")], "cross_entropy"), "'cross_entropy'.*'softmax'"),
        (lambda: Model(2, [Dense(3)], "kl_divergence"), "'kl_divergence'.*'softmax'"),
        (lambda: Model(2, [Dense(3)], "binary_cross_entropy"), "'binary_cross_entropy'.*'sigmoid'"),
        (lambda: Model(2, [Dense(3)], "poisson"), "'poisson'.*'exp'"),
        (lambda: Model(2, [Dense(3, "log_softmax")], "cross_entropy"), "'log_softmax'"),
        (lambda: Model(2, [Dense(1)]).program(Variant(classes=True)), "integer classes do not fit"),
    ],
)
def test_wrong_models(build: Callable[[], object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build()


def test_a_model_is_a_value() -> None:
    first, second = (Model(2, [Dense(3, "tanh"), Dense(1)], penalties=[L2(0.1)]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Model(2, [Dense(3, "tanh"), Dense(1)])
    with pytest.raises(AttributeError):
        first.loss = LOSSES["huber"]  # type: ignore[misc]
    assert str(first.program()) == str(second.program())

"""Laws over the table of losses: every row against a definition in plain Python; the mean over a batch."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic.derive import derive
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import evaluate, interpret
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.losses import LOSSES, Loss, loss
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.normalise import normalise

from .programs import random_values

PLAIN: dict[str, Callable[..., float]] = {
    "squared_error": lambda y, p: (p - y) * (p - y),
    "absolute_error": lambda y, p: abs(p - y),
    "huber": lambda y, p, delta=1.0: (
        0.5 * (p - y) ** 2 if abs(p - y) <= delta else delta * abs(p - y) - 0.5 * delta * delta
    ),
    "log_cosh": lambda y, p: abs(p - y) + math.log1p(math.exp(-2 * abs(p - y))) - math.log(2),
    "quantile": lambda y, p, tau=0.5: max(tau * (y - p), (tau - 1) * (y - p)),
    "cross_entropy": lambda y, p: -y * math.log(p),
    "binary_cross_entropy": lambda y, p: -(y * math.log(p) + (1 - y) * math.log1p(-p)),
    "hinge": lambda y, p: max(0.0, 1 - y * p),
    "squared_hinge": lambda y, p: max(0.0, 1 - y * p) ** 2,
    "poisson": lambda y, p: p - y * math.log(p),
    "gaussian_nll": lambda y, p, log_variance: 0.5 * (log_variance + (y - p) ** 2 / math.exp(log_variance)),
    "kl_divergence": lambda y, p: y * math.log(y / p) if y > 0 else 0.0,
}
ENDING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "poisson": "exp",
    "binary_cross_entropy": "sigmoid",
}
ONE_DISTRIBUTION = {"cross_entropy", "kl_divergence"}  # summed over the outputs; the others are averaged
TARGETS = {
    "real": [-2.5, 0.0, 0.25, 40.0],
    "probability": [0.0, 0.3, 1.0],
    "sign": [-1.0, 1.0],
    "count": [0.0, 1.0, 7.0],
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def outputs_for(row: Loss) -> list[float]:
    if row.needs == "positive":
        return [1e-9, 0.1, 0.5, 1 - 1e-6] + ([3.0, 50.0] if row.targets == "count" else [])
    return [-30.0, -1.0, 0.0, 0.25, 1.0, 1.5, 30.0]


def at(expr: sp.Expr, **values: float) -> Any:
    return evaluate(expr, {}, {k: {(): mpmath.mpf(v)} for k, v in values.items()}, mpmath)


def test_every_row_has_its_plain_definition() -> None:
    assert set(PLAIN) == set(LOSSES)


@every_loss
def test_formula_is_the_plain_definition(name: str) -> None:
    row = LOSSES[name]
    others = {h: 0.4 for h in row.heads if h != "y_hat"}
    for y in TARGETS[row.targets]:
        for p in outputs_for(row):
            with mpmath.workdps(50):
                got = float(at(row.expr, y=y, y_hat=p, **others))
            assert got == pytest.approx(PLAIN[name](y, p, **others), rel=1e-10, abs=1e-13), (y, p)


@pytest.mark.parametrize(("name", "hyperparameter", "value"), [("huber", "delta", 2.5), ("quantile", "tau", 0.9)])
def test_hyperparameters(name: str, hyperparameter: str, value: float) -> None:
    made = Loss(name, hyperparameters={hyperparameter: value})
    assert made != LOSSES[name]
    for y, p in [(0.0, 2.0), (0.0, -2.0), (0.0, 5.0), (3.0, -5.0)]:
        assert float(at(made.expr, y=y, y_hat=p)) == pytest.approx(PLAIN[name](y, p, value), rel=1e-12)


def test_every_hyperparameter_is_tried_above() -> None:
    assert {(n, h) for n, row in LOSSES.items() for h in row.hyperparameters} == {
        ("huber", "delta"),
        ("quantile", "tau"),
    }


@pytest.mark.parametrize(
    ("name", "y", "y_hat", "slope"),
    [
        ("absolute_error", 1.0, 1.0, 0.0),
        ("huber", 0.0, 1.0, 1.0),
        ("huber", 0.0, -1.0, -1.0),
        ("huber", 0.5, 0.5, 0.0),
        ("hinge", 1.0, 1.0, 0.0),
        ("squared_hinge", -1.0, -1.0, 0.0),
        ("quantile", 0.0, 0.0, -0.5),
        ("log_cosh", 2.0, 2.0, 0.0),
    ],
)
def test_slope_at_a_kink(name: str, y: float, y_hat: float, slope: float) -> None:
    """As PyTorch has it where it has the loss; of the quantile loss, the side of y >= y_hat."""
    made = sp.diff(LOSSES[name].expr, sp.Symbol("y_hat", real=True))
    assert float(at(made, y=y, y_hat=y_hat)) == pytest.approx(slope, abs=1e-15)


# In a model


def batch(name: str, variant: Variant | None = None, units: int = 4, samples: int = 3) -> tuple[Any, dict[str, Any]]:
    model = Model(2, [Dense(units, ENDING.get(name, "identity"))], name)
    program = model.program(variant)
    values = random_values(program, samples, seed=3)
    row = LOSSES[name]
    if program.by_name["y"].kind == "real":
        choices = [t for t in TARGETS[row.targets] if abs(t) < 10]
        values["y"] = {p: choices[(5 * k) % len(choices)] for k, p in enumerate(sorted(values["y"]))}
    if "w" in values:
        values["w"] = {p: 0.5 + k for k, p in enumerate(sorted(values["w"]))}
    return program, values


def by_hand(name: str, values: dict[str, Any], outputs: dict[tuple[int, int], float], samples: int) -> float:
    """The convention in plain Python: the mean (or sum) over outputs, the weighted mean over samples."""
    row = LOSSES[name]
    units = 1 + max(k for _, k in outputs)
    targets = units // len(row.heads)
    weights = [values["w"][(n,)] if "w" in values else 1.0 for n in range(samples)]
    total = 0.0
    for n in range(samples):
        terms = []
        for k in range(targets):
            y = values["y"][n, k] if (n, k) in values["y"] else float(values["y"][(n,)] == k)
            more = [outputs[n, k + targets]] if len(row.heads) == 2 else []
            terms.append(PLAIN[name](y, outputs[n, k], *more))
        total += weights[n] * sum(terms) / (1 if name in ONE_DISTRIBUTION else targets)
    return total / sum(weights)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_over_a_batch(name: str, weighted: bool) -> None:
    for classes in [False, True] if LOSSES[name].classes else [False]:
        program, values = batch(name, Variant(classes=classes, weighted=weighted))
        got = interpret(program, values, 3)
        assert got["L"][()] == pytest.approx(by_hand(name, values, got["y_hat"], 3), rel=1e-12)


@every_loss
def test_a_weight_of_two_is_the_sample_twice(name: str) -> None:
    program, values = batch(name, Variant(weighted=True))
    values["w"] = {(0,): 1.0, (1,): 2.0, (2,): 0.0}
    weighted = interpret(program, values, 3)["L"][()]
    order = [0, 1, 1]
    again = {
        k: {(m, *p[1:]): v for m, n in enumerate(order) for p, v in t.items() if p[0] == n} if k in ("x", "y") else t
        for k, t in values.items()
    }
    plain = interpret(batch(name, Variant())[0], {k: t for k, t in again.items() if k != "w"}, 3)["L"][()]
    assert weighted == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("name", [n for n, row in LOSSES.items() if row.classes])
def test_integer_targets_are_one_hot_targets(name: str) -> None:
    whole, values = batch(name, Variant(classes=True))
    hot, _ = batch(name, Variant(classes=False))
    one_hot = {**values, "y": {(n, c): float(values["y"][(n,)] == c) for n in range(3) for c in range(4)}}
    results = []
    for program, given in ((whole, values), (hot, one_hot)):
        made = derive(normalise(program))
        table = interpret(made.program, given, 3)
        results.append([table["L"], table["dWo"], table["dbo"]])
    for ours, theirs in zip(*results, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-14)


def test_weights_that_are_all_zero_give_zero() -> None:
    program, values = batch("squared_error", Variant(weighted=True))
    values["w"] = dict.fromkeys(values["w"], 0.0)
    table = interpret(derive(normalise(program)).program, values, 3)
    assert table["L"][()] == 0
    assert set(table["dWo"].values()) == {0.0}


# Formulas of one's own


def test_formula_of_ones_own() -> None:
    y, p = sp.Symbol("y"), sp.Symbol("y_hat")
    assert loss("(y - y_hat)**4").expr == loss((y - p) ** 4).expr
    assert loss("(y - y_hat)**4").over == "mean"
    made = Loss("cauchy", "log(1 + (y - y_hat)**2/c**2)", {"c": 2.0}, over="sum")
    assert float(at(made.expr, y=1.0, y_hat=4.0)) == pytest.approx(math.log(1 + 9 / 4))
    assert loss(made) is made
    assert loss("huber") == LOSSES["huber"]
    assert hash(loss("huber")) == hash(LOSSES["huber"])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: loss("squared_eror"), r"loss 'squared_eror' is not known.*Did you mean 'squared_error'\?"),
        (lambda: loss("(y - yhat)**2"), "'yhat'.*Did you mean 'y_hat'"),
        (lambda: loss(sp.Symbol("y") * sp.Symbol("q")), "the symbol 'q' is not declared"),
        (lambda: loss(None), "neither text nor a SymPy expression"),  # type: ignore[arg-type]
        (lambda: loss(3), "neither text nor a SymPy expression"),  # type: ignore[arg-type]
        (lambda: loss("sum(y*y_hat)"), "the function 'sum'"),
        (lambda: Loss("huber", hyperparameters={"dleta": 1.0}), "'dleta' is not a hyperparameter.*'delta'"),
        (lambda: Loss("huber", hyperparameters={"delta": math.nan}), "finite number"),
        (lambda: Loss("f", "a*y_hat", {"a": True}), "finite number"),
        (lambda: Loss("f", "a*y_hat", {"a": "1"}), "finite number"),  # type: ignore[dict-item]
        (lambda: Loss("f", "y*y_hat", {"y": 1.0}), "'y' has a meaning already"),
        (lambda: Loss("f", "y*y_hat", {"y_hat": 1.0}), "'y_hat' has a meaning already"),
        (lambda: Loss("f", "y*y_hat", over="max"), "it is 'mean' or 'sum'"),
    ],
)
def test_wrong_losses(build: Callable[[], object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build()

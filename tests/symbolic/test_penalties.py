"""Laws over the table of penalties: every row against a definition in plain Python; its place in the loss."""

import math
from collections.abc import Callable

import pytest
import sympy as sp

from chainrule.symbolic.derive import derive
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import evaluate, interpret
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.model import Model
from chainrule.symbolic.normalise import normalise
from chainrule.symbolic.penalties import L1, L2, PENALTIES, ElasticNet, Penalty, W

from .programs import random_values

PLAIN: dict[str, Callable[..., float]] = {
    "l1": lambda w, strength=1e-4: strength * abs(w),
    "l2": lambda w, strength=1e-4: strength * w * w / 2,
    "elastic_net": lambda w, strength=1e-4, ratio=0.5: strength * (ratio * abs(w) + (1 - ratio) / 2 * w * w),
}
SLOPE: dict[str, Callable[..., float]] = {
    "l1": lambda w, strength=1e-4: strength * ((w > 0) - (w < 0)),
    "l2": lambda w, strength=1e-4: strength * w,
    "elastic_net": lambda w, strength=1e-4, ratio=0.5: strength * (ratio * ((w > 0) - (w < 0)) + (1 - ratio) * w),
}
POINTS = [-1e6, -3.0, -0.5, 0.0, 1e-9, 2.0, 1e6]
every_penalty = pytest.mark.parametrize("name", PENALTIES)


def at(expr: sp.Expr, w: float) -> float:
    return float(evaluate(expr, {}, {"w": {(): w}}, math))


def test_every_row_has_its_plain_definition() -> None:
    assert set(PLAIN) == set(SLOPE) == set(PENALTIES)


@every_penalty
@pytest.mark.parametrize("w", POINTS)
def test_value_and_slope_are_the_plain_ones(name: str, w: float) -> None:
    """The slope of |w| at 0 is 0, as PyTorch's."""
    numbers = dict.fromkeys(PENALTIES[name].hyperparameters, 0.25)
    for given in ({}, numbers):
        made = Penalty(name, hyperparameters=given).expr
        assert at(made, w) == pytest.approx(PLAIN[name](w, **given), rel=1e-15)
        assert at(sp.diff(made, W), w) == pytest.approx(SLOPE[name](w, **given), rel=1e-15)


def test_constructors() -> None:
    assert L1(0.5) == Penalty("l1", hyperparameters={"strength": 0.5})
    assert L2(0.5, on="all") == Penalty("l2", hyperparameters={"strength": 0.5}, on="all")
    assert ElasticNet(0.5, 0.1, ("W1",)).on == ("W1",)
    assert ElasticNet(0.5, 0.1).hyperparameters["ratio"] == 0.1
    assert L1(0.5) != L1(0.25)
    assert hash(L1(0.5)) == hash(L1(0.5))


PLACES = {
    "weights": {"W1", "Wo"},
    "all": {"W1", "b1", "Wo", "bo"},
    ("b1",): {"b1"},
    "Wo": {"Wo"},
    ("W1", "bo"): {"W1", "bo"},
}


@pytest.mark.parametrize("on", PLACES, ids=str)
def test_loss_and_gradient_grow_by_the_penalty(on: str | tuple[str, ...]) -> None:
    layers = [Dense(3, "tanh"), Dense(1)]
    plain = derive(normalise(Model(2, layers).program()))
    penalised = derive(normalise(Model(2, layers, penalties=[L2(0.5, on=on), L1(0.25, on=on)]).program()))
    values = random_values(plain.forward)
    before, after = (interpret(d.program, values, 3) for d in (plain, penalised))
    added = 0.0
    for parameter in plain.forward.parameters:
        table = values[parameter.name]
        for position, w in table.items():
            extra = 0.0
            if parameter.name in PLACES[on]:
                added += 0.25 * w * w + 0.25 * abs(w)
                extra = 0.5 * w + math.copysign(0.25, w)
            adjoint = f"d{parameter.name}"
            assert after[adjoint][position] == pytest.approx(before[adjoint][position] + extra, rel=1e-12)
    assert added > 0
    assert after["L"][()] == pytest.approx(before["L"][()] + added, rel=1e-12)
    assert after["E"][()] == pytest.approx(before["L"][()], rel=1e-14), "E stays the loss of the data"


def test_formula_of_ones_own() -> None:
    made = Penalty("log", "s*log(1 + w**2)", {"s": 0.5})
    assert at(made.expr, 3.0) == pytest.approx(0.5 * math.log(10))
    assert Penalty("log", sp.Float(0.5) * sp.log(1 + sp.Symbol("w") ** 2)).expr == made.expr
    program = Model(2, [Dense(1)], penalties=[made]).program()
    assert "P_log_Wo" in program.defined


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Penalty("l3"), r"penalty 'l3' is not known. Known: elastic_net, l1, l2"),
        (lambda: Penalty("l1", hyperparameters={"strenght": 1.0}), "Did you mean 'strength'"),
        (lambda: L1(-1.0), "at least 0"),
        (lambda: L1(math.nan), "at least 0"),
        (lambda: L1(math.inf), "at least 0"),
        (lambda: L1(True), "at least 0"),
        (lambda: L1("1"), "at least 0"),  # type: ignore[arg-type]
        (lambda: Penalty("f", "w*v"), "'v'"),
        (lambda: Penalty("f", "a*w", {"w": 1.0}), "'w' has a meaning already"),
        (lambda: Penalty("f", 3), "neither text nor"),  # type: ignore[arg-type]
        (lambda: Model(2, [Dense(1)], penalties=[L1(on="W2")]), r"'W2' is not a parameter. Known: Wo, bo"),
        (lambda: Model(2, [Dense(1)], penalties=[L1(on=("Wo", "b1"))]), "'b1' is not a parameter"),
    ],
)
def test_wrong_penalties(build: Callable[[], object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build()

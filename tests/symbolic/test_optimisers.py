"""Laws over the table of optimisers."""

import copy
import doctest
import inspect
import json
import math
import pickle
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic import optimisers
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.optimisers import (
    OPTIMISERS,
    RANGES,
    Optimiser,
    custom_optimiser,
    first_state,
    optimiser,
    step,
)

FOLDER = Path(__file__).with_name("trajectories")
RECORDED = json.loads((FOLDER / "torch_optim.json").read_text("utf-8"))
RECORD = runpy.run_path(str(FOLDER / "record.py"))
CONSTRUCTORS = {
    "SGD": "sgd", "Momentum": "momentum", "Nesterov": "nesterov", "Adagrad": "adagrad", "RMSprop": "rmsprop",
    "Adadelta": "adadelta", "Adam": "adam", "AMSGrad": "amsgrad", "AdamW": "adamw", "Adamax": "adamax",
    "NAdam": "nadam", "Lion": "lion",
}  # fmt: skip


def trajectory(rule: Optimiser, steps: int, kept: int) -> list[list[float]]:
    """The same as in record.py, by our formulas."""
    w, states, result = list(RECORD["START"]), [first_state(rule) for _ in RECORD["START"]], []
    for t in range(1, steps + 1):
        g = RECORD["gradient"](w, t)
        for i in range(len(w)):
            w[i], states[i] = step(rule, w[i], g[i], states[i], t)
        if t % kept == 0:
            result.append(list(w))
    return result


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


@pytest.mark.parametrize("row", RECORDED["trajectories"], ids=lambda row: row["optimiser"])
def test_equals_the_recorded_trajectory(row: dict[str, Any]) -> None:
    rule = optimiser(row["optimiser"], **row["hyperparameters"])
    ours = trajectory(rule, RECORDED["steps"], RECORDED["kept"])
    assert flat(ours) == pytest.approx(flat(row["w"]), rel=1e-12, abs=1e-12)


def test_every_rule_of_torch_is_recorded() -> None:
    assert {row["optimiser"] for row in RECORDED["trajectories"]} == {*OPTIMISERS} - {"lion"}


@pytest.mark.parametrize("name", RECORD["SETTINGS"])
def test_equals_torch(name: str) -> None:
    pytest.importorskip("torch")
    for setting in RECORD["SETTINGS"][name]:
        ours = trajectory(optimiser(name, **setting), RECORD["STEPS"], RECORD["KEPT"])
        assert flat(ours) == pytest.approx(flat(RECORD["trajectory"](name, setting)), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lion_equals_its_paper(decay: float) -> None:
    rule = optimiser("lion", lr=0.01, beta1=0.95, beta2=0.98, weight_decay=decay)
    w, m, kept = list(RECORD["START"]), [0.0] * 3, []
    for t in range(1, 101):
        g = RECORD["gradient"](w, t)
        for i in range(3):
            c = 0.95 * m[i] + 0.05 * g[i]
            w[i] -= 0.01 * ((math.copysign(1, c) if c else 0) + decay * w[i])
            m[i] = 0.98 * m[i] + 0.02 * g[i]
        if t % 10 == 0:
            kept.append(list(w))
    assert flat(trajectory(rule, 100, 10)) == pytest.approx(flat(kept), rel=1e-12)


def test_lion_stands_still_without_a_gradient() -> None:
    rule = optimiser("lion")
    assert step(rule, 0.5, 0.0, first_state(rule), 1)[0] == 0.5


@pytest.mark.parametrize("name", OPTIMISERS)
def test_minimises_a_quadratic(name: str) -> None:
    rate = {"adadelta": 1.0, "adagrad": 0.5, "lion": 0.005}.get(name, 0.02)
    rule = optimiser(name, lr=rate)
    for curvature in (0.5, 2.0):
        w, state = 1.0, first_state(rule)
        for t in range(1, 601):
            w, state = step(rule, w, curvature * w, state, t)
        assert abs(w) < 0.05


@pytest.mark.parametrize("name", OPTIMISERS)
def test_binding_keeps_the_values(name: str) -> None:
    """The simplified rule against the rule as written, by the interpreter of the language."""
    for rule in (optimiser(name), optimiser(name, weight_decay=0.3)):
        written = {**rule.hyperparameters, **rule.scalars, **rule.states, "w": 0.8}
        w, state = 0.8, first_state(rule)
        for t, g in enumerate((0.3, -1.2, 0.0, 2.0), start=1):
            written |= {"g": g, "t": float(t)}
            for line, expr in (*rule.scalar_updates, *rule.updates):
                written[line] = evaluate(expr, {}, {k: {(): float(v)} for k, v in written.items()}, math)
            w, state = step(rule, w, g, state, t)
            assert w == pytest.approx(written["w"], rel=1e-13)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_bound_holds_lr_and_nothing_dead(name: str) -> None:
    bound = optimiser(name).bound
    assert [*bound.hyperparameters] == ["lr"]
    read = {s.name for _, expr in (*bound.scalar_updates, *bound.updates) for s in expr.free_symbols}
    assigned = {n for n, _ in (*bound.scalar_updates, *bound.updates)}
    assert read <= assigned | {"w", "g", "t", "lr"}
    assert {*bound.states, *bound.scalars} <= read & assigned
    assert assigned - {"w"} <= read
    assert bound.updates[-1][0] == "w"
    assert bound.bound == bound


def test_zeros_leave_no_trace() -> None:
    assert str(optimiser("sgd", lr=0.1).bound) == "sgd(lr=0.1)\n  w = w - g lr"
    assert [*optimiser("rmsprop").bound.states] == ["v"]
    assert [*optimiser("rmsprop", centered=True, momentum=0.9).bound.states] == ["v", "a", "m"]
    assert not optimiser("adagrad").bound.scalar_updates


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_rule_is_a_value(name: str) -> None:
    rule = optimiser(name)
    assert rule == optimiser(name)
    assert rule.bound == optimiser(name).bound
    assert pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule) == rule
    assert hash(rule) == hash(optimiser(name))
    assert rule != optimiser(name, lr=0.5)


@pytest.mark.parametrize(("called", "name"), CONSTRUCTORS.items())
def test_constructor_is_printed_from_the_row(called: str, name: str) -> None:
    make: Callable[..., Optimiser] = getattr(optimisers, called)
    row = OPTIMISERS[name]
    assert {n: p.default for n, p in inspect.signature(make).parameters.items()} == row.hyperparameters
    assert make(0.25) == make(lr=0.25) == optimiser(name, lr=0.25)
    assert make.__name__ == called
    assert all(line in str(make.__doc__) for line in row.equations())
    example = doctest.DocTestParser().get_doctest(str(make.__doc__), {called: make}, called, None, None)
    assert example.examples
    assert not doctest.DocTestRunner(verbose=False).run(example).failed
    with pytest.raises(SpecError, match="given twice"):
        make(0.1, lr=0.1)
    with pytest.raises(SpecError, match="at most"):
        make(*[0.1] * 20)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("adm", {}, "Did you mean 'adam'"),
        ("adam", {"beta_1": 0.9}, "Did you mean 'beta1'"),
        ("adam", {"lr": 0.0}, "lr: 0.0 is not a number above 0"),
        ("adam", {"lr": math.inf}, "lr: inf is not"),
        ("adam", {"lr": math.nan}, "lr: nan is not"),
        ("adam", {"lr": "0.1"}, "lr: '0.1' is not"),
        ("adam", {"lr": True}, "lr: True is not"),
        ("adam", {"beta1": 1.0}, r"beta1: 1.0 is not a number in \[0, 1\)"),
        ("adam", {"eps": -1e-8}, "eps"),
        ("rmsprop", {"centered": 0.5}, "true or false"),
        ("sgd", {"nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_wrong_values_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        optimiser(name, **given)


def test_every_hyperparameter_has_a_range() -> None:
    assert {h for row in OPTIMISERS.values() for h in row.hyperparameters} == {*RANGES}


def test_own_rule_by_text_and_by_sympy() -> None:
    w, g, m, lr, mu = sp.symbols("w g m lr mu")  # complex symbols: matched by name
    text = custom_optimiser(
        "own", {"m": "mu*m + g", "w": "w - lr*m"}, states={"m": 0.0}, hyperparameters={"lr": 0.01, "mu": 0.9}
    )
    symbols = custom_optimiser(
        "own", {"m": mu * m + g, "w": w - lr * m}, states={"m": 0.0}, hyperparameters={"lr": 0.01, "mu": 0.9}
    )
    assert text == symbols
    plain = custom_optimiser("own", {"w": "w - lr*g"})
    assert plain.hyperparameters == {"lr": 0.01}
    assert plain == custom_optimiser("own", {"w": "w - lr*g"}, source="a paper"), "where it is from changes no rule"
    assert trajectory(text, 100, 10) == trajectory(optimiser("momentum"), 100, 10)


def test_own_rule_with_scalars() -> None:
    rule = custom_optimiser("own", {"w": "w - rate*g"}, scalars={"k": 2.0}, scalar_updates={"k": "k/2", "rate": "lr*k"})
    w, state = step(rule, 1.0, 1.0, first_state(rule), 1, lr=0.5)
    assert (w, state) == (0.5, {"k": 1.0})
    assert step(rule, w, 1.0, state, 2, lr=0.5) == (0.25, {"k": 0.5})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"updates": {"w": "w - lr*grad"}}, "'grad'"),
        ({"updates": {"w": sp.Symbol("w") - sp.Symbol("h")}}, "'h'"),
        (
            {"updates": {"w": "w - lr*m", "m": "m + g"}, "states": {"m": 0.0}},
            "last of the updates must be w; it is m",
        ),
        ({"updates": {}}, "missing"),
        ({"updates": {"w": "w - lr*m"}, "states": {"m": 0.0}}, "'m' is never assigned"),
        ({"updates": {"g": "2*g", "w": "w - lr*g"}}, "'g' cannot be assigned"),
        ({"updates": {"w": "w - lr*g"}, "hyperparameters": {"t": 1.0}}, "'t' has a meaning"),
        ({"updates": {"w": "w - lr*g"}, "states": {"lr": 1.0}}, "'lr' has a meaning"),
        ({"updates": {"m": "m + g", "w": "w - lr*m"}, "states": {"m": math.nan}}, "not a finite number"),
        ({"updates": {"w": "w - a*g"}, "scalar_updates": {"a": "lr*g"}}, "'g'"),
        ({"updates": {"w": sp.Function("f")(sp.Symbol("w"))}}, "f in"),
        ({"updates": {"w": "w - lr*g"}, "hyperparameters": {"lr": -1.0}}, "lr"),
        ({"updates": {"w": "__import__('os')"}}, "import"),
        ({"updates": {"w": ["w"]}}, "neither text nor"),
    ],
)
def test_wrong_rules_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        custom_optimiser("own", **given)

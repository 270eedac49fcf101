"""Laws over the table of schedules; numbers of torch.optim.lr_scheduler were recorded with torch 2.13.0."""

import copy
import doctest
import inspect
import math
import pickle
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic import schedules
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.schedules import RANGES, SCHEDULES, ReduceOnPlateau, Schedule, schedule

CONSTRUCTORS = {
    "Constant": "constant", "StepDecay": "step", "Exponential": "exponential", "Cosine": "cosine",
    "OneCycle": "one_cycle", "WarmUp": "warm_up", "InverseTime": "inverse_time",
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 3, 10, 37])
def test_rate_equals_the_formula(name: str, T: int) -> None:
    rule = schedule(name)
    for t in range(T):
        values = {"lr": 0.3, "t": t, "T": T, "e": t // 3, "E": T // 3 + 1, **rule.hyperparameters}
        table = {k: {(): float(v)} for k, v in values.items()}
        expected = evaluate(rule.formula, {}, table, math)
        assert rule.rate(0.3, t, T, t // 3, T // 3 + 1) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warm_up", [0, 1, 5, 50])
def test_rate_is_finite_and_never_above_the_base(name: str, warm_up: int) -> None:
    rule = schedule(name, warm_up=warm_up)
    for T in (1, 2, 3, 4, 20):
        rates = [rule.rate(0.3, t, T, t // 4, 5) for t in range(2 * T)]
        assert all(0 <= rate <= 0.3 * (1 + 1e-15) for rate in rates)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_to_where_the_formula_begins(name: str) -> None:
    plain, warmed = schedule(name), schedule(name, warm_up=4)
    for t in range(4):
        assert warmed.rate(0.3, t, 24) == pytest.approx(plain.rate(0.3, 0, 20) * (t + 1) / 5)
    for t in range(4, 24):
        assert warmed.rate(0.3, t, 24, t // 5) == plain.rate(0.3, t - 4, 20, t // 5)


def test_step_equals_torch() -> None:
    rates = [schedule("step", step_size=3, gamma=0.5).rate(0.1, 0, 1, e, 8) for e in range(8)]
    assert rates == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]


def test_exponential_equals_torch() -> None:
    rates = [schedule("exponential", gamma=0.9).rate(0.1, 0, 1, e, 6) for e in range(6)]
    recorded = [0.1, 0.09000000000000001, 0.08100000000000002, 0.07290000000000002, 0.06561000000000002]
    assert rates == pytest.approx([*recorded, 0.05904900000000002], rel=1e-14)


def test_cosine_equals_torch() -> None:
    rates = [schedule("cosine", floor=0.01).rate(0.1, t, 8) for t in range(9)]
    recorded = [
        0.1, 0.0965745789630079, 0.08681980515339463, 0.07222075445642905, 0.055, 0.03777924554357096,
        0.023180194846605363, 0.013425421036992097, 0.01,
    ]  # fmt: skip
    assert rates == pytest.approx(recorded, rel=1e-13)


def test_one_cycle_equals_torch() -> None:
    rates = [schedule("one_cycle").rate(0.1, t, 10) for t in range(10)]
    recorded = [
        0.0040000000000000036, 0.052000000000000005, 0.1, 0.09504846320134738, 0.0811745653949763,
        0.06112620219362893, 0.03887419780637107, 0.0188258346050237, 0.004951936798652629, 4e-07,
    ]  # fmt: skip
    assert rates == pytest.approx(recorded, rel=1e-12, abs=1e-16)
    steep = schedule("one_cycle", pct_start=0.5, div_factor=10, final_div_factor=100)
    recorded = [
        0.009999999999999995, 0.020528000059645987, 0.047185832004988125, 0.07749999999999999,
        0.09728616793536587, 0.09797667403204416, 0.082760293660567, 0.057158626171750604,
        0.02930002010055578, 0.008029386035082494, 0.0001,
    ]  # fmt: skip
    assert [steep.rate(0.1, t, 11) for t in range(11)] == pytest.approx(recorded, rel=1e-12)


def test_warm_up_equals_torch() -> None:
    recorded = [
        0.020000000000000004,
        0.04000000000000001,
        0.06000000000000001,
        0.08000000000000002,
        0.1,
        0.1,
        0.1,
    ]
    for rule in (schedule("warm_up", steps=4), schedule("constant", warm_up=4)):
        assert [rule.rate(0.1, t, 7) for t in range(7)] == pytest.approx(recorded, rel=1e-14)


def test_inverse_time() -> None:
    rule = schedule("inverse_time", decay_rate=0.5, decay_steps=10)
    assert [rule.rate(0.6, t) for t in (0, 10, 20, 40)] == pytest.approx([0.6, 0.4, 0.3, 0.2])


LOSSES = [
    1, 0.9, 0.9, 0.95, 0.91, 0.92, 0.5, 0.5, 0.5, math.nan, 0.5, 0.5, 0.49999, 0.4,
    0.6, 0.6, 0.6, 0.6, 0.6, 0.6,
]  # fmt: skip
PLATEAUS = [
    (
        ReduceOnPlateau(factor=0.5, patience=2),
        LOSSES,
        [0.1] * 4 + [0.05] * 5 + [0.025] * 3 + [0.0125] * 4 + [0.00625] * 3 + [0.003125],
    ),
    (
        ReduceOnPlateau(factor=0.5, patience=1, cooldown=2, floor=0.02),
        LOSSES,
        [0.1] * 3 + [0.05] * 5 + [0.025] * 4 + [0.02] * 8,
    ),
    (
        ReduceOnPlateau(factor=0.5, patience=1, cooldown=1, larger_is_better=True),
        [-loss for loss in LOSSES],
        [0.1] * 4 + [0.05] * 11 + [0.025] * 3 + [0.0125] * 2,
    ),
]


@pytest.mark.parametrize(("state", "losses", "recorded"), PLATEAUS)
def test_reduce_on_plateau_equals_torch(state: ReduceOnPlateau, losses: list[float], recorded: list[float]) -> None:
    rates, scale = [], 1.0
    for loss in losses:
        state, factor = state.next(loss)
        scale *= factor
        rates.append(state.rate(0.1))
        assert state.scale == scale
    assert rates == pytest.approx(recorded, rel=1e-14)


def test_reduce_on_plateau_is_a_value() -> None:
    state = ReduceOnPlateau(patience=0, warm_up=3)
    later, _ = state.next(1.0)
    assert state == ReduceOnPlateau(patience=0, warm_up=3)
    assert pickle.loads(pickle.dumps(later)) == later != state
    assert [state.rate(0.4, t) for t in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


def test_a_nan_is_never_the_best() -> None:
    state, factor = ReduceOnPlateau(patience=0, factor=0.5).next(math.nan)
    assert (state.best, factor) == (None, 0.5)
    assert state.next(7.0)[0].best == 7.0


@pytest.mark.parametrize(("called", "name"), CONSTRUCTORS.items())
def test_constructor_is_printed_from_the_row(called: str, name: str) -> None:
    make = getattr(schedules, called)
    expected = {**SCHEDULES[name].hyperparameters, "warm_up": 0}
    assert {n: p.default for n, p in inspect.signature(make).parameters.items()} == expected
    assert make(warm_up=3) == schedule(name, warm_up=3)
    example = doctest.DocTestParser().get_doctest(str(make.__doc__), {called: make}, called, None, None)
    assert example.examples
    assert not doctest.DocTestRunner(verbose=False).run(example).failed


def test_every_row_has_its_constructor_and_every_hyperparameter_its_range() -> None:
    assert {*CONSTRUCTORS.values()} == {*SCHEDULES}
    assert {h for row in SCHEDULES.values() for h in row.hyperparameters} == {*RANGES}


def test_a_schedule_is_a_value() -> None:
    rule = schedule("cosine", warm_up=3, floor=1e-3)
    rule.rate(0.1, 1, 10)
    assert pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule) == schedule(rule)
    assert hash(rule) == hash(schedule("cosine", warm_up=3, floor=1e-3))


def test_own_formula_by_text_and_by_sympy() -> None:
    lr, t, T = sp.symbols("lr t T")
    assert schedule("lr*(1 - t/T)**k", k=2.0).rate(0.1, 5, 10) == pytest.approx(0.025)
    assert schedule(lr * (1 - t / T) ** 2).rate(0.1, 5, 10) == pytest.approx(0.025)
    assert schedule("lr").rate(0.1, 0) == 0.1


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cosin", {}, "Did you mean 'cosine'"),
        ("reduce_on_plateau", {}, "ReduceOnPlateau"),
        ("step", {"stepsize": 3}, "Did you mean 'step_size'"),
        ("step", {"step_size": 0}, "step_size: 0 is not a whole number"),
        ("step", {"gamma": 1.5}, r"gamma: 1.5 is not a number in \(0, 1\]"),
        ("cosine", {"warm_up": -1}, "warm_up: -1"),
        ("cosine", {"warm_up": 1.5}, "warm_up: 1.5"),
        ("lr*decay", {}, "'decay'"),
        ("lr*t", {"t": 1.0}, "'t' has a meaning"),
        ("lr*k", {"k": math.inf}, "k: inf"),
        (["cosine"], {}, "neither text nor"),
        (sp.Symbol("lr") * sp.Symbol("q"), {}, "'q'"),
    ],
)
def test_wrong_values_are_refused(name: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        schedule(name, **given)


@pytest.mark.parametrize("given", [{"factor": 1.0}, {"patience": -1}, {"threshold": -0.1}, {"cooldown": 0.5}])
def test_wrong_plateaus_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"reduce_on_plateau': {next(iter(given))}"):
        ReduceOnPlateau(**given)


@pytest.mark.parametrize("formula", ["lr - t", "lr/(t - 2)", "sqrt(1 - t)", "exp(exp(t**6))"])
def test_a_rate_that_is_none_is_refused(formula: str) -> None:
    rule: Schedule = schedule(formula)
    with pytest.raises(SpecError, match="must be at least 0"):
        [rule.rate(0.1, t, 10) for t in range(10)]

"""Metrics against numbers of scikit-learn 1.9.1 (zero_division=0, macro averages), and the laws they keep."""

import math
from typing import Any

import numpy as np
import pytest
import sympy as sp

from chainrule.runtime.metrics import ARRAYS, METRICS, View, metric
from chainrule.symbolic.closure import closure, value_of
from chainrule.symbolic.errors import DataError, SpecError
from chainrule.symbolic.formula import FUNCTIONS, parse_formula

I = np.arange(24)
WEIGHTS = 1 + (I % 5) / 2
SCORES = np.stack([np.sin(1.3 * I + 2.1 * k) + 0.1 * k for k in range(4)], axis=1)
CLASSES = (I * I + I // 3) % 4
BINARY, CHANCE = (I * 7 % 5 < 2).astype(int), (np.sin(2.0 * I) + 1) / 2
TARGETS = np.stack([np.cos(I), 2 * np.sin(0.5 * I) + 1], axis=1)
OUTPUTS = TARGETS + np.stack([0.3 * np.sin(3 * I), 0.5 * np.cos(2.0 * I)], axis=1)

# name -> (without weights, with weights)
SEVERAL_CLASSES = {
    "accuracy": (0.25, 0.2872340425531915),
    "top_1": (0.25, 0.2872340425531915),
    "top_2": (0.5, 0.5531914893617021),
    "top_3": (0.7083333333333334, 0.723404255319149),
    "top_k": (1.0, 1.0),
    "precision": (0.1884920634920635, 0.19739898989898988),
    "recall": (0.25, 0.28912815126050423),
    "f1": (0.20891608391608393, 0.23282774390243902),
}
TWO_CLASSES = {
    "accuracy": (0.4166666666666667, 0.39361702127659576),
    "precision": (0.3333333333333333, 0.28),
    "recall": (0.4, 0.4),
    "f1": (0.36363636363636365, 0.32941176470588235),
}
REGRESSION = {
    "mean_absolute_error": (0.2501049020521596, 0.25297790673942055),
    "root_mean_squared_error": (0.28015785622229783, 0.28253181471380434),
    "r2": (0.928220726745503, 0.9276610554088457),
}


@pytest.mark.parametrize(("name", "recorded"), SEVERAL_CLASSES.items())
@pytest.mark.parametrize("one_hot", [False, True])
def test_several_classes(name: str, recorded: tuple[float, float], one_hot: bool) -> None:
    y = np.eye(4)[CLASSES] if one_hot else CLASSES
    assert metric(name)(y, SCORES) == pytest.approx(recorded[0], rel=1e-12)
    assert metric(name)(y, SCORES, WEIGHTS) == pytest.approx(recorded[1], rel=1e-12)
    assert metric(name)(y, SCORES.astype(np.float32), 7 * WEIGHTS) == pytest.approx(recorded[1], rel=1e-12)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_classes_that_occur_nowhere_are_left_out(name: str) -> None:
    predicted = np.eye(4)[[0, 2, 2, 2, 0]]
    assert metric(name)([0, 0, 2, 2, 2], predicted) == pytest.approx(0.5833333333333333, rel=1e-12)


@pytest.mark.parametrize(("name", "recorded"), TWO_CLASSES.items())
def test_one_output(name: str, recorded: tuple[float, float]) -> None:
    for y, y_hat in ((BINARY, CHANCE), (BINARY[:, None], CHANCE[:, None]), (2 * BINARY - 1, CHANCE - 0.5)):
        assert metric(name)(y, y_hat) == pytest.approx(recorded[0], rel=1e-12)
        assert metric(name)(y, y_hat, WEIGHTS) == pytest.approx(recorded[1], rel=1e-12)


@pytest.mark.parametrize(("name", "recorded"), REGRESSION.items())
def test_regression(name: str, recorded: tuple[float, float]) -> None:
    assert metric(name)(TARGETS, OUTPUTS) == pytest.approx(recorded[0], rel=1e-12)
    assert metric(name)(TARGETS, OUTPUTS, WEIGHTS) == pytest.approx(recorded[1], rel=1e-12)


def test_r2_of_a_constant_target() -> None:
    assert metric("r2")([2.0, 2.0], [2.0, 2.0]) == 1.0
    assert metric("r2")([2.0, 2.0], [2.0, 3.0]) == 0.0


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_a_division_by_zero_is_zero(name: str) -> None:
    assert metric(name)([0, 0], [0.1, 0.2]) == 0.0


@pytest.mark.parametrize("name", METRICS)
def test_perfect_predictions_and_repeated_samples(name: str) -> None:
    row = metric(name)
    y = TARGETS if row.view is View.VALUES else CLASSES
    y_hat = OUTPUTS if row.view is View.VALUES else SCORES
    perfect = TARGETS if row.view is View.VALUES else np.eye(4)[CLASSES]
    assert row(y, perfect) == pytest.approx(1.0 if row.larger_is_better else 0.0)
    repeats = 1 + I % 3
    repeated = row(np.repeat(y, repeats, axis=0), np.repeat(y_hat, repeats, axis=0))
    assert row(y, y_hat, repeats) == pytest.approx(repeated, rel=1e-12)


def test_of_equal_scores_the_first_class_counts_as_higher() -> None:
    equal = np.zeros((4, 4))
    y = [0, 1, 2, 3]
    assert [metric(f"top_{k}")(y, equal) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert metric("accuracy")(y, equal) == 0.25


def test_own_formula() -> None:
    y, y_hat = sp.symbols("y y_hat")
    expected = float(np.abs(TARGETS - OUTPUTS).mean())
    for own in (metric("abs(y - y_hat)"), metric(sp.Abs(y - y_hat))):
        assert own(TARGETS, OUTPUTS) == pytest.approx(expected)
        assert not own.larger_is_better
    assert metric("where(y*y_hat > 0, 1, 0)", larger_is_better=True).larger_is_better
    assert metric("2")(TARGETS, OUTPUTS, WEIGHTS) == pytest.approx(2.0)


def test_own_function() -> None:
    def bias(y: Any, y_hat: Any) -> float:
        return float(np.mean(y_hat - y))

    def weighted(y: Any, y_hat: Any, sample_weight: Any = None) -> float:
        return float(np.average(y_hat - y, weights=sample_weight))

    y, y_hat = np.array([1.0, 2.0]), np.array([2.0, 5.0])
    assert metric(bias)(y, y_hat) == 2.0
    assert metric(bias).name == "bias"
    assert metric(weighted)(y, y_hat, [3, 1]) == 1.5
    with pytest.raises(DataError, match="sample_weight"):
        metric(bias)(y, y_hat, [3, 1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acuracy", "Did you mean 'accuracy'"),
        ("top_0", "top_0"),
        ("abs(y - yhat)", "Did you mean 'y_hat'"),
        (sp.Symbol("z"), "'z'"),
        (sp.Function("f")(sp.Symbol("y")), "f in"),
        (None, "neither text nor"),
    ],
)
def test_wrong_metrics_are_refused(name: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        metric(name)


@pytest.mark.parametrize(
    ("name", "y", "y_hat", "weight", "message"),
    [
        ("accuracy", [0, 4], np.zeros((2, 4)), None, "4 is not a class; give whole numbers from 0 to 3"),
        ("accuracy", [0, -1], np.zeros((2, 4)), None, "-1 is not a class"),
        ("accuracy", [0, 1.5], np.zeros((2, 4)), None, "1.5 is not a class"),
        ("accuracy", [0, math.nan], np.zeros((2, 4)), None, "nan is not a class"),
        ("f1", np.zeros((2, 3)), np.zeros((2, 4)), None, "neither class numbers nor 4 outputs"),
        ("f1", np.zeros((2, 2)), np.zeros((2, 1)), None, "does not fit one output"),
        ("r2", [1.0, 2.0], np.zeros((2, 3)), None, "do not fit"),
        ("r2", [1.0, 2.0], [1.0], None, "do not fit"),
        ("r2", [], [], None, "no samples"),
        ("r2", [1.0, 2.0], [1.0, 2.0], [1.0], "sample_weight"),
        ("r2", [1.0, 2.0], [1.0, 2.0], [1.0, -1.0], "negative"),
        ("r2", [1.0, 2.0], [1.0, 2.0], [0.0, 0.0], "all zero"),
        ("r2", [1.0, 2.0], [1.0, 2.0], [math.nan, 1.0], "not finite"),
    ],
)
def test_wrong_data_is_refused(name: str, y: Any, y_hat: Any, weight: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        metric(name)(y, y_hat, weight)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_formulas_works_on_arrays(name: str) -> None:
    """The arithmetic of arrays against that of floats."""
    count = FUNCTIONS[name][0]
    call = {1: f"{name}(y)", 2: f"{name}(y, y_hat)", 3: f"{name}(y, -y_hat, y_hat)"}[count]
    call = "where(y < y_hat and not (y_hat > 1 or y < -1), y, y_hat)" if name == "where" else call
    formula = parse_formula(call, {n: sp.Symbol(n, real=True) for n in ("y", "y_hat")})
    y, y_hat = np.array([-2.0, -0.5, 0.0, 0.3, 1.7]), np.array([0.5, 2.0, 0.1, 0.3, 0.9])
    with np.errstate(all="ignore"):
        values = np.broadcast_to(closure(formula, ARRAYS)({"y": y, "y_hat": y_hat}), 5)
    for value, a, b in zip(values, y, y_hat, strict=True):
        expected = value_of(formula, {"y": a.item(), "y_hat": b.item()})
        if math.isnan(expected):
            assert not math.isfinite(value)
        else:
            assert value == pytest.approx(expected, rel=1e-14)

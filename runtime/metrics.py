"""Metrics: one row each; what is averaged, and the formula of the averages, are the definition.

`y` is the target, `y_hat` the prediction. The formulas under `means` are averaged over the samples, by sample
weights where there are any, for each output; the formula `value` makes a number of these averages, for each
output; the metric is its mean over the outputs. What y and y_hat are depends on the row's view:

    values       as they are given; and y_mean, the mean of y over the samples
    indicators   1 where it is this class, else 0, a column a class; classes that occur nowhere are left out
    classes      numbers of classes, in one column; and rank, how many classes scored above the right one

With one column of output, y_hat is 1 above the threshold 0.5 (above 0 where targets are -1 and 1), and the
only indicator is that of the class 1. The definitions are those of scikit-learn, with zero_division=0.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from ..symbolic.closure import Arithmetic, Closure, closure
from ..symbolic.errors import DataError, SpecError, nearest
from ..symbolic.functions import erfc, expm1, log1p, sigmoid, softplus
from ..symbolic.rows import FrozenMapping, read_formula, real_symbols
from ..symbolic.table import Table
from ..symbolic.text import expression_text

Floats = NDArray[np.float64]


def _piece_by_piece(pieces: Sequence[tuple[Closure, Closure]]) -> Closure:
    def chosen(values: Mapping[str, Any]) -> Any:
        parts = [(holds(values), value(values)) for value, holds in pieces]
        return np.select([holds for holds, _ in parts], [value for _, value in parts], np.nan)

    return chosen


def _special(name: str) -> Callable[[Any], Any]:
    """A function of SciPy, which is imported when it is first called: it takes longer than reading a spec."""

    def called(z: Any) -> Any:
        from scipy import special

        return getattr(special, name)(z)

    return called


ARRAYS: Final = Arithmetic(
    functions={
        **{f: getattr(np, f.__name__) for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.asin, sp.acos,
           sp.atan, sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh, sp.floor, sp.sign, sp.sqrt,
           expm1, log1p)},
        sp.erf: _special("erf"),
        sp.erfc: _special("erfc"),
        erfc: _special("erfc"),
        sp.ceiling: np.ceil,
        sp.Abs: np.abs,
        sigmoid: _special("expit"),
        softplus: lambda z: np.logaddexp(0.0, z),
    },
    choose=_piece_by_piece,
    both=np.logical_and,
    either=np.logical_or,
    negate=np.logical_not,
)  # fmt: skip


class View(StrEnum):
    """What y and y_hat are in the formulas of a metric."""

    VALUES = "values"
    INDICATORS = "indicators"
    CLASSES = "classes"


@dataclass(frozen=True)
class Metric:
    """A number for how good predictions are.

    name               of the table, the formula of the user, or the name of the user's function
    view               what y and y_hat are in the formulas
    means              name -> formula that is averaged over the samples
    value              formula of these averages
    larger_is_better   True for a score, False for an error
    function           the user's own instead of formulas: (y, y_hat) or (y, y_hat, sample_weight) -> float

    >>> print(metric("f1"))
    f1: both = mean(y y_hat), actual = mean(y), predicted = mean(y_hat); {2 both/(actual + predicted) ...
    """

    name: str
    view: View
    means: Mapping[str, sp.Expr]
    value: sp.Expr
    larger_is_better: bool
    function: Callable[..., float] | None = None

    def __call__(self, y: ArrayLike, y_hat: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The metric for some samples.

        y              (samples,) or (samples, outputs); for a classification the class numbers, or one-hot
        y_hat          (samples, outputs) or (samples,)
        sample_weight  (samples,), not negative
        Raises DataError where the shapes do not fit, a class number does not exist, or there is no sample.

        >>> metric("mean_absolute_error")([0.0, 1.0], [0.5, 3.0])
        1.25
        >>> metric("accuracy")([2, 0], [[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]], sample_weight=[3, 1])
        0.75
        """
        target, output = np.asarray(y), _column(np.asarray(y_hat, dtype=np.float64))
        weight = _checked_weight(sample_weight, target, output, self.name)
        if self.function is not None:
            return _called(self.function, y, y_hat, sample_weight, self.name)
        views = {View.VALUES: _values, View.INDICATORS: _indicators, View.CLASSES: _classes}
        quantities = views[self.view](target, output, self.name)
        with np.errstate(all="ignore"):  # a formula may divide by zero in a branch that is not taken
            if self.view is View.VALUES:
                quantities["y_mean"] = _mean(quantities["y"], weight)
            means = {k: _mean(closure(e, ARRAYS)(quantities), weight) for k, e in self.means.items()}
            return float(np.mean(closure(self.value, ARRAYS)(means)))

    def __str__(self) -> str:
        if self.function is not None:
            return f"{self.name}: a function"
        means = ", ".join(f"{k} = mean({expression_text(e)})" for k, e in self.means.items())
        return f"{self.name}: {means}; {expression_text(self.value)}"


def _column(array: NDArray) -> NDArray:
    return array.reshape(-1, 1) if array.ndim == 1 else array


def _mean(array: Any, weight: Floats) -> Floats:
    """The weighted mean over the samples, for each column. Not by `@`: BLAS adds in an order of its threads."""
    mean: Floats = np.sum(weight[:, None] * array, axis=0)
    return mean


def _checked_weight(sample_weight: ArrayLike | None, y: NDArray, y_hat: Floats, name: str) -> Floats:
    """The sample weights, with sum 1."""
    if y_hat.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(y_hat):
        shapes = f"y {y.shape} and y_hat {y_hat.shape}"
        raise DataError(f"metric '{name}': {shapes} do not fit; give (samples,) or (samples, outputs)")
    if not len(y):
        raise DataError(f"metric '{name}': there are no samples; give at least one")
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (len(y),):
        raise DataError(f"metric '{name}': sample_weight {weight.shape} does not fit; give shape ({len(y)},)")
    total = weight.sum()
    if not (weight >= 0).all() or not 0 < total < np.inf:
        raise DataError(f"metric '{name}': sample_weight is negative, not finite or all zero; change it")
    return weight / total


def _values(y: NDArray, y_hat: Floats, name: str) -> dict[str, Floats]:
    if _column(y).shape != y_hat.shape:
        raise DataError(f"metric '{name}': y {y.shape} and y_hat {y_hat.shape} do not fit; give equal shapes")
    return {"y": _column(y).astype(np.float64), "y_hat": y_hat}


def _indicators(y: NDArray, y_hat: Floats, name: str) -> dict[str, Floats]:
    pair = _classes(y, y_hat, name)
    numbers = np.arange(y_hat.shape[1]) if y_hat.shape[1] > 1 else np.ones(1)
    actual, predicted = pair["y"] == numbers, pair["y_hat"] == numbers
    occurs = (actual | predicted).any(axis=0) if len(numbers) > 1 else np.array([True])
    return {"y": actual[:, occurs].astype(np.float64), "y_hat": predicted[:, occurs].astype(np.float64)}


def _classes(y: NDArray, y_hat: Floats, name: str) -> dict[str, Floats]:
    """Numbers of classes in a column; of equal scores the first class counts as the higher one."""
    count = y_hat.shape[1]
    if count == 1:
        return _two_classes(_column(y), y_hat, name)
    right = y.argmax(axis=1) if y.shape == y_hat.shape else _class_numbers(y, count, name)
    own = np.take_along_axis(y_hat, right[:, None], axis=1)
    earlier = np.arange(count) < right[:, None]
    rank = ((y_hat > own) | ((y_hat == own) & earlier)).sum(axis=1)
    chosen = y_hat.argmax(axis=1)
    return {k: v.astype(np.float64)[:, None] for k, v in {"y": right, "y_hat": chosen, "rank": rank}.items()}


def _two_classes(y: NDArray, y_hat: Floats, name: str) -> dict[str, Floats]:
    if y.shape != y_hat.shape:
        raise DataError(f"metric '{name}': y {y.shape} does not fit one output; give one target a sample")
    threshold = 0.0 if (y < 0).any() else 0.5
    right, chosen = (y > threshold).astype(np.float64), (y_hat > threshold).astype(np.float64)
    return {"y": right, "y_hat": chosen, "rank": np.abs(right - chosen)}


def _class_numbers(y: NDArray, count: int, name: str) -> NDArray[np.intp]:
    if y.size != len(y):
        raise DataError(f"metric '{name}': y {y.shape} fits neither class numbers nor {count} outputs")
    numbers = y.reshape(-1)
    wrong = ~((numbers >= 0) & (numbers < count) & (numbers == np.floor(numbers)))
    if wrong.any():
        value = numbers[wrong][0]
        raise DataError(f"metric '{name}': {value} is not a class; give whole numbers from 0 to {count - 1}")
    return numbers.astype(np.intp)


def _called(
    function: Callable[..., float], y: ArrayLike, y_hat: ArrayLike, sample_weight: ArrayLike | None, name: str
) -> float:
    if sample_weight is None:
        return float(function(y, y_hat))
    if "sample_weight" not in inspect.signature(function).parameters:
        raise DataError(f"metric '{name}': the function has no parameter sample_weight; add it, or give no weights")
    return float(function(y, y_hat, sample_weight=sample_weight))


def _made(name: str, view: str, larger_is_better: bool, value: str, **means: str) -> Metric:
    symbols = real_symbols(SYMBOLS[View(view)])
    read = {k: read_formula(formula, symbols, f"metric '{name}'") for k, formula in means.items()}
    made = read_formula(value, real_symbols(means), f"metric '{name}'")
    return Metric(name, View(view), FrozenMapping(read), made, larger_is_better)


def _row(name: str, view: str, larger_is_better: bool, value: str, **means: str) -> tuple[str, Callable[[], Metric]]:
    return name, lambda: _made(name, view, larger_is_better, value, **means)


SYMBOLS: Final[Mapping[View, tuple[str, ...]]] = {
    View.VALUES: ("y", "y_hat", "y_mean"),
    View.INDICATORS: ("y", "y_hat"),
    View.CLASSES: ("y", "y_hat", "rank"),
}
COUNTS: Final = {"both": "y*y_hat", "actual": "y", "predicted": "y_hat"}

METRICS: Final = Table([
    _row("accuracy", "classes", True, "right", right="where(y == y_hat, 1, 0)"),
    _row("top_k", "classes", True, "right", right="where(rank < 5, 1, 0)"),
    _row("precision", "indicators", True, "where(predicted > 0, both/predicted, 0)", **COUNTS),
    _row("recall", "indicators", True, "where(actual > 0, both/actual, 0)", **COUNTS),
    _row("f1", "indicators", True, "where(actual + predicted > 0, 2*both/(actual + predicted), 0)", **COUNTS),
    _row("mean_absolute_error", "values", False, "error", error="abs(y - y_hat)"),
    _row("root_mean_squared_error", "values", False, "sqrt(error)", error="(y - y_hat)**2"),
    _row(
        "r2", "values", True, "where(total > 0, 1 - rest/total, where(rest > 0, 0, 1))",
        rest="(y - y_hat)**2", total="(y - y_mean)**2",
    ),
])  # fmt: skip


def metric(name: str | sp.Expr | Metric | Callable[..., float], larger_is_better: bool = False) -> Metric:
    """The metric of that name, or one of the user's own.

    name               of the table ("top_3": top_k with k = 3; top_k: k = 5); or a formula in y and y_hat,
                       which is averaged over samples and outputs; or a function (y, y_hat) -> float, with a
                       parameter sample_weight if it knows weights
    larger_is_better   of a metric of the user's own

    Raises SpecError for a name or a symbol that is not known.

    >>> metric("abs(y - y_hat)/(1 + abs(y))")([1.0, 3.0], [2.0, 3.0])
    0.25
    >>> metric("top_2")([0, 1], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    0.5
    """
    if isinstance(name, Metric):
        return name
    if isinstance(name, str) and name.strip().isidentifier() and name.strip() not in SYMBOLS[View.VALUES]:
        return _by_name(name.strip())
    if callable(name) and not isinstance(name, sp.Basic):
        called = getattr(name, "__name__", type(name).__name__)
        return Metric(called, View.VALUES, FrozenMapping(), sp.nan, larger_is_better, function=name)
    formula = read_formula(name, real_symbols(SYMBOLS[View.VALUES]), "metric")
    closure(formula, ARRAYS)  # raises where the expression holds something that cannot be computed
    means = FrozenMapping({"error": formula})
    return Metric(str(name), View.VALUES, means, sp.Symbol("error", real=True), larger_is_better)


def _by_name(name: str) -> Metric:
    best = re.fullmatch(r"top_([1-9][0-9]{0,6})", name)
    if best:
        return _made(name, "classes", True, "right", right=f"where(rank < {best[1]}, 1, 0)")
    if name not in METRICS:
        raise SpecError(f"metric '{name}' is not known. {nearest(name, [*METRICS, 'top_3'])}")
    return METRICS[name]

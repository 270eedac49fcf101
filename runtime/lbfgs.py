"""L-BFGS by SciPy, on the whole data set at once (Liu and Nocedal 1989)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import SpecError
from .blas import OneThread

Array = NDArray[Any]
SEARCHES: Final = 20  # evaluations in a line search at most: SciPy's default


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS; an epoch of `fit` is one iteration over the whole data set.

    history     gradients that are remembered, within one `fit`
    tolerance   stop when no element of the gradient is larger than this
    """

    history: int = 10
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        if isinstance(self.history, bool) or not isinstance(self.history, int) or self.history < 1:
            raise SpecError(f"lbfgs: history = {self.history!r}; give a whole number of at least 1")
        tolerance = self.tolerance
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
            raise SpecError(f"lbfgs: tolerance = {tolerance!r}; give a number of at least 0")


def minimise(
    rule: LBFGS,
    measured: Callable[[Mapping[str, Array]], tuple[float, dict[str, Array]]],
    parameters: dict[str, Array],
    iterations: int,
    after: Callable[[dict[str, Array], float], bool],
) -> tuple[dict[str, Array], str]:
    """The parameters after some iterations, and why there were not more of them ("" where all were done).

    `after` is told about each, and may stop by returning true.
    """
    from scipy.optimize import OptimizeResult, minimize

    def split(vector: Array) -> dict[str, Array]:
        parts, at = {}, 0
        for name, array in parameters.items():
            parts[name] = vector[at : at + array.size].reshape(array.shape).astype(array.dtype)
            at += array.size
        return parts

    def joined(arrays: Mapping[str, Array]) -> Array:
        return np.concatenate([np.ravel(arrays[name]) for name in parameters]).astype(np.float64)

    def objective(vector: Array) -> tuple[float, Array]:
        loss, gradients = measured(split(vector))
        return loss, joined(gradients)

    done = 0

    def told(intermediate_result: OptimizeResult) -> None:
        nonlocal done
        done += 1
        if after(split(intermediate_result.x), float(intermediate_result.fun)):
            raise StopIteration

    options = {
        "maxiter": iterations,
        "maxfun": (SEARCHES + 1) * (iterations + 1),  # never the reason to stop
        "maxls": SEARCHES,
        "maxcor": rule.history,
        "gtol": rule.tolerance,
        "ftol": 0.0,
    }
    first = joined(parameters)
    with _one_thread():  # SciPy adds up long vectors, and in another order with more threads
        result = minimize(objective, first, jac=True, method="L-BFGS-B", options=options, callback=told)
    return split(result.x), "" if done == iterations else _reason(result)


@lru_cache(maxsize=1)
def _one_thread() -> OneThread:
    """Of the BLAS that SciPy brings, which is not that of NumPy."""
    import scipy

    return OneThread(scipy)


def _reason(result: Any) -> str:
    if not math.isfinite(result.fun):
        return "the loss is not finite"
    return "converged" if result.success else "no step makes the loss smaller"

"""Arrays that fit a model, or a `DataError` that names the first value which does not."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..symbolic.errors import DataError
from ..symbolic.model import Model

Array = NDArray[Any]
SMALL: Final = 4096  # numbers; beyond it a product of BLAS may wake its threads


def as_inputs(model: Model, x: ArrayLike, place: str = "x") -> Array:
    """Inputs in the shape that the model takes, (samples, *inputs), all of them finite; or `DataError`.

    Samples of another shape with as many numbers are reshaped, row by row (images to vectors and back).
    """
    array = _numeric(x, place)
    if array.ndim == 1 and model.inputs == (1,):
        array = array[:, None]
    wanted = f"(samples, {', '.join(map(str, model.inputs))})"
    if array.ndim < 2 or math.prod(array.shape[1:]) != math.prod(model.inputs):
        raise DataError(f"{place} has the shape {array.shape}; the model takes {wanted}")
    array = _not_empty(array, place).reshape(len(array), *model.inputs)
    if model.tokens is not None:
        return _whole(array, model.tokens, place, "a token")
    return all_finite(_real(array), place)


@lru_cache(maxsize=64)
def shapes(model: Model) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of outputs and targets; kept, because the model expands its equations to know them."""
    return model.outputs, model.targets


def as_targets(model: Model, y: ArrayLike, place: str = "y") -> Array:
    """Targets as the model's loss takes them: real numbers (samples, *targets), or integer classes."""
    array = _not_empty(_numeric(y, place), place)
    (*front, outputs), targets = shapes(model)
    loss = model.loss
    count = len(array) * math.prod(front)
    if loss.classes and array.size == count and outputs > 1:
        return _whole(array.reshape(len(array), *front), outputs, place, "a class")
    if array.size != len(array) * math.prod(targets):
        wanted = f"(samples, {', '.join(map(str, targets))})"
        also = " or (samples,) with integer classes" if loss.classes and not front else ""
        raise DataError(f"{place} has the shape {array.shape}; the loss '{loss.name}' takes {wanted}{also}")
    array = array.reshape(len(array), *targets)
    array = all_finite(_real(array), place)
    if loss.targets in TARGETS:
        words, holds = TARGETS[loss.targets]
        _all(holds(array), array, place, f"the loss '{loss.name}' takes {words}")
    return array


# Targets that may not be any number.
TARGETS: Final[Mapping[str, tuple[str, Callable[[Array], Array]]]] = {
    "probability": ("numbers from 0 to 1", lambda y: (y >= 0) & (y <= 1)),
    "sign": ("-1 or 1", lambda y: np.abs(y) == 1),
    "count": ("numbers of at least 0", lambda y: y >= 0),
}


def as_weights(weight: ArrayLike, samples: int, place: str = "sample_weight") -> Array:
    """Sample weights: finite, not negative, not all zero, one a sample; or `DataError`."""
    array = _numeric(weight, place)
    if array.shape not in ((samples,), (samples, 1)):
        raise DataError(f"{place} has the shape {array.shape}; give one weight a sample: ({samples},)")
    array = all_finite(_real(array.reshape(samples)).astype(np.float64), place)
    _all(array >= 0, array, place, "a weight is at least 0")
    with np.errstate(over="ignore"):
        if not np.isfinite(array.sum()):
            raise DataError(f"{place}: the weights are too large to be summed; divide them by the largest")
    if not array.any():
        raise DataError(f"{place}: all weights are 0; give at least one sample a weight")
    return array


def _numeric(given: ArrayLike, place: str) -> Array:
    if "numpy.ma" in sys.modules and isinstance(given, np.ma.MaskedArray):  # which takes 20 ms to import
        _all(~np.ma.getmaskarray(given), np.asarray(given), place, "but it is masked; fill it in or leave the row out")
    try:
        array = np.asarray(given)
    except ValueError:
        raise DataError(f"{place}: the rows have different lengths; give a rectangular array") from None
    if array.dtype.kind not in "buif":
        what = "text" if array.dtype.kind in "US" else f"of the type {array.dtype}"
        raise DataError(f"{place} is {what}; give numbers")
    if array.ndim == 0:
        raise DataError(f"{place} is a single number; give one row a sample")
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _real(array: Array) -> Array:
    """Real numbers of at most 64 bits: more have no kernel."""
    with np.errstate(over="ignore"):
        return array if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else array.astype(np.float64)


def _not_empty(array: Array, place: str) -> Array:
    if array.size == 0:
        raise DataError(f"{place} has the shape {array.shape}: there are no samples; give at least one")
    return array


def _whole(array: Array, below: int, place: str, what: str) -> NDArray[np.int64]:
    array = all_finite(array, place)
    _all((array >= 0) & (array < below) & (array == np.floor(array)), array, place,
         f"{what} is a whole number from 0 to {below - 1}")  # fmt: skip
    return array.astype(np.int64)


def all_finite(array: Array, place: str) -> Array:
    """The array, if it has neither NaN nor infinity."""
    if not is_finite(array):
        _all(np.isfinite(array), array, place, "every value must be finite")
    return array


def is_finite(array: Array) -> bool:
    """Whether an array holds neither NaN nor infinity: by a sum, in one pass and without an array of booleans.

    The sum of finite numbers may overflow; only then every element is looked at.
    """
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            total = flat.dot(flat) if flat.size <= SMALL else np.einsum("i->", flat)
        if math.isfinite(total):
            return True
    return bool(np.isfinite(array).all())


def _all(fine: Array, array: Array, place: str, rule: str) -> None:
    """`DataError` about the first value that is not fine."""
    if not fine.all():
        position = tuple(int(k) for k in np.unravel_index(int(np.argmin(fine)), fine.shape))
        where = ", ".join(map(str, position))
        raise DataError(f"{place}[{where}] is {array[position]}; {rule}")


def cast(array: Array, dtype: str, place: str) -> Array:
    """A finite array in this precision, if all of it fits in."""
    if array.dtype == dtype and array.flags.carray:
        return array
    with np.errstate(over="ignore"):
        made = np.require(array, dtype, ["C", "A"])  # in order, and at an address that kernels can load from
    return all_finite(made, f"{place} as {dtype}")

"""Inputs, targets and weights that belong together: checked as a whole, and divided into parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..symbolic.errors import DataError, SpecError
from ..symbolic.model import Model
from .arrays import as_inputs, as_targets, as_weights, cast

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """Arrays that fit a model, in the type in which it computes.

    x        (samples, *inputs)
    y        (samples, *targets), or integer classes (samples,)
    weight   (samples,), or None where all samples count the same
    """

    x: Array
    y: Array
    weight: Array | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: Array) -> Samples:
        """Some of the samples; weights that are all 0 would leave nothing."""
        weight = None if self.weight is None else self.weight[rows]
        if weight is not None and not weight.any():
            raise DataError("sample_weight: all weights of the validation part, or of the rest, are 0; divide anew")
        return Samples(self.x[rows], self.y[rows], weight)


def inputs(model: Model, dtype: str, x: ArrayLike, place: str = "x") -> Array:
    """The inputs as a model takes them."""
    array = as_inputs(model, x, place)
    return cast(array, dtype, place) if array.dtype.kind == "f" else array


def samples(
    model: Model, dtype: str, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None, part: str = ""
) -> Samples:
    """The arrays as a model takes them, or a `DataError`; `part` stands before their names in messages."""
    given = inputs(model, dtype, x, f"{part}x")
    wanted = as_targets(model, y, f"{part}y")
    if len(given) != len(wanted):
        raise DataError(f"{part}x has {len(given)} samples and {part}y {len(wanted)}; give one target a sample")
    if wanted.dtype.kind == "f":
        wanted = cast(wanted, dtype, f"{part}y")
    if weight is None:
        return Samples(given, wanted)
    weights = as_weights(weight, len(given), f"{part}sample_weight")
    if not cast(weights, dtype, f"{part}sample_weight").any():
        raise DataError(f"{part}sample_weight: as {dtype} all weights are 0; divide them by the largest")
    return Samples(given, wanted, weights)


def divided(data: Samples, share: float, seed: int) -> tuple[Samples, Samples | None]:
    """Training part and validation part: a share of the samples, drawn by the seed, both in their first order."""
    count = len(data)
    aside = round(share * count)
    if aside == 0:
        return data, None
    if aside == count:
        raise DataError(f"validation = {share!r} of {count} samples leaves none to train with; give a smaller share")
    shuffled = np.random.default_rng([seed, 2**31]).permutation(count)
    return data.at(np.sort(shuffled[aside:])), data.at(np.sort(shuffled[:aside]))


def share_or_arrays(validation: object) -> float | Sequence[Any] | None:
    """What `fit` was given as `validation`: a share of the samples, the arrays of another part, or nothing."""
    rule = "give a share of at least 0 and less than 1, (x, y) or (x, y, sample_weight)"
    if validation is None:
        return None
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise SpecError(f"validation: {len(validation)} arrays; {rule}")
        return validation
    if isinstance(validation, bool) or not isinstance(validation, int | float | np.floating):
        raise SpecError(f"validation is of the type {type(validation).__name__}; {rule}")
    if not (math.isfinite(validation) and 0 <= validation < 1):
        raise SpecError(f"validation = {validation!r}; {rule}")
    return float(validation)

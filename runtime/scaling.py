"""Scaling of features: fitted on the training part, applied to all parts, kept beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from .arrays import Array

SCALES: Final = ("none", "standard", "minmax")


@dataclass(frozen=True, eq=False)
class Scaler:
    """(value - offset)/scale, feature by feature; a feature that never changes keeps its size.

    standard   offset mean, scale standard deviation
    minmax     offset smallest value, scale largest - smallest: what was seen lies in [0, 1]

    >>> scaler = fit_scaler("minmax", np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> scaler.apply(np.array([[2.0, 6.0]]))
    array([[0.5, 1. ]])
    """

    kind: str = "none"
    offset: Array = field(default_factory=lambda: np.zeros(()))
    scale: Array = field(default_factory=lambda: np.ones(()))

    def apply(self, values: Array) -> Array:
        return values if self.kind == "none" else (values - self.offset) / self.scale

    def undo(self, values: Array) -> Array:
        return values if self.kind == "none" else values * self.scale + self.offset

    def state(self) -> dict[str, Any]:
        """What a spec in JSON keeps."""
        if self.kind == "none":
            return {"kind": "none"}
        return {"kind": self.kind, "offset": self.offset.tolist(), "scale": self.scale.tolist()}


def fit_scaler(kind: str, values: Array) -> Scaler:
    """The scaler of this kind that these samples show."""
    if kind == "none":
        return Scaler()
    values = values.astype(np.float64)
    if kind == "standard":
        offset, scale = values.mean(axis=0), values.std(axis=0)
    else:
        offset = values.min(axis=0)
        scale = values.max(axis=0) - offset
    # of a feature that never changes rounding can leave a little more than nothing
    tiny = scale <= 1e-12 * np.abs(values).max(axis=0)
    return Scaler(kind, offset, np.where(tiny, 1.0, scale))


def scaler_from(state: Mapping[str, Any]) -> Scaler:
    """The scaler whose state this is."""
    if state.get("kind", "none") == "none":
        return Scaler()
    offset, scale = (np.asarray(state[key], dtype=np.float64) for key in ("offset", "scale"))
    return Scaler(state["kind"], offset, scale)

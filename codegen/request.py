"""What kernels are asked for: small values that need neither the derivation nor the emitter."""

from __future__ import annotations

from dataclasses import dataclass

from ..symbolic.model import Variant
from ..symbolic.optimisers import Optimiser

ROUTINES = ("predict", "evaluate", "gradients", "train")


@dataclass(frozen=True)
class Update:
    """How training changes the parameters: the optimiser's rule, and the gradients' clipping before it."""

    optimiser: Optimiser
    clip_value: float | None = None
    clip_norm: float | None = None


@dataclass(frozen=True)
class Request:
    """What a module of kernels is made for.

    variant    integer targets or numbers, with sample weights or without
    update     the optimiser's rule with numbers for all hyperparameters but lr; without it there is no `train`
    dtype      "float32" or "float64"
    in_parts   for training with large batches: sums over samples are made in parts, by blocks of samples
    keeps      training keeps all that it computes of a batch, for who wants to look at it
    """

    variant: Variant
    update: Update | None
    dtype: str = "float32"
    routines: tuple[str, ...] = ROUTINES
    in_parts: bool = False
    keeps: bool = False

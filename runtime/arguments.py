"""The arguments of a trainer: each function gives what the trainer uses, or raises `SpecError`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..symbolic.errors import SpecError
from ..symbolic.layers import Dropout
from ..symbolic.optimisers import Optimiser
from ..symbolic.optimisers import optimiser as named_optimiser
from ..symbolic.schedules import ReduceOnPlateau, Schedule
from ..symbolic.schedules import schedule as named_schedule
from .lbfgs import LBFGS
from .metrics import Metric, metric

if TYPE_CHECKING:
    from .trainer import Trainer


def as_optimiser(given: object) -> Optimiser | LBFGS:
    if given == "lbfgs":
        return LBFGS()
    made = named_optimiser(given) if isinstance(given, str) else given
    if not isinstance(made, Optimiser | LBFGS):
        raise SpecError(f"trainer: optimiser = {given!r}; give Adam(1e-3), SGD(0.1), ... or a name")
    return made


def as_schedule(given: Any) -> Schedule | ReduceOnPlateau | None:
    if given is None or isinstance(given, Schedule):
        return given
    if isinstance(given, ReduceOnPlateau):
        if given.larger_is_better:
            raise SpecError("schedule 'reduce_on_plateau': a trainer gives it the loss; leave larger_is_better out")
        return given
    if callable(given) or isinstance(given, bool):
        raise SpecError(f"schedule = {given!r}; give a name, a formula in lr, t, T, e and E, or Cosine(), ...")
    return named_schedule(given)


def same_for_all_steps(rule: Schedule | ReduceOnPlateau) -> bool:
    """Whether the steps of one epoch, after a warm-up, have the same rate."""
    return isinstance(rule, ReduceOnPlateau) or not any(s.name == "t" for s in rule.bound.free_symbols)


def as_metrics(given: Iterable[str | Metric | Any]) -> tuple[Metric, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SpecError(f'metrics = {given!r}; give a list, such as ["accuracy"]')
    return tuple(metric(m) for m in given)


def check_full_batch(trainer: Trainer) -> None:
    """L-BFGS takes the loss as one fixed function, and finds its steps itself."""
    for name in ("schedule", "clip_value", "clip_norm"):
        if getattr(trainer, name) is not None:
            raise SpecError(f"trainer: lbfgs finds its own steps; leave {name} out, or take another optimiser")
    if trainer.divergence.policy == "roll_back":
        raise SpecError("trainer: lbfgs has no rate to make smaller; choose divergence = 'stop' or 'raise'")
    if any(isinstance(layer, Dropout) for layer in trainer.model.layers):
        raise SpecError("trainer: dropout makes another function of every step, and lbfgs needs the same; "
                        "leave dropout out, or take another optimiser")  # fmt: skip


def as_whole(value: object, name: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SpecError(f"{name} = {value!r}; give a whole number of at least {least}")
    return int(value)


def as_positive(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise SpecError(f"{name} = {value!r}; give a number above 0, or leave it out")
    return float(value)

"""What epochs begin with and come to: the rates of their steps, and the mean of their losses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..symbolic.schedules import ReduceOnPlateau, Schedule
from .arguments import same_for_all_steps

Array = NDArray[Any]


def rates_of(
    rule: Schedule | ReduceOnPlateau | None, lr: float, first: int, many: int, epochs: int, steps: int
) -> Array:
    """The learning rate of every step of some epochs on end.

    first, many   the epochs are first, first + 1, ...: so many
    epochs        of the whole training
    steps         of one epoch

    >>> rates_of(None, 0.1, first=3, many=2, epochs=9, steps=2).tolist()
    [0.1, 0.1, 0.1, 0.1]
    """
    rates = np.full((many, steps), lr)
    for row, epoch in zip(rates, range(first, first + many), strict=True):
        if rule is None:
            break
        before = epoch * steps
        if before >= rule.warm_up and same_for_all_steps(rule):
            row[...] = rule.rate(lr, before, epochs * steps, epoch, epochs)
        else:
            row[...] = [rule.rate(lr, before + s, epochs * steps, epoch, epochs) for s in range(steps)]
    return rates.reshape(-1)


def mean_loss(losses: Array, order: Array, weight: Array | None, batch_size: int) -> float:
    """The mean of the losses of an epoch's steps; a step counts as much as its samples do.

    >>> mean_loss(np.array([1.0, 4.0]), np.arange(3), None, batch_size=2)
    2.0
    """
    if len(losses) == 1:
        return float(losses[0])
    if weight is None and len(order) % batch_size == 0:
        return float(np.add.reduce(losses) / len(losses))
    if weight is None:
        sizes, total = _sizes(len(losses), batch_size, len(order)), len(order)
    else:
        sizes = np.add.reduceat(weight[order], np.arange(0, len(order), batch_size))
        total = sizes.sum()
    return float(np.add.reduce(losses * sizes) / total)  # not `@`: BLAS adds in an order of its threads


@lru_cache(maxsize=4)
def _sizes(steps: int, batch: int, samples: int) -> Array:
    """Samples of each step of an epoch; the last one has what is left."""
    sizes = np.full(steps, float(batch))
    sizes[-1] = samples - batch * (steps - 1)
    sizes.flags.writeable = False
    return sizes

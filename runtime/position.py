"""Where a training is, and what an epoch is going to do: both are what a checkpoint needs to go on to the same bits.

There is no state of a random generator to keep: the order of the samples and the key of dropout's noise are functions
of the seed and the number of the epoch, and the noise of a step is one of this key and the number of the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Position:
    """How far a training is: some steps of an epoch, of so many epochs in all.

    epoch        epochs that are over
    step         steps that are done of the next one
    planned      epochs in all, as the last `fit` was told
    begun        epochs that were over when it began
    losses       of those steps
    seconds      which they took
    data         the hash of the samples, once it was needed
    scale        what the rates are multiplied by: below 1 after a roll back
    rolled_back  how often that was done
    """

    epoch: int = 0
    step: int = 0
    planned: int = 0
    losses: list[Array] = field(default_factory=list)
    seconds: float = 0.0
    data: str = ""
    scale: float = 1.0
    rolled_back: int = 0
    begun: int = 0

    @property
    def unfinished(self) -> int:
        """Epochs that the last `fit` was told to do and has not."""
        return max(0, self.planned - self.epoch)

    def took(self, losses: Array) -> None:
        """Some more steps are done."""
        self.losses.append(losses)
        self.step += len(losses)

    def next_epoch(self) -> None:
        """All steps of an epoch are done."""
        self.epoch += 1
        self.restart()

    def restart(self) -> None:
        """Forget the steps of this epoch."""
        self.step, self.losses, self.seconds = 0, [], 0.0

    def go_to(self, epoch: int, losses: Array) -> None:
        """After the steps of this epoch that had these losses."""
        if epoch != self.epoch:
            self.seconds = 0.0  # of another epoch
        self.epoch, self.step, self.losses = epoch, len(losses), [losses] if len(losses) else []

    def all_losses(self) -> Array:
        """The losses of this epoch so far, in one array."""
        if len(self.losses) == 1:
            return self.losses[0]
        return np.concatenate(self.losses) if self.losses else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Plan:
    """Some epochs on end: the order of the samples of each, one after the other, the rate of each step, and a key of
    random numbers for each epoch.

    epoch   the first one

    >>> plan = Plan(4, np.array([1, 0, 2, 2, 0, 1]), np.full(4, 0.1), np.array([7, 8]))
    >>> plan.epochs, plan.samples, plan.steps, plan.steps_each, plan.place(3), plan.step_at(5, 1)
    (2, 3, 4, 2, (5, 1), 3)
    """

    epoch: int
    order: Array
    rates: Array
    keys: Array

    @property
    def epochs(self) -> int:
        return len(self.keys)

    @property
    def samples(self) -> int:
        """Of one epoch."""
        return len(self.order) // len(self.keys)

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return len(self.rates)

    @property
    def steps_each(self) -> int:
        """Of one epoch."""
        return len(self.rates) // len(self.keys)

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its number there."""
        epochs, number = divmod(step, self.steps_each)
        return self.epoch + epochs, number

    def step_at(self, epoch: int, number: int) -> int:
        """The step of such a place: `place`, turned round."""
        return (epoch - self.epoch) * self.steps_each + number

    def samples_before(self, step: int, batch: int) -> int:
        """Samples of all steps before one: the last step of an epoch may have less than a batch."""
        epochs, number = divmod(step, self.steps_each)
        return epochs * self.samples + number * batch

    def order_of(self, epoch: int) -> Array:
        """The order of the samples of an epoch."""
        at = (epoch - self.epoch) * self.samples
        return self.order[at : at + self.samples]


def digest(arrays: Mapping[str, Array]) -> str:
    """The sha256 of arrays: names, types, shapes and bytes.

    >>> digest({"x": np.zeros(3)}) == digest({"x": np.zeros(3, "float32")})
    False
    """
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        if array.size:
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()

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
        self.epoch, self.step, self.losses = epoch, len(losses), [losses] if len(losses) else []

    def all_losses(self) -> Array:
        """The losses of this epoch so far, in one array."""
        if len(self.losses) == 1:
            return self.losses[0]
        return np.concatenate(self.losses) if self.losses else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Plan:
    """An epoch: the order of its samples, the rate of each step, and the key of its random numbers."""

    epoch: int
    order: Array
    rates: Array
    key: int

    @property
    def steps(self) -> int:
        return len(self.rates)


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

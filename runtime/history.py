"""What happened in a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """One row an epoch: epoch, loss, metrics, the same on the validation part with `val_` in front, rate, seconds.

    The loss is the mean over the epoch's steps, each with the weights that it began with; everything else is measured
    at the end of the epoch. The rate is that of the last step.

    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"], len(history)
    ([0.5, 0.25], 2)
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""  # why the training ended before its last epoch

    def __getitem__(self, name: str) -> list[Any]:
        """The values of one column."""
        if not any(name in row for row in self.epochs):
            known = ", ".join(dict.fromkeys(k for row in self.epochs for k in row))
            raise KeyError(f"{name!r} was not recorded; there are: {known}")
        return [row.get(name) for row in self.epochs]

    def __contains__(self, name: object) -> bool:
        return any(name in row for row in self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.epochs)

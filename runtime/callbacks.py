"""What may be called after every epoch: any function (trainer, row) that returns true to stop, or one of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..symbolic.errors import SpecError, nearest

if TYPE_CHECKING:
    from .trainer import Trainer

Callback = Callable[["Trainer", Mapping[str, Any]], object]


@dataclass
class EarlyStopping:
    """Stop when what is monitored has not improved by more than `min_delta` for `patience` epochs.

    monitor        a column of the history; the loss of the validation part if it is there, else the loss
    restore_best   go back to the weights of the best epoch in the end

    Source: Prechelt 1998, "Early stopping - but when?".
    """

    patience: int = 5
    monitor: str | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    best: float = field(default=float("inf"), init=False)
    best_epoch: int = field(default=0, init=False)
    waited: int = field(default=0, init=False)
    _kept: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 0:
            raise SpecError(f"early stopping: patience = {self.patience!r}; give a whole number of epochs")

    def start(self, trainer: Trainer) -> None:
        """Called before the first epoch of a `fit`."""
        self.best, self.best_epoch, self.waited, self._kept = float("inf"), 0, 0, None

    def __call__(self, trainer: Trainer, row: Mapping[str, Any]) -> bool:
        name = self.monitor or ("val_loss" if "val_loss" in row else "loss")
        if name not in row:
            raise SpecError(f"early stopping: monitor '{name}' is not recorded. {nearest(name, row)}")
        value = -row[name] if trainer.larger_is_better(name) else row[name]
        if value < self.best - self.min_delta:
            self.best, self.best_epoch, self.waited = value, row["epoch"], 0
            if self.restore_best:
                self._kept = trainer.parameters
        else:
            self.waited += 1
        return self.waited > 0 and self.waited >= self.patience

    def end(self, trainer: Trainer) -> None:
        """Called after the last epoch of a `fit`, however it ended."""
        if self.restore_best and self._kept is not None:
            trainer.set_parameters(self._kept)

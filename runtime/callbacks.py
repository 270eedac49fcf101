"""What may be called after every epoch: any function (trainer, row) that returns true to stop, or one of these.

An object may also have `start(trainer)`, called before the first epoch of a `fit`, and `end(trainer)`, called after the
last one, however it ended; `trainer.history.stopped` then says why. One that keeps something may have `state()`, which
gives numbers by name and sets of arrays by name, and `set_state(numbers, arrays)`, which is called after `start` where
a training goes on that was ended early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..symbolic.errors import DataError, SpecError, nearest

if TYPE_CHECKING:
    from .trainer import Trainer

Callback = Callable[["Trainer", Mapping[str, Any]], object]
Kept = tuple[str, Mapping[str, Any], Mapping[str, Mapping[str, Any]]]  # of a callback: its name, numbers, arrays


def called_after_epochs(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks, if they are some: what is wrong with them shows before the first epoch, not after it."""
    if not isinstance(callbacks, Iterable):
        raise SpecError(f"callbacks = {callbacks!r}; give a list, such as [EarlyStopping()]")
    called = list(callbacks)
    for callback in called:
        if not callable(callback) or isinstance(callback, type):
            raise SpecError(f"callbacks: {callback!r} is none; give a function of (trainer, row), or EarlyStopping()")
    return called


def name_of(callback: Callback) -> str:
    """The name of a function, or of an object's class."""
    name: str = getattr(callback, "__name__", type(callback).__name__)
    return name


def kept_by(callbacks: Iterable[Callback]) -> list[Kept]:
    """What callbacks keep, so that a training can go on with it."""
    kept: list[Kept] = []
    for callback in callbacks:
        state = getattr(callback, "state", None)
        numbers, arrays = state() if callable(state) else ({}, {})
        kept.append((name_of(callback), dict(numbers), dict(arrays)))
    return kept


def give_back(callbacks: Iterable[Callback], kept: Iterable[Kept]) -> None:
    """Give callbacks what those at the same place kept, if they have the same name."""
    for callback, (name, numbers, arrays) in zip(callbacks, kept, strict=False):
        set_state = getattr(callback, "set_state", None)
        if callable(set_state) and name == name_of(callback) and (numbers or arrays):
            try:
                set_state(numbers, arrays)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                problem = f"{type(error).__name__}: {error}"
                raise DataError(f"callback {name}: what it kept cannot be read ({problem})") from None


@dataclass
class EarlyStopping:
    """Stop when what is monitored has not improved by more than `min_delta` for `patience` epochs.

    monitor        a column of the history; the loss of the validation part if it is there, else the loss
    restore_best   go back to the weights of the best epoch in the end; not after Ctrl-C, which keeps the last ones

    Source: Prechelt 1998, "Early stopping - but when?".
    """

    patience: int = 5
    monitor: str | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    best: float = field(default=math.inf, init=False)
    best_epoch: int = field(default=0, init=False)
    waited: int = field(default=0, init=False)
    _kept: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        place = "early stopping"
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 0:
            raise SpecError(f"{place}: patience = {self.patience!r}; give a whole number of epochs")
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise SpecError(f"{place}: monitor = {self.monitor!r}; give the name of a column, such as 'val_loss'")
        delta = self.min_delta
        if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 <= delta < math.inf:
            raise SpecError(f"{place}: min_delta = {delta!r}; give a number of at least 0")

    def start(self, trainer: Trainer) -> None:
        """Called before the first epoch of a `fit`."""
        self.best, self.best_epoch, self.waited, self._kept = math.inf, 0, 0, None

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
        if self._kept is not None and trainer.history.stopped != "interrupted":
            trainer.set_parameters(self._kept)
        self._kept = None

    def state(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What it keeps: the best value and its epoch, how long it waited, and the weights of that epoch."""
        numbers = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return numbers, {} if self._kept is None else {"kept": self._kept}

    def set_state(self, numbers: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Go on with what another one kept."""
        self.best, self._kept = float(numbers["best"]), arrays.get("kept")
        self.best_epoch, self.waited = int(numbers["best_epoch"]), int(numbers["waited"])

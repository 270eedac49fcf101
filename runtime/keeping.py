"""When checkpoints are written: at the start of a training, from time to time, and at its end, however that comes."""

from __future__ import annotations

import math
import os
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..symbolic.errors import SpecError
from .durable import Lock
from .store import KEPT, check_directory, check_free, numbers, owner, set_aside, set_damaged_aside

if TYPE_CHECKING:
    from .trainer import Trainer

SECONDS: Final = 60.0
SHARE: Final = 0.05  # of the time, which writing may take


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a training is saved while it runs.

    directory  of the run
    epochs     every so many epochs; None: not by epochs
    seconds    every so many seconds, also within an epoch, but so seldom that writing takes a twentieth of the time at
               most; None: not by time
    keep       checkpoints that are kept, at least two
    again      where the directory holds another training: put its checkpoints aside, instead of refusing
    """

    directory: str | os.PathLike[str] | None = None
    epochs: int | None = None
    seconds: float | None = SECONDS
    keep: int = KEPT
    again: bool = False

    def __post_init__(self) -> None:
        if self.directory is not None and not isinstance(self.directory, str | os.PathLike):
            raise SpecError(f"checkpoint: directory = {self.directory!r}; give a path")
        if self.epochs is not None and not _whole(self.epochs, 1):
            raise SpecError(f"checkpoint: epochs = {self.epochs!r}; give a whole number of at least 1, or leave it out")
        seconds = self.seconds
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (number and 0 <= seconds < math.inf):
            raise SpecError(f"checkpoint: seconds = {seconds!r}; give a number of at least 0")
        if not _whole(self.keep, KEPT):
            raise SpecError(f"checkpoint: keep = {self.keep!r}; give a whole number of at least {KEPT}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def as_checkpoint(given: object) -> Checkpoint | None:
    """What `fit` was given as `checkpoint`: a directory, or more."""
    if given is None:
        return None
    wanted = given if isinstance(given, Checkpoint) else Checkpoint(given)  # type: ignore[arg-type]
    if wanted.directory is None:
        raise SpecError("checkpoint: no directory; give one for the run, such as Checkpoint('runs/xor')")
    return wanted


class Keeper:
    """Writes the checkpoints of one `fit`, as a context; without a `Checkpoint` it does nothing."""

    def __init__(self, trainer: Trainer, wanted: Checkpoint | None) -> None:
        self.trainer, self.wanted = trainer, wanted
        self.folder = None if wanted is None or wanted.directory is None else Path(wanted.directory)
        self.held = ExitStack()
        self.written_at, self.took = -math.inf, 0.0
        self.epochs = 0
        self.begun = False
        self.process = os.getpid()

    def __enter__(self) -> Self:
        if self.folder is not None and self.wanted is not None:
            check_directory(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.held.enter_context(Lock(self.folder))
            try:
                self._take_over(self.folder, self.wanted.again)
                self.trainer._writes_in = self.folder.resolve()
            except BaseException:
                self.held.close()
                raise
        return self

    def _take_over(self, folder: Path, again: bool) -> None:
        if again and numbers(folder) and owner(folder) != self.trainer._run:
            set_aside(folder)
        check_free(folder, self.trainer._run)
        set_damaged_aside(folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trainer._writes_in = None
        self.held.close()

    def begin(self) -> None:
        """Before the first step: what cannot be written shows here, and a run can be resumed from its first moment."""
        self.write()
        self.begun = True

    def after_steps(self) -> None:
        """Between two calls of the compiled loop."""
        if self.wanted is None or self.wanted.seconds is None:
            return
        if time.perf_counter() - self.written_at >= max(self.wanted.seconds, self.took / SHARE):
            self.try_to_write()

    def after_epoch(self) -> None:
        """When an epoch is over and all callbacks know it."""
        self.epochs += 1
        if self.wanted is not None and self.wanted.epochs is not None and self.epochs % self.wanted.epochs == 0:
            self.try_to_write()
        else:
            self.after_steps()

    def write(self) -> None:
        """Write a checkpoint; raises OSError where that fails. A fork of the process that trains writes none."""
        if self.folder is None or self.wanted is None or os.getpid() != self.process:
            return
        started = time.perf_counter()
        self.trainer.save(self.folder, keep=self.wanted.keep)
        self.written_at = time.perf_counter()
        self.took = self.written_at - started

    def finish(self) -> None:
        """Write a checkpoint when a training has come to its end; OSError where that fails says what is there."""
        try:
            self.write()
        except OSError as error:
            error.add_note("the training is done, but not saved; the checkpoints before its end are whole")
            raise

    def last_words(self) -> str:
        """Write a checkpoint when a training was ended; what to say of it."""
        if self.folder is None or not self.begun or os.getpid() != self.process:
            return ""
        try:
            self.write()
        except OSError as error:
            return f"; {advice(error)}"
        return f"; saved in {self.folder}"

    def try_to_write(self) -> None:
        """Write a checkpoint; where that fails, say so, and train on: the ones before it are still there."""
        try:
            self.write()
        except OSError as error:
            self.written_at = time.perf_counter()
            warnings.warn(f"{self.folder}: {advice(error)}; the training goes on", stacklevel=2)


def advice(error: OSError) -> str:
    """What could not be written, and that nothing is lost by it."""
    where = f"{Path(error.filename).name}: " if error.filename else ""
    return f"a checkpoint could not be written ({where}{error.strerror or error}), those before it are whole"

"""One `fit` of a trainer, from beginning to end: what it goes on with, who is told, and what is kept of it."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import SpecError
from ..symbolic.schedules import ReduceOnPlateau
from .callbacks import Callback, give_back, kept_by
from .divergence import DivergenceError, Guard, State, Trouble
from .keeping import Keeper
from .position import digest
from .progress import Progress
from .samples import Samples
from .signals import Signals, Terminated
from .training import Training

if TYPE_CHECKING:
    from .trainer import Trainer

Array = NDArray[Any]
_GATE: Final = threading.Lock()  # for the moment in which a `fit` takes its trainer
if hasattr(os, "register_at_fork"):  # no fork in this moment: the child would wait for a thread that it does not have
    os.register_at_fork(before=_GATE.acquire, after_in_parent=_GATE.release, after_in_child=_GATE.release)


@dataclass
class Session:
    """A context for the steps of one `fit`; when it ends, by itself or not, all that the training needs is kept.

    given    the data as the kernels take them
    guard    watches whether all is finite
    failed   whether something was not
    again    whether the `fit` before failed, and this one is to get over it
    ended    whether the callbacks were told that it is over
    """

    trainer: Trainer
    data: Samples
    held_out: Samples | None
    called: list[Callback]
    progress: Progress
    keeper: Keeper
    given: dict[str, Array] = field(default_factory=dict)
    guard: Guard | None = None
    failed: bool = False
    again: bool = False
    ended: bool = False
    signals: Signals | None = None
    held: ExitStack = field(default_factory=ExitStack)
    process: int = field(default_factory=os.getpid)

    def __enter__(self) -> Self:
        self._take()
        try:
            self.held.enter_context(self.keeper)
            self.held.enter_context(self.progress)
            self._begin()
        except BaseException:
            self._leave()
            raise
        return self

    def _take(self) -> None:
        """One `fit` at a time: a second one would train the same weights."""
        with _GATE:
            other = self.trainer._fitting
            if other is not None and other.process != self.process:
                raise SpecError("trainer: this process was forked while `fit` ran, and has half a step of it; "
                                "make another Trainer, or restore one from a checkpoint")  # fmt: skip
            if other is not None:
                raise SpecError("trainer: `fit` is running already, around this call or in another thread; "
                                "wait for it, or make another Trainer")  # fmt: skip
            self.trainer._fitting = self

    def _leave(self) -> None:
        self.held.close()
        self.trainer._fitting = None

    def _begin(self) -> None:
        """Take up the position, and give callbacks back what they kept where a training goes on."""
        trainer, at = self.trainer, self.trainer._position
        self.again = len(trainer.history) > at.epoch
        del trainer.history.epochs[at.epoch :]  # of an epoch that failed
        trainer.history.stopped = ""
        if not at.unfinished:
            at.begun, at.data, trainer._pending, trainer._start = at.epoch, "", [], None
        at.planned = at.epoch + self.progress.epochs
        for callback in self.called:
            getattr(callback, "start", lambda _: None)(trainer)
        give_back(self.called, trainer._pending)

    def listening(self) -> Signals:
        """From now on signals wait for the end of a step."""
        self.signals = Signals(terminate=self.keeper.folder is not None)
        return self.signals

    # between the steps

    @property
    def watched(self) -> bool:
        """Whether somebody looks at the end of each epoch, or acts there: then the steps go no further than that."""
        trainer, wanted = self.trainer, self.keeper.wanted
        looked_at = self.called or trainer.metrics or self.held_out is not None or trainer._safe is not None
        return bool(looked_at or isinstance(trainer.schedule, ReduceOnPlateau) or (wanted and wanted.epochs))

    def pause(self) -> None:
        """Between two calls of the compiled loop."""
        self.keeper.after_steps()
        if self.signals is not None:
            self.signals.check()

    def epoch_is_over(self) -> None:
        """After the callbacks of an epoch. After the last one the end of the training is written, and nothing before:
        a checkpoint between the two has no epochs to do, and its callbacks were not told that it is over.
        """
        if not self.trainer._position.unfinished:
            return
        self.keeper.after_epoch()
        if self.signals is not None:
            self.signals.check()

    # the data

    def hash_of_data(self) -> str:
        """The hash of the samples of this `fit` and of how they are cut; made when it is first needed."""
        at = self.trainer._position
        if self.given and not at.data:
            at.data = digest({**self.given, "@batch": np.array(self.trainer.batch_size)})
        return at.data

    def align(self, steps: int) -> None:
        """Begin the epoch anew where its first steps had other samples."""
        at = self.trainer._position
        before, at.data = at.data, ""
        if at.step and (before != self.hash_of_data() or at.step > steps):
            self.progress.note(f"the samples are not those of before: epoch {at.epoch + 1} begins anew")
            at.restart()

    # what is not finite

    def prepare_roll_back(self) -> None:
        """A state to go back to, where there is none: the one now, or after a failure the best weights."""
        trainer = self.trainer
        if trainer.divergence.policy != "roll_back":
            trainer._safe = trainer._epoch_start = None
            return
        training = trainer._training
        if trainer._safe is not None:
            return
        best = trainer.best_parameters if self.again else None
        if best is not None:
            training = Training(trainer.kernels.machine(trainer._variant), best, 1)
        trainer._safe = State(training)

    def go_to(self, epoch: int, losses: Array) -> None:
        """The position after the steps of an epoch that had these losses."""
        self.trainer._position.go_to(epoch, losses)
        del self.trainer.history.epochs[epoch:]

    def recovered(self, trouble: Trouble) -> bool:
        """The state is the one before the step that failed; whether to go on, from an earlier one."""
        trainer, at, policy = self.trainer, self.trainer._position, self.trainer.divergence
        self.go_to(trouble.epoch, trouble.losses)
        message = str(trouble)
        if trainer._safe is not None and at.rolled_back < policy.attempts:
            trainer._safe.put(trainer._training)
            trainer._epoch_start = None
            assert self.guard is not None
            self.guard.forget()
            at.restart()
            at.rolled_back, at.scale = at.rolled_back + 1, at.scale * policy.factor
            self.progress.note(f"{message}. Back to before the best epoch, with {at.scale:.3g} of the rate")
            return True
        row = {"epoch": at.epoch + 1, "loss": trouble.loss, "rate": trouble.rate, "seconds": at.seconds}
        trainer.history.epochs.append(row)
        self.stop(message, "those before this step")
        return False

    def stop(self, message: str, weights: str) -> None:
        """End a training that failed, as its policy says."""
        self.failed, self.trainer.history.stopped = True, message
        if self.trainer.divergence.policy == "raise":
            raise DivergenceError(message)
        self.progress.note(f"{message}. Stopped; the weights are {weights}")

    # the end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._over()
            else:
                self._broken(error)
        finally:
            self._leave()

    def _over(self) -> None:
        """The training has ended by itself."""
        trainer, at = self.trainer, self.trainer._position
        trainer._pending = kept_by(self.called)
        if self.failed:
            self.hash_of_data()
        else:
            at.planned, trainer._pending, trainer._start = at.epoch, [], None
        self._end()
        self.keeper.finish()
        if self.signals is not None and self.signals.heard is not None:  # too late to stop anything
            saved = f"; saved in {self.keeper.folder}" if self.keeper.folder is not None else ""
            self.signals.check(f"the training had ended{saved}")

    def _broken(self, error: BaseException) -> None:
        """The training was ended: keep what it needs to go on, in memory and on the disk."""
        trainer, stopped = self.trainer, isinstance(error, KeyboardInterrupt | Terminated)
        trainer._pending = kept_by(self.called)
        if stopped:
            trainer.history.stopped = "interrupted"
        self.hash_of_data()
        self._end()
        saved = self.keeper.last_words()
        if stopped:
            best = ", trainer.best_parameters those of the best epoch" if trainer._best_weights is not None else ""
            saved = saved or f"; trainer.parameters are the last weights{best}"
            where = f"stopped in epoch {trainer._position.epoch + 1}{saved}"
            raise (Terminated(where) if isinstance(error, Terminated) else KeyboardInterrupt(where)) from None

    def _end(self) -> None:
        """Tell the callbacks that it has ended."""
        self.ended = True
        for callback in self.called:
            getattr(callback, "end", lambda _: None)(self.trainer)

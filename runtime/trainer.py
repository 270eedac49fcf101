"""Training, as the five steps of the note: give the data, predict, measure the loss, update the weights, repeat."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codegen.request import Update
from ..symbolic.errors import DataError, SpecError, nearest
from ..symbolic.model import Model, Variant
from ..symbolic.optimisers import Optimiser
from ..symbolic.schedules import ReduceOnPlateau, Schedule
from .arguments import (
    as_metrics,
    as_optimiser,
    as_positive,
    as_schedule,
    as_whole,
    check_full_batch,
)
from .callbacks import Callback, Kept, called_after_epochs, kept_by, name_of
from .copies import Latest
from .divergence import NOT_FINITE, Divergence, Guard, State, as_divergence, not_finite
from .epochs import mean_loss, rates_of
from .evaluation import Prediction
from .given import given_arrays, parameter_arrays, shaped
from .history import History
from .keeping import Checkpoint, Keeper, as_checkpoint
from .kernels import Kernels, as_data_errors
from .lbfgs import LBFGS, minimise
from .metrics import Metric
from .orders import Orders
from .position import Plan, Position
from .progress import Progress
from .samples import Samples, divided, inputs, samples, share_or_arrays
from .session import Session
from .store import KEPT, new_run
from .threads import ThreadChoice, threads_at_most
from .training import Training, parts

if TYPE_CHECKING:
    from .spec import Spec

Array = NDArray[Any]
SECONDS_WITHOUT_A_LOOK = 0.2  # Ctrl-C is noticed between two calls of the compiled loop
SECONDS_AT_ONCE = 0.1  # which epochs on end take that are one call
NUMBERS_KEPT = 2**18  # of the weights at the ends of these epochs
FIRST_STEPS = 1  # nothing is known of their pace yet


class Trainer:
    """Trains a model.

    model        what to train
    optimiser    `Adam(1e-3)`, `SGD(0.1)`, ...; a name; or `LBFGS()`, which takes the whole data set at once
    batch_size   samples in a step; the last batch of an epoch may be shorter
    dtype        "float32" or "float64"
    seed         of the first weights, of the shuffling, of a validation split and of dropout
    threads      at most so many; by default as many as make it faster, found by timing the first steps (the results
                 are the same, bit by bit, for any number)
    schedule     of the learning rate; a name, a formula, a `Schedule` or `ReduceOnPlateau`, which watches val_loss
                 where there is a validation part, else the loss. E and T, the length of the whole training, are the
                 epochs so far and those of this `fit`
    clip_norm    bound of the norm of all gradients together, which are scaled; then
    clip_value   bound of every element of a gradient
    metrics      names, formulas in y and y_hat, or functions
    divergence   what to do when a loss or a weight is not finite: "stop", "raise", "roll_back" or `Divergence(...)`

    >>> import numpy as np, chainrule as cr
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> trainer = cr.Trainer(cr.Model(1, [cr.Dense(8, "tanh"), cr.Dense(1)]), cr.Adam(0.02), batch_size=16)
    >>> history = trainer.fit(x, x**2, epochs=60, verbose=0)
    >>> history["loss"][-1] < 0.01
    True
    """

    def __init__(
        self,
        model: Model,
        optimiser: Optimiser | LBFGS | str = "adam",
        batch_size: int = 32,
        dtype: str = "float32",
        seed: int = 0,
        threads: int | None = None,
        *,
        schedule: Schedule | ReduceOnPlateau | str | None = None,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        metrics: Iterable[str | Metric | Any] = (),
        divergence: Divergence | str = "stop",
    ) -> None:
        if not isinstance(model, Model):
            raise SpecError(f"trainer: {model!r} is not a model; give a Model")
        self.model = model
        self.optimiser = as_optimiser(optimiser)
        self.batch_size = as_whole(batch_size, "batch_size")
        self.seed = as_whole(seed, "seed", least=0)
        self.threads = None if threads is None else as_whole(threads, "threads")
        self.schedule = as_schedule(schedule)
        self.clip_value, self.clip_norm = as_positive(clip_value, "clip_value"), as_positive(clip_norm, "clip_norm")
        self.metrics = as_metrics(metrics)
        self.divergence = as_divergence(divergence)
        update = None
        if isinstance(self.optimiser, LBFGS):
            check_full_batch(self)
        else:
            update = Update(self.optimiser, self.clip_value, self.clip_norm)
        self._choice, self._pace = ThreadChoice(threads_at_most(self.threads)), _Pace()
        self.kernels = Kernels(model, dtype, update, self._choice.most, self.batch_size)
        self.dtype = dtype
        self.history = History()
        self._best_weights: Callable[[], dict[str, Array]] | None = None  # of most epochs nobody asks for them
        self._last = Latest()  # where they are
        self._best: tuple[str, float] = ("", math.inf)  # the column that is watched, and its least value
        self._parameters = self.kernels.init(self.seed)  # until there is a training, which holds them then
        if not self._parameters:
            raise SpecError("trainer: the model has no parameters; there is nothing to train")
        self._training: Training | None = None
        self._predicts: Prediction | None = None
        self._prepared_for: object = None  # whose weights it knows
        self._variant: Variant | None = None
        self._position = Position()
        self._room = State()  # for the one that steps are taken from again, to find one that fails
        self._safe: State | None = None  # to roll back to: the one at the beginning of the best epoch
        self._epoch_start: State | None = None  # the one at the beginning of this epoch, where there may be a roll back
        self._start: dict[str, Array] | None = None  # of an L-BFGS that is not finished: it is taken again from there
        self._pending: list[Kept] = []  # what callbacks kept of a training that is not finished
        self._fitting: Session | None = None
        self.spec: Spec | None = None  # what a run's spec says beyond the trainer: its data, its epochs
        self._run = new_run()
        self._writes_in: Path | None = None

    # the state

    @property
    def parameters(self) -> dict[str, Array]:
        """The weights now, by name: copies."""
        return {name: array.copy() for name, array in self._live().items()}

    @property
    def best_parameters(self) -> dict[str, Array] | None:
        """The weights of the epoch with the least loss, of the validation part where there is one: copies.

        None before it.
        """
        best = self._best_weights  # once: another thread may be training
        return None if best is None else best()

    @best_parameters.setter
    def best_parameters(self, parameters: dict[str, Array] | None) -> None:
        self._best_weights = None if parameters is None else lambda: parameters

    def set_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Replace the weights, all of them.

        Raises `DataError` for names and shapes that are not the model's, and leaves the weights as they were.
        """
        self._put(self._as_parameters(parameters))
        self._safe = self._epoch_start = self._start = None  # what was kept belongs to other weights
        if self._fitting is not None and self._fitting.guard is not None:
            self._fitting.guard.forget()

    def _put(self, given: Mapping[str, Array]) -> None:
        if self._training is None:
            self._parameters = {k: v.copy() for k, v in shaped(self.kernels.machine(), given).items()}
            return
        for name, array in given.items():
            self._training.parameters[name][...] = array

    def _as_parameters(self, parameters: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Parameters as the kernels take them: single numbers are arrays of one."""
        if not isinstance(parameters, Mapping):
            raise DataError(f"parameters are of the type {type(parameters).__name__}; give a dict of name -> array")
        known = self.kernels.parameters
        for name in parameters:
            if name not in known:
                raise DataError(f"parameter {name!r} is not one of the model's. {nearest(str(name), known)}")
        for name in known:
            if name in parameters and np.asarray(parameters[name]).dtype.kind not in "fiub":
                raise DataError(
                    f"parameter {name}: {np.asarray(parameters[name]).dtype} is no type of numbers; give numbers"
                )
        with as_data_errors():
            return dict(parameter_arrays(self.kernels.machine(), parameters))

    def larger_is_better(self, column: str) -> bool:
        """Whether a column of the history is a score, not an error."""
        name = column.removeprefix("val_")
        return any(m.name == name and m.larger_is_better for m in self.metrics)

    @property
    def unfinished(self) -> int:
        """Epochs that the last `fit` did not come to: it was interrupted, it diverged, or its process was killed.

        A `fit` of so many epochs goes on to where that one was going, with the same bits.
        """
        return self._position.unfinished

    def _kept_by_callbacks(self) -> list[Kept]:
        """What callbacks keep now, or kept when the training was ended."""
        session = self._fitting
        return self._pending if session is None or session.ended else kept_by(session.called)

    # the five steps

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        epochs: int = 20,
        validation: float | Sequence[Any] | None = None,
        sample_weight: ArrayLike | None = None,
        callbacks: Iterable[Callback] = (),
        verbose: int = 1,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some more epochs; called again, it goes on where it was, also in the middle of an epoch.

        x              (samples, features)
        y              (samples, outputs), or integer classes (samples,)
        validation     a share of the samples to keep aside, or (x, y) or (x, y, sample_weight)
        sample_weight  (samples,), not negative
        callbacks      called with the trainer and the epoch's row; true stops
        verbose        0: silent, unless the loss is no longer finite
        checkpoint     a directory to save to from time to time, or `Checkpoint(...)`; `Trainer.restore` reads it

        Raises `DataError` where the data do not fit the model, `SpecError` for other arguments that are wrong. Ctrl-C
        ends the training after the step it is at, and so does SIGTERM where there is a checkpoint to write:
        `parameters` are then the last weights, `best_parameters` those of the best epoch.
        """
        epochs, called, kept = as_whole(epochs, "epochs"), called_after_epochs(callbacks), as_checkpoint(checkpoint)
        data, held_out = self._parts(x, y, sample_weight, validation)
        keeper, progress = Keeper(self, kept), Progress(epochs, verbose)
        with Session(self, data, held_out, called, progress, keeper) as session:
            train = self._fit_full_batch if isinstance(self.optimiser, LBFGS) else self._fit_batches
            train(session)
        return self.history

    def _fit_batches(self, session: Session) -> None:
        data, at = session.data, self._position
        session.given = self._prepared(data, session.held_out is not None)
        assert self._training is not None
        session.align(steps=-(-len(data) // self.batch_size))
        session.prepare_roll_back()
        session.guard = Guard(self._training, session.given, self._formula, self._keeping, self._room)
        session.progress.begin()
        session.keeper.begin()
        with session.listening(), Orders() as orders:
            going = True
            while going and at.epoch < at.planned:
                plan = self._plan(at.epoch, len(data), orders, self._epochs_at_once(session))
                going = self._follow(plan, session)

    def _epochs_at_once(self, session: Session) -> int:
        """How many epochs to take on end: some milliseconds, where nobody looks at the end of each."""
        at, training = self._position, self._training
        if at.step or session.watched:
            return 1
        assert training is not None
        share = SECONDS_AT_ONCE / SECONDS_WITHOUT_A_LOOK
        by_time = int(self._pace.steps * share) // -(-len(session.data) // self.batch_size)
        return max(1, min(by_time, NUMBERS_KEPT // training.live.size))

    def _plan(self, epoch: int, samples: int, orders: Orders, most: int = 1) -> Plan:
        """The next epochs, one at least: the orders of their samples, their rates, and their keys of random numbers."""
        planned = self._position.planned
        order, keys = orders.of(self.seed, epoch, samples, left=planned - epoch - 1, most=most)
        assert isinstance(self.optimiser, Optimiser)
        lr = self.optimiser.hyperparameters["lr"] * self._position.scale
        rates = rates_of(self.schedule, lr, epoch, len(keys), planned, -(-samples // self.batch_size))
        return Plan(epoch, order, rates, keys)

    def _follow(self, plan: Plan, session: Session) -> bool:
        """The steps of a plan that are still to do, with a look at the world between calls of the compiled loop.

        Returns whether the training goes on.
        """
        at, guard, training = self._position, session.guard, self._training
        assert guard is not None
        assert training is not None
        guard.begin(plan, at.losses)
        if self._safe is not None and (at.step == 0 or self._epoch_start is None):
            before, self._epoch_start = self._epoch_start, None
            if before is None or before is self._safe:
                before = State()
            before.refresh(training)
            self._epoch_start = before
        kept = training.rows(plan.epochs) if plan.epochs > 1 else None
        done = at.step
        if done == plan.steps:  # of an epoch whose end failed: a metric raised an error
            return self._ended(not self._took(plan, done, np.zeros(0), kept, session, 0.0), session)
        while done < plan.steps:
            last, epoch, began = min(done + self._pace.steps, plan.steps), at.epoch, time.perf_counter()
            try:
                losses = self._steps(session.given, plan, done, last, kept)
                trouble = guard.look(losses, last == plan.steps and plan.epoch + plan.epochs == at.planned)
                each = (time.perf_counter() - began) / (last - done)
                if trouble is not None:
                    losses = losses[: max(0, plan.step_at(trouble.epoch, trouble.step) - done)]
                going = not self._took(plan, done, losses, kept, session, each)
            except BaseException:  # a second Ctrl-C, no memory: nobody knows which of the steps were taken
                if plan.step_at(at.epoch, at.step) != last:
                    session.go_to(*guard.back())
                raise
            if trouble is not None:
                at.seconds += each
                return session.recovered(trouble)
            if at.epoch > epoch and not self._ended(going, session):
                return False
            guard.keep()
            if at.step:
                session.pause()
            done = last
        return True

    def _ended(self, going: bool, session: Session) -> bool:
        """Some epochs have ended; whether the training goes on."""
        if going:
            session.epoch_is_over()
        return going

    def _took(self, plan: Plan, done: int, losses: Array, kept: Array | None, session: Session, each: float) -> bool:
        """Steps of a plan were taken after those that are done: close the epochs that are over; whether to stop.

        each   seconds of one of these steps
        """
        at = self._position
        over = plan.place(done + len(losses))[0] - at.epoch
        session.progress.epochs_are_over(over)
        for epoch in range(at.epoch, at.epoch + over):
            missing = plan.steps_each - at.step
            if missing:
                at.took(losses[:missing])
            losses, done, seconds = losses[missing:], done + missing, at.seconds + each * missing
            loss = mean_loss(at.all_losses(), plan.order_of(epoch), session.data.weight, self.batch_size)
            copy = None if kept is None else kept[epoch - plan.epoch]
            if self._close({"epoch": epoch + 1, "loss": loss}, float(plan.rates[done - 1]), seconds, session, copy):
                return True
        if len(losses):
            at.took(losses)
            at.seconds += each * len(losses)
        return False

    def _formula(self, name: str) -> str:
        """The equation that defines a tensor, as text; empty where there is none in the model as it predicts."""
        return next((str(e) for e in self.model.derivation().program.equations if e.name == name), "")

    def _keeping(self) -> Training:
        """The training; where its kernels write over what they compute of a batch, in others that do not."""
        training = self._training
        assert training is not None
        if not training.forgets:
            return training
        kernels = Kernels(self.model, self.dtype, self.kernels.update, keeps=True)
        return training.in_kernels(kernels.machine(self._variant))

    def _steps(self, given: dict[str, Array], plan: Plan, first: int, steps: int, kept: Array | None) -> Array:
        """The steps of a plan from the first to before `steps`, in a few calls of the compiled loop; their losses."""
        training, pace = self._training, self._pace
        assert training is not None
        done, losses = first, []
        while done < steps:
            threads, tried = self._choice.next()
            alone = threads > 1 and training.machine.team.code.is_coming("team")
            if alone:  # the loops of several threads are still being compiled: no time to wait for them
                threads, tried = 1, None
            last = min(done + (pace.steps if tried is None else tried), steps)
            training.threads = threads
            started = time.perf_counter()
            losses.append(training.run(given, plan.order, plan.rates, plan.keys, done, last, kept))
            seconds = time.perf_counter() - started
            taken = plan.samples_before(last, training.batch) - plan.samples_before(done, training.batch)
            if not alone:
                self._choice.took(threads, taken, seconds, last - done)
            pace.took(last - done, seconds)
            done = last
        return losses[0] if len(losses) == 1 else np.concatenate(losses)

    def _close(
        self, row: dict[str, Any], rate: float, seconds: float, session: Session, kept: Array | None = None
    ) -> bool:
        """The end of an epoch: measure, record, show, call back; whether to stop.

        kept   the weights at this end, where the training has gone on
        """
        began = time.perf_counter()
        if self.metrics:
            row |= {k: v for k, v in self._measured(session.data).items() if k != "loss"}
        if session.held_out is not None:
            row |= {f"val_{k}": v for k, v in self._measured(session.held_out).items()}
        row |= {"rate": rate, "seconds": seconds + time.perf_counter() - began}
        self.history.epochs.append(row)
        self._watch(row, kept)
        self._position.next_epoch()
        session.progress.epoch({k: v for k, v in row.items() if k != "rate"})
        stop = [callback for callback in session.called if callback(self, row)]
        if stop:
            self.history.stopped = name_of(stop[0])
        return bool(stop)

    def _watch(self, row: Mapping[str, Any], kept: Array | None) -> None:
        """Keep the weights of the best epoch; lower the rate on a plateau."""
        column = "val_loss" if "val_loss" in row else "loss"
        watched, least = self._best
        if column != watched:  # losses of different data do not compare
            least = math.inf
        if row[column] < least:
            self._best, self._best_weights = (column, row[column]), self._as_they_were(kept)
            if self._safe is not None:
                self._safe = self._epoch_start
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule, _ = self.schedule.next(row[column])

    def _as_they_were(self, kept: Array | None) -> Callable[[], dict[str, Array]]:
        """What gives the weights now, or those that were kept, also when they have changed."""
        training = self._training
        if training is None:
            weights = self.parameters
            return lambda: weights
        machine, last = training.machine, self._last
        last.keep([training.live if kept is None else kept])
        return lambda: dict(shaped(machine, parts(machine, *last.made())))

    def _fit_full_batch(self, session: Session) -> None:
        """L-BFGS; an epoch is an iteration, and what it remembers of earlier ones ends with this `fit`.

        What it remembers cannot be taken out of SciPy: one that was ended early is taken again from its first weights.
        """
        assert isinstance(self.optimiser, LBFGS)
        data, at = session.data, self._position
        again = at.epoch - at.begun if self._start is not None else 0
        at.begun = at.epoch - again
        self._start = self._start or self.parameters
        began, seen = [time.perf_counter()], [0]
        session.keeper.begin()

        def after(parameters: dict[str, Array], loss: float) -> bool:
            seen[0] += 1
            if seen[0] <= again:
                return False
            if not math.isfinite(loss) or not_finite(parameters):
                return True
            self._put(parameters)
            stop = self._close({"epoch": at.epoch + 1, "loss": loss}, 1.0, time.perf_counter() - began[0], session)
            if not stop:
                session.epoch_is_over()
            began[0] = time.perf_counter()
            return stop

        def measured(parameters: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
            return self.kernels.loss_and_gradients(parameters, data.x, data.y, data.weight)

        with session.listening():
            found, reason = minimise(self.optimiser, measured, self._start, at.planned - at.begun, after)
        if reason != NOT_FINITE and not not_finite(found):
            self._put(found)
            self.history.stopped = self.history.stopped or reason
            return
        session.stop(
            f"{NOT_FINITE}: after epoch {at.epoch}; look at the data and the first weights", "the last finite ones"
        )

    # data at the door

    def _samples(self, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None, part: str = "") -> Samples:
        return samples(self.model, self.dtype, x, y, weight, part)

    def _parts(
        self, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None, validation: Any
    ) -> tuple[Samples, Samples | None]:
        """The training part and the part that is kept aside."""
        given = share_or_arrays(validation)
        data = self._samples(x, y, weight)
        if given is None:
            return data, None
        if isinstance(given, float):
            return divided(data, given, self.seed)
        return data, self._samples(given[0], given[1], given[2] if len(given) == 3 else None, "validation: ")

    def _prepared(self, data: Samples, measured: bool = False) -> dict[str, Array]:
        """The data as the kernels take them, and kernels and arrays that fit them."""
        variant = self.kernels.variant(data.y, data.weight)
        machine = self.kernels.machine(variant)
        batch = min(self.batch_size, len(data))
        if self._training is None or (variant, batch) != (self._variant, self._training.batch):
            fresh, before = Training(machine, self._live(), batch), self._training
            if before is not None:
                fresh.states, fresh.scalars = before.states, before.scalars
            self._training, self._variant, self._parameters = fresh, variant, {}
            if before is None:
                fresh.touch()
        routines = ("train", "evaluate") if self.metrics or measured else ("train",)
        machine.compile(routines)
        for routine in routines:  # linked here, or the first step that is timed would wait for the compiler
            machine.phases(routine, batch)
        self._choice.limit(machine.phases("train", batch).most_blocks)
        with as_data_errors():
            return dict(given_arrays(machine, data.x, data.y, data.weight))

    # using the model

    def predict(self, x: ArrayLike) -> Array:
        """The model's output for every sample: (samples, outputs)."""
        prepared = self._prediction()
        if prepared is not None and prepared.takes(x):
            found: Array | None = prepared(x)
            if found is not None:
                return found
        return self.kernels.predict(self._live(), inputs(self.model, self.dtype, x))  # or says what is wrong

    def _prediction(self) -> Prediction | None:
        """The kernels prepared for the weights, which training changes where they are."""
        weights = self._parameters if self._training is None else self._training
        if self._prepared_for is not weights:
            machine = self.kernels.machine()
            suits = Prediction.suits(machine)
            self._predicts = Prediction(machine, self._live(), self.kernels.threads) if suits else None
            self._prepared_for = weights
        return self._predicts

    def evaluate(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> dict[str, float]:
        """The loss, penalties included, and the metrics."""
        return self._measured(self._samples(x, y, sample_weight))

    def _measured(self, data: Samples) -> dict[str, float]:
        loss, y_hat = self.kernels.evaluate(self._live(), data.x, data.y, data.weight)
        return {"loss": loss} | {m.name: m(data.y, y_hat, data.weight) for m in self.metrics}

    def _live(self) -> Mapping[str, Array]:
        parameters, training = self._parameters, self._training  # in this order: another thread may begin a training
        if training is None:
            return parameters
        return dict(shaped(self.kernels.machine(), training.parameters))

    def summary(self) -> str:
        """Layers, shapes and numbers of parameters as a table."""
        from .summary import summary

        return summary(self.model)

    def save(self, directory: str | os.PathLike[str], keep: int = KEPT) -> None:
        """Add a checkpoint to a directory: all that the training needs to go on to the same bits; so many are kept."""
        from .checkpoint import save

        save(self, directory, keep)

    @classmethod
    def restore(cls, directory: str | os.PathLike[str]) -> Trainer:
        """The trainer of the newest checkpoint in a directory that is whole; `fit` goes on where it was."""
        from .checkpoint import restore

        return restore(directory)


class _Pace:
    """How many steps to take before the next look at the world."""

    def __init__(self) -> None:
        self.steps = FIRST_STEPS

    def took(self, steps: int, seconds: float) -> None:
        self.steps = max(1, int(SECONDS_WITHOUT_A_LOOK * steps / max(seconds, 1e-9)))

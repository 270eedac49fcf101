"""Training, as the five steps of the note: give the data, predict, measure the loss, update the weights, repeat."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codegen.emit import Update
from ..symbolic.errors import DataError, SpecError, nearest
from ..symbolic.layers import Dropout
from ..symbolic.model import Model, Variant
from ..symbolic.optimisers import Optimiser
from ..symbolic.optimisers import optimiser as named_optimiser
from ..symbolic.schedules import ReduceOnPlateau, Schedule
from ..symbolic.schedules import schedule as named_schedule
from . import machine as machines
from .callbacks import Callback, called_after_epochs, name_of
from .history import History
from .kernels import Kernels, as_data_errors
from .lbfgs import LBFGS, minimise
from .metrics import Metric, metric
from .progress import Progress
from .samples import Samples, divided, inputs, samples, share_or_arrays
from .threads import ThreadChoice, threads_at_most

Array = NDArray[Any]
SECONDS_WITHOUT_A_LOOK = 0.2  # Ctrl-C is noticed between two calls of the compiled loop
FIRST_STEPS = 1  # nothing is known of their pace yet
NOT_FINITE = "the loss is not finite"


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
    ) -> None:
        if not isinstance(model, Model):
            raise SpecError(f"trainer: {model!r} is not a model; give a Model")
        self.model = model
        self.optimiser = _optimiser(optimiser)
        self.batch_size = _whole(batch_size, "batch_size")
        self.seed = _whole(seed, "seed", least=0)
        self.threads = None if threads is None else _whole(threads, "threads")
        self.schedule = _schedule(schedule)
        self.clip_value, self.clip_norm = (
            _positive(clip_value, "clip_value"),
            _positive(clip_norm, "clip_norm"),
        )
        self.metrics = _metrics(metrics)
        update = None
        if isinstance(self.optimiser, LBFGS):
            _check_full_batch(self)
        else:
            update = Update(self.optimiser, self.clip_value, self.clip_norm)
        self._choice = ThreadChoice(threads_at_most(self.threads))
        self.kernels = Kernels(model, dtype, update, self._choice.most)
        self.dtype = dtype
        self.history = History()
        self.best_parameters: dict[str, Array] | None = None
        self._best: tuple[str, float] = ("", math.inf)  # the column that is watched, and its least value
        self._parameters = self.kernels.init(self.seed)
        if not self._parameters:
            raise SpecError("trainer: the model has no parameters; there is nothing to train")
        self._training: machines.Training | None = None
        self._variant: Variant | None = None

    # the state

    @property
    def parameters(self) -> dict[str, Array]:
        """The weights now, by name: copies."""
        return {name: array.copy() for name, array in self._live().items()}

    def set_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Replace the weights, all of them.

        Raises `DataError` for names and shapes that are not the model's, and leaves the weights as they were.
        """
        given = self._as_parameters(parameters)
        self._parameters = {k: v.copy() for k, v in machines.shaped(self.kernels.machine(), given).items()}
        if self._training is not None:
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
            return dict(machines.parameter_arrays(self.kernels.machine(), parameters))

    def larger_is_better(self, column: str) -> bool:
        """Whether a column of the history is a score, not an error."""
        name = column.removeprefix("val_")
        return any(m.name == name and m.larger_is_better for m in self.metrics)

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
    ) -> History:
        """Train for some more epochs; called again, it goes on where it was.

        x              (samples, features)
        y              (samples, outputs), or integer classes (samples,)
        validation     a share of the samples to keep aside, or (x, y) or (x, y, sample_weight)
        sample_weight  (samples,), not negative
        callbacks      called with the trainer and the epoch's row; true stops
        verbose        0: silent, unless the loss is no longer finite

        Raises `DataError` where the data do not fit the model, `SpecError` for other arguments that are wrong. Ctrl-C
        ends the training after the step it is at: `parameters` are then the last weights, `best_parameters` those of
        the best epoch.
        """
        epochs, called = _whole(epochs, "epochs"), called_after_epochs(callbacks)
        data, held_out = self._parts(x, y, sample_weight, validation)
        self.history.stopped = ""
        for callback in called:
            getattr(callback, "start", lambda _: None)(self)
        with Progress(epochs, verbose) as progress:
            try:
                train = self._fit_full_batch if isinstance(self.optimiser, LBFGS) else self._fit_batches
                train(data, held_out, epochs, called, progress)
            except KeyboardInterrupt:
                self.history.stopped = "interrupted"
                raise KeyboardInterrupt(self._where_it_stopped()) from None
            finally:
                for callback in called:
                    getattr(callback, "end", lambda _: None)(self)
        return self.history

    def _where_it_stopped(self) -> str:
        best = ", trainer.best_parameters those of the best epoch" if self.best_parameters is not None else ""
        return f"stopped in epoch {len(self.history) + 1}; trainer.parameters are the last weights{best}"

    def _fit_batches(
        self, data: Samples, held_out: Samples | None, epochs: int, called: list[Callback], progress: Progress
    ) -> None:
        given = self._prepared(data)
        first = len(self.history)
        pace = _Pace()
        for epoch in range(first, first + epochs):
            started = time.perf_counter()
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(data))
            rates = self._rates(epoch, first + epochs, -(-len(data) // self.batch_size))
            losses = self._steps(given, order, rates, int(rng.integers(2**40)), pace)
            row = {"epoch": epoch + 1, "loss": self._mean_loss(losses, order, data.weight)}
            if self._close(row, float(rates[-1]), data, held_out, called, progress, started):
                break

    def _steps(self, given: dict[str, Array], order: Array, rates: Array, key: int, pace: _Pace) -> Array:
        """All steps of an epoch, in a few calls of the compiled loop; returns the loss of each."""
        training = self._training
        assert training is not None
        steps, done, losses = len(rates), 0, []
        while done < steps:
            threads, tried = self._choice.next()
            last = min(done + (pace.steps if tried is None else tried), steps)
            training.threads = threads
            started = time.perf_counter()
            losses.append(training.epoch(given, order, rates, key, done, last))
            seconds = time.perf_counter() - started
            taken = min(last * training.batch, len(order)) - done * training.batch
            self._choice.took(threads, taken, seconds, last - done)
            pace.took(last - done, seconds)
            done = last
        return losses[0] if len(losses) == 1 else np.concatenate(losses)

    def _mean_loss(self, losses: Array, order: Array, weight: Array | None) -> float:
        """The mean of the steps' losses; a step counts as much as its samples do."""
        if len(losses) == 1:
            return float(losses[0])
        starts = np.arange(0, len(order), self.batch_size)
        each = np.ones(len(order)) if weight is None else weight[order]
        sizes = np.add.reduceat(each, starts)
        return float(losses @ sizes / sizes.sum())

    def _close(
        self, row: dict[str, Any], rate: float, data: Samples, held_out: Samples | None, called: list[Callback],
        progress: Progress, started: float,
    ) -> bool:  # fmt: skip
        """The end of an epoch: measure, record, show, call back; whether to stop."""
        if self.metrics:
            row |= {k: v for k, v in self._measured(data).items() if k != "loss"}
        if held_out is not None:
            row |= {f"val_{k}": v for k, v in self._measured(held_out).items()}
        row |= {"rate": rate, "seconds": time.perf_counter() - started}
        self.history.epochs.append(row)
        self._watch(row)
        progress.epoch({k: v for k, v in row.items() if k != "rate"})
        if not math.isfinite(row["loss"]):
            self.history.stopped = NOT_FINITE
            progress.note(f"{NOT_FINITE}: stopped; try a smaller learning rate, or clip_norm=1.0")
            return True
        stop = [callback for callback in called if callback(self, row)]
        if stop:
            self.history.stopped = name_of(stop[0])
        return bool(stop)

    def _watch(self, row: Mapping[str, Any]) -> None:
        """Keep the weights of the best epoch; lower the rate on a plateau."""
        column = "val_loss" if "val_loss" in row else "loss"
        watched, least = self._best
        if column != watched:  # losses of different data do not compare
            least = math.inf
        if row[column] < least:
            self._best, self.best_parameters = (column, row[column]), self.parameters
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule, _ = self.schedule.next(row[column])

    def _rates(self, epoch: int, epochs: int, steps: int) -> Array:
        """The learning rate of every step of an epoch."""
        assert isinstance(self.optimiser, Optimiser)
        lr = self.optimiser.hyperparameters["lr"]
        rule, before = self.schedule, epoch * steps
        if rule is None:
            return np.full(steps, lr)
        if before >= rule.warm_up and _same_for_all_steps(rule):
            return np.full(steps, rule.rate(lr, before, epochs * steps, epoch, epochs))
        return np.array([rule.rate(lr, before + s, epochs * steps, epoch, epochs) for s in range(steps)])

    def _fit_full_batch(
        self, data: Samples, held_out: Samples | None, epochs: int, called: list[Callback], progress: Progress
    ) -> None:
        """L-BFGS; an epoch is an iteration, and what it remembers of earlier ones ends with this `fit`."""
        assert isinstance(self.optimiser, LBFGS)
        started = [time.perf_counter()]

        def after(parameters: dict[str, Array], loss: float) -> bool:
            self.set_parameters(parameters)
            row = {"epoch": len(self.history) + 1, "loss": loss}
            stop = self._close(row, 1.0, data, held_out, called, progress, started[0])
            started[0] = time.perf_counter()
            return stop

        def measured(parameters: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
            return self.kernels.loss_and_gradients(parameters, data.x, data.y, data.weight)

        found, reason = minimise(self.optimiser, measured, self.parameters, epochs, after)
        self.set_parameters(found)
        self.history.stopped = self.history.stopped or reason
        if reason == NOT_FINITE:
            progress.note(f"{NOT_FINITE}: stopped; look at the data and the first weights")

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

    def _prepared(self, data: Samples) -> dict[str, Array]:
        """The data as the kernels take them, and kernels and arrays that fit them."""
        variant = self.kernels.variant(data.y, data.weight)
        machine = self.kernels.machine(variant)
        batch = min(self.batch_size, len(data))
        if self._training is None or (variant, batch) != (self._variant, self._training.batch):
            fresh = machines.Training(machine, self._live(), batch)
            if self._training is not None:
                fresh.states, fresh.scalars = self._training.states, self._training.scalars
            self._training, self._variant = fresh, variant
        machine.phases("train", batch)  # compiled here, or the first step that is timed would take seconds
        with as_data_errors():
            return dict(machines.given_arrays(machine, data.x, data.y, data.weight))

    # using the model

    def predict(self, x: ArrayLike) -> Array:
        """The model's output for every sample: (samples, outputs)."""
        return self.kernels.predict(self._live(), inputs(self.model, self.dtype, x))

    def evaluate(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> dict[str, float]:
        """The loss, penalties included, and the metrics."""
        return self._measured(self._samples(x, y, sample_weight))

    def _measured(self, data: Samples) -> dict[str, float]:
        loss, y_hat = self.kernels.evaluate(self._live(), data.x, data.y, data.weight)
        return {"loss": loss} | {m.name: m(data.y, y_hat, data.weight) for m in self.metrics}

    def _live(self) -> Mapping[str, Array]:
        if self._training is None:
            return self._parameters
        return dict(machines.shaped(self.kernels.machine(), self._training.parameters))

    def summary(self) -> str:
        """Layers, shapes and numbers of parameters as a table."""
        from .summary import summary

        return summary(self.model)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the model, the weights (last and best), the optimiser's state and the history to a directory."""
        from .checkpoint import save

        save(self, directory)

    @classmethod
    def restore(cls, directory: str | os.PathLike[str]) -> Trainer:
        """The trainer that `save` wrote; `fit` goes on where it was."""
        from .checkpoint import restore

        return restore(directory)


class _Pace:
    """How many steps to take before the next look at the world."""

    def __init__(self) -> None:
        self.steps = FIRST_STEPS

    def took(self, steps: int, seconds: float) -> None:
        self.steps = max(1, int(SECONDS_WITHOUT_A_LOOK * steps / max(seconds, 1e-9)))


# --- arguments


def _optimiser(given: object) -> Optimiser | LBFGS:
    if given == "lbfgs":
        return LBFGS()
    made = named_optimiser(given) if isinstance(given, str) else given
    if not isinstance(made, Optimiser | LBFGS):
        raise SpecError(f"trainer: optimiser = {given!r}; give Adam(1e-3), SGD(0.1), ... or a name")
    return made


def _schedule(given: Any) -> Schedule | ReduceOnPlateau | None:
    if given is None or isinstance(given, Schedule):
        return given
    if isinstance(given, ReduceOnPlateau):
        if given.larger_is_better:
            raise SpecError("schedule 'reduce_on_plateau': a trainer gives it the loss; leave larger_is_better out")
        return given
    if callable(given) or isinstance(given, bool):
        raise SpecError(f"schedule = {given!r}; give a name, a formula in lr, t, T, e and E, or Cosine(), ...")
    return named_schedule(given)


def _same_for_all_steps(rule: Schedule | ReduceOnPlateau) -> bool:
    """Whether the steps of one epoch, after a warm-up, have the same rate."""
    return isinstance(rule, ReduceOnPlateau) or not any(s.name == "t" for s in rule.bound.free_symbols)


def _metrics(given: Iterable[str | Metric | Any]) -> tuple[Metric, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SpecError(f'metrics = {given!r}; give a list, such as ["accuracy"]')
    return tuple(metric(m) for m in given)


def _check_full_batch(trainer: Trainer) -> None:
    """L-BFGS takes the loss as one fixed function, and finds its steps itself."""
    for name in ("schedule", "clip_value", "clip_norm"):
        if getattr(trainer, name) is not None:
            raise SpecError(f"trainer: lbfgs finds its own steps; leave {name} out, or take another optimiser")
    if any(isinstance(layer, Dropout) for layer in trainer.model.layers):
        raise SpecError("trainer: dropout makes another function of every step, and lbfgs needs the same; "
                        "leave dropout out, or take another optimiser")  # fmt: skip


def _whole(value: object, name: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SpecError(f"{name} = {value!r}; give a whole number of at least {least}")
    return int(value)


def _positive(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise SpecError(f"{name} = {value!r}; give a number above 0, or leave it out")
    return float(value)

"""Training, as the five steps of the note: give the data, predict, measure the loss, update the weights, repeat."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codegen.emit import Update
from ..symbolic.errors import DataError, SpecError
from ..symbolic.model import Model, Variant
from ..symbolic.optimisers import Optimiser
from ..symbolic.optimisers import optimiser as named_optimiser
from ..symbolic.schedules import ReduceOnPlateau, Schedule
from ..symbolic.schedules import schedule as named_schedule
from . import support
from .arrays import as_inputs, as_targets, as_weights, cast
from .callbacks import Callback
from .history import History
from .kernels import Kernels
from .lbfgs import LBFGS, minimise
from .metrics import Metric, metric
from .progress import Progress

Array = NDArray[Any]
SECONDS_WITHOUT_A_LOOK = 0.2  # Ctrl-C is noticed between two calls of the compiled loop
TRIED_STEPS = 8


class Trainer:
    """Trains a model.

    model        what to train
    optimiser    `Adam(1e-3)`, `SGD(0.1)`, ...; a name; or `LBFGS()`, which takes the whole data set at once
    batch_size   samples in a step; the last batch of an epoch may be shorter
    dtype        "float32" or "float64"
    seed         of the first weights, of the shuffling, of a validation split and of dropout
    threads      at most so many; by default as many as make it faster, found by timing the first steps (the results
                 are the same, bit by bit, for any number)
    schedule     of the learning rate; a name, a `Schedule` or `ReduceOnPlateau`
    clip_value   bound of every element of a gradient; `clip_norm` of the norm of all gradients together
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
        self.optimiser = named_optimiser(optimiser) if isinstance(optimiser, str) else optimiser
        if not isinstance(self.optimiser, Optimiser | LBFGS):
            raise SpecError(f"trainer: optimiser = {optimiser!r}; give Adam(1e-3), SGD(0.1), ... or a name")
        self.batch_size = _whole(batch_size, "batch_size")
        self.seed = seed
        self.threads = None if threads is None else _whole(threads, "threads")
        self.schedule = named_schedule(schedule) if isinstance(schedule, str) else schedule
        self.clip_value, self.clip_norm = _positive(clip_value, "clip_value"), _positive(clip_norm, "clip_norm")
        self.metrics = tuple(metric(m) for m in metrics)
        update = Update(self.optimiser, clip_value, clip_norm) if isinstance(self.optimiser, Optimiser) else None
        self.kernels = Kernels(model, dtype, update)
        self.dtype = dtype
        self.history = History()
        self.best_parameters: dict[str, Array] | None = None
        self._best_loss = math.inf
        self._parameters = self.kernels.init(seed)
        self._training: support.Training | None = None
        self._variant: Variant | None = None
        self._fastest: int | None = None

    # the state

    @property
    def parameters(self) -> dict[str, Array]:
        """The weights now, by name: copies."""
        if self._training is not None:
            return {k: v.copy() for k, v in support.shaped(self.kernels.machine(), self._training.parameters).items()}
        return {k: v.copy() for k, v in self._parameters.items()}

    def set_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Replace the weights."""
        machine = self.kernels.machine()
        try:
            given = support.parameter_arrays(machine, parameters)
        except ValueError as error:
            raise DataError(str(error)) from None
        self._parameters = {k: v.copy() for k, v in support.shaped(machine, given).items()}
        if self._training is not None:
            for name, array in given.items():
                self._training.parameters[name][...] = array

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
        validation     a fraction of the samples to keep aside, or (x, y) or (x, y, sample_weight)
        sample_weight  (samples,), not negative
        callbacks      called with the trainer and the epoch's row; true stops
        verbose        0: silent

        Raises `DataError` where the data do not fit the model. Ctrl-C ends the training after the step it is at:
        `parameters` are then the last weights, `best_parameters` those of the best epoch.
        """
        epochs = _whole(epochs, "epochs")
        data, held_out = self._divided(x, y, sample_weight, validation)
        given = self._prepared(*data)
        called = list(callbacks)
        for callback in called:
            getattr(callback, "start", lambda _: None)(self)
        self.history.stopped = ""
        first = len(self.history)
        with Progress(epochs, verbose) as progress:
            try:
                if isinstance(self.optimiser, LBFGS):
                    self._fit_lbfgs(data, held_out, epochs, called, progress)
                else:
                    for epoch in range(first, first + epochs):
                        if self._epoch(epoch, first + epochs, given, data, held_out, called, progress):
                            break
            except KeyboardInterrupt:
                self.history.stopped = "interrupted"
                raise KeyboardInterrupt(
                    f"stopped in epoch {len(self.history) + 1}; trainer.parameters are the last weights, "
                    "trainer.best_parameters those of the best epoch"
                ) from None
            finally:
                for callback in called:
                    getattr(callback, "end", lambda _: None)(self)
        return self.history

    def _epoch(
        self, epoch: int, epochs: int, given: dict[str, Array], data: Any, held_out: Any, called: list[Callback],
        progress: Progress,
    ) -> bool:  # fmt: skip
        """One epoch; whether a callback wants to stop."""
        started = time.perf_counter()
        samples = len(data[0])
        rng = np.random.default_rng([self.seed & 0xFFFFFFFF, epoch])
        order = rng.permutation(samples)
        steps = -(-samples // self.batch_size)
        rates = self._rates(epoch, epochs, steps)
        losses = self._steps(given, order, rates, int(rng.integers(2**40)))
        sizes = np.full(steps, self.batch_size, float)
        sizes[-1] = samples - self.batch_size * (steps - 1)
        row = {"epoch": epoch + 1, "loss": float(np.average(losses, weights=sizes))}
        return self._close(row, rates[-1], data, held_out, called, progress, started)

    def _close(
        self, row: dict[str, Any], rate: float, data: Any, held_out: Any, called: list[Callback], progress: Progress,
        started: float,
    ) -> bool:  # fmt: skip
        """Measure, record, show, call back."""
        if self.metrics:
            row |= {k: v for k, v in self.evaluate(*data).items() if k != "loss"}
        if held_out is not None:
            row |= {f"val_{k}": v for k, v in self.evaluate(*held_out).items()}
        row |= {"rate": rate, "seconds": time.perf_counter() - started}
        self.history.epochs.append(row)
        watched = row.get("val_loss", row["loss"])
        if watched < self._best_loss:
            self._best_loss, self.best_parameters = watched, self.parameters
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule, _ = self.schedule.next(watched)
        progress.epoch({k: v for k, v in row.items() if k != "rate"})
        if not math.isfinite(row["loss"]):
            self.history.stopped = "the loss is not finite"
            progress.note("the loss is not finite: stopped; try a smaller learning rate, or clip_norm=1.0")
            return True
        stop = [callback for callback in called if callback(self, row)]
        if stop:
            self.history.stopped = type(stop[0]).__name__
        return bool(stop)

    def _rates(self, epoch: int, epochs: int, steps: int) -> Array:
        """The learning rate of every step of an epoch."""
        assert isinstance(self.optimiser, Optimiser)
        lr = self.optimiser.hyperparameters["lr"]
        if self.schedule is None:
            return np.full(steps, lr)
        return np.array([self.schedule.rate(lr, epoch * steps + s, epochs * steps, epoch, epochs) for s in range(steps)])

    def _steps(self, given: dict[str, Array], order: Array, rates: Array, key: int) -> Array:
        """All steps of an epoch, in a few calls of the compiled loop."""
        training = self._training
        assert training is not None
        steps, done, losses = len(rates), 0, []
        pace = 0.0
        while done < steps:
            trial = self._thread_trial(steps - done)
            training.threads = trial if trial else self._fastest or 1
            count = TRIED_STEPS if trial else steps - done if not pace else max(1, int(SECONDS_WITHOUT_A_LOOK / pace))
            if not pace and not trial and len(self.history) == 0:
                count = TRIED_STEPS
            last = min(done + count, steps)
            started = time.perf_counter()
            losses.append(training.epoch(given, order, rates, key, done, last))
            pace = (time.perf_counter() - started) / (last - done)
            if trial:
                self._trials[trial].append(pace)
            done = last
        return np.concatenate(losses)

    def _thread_trial(self, left: int) -> int:
        """The number of threads to time next, or 0 where the choice is made: one, or all that are allowed."""
        if self._fastest is not None:
            return 0
        most = min(self.threads or _cores(), numba.config.NUMBA_NUM_THREADS)
        if most == 1 or self.threads == 1:
            self._fastest = 1
            return 0
        if not hasattr(self, "_trials"):
            self._trials: dict[int, list[float]] = {1: [], most: []}
        if min(map(len, self._trials.values())) >= 4:  # the first of each is warm-up
            self._fastest = min(self._trials, key=lambda threads: min(self._trials[threads][1:]))
            return 0
        if left < TRIED_STEPS:
            return 0
        return min(self._trials, key=lambda threads: (len(self._trials[threads]), threads))

    def _fit_lbfgs(self, data: Any, held_out: Any, epochs: int, called: list[Callback], progress: Progress) -> None:
        """Full-batch L-BFGS; an epoch is an iteration."""
        assert isinstance(self.optimiser, LBFGS)
        started = [time.perf_counter()]

        def after(parameters: dict[str, Array], loss: float) -> bool:
            self.set_parameters(parameters)
            row = {"epoch": len(self.history) + 1, "loss": loss}
            stop = self._close(row, 1.0, data, held_out, called, progress, started[0])
            started[0] = time.perf_counter()
            return stop

        def measured(parameters: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
            return self.kernels.loss_and_gradients(parameters, *data)

        self.set_parameters(minimise(self.optimiser, measured, self.parameters, epochs, after))

    # data at the door

    def _checked(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array, Array | None]:
        inputs = as_inputs(self.model, x)
        targets = as_targets(self.model, y)
        if len(inputs) != len(targets):
            raise DataError(f"x has {len(inputs)} samples and y {len(targets)}; give one target a sample")
        weights = None if sample_weight is None else as_weights(sample_weight, len(inputs))
        if inputs.dtype.kind == "f":
            inputs = cast(inputs, self.dtype, "x")
        if targets.dtype.kind == "f":
            targets = cast(targets, self.dtype, "y")
        return inputs, targets, weights

    def _divided(self, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None, validation: Any) -> tuple[Any, Any]:
        """The training part and the part that is kept aside."""
        data = self._checked(x, y, weight)
        if validation is None:
            return data, None
        if isinstance(validation, int | float) and not isinstance(validation, bool):
            if not 0 <= validation < 1:
                raise DataError(f"validation = {validation!r}; give a fraction of at least 0 and less than 1, or (x, y)")
            samples = len(data[0])
            aside = int(round(validation * samples))
            if aside == 0:
                return data, None
            if aside == samples:
                raise DataError(f"validation = {validation!r} of {samples} samples leaves none to train with")
            shuffled = np.random.default_rng([self.seed & 0xFFFFFFFF, 2**31]).permutation(samples)
            parts = np.sort(shuffled[aside:]), np.sort(shuffled[:aside])
            taken = [tuple(None if a is None else a[rows] for a in data) for rows in parts]
            return taken[0], taken[1]
        given = tuple(validation)
        if len(given) not in (2, 3):
            raise DataError(f"validation: {len(given)} arrays; give (x, y) or (x, y, sample_weight)")
        return data, self._checked(given[0], given[1], given[2] if len(given) == 3 else None)

    def _prepared(self, x: Array, y: Array, weight: Array | None) -> dict[str, Array]:
        """The data as the kernels take them, and the kernels that fit them."""
        if isinstance(self.optimiser, LBFGS):
            return {}
        variant = self.kernels.variant(y, weight)
        machine = self.kernels.machine(variant)
        if self._training is None or variant != self._variant:
            fresh = support.Training(machine, self.parameters, min(self.batch_size, 2**31))
            if self._training is not None:
                fresh.states, fresh.scalars = self._training.states, self._training.scalars
            self._training, self._variant = fresh, variant
        return support.given_arrays(machine, x, y, weight)

    # using the model

    def predict(self, x: ArrayLike) -> Array:
        """The model's output for every sample: (samples, outputs)."""
        return self.kernels.predict(self._live(), as_inputs(self.model, x))

    def evaluate(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> dict[str, float]:
        """The loss, penalties included, and the metrics."""
        inputs, targets, weight = self._checked(x, y, sample_weight)
        loss, y_hat = self.kernels.evaluate(self._live(), inputs, targets, weight)
        return {"loss": loss} | {m.name: m(targets, y_hat, weight) for m in self.metrics}

    def _live(self) -> Mapping[str, Array]:
        if self._training is None:
            return self._parameters
        return support.shaped(self.kernels.machine(), self._training.parameters)

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


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SpecError(f"{name} = {value!r}; give a whole number of at least 1")
    return int(value)


def _positive(value: float | None, name: str) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
        raise SpecError(f"{name} = {value!r}; give a number above 0, or leave it out")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

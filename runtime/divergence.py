"""A training that runs away: found in the step in which it happens, at the price of nothing while it does not.

The compiled loop runs many steps in a call. The losses of a call are looked at after it, the weights at the end of an
epoch or of a call that takes several, and from time to time, where this costs less than a half per cent of the time
since the last one, the whole state is looked at and kept. Where something is not finite, the training goes back to the
kept state and takes the same steps again, in halves, until the step is found: the same steps give the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import DataError, SpecError, nearest
from .arrays import is_finite
from .copies import Copy
from .position import Plan

Array = NDArray[Any]
NOT_FINITE: Final = "the loss is not finite"
POLICIES: Final = ("stop", "raise", "roll_back")
SHARE: Final = 0.005  # of the time, which the copies of the state may take
GROWN: Final = 1e3  # weights beyond it are the result of steps that are too large
IN_MEMORY: Final = 2**25  # bytes of a copy of the state
LARGE: Final = 1e4  # inputs and targets beyond it were not scaled


class DivergenceError(SpecError):
    """A loss or a weight is no longer finite; the weights before that step are kept."""


@dataclass(frozen=True)
class Divergence:
    """What to do when a loss or a weight is no longer finite. The last finite weights are kept in any case.

    policy    "stop": end the training and say why; "raise": raise `DivergenceError`; "roll_back": go back to the
              weights and the optimiser's state of the best epoch, and go on with a smaller rate from the first step of
              the epoch that failed
    factor    what the rate is multiplied by at a roll back
    attempts  roll backs at most; then it stops
    """

    policy: str = "stop"
    factor: float = 0.1
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise SpecError(f"divergence: policy {self.policy!r} is not known. {nearest(str(self.policy), POLICIES)}")
        factor = self.factor
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1:
            raise SpecError(f"divergence: factor = {factor!r}; give a number between 0 and 1")
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise SpecError(f"divergence: attempts = {self.attempts!r}; give a whole number of at least 1")


def as_divergence(given: object) -> Divergence:
    """A policy by its name, or as it is."""
    if isinstance(given, Divergence):
        return given
    if not isinstance(given, str):
        raise SpecError(f"divergence = {given!r}; give one of {', '.join(POLICIES)}, or Divergence(...)")
    return Divergence(given)


# --- the state of a training, and whether it is finite


class State:
    """A copy of what the steps of a training change: `parameters`, the optimiser's `states`, and its `scalars`."""

    def __init__(self, training: Any = None) -> None:
        self._copy: Copy | None = None
        if training is not None:
            self.refresh(training)

    def refresh(self, training: Any) -> None:
        """Copy once more, to the same place."""
        if self._copy is None:
            self._copy = Copy(_arrays(training), IN_MEMORY)
        else:
            self._copy.refresh(_arrays(training))

    def put(self, training: Any) -> None:
        """Make this the state of the training."""
        assert self._copy is not None
        self._copy.put(_arrays(training))

    def tables(self, training: Any) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """Parameters, states and scalars in arrays of their own, by the names that they have in the training."""
        assert self._copy is not None
        *arrays, scalars = self._copy.made()
        parameters = dict(zip(training.parameters, arrays, strict=False))
        return parameters, dict(zip(training.states, arrays[len(parameters) :], strict=True)), scalars


def _arrays(training: Any) -> list[Array]:
    return [*training.parameters.values(), *training.states.values(), training.scalars]


def not_finite(arrays: Mapping[str, Array]) -> str:
    """The name of the first array that holds a NaN or an infinity; empty where there is none."""
    return next((name for name, array in arrays.items() if not is_finite(array)), "")


def largest(arrays: Mapping[str, Array]) -> tuple[str, float]:
    """The name of the array with the largest absolute value, and this value."""
    sizes = {name: float(max(array.max(), -array.min())) for name, array in arrays.items() if array.size}
    name = max(sizes, key=sizes.__getitem__, default="")
    return name, sizes.get(name, 0.0)


# --- watching


@dataclass(frozen=True)
class Trouble:
    """The step that failed: its epoch and its number in it, both from 0, and what was not finite in it.

    loss, rate   of this step
    losses       of the steps before it in its epoch
    """

    epoch: int
    step: int
    steps: int
    tensor: str
    cause: str
    loss: float
    rate: float
    losses: Array

    def __str__(self) -> str:
        what = NOT_FINITE if not math.isfinite(self.loss) else "a weight or a state of the optimiser is not finite"
        where = f"epoch {self.epoch + 1}, step {self.step + 1} of {self.steps}"
        return f"{what}: {where}: {self.tensor}; {self.cause}"


class Guard:
    """Watches a training, and finds the step that failed.

    training   whose state the steps change; `given` are its data, as `training.epoch` takes them
    formula    gives the equation of a tensor, for messages
    keeping    gives the training as it is, in kernels that keep all they compute of a batch; by default its own do
    room       where copies of the state are made
    """

    def __init__(
        self, training: Any, given: Mapping[str, Array], formula: Callable[[str], str],
        keeping: Callable[[], Any] | None = None, room: State | None = None,
    ) -> None:  # fmt: skip
        self.training, self.given, self.formula = training, given, formula
        self.room = room or State()
        self.keeping = keeping or (lambda: training)
        self.state: State | None = None
        self.plans: list[Plan] = []
        self.losses: list[list[Array]] = []  # of the steps of each plan so far
        self.first = 0  # the state is that after so many steps of the first plan
        self.done = 0  # steps of the last plan
        self.cost, self.kept_at = 0.0, -math.inf
        self.due, self.looking = False, 0.0  # whether the state is to be kept, and how long it took to look at it
        wrong = not_finite(training.parameters)
        if wrong:
            raise DataError(f"parameter {wrong} is not finite before the first step; give numbers with set_parameters")

    def begin(self, plan: Plan, losses: list[Array]) -> None:
        """A plan begins, or goes on after steps that had these losses."""
        self.plans.append(plan)
        self.losses.append(list(losses))
        self.done = sum(map(len, losses))
        if self.state is None:
            self._keep()

    def forget(self) -> None:
        """The state was changed by something else than steps."""
        self.state = None

    def keep(self) -> None:
        """Keep the state that was looked at, where it is time for it; its steps are known to have been taken."""
        if self.due:
            self._keep()

    def _keep(self) -> None:
        started = time.perf_counter()
        self.room.refresh(self.training)
        self.state = self.room
        self.plans, self.losses, self.first = self.plans[-1:], self.losses[-1:], self.done
        self.kept_at = time.perf_counter()
        self.cost = self.looking + self.kept_at - started
        self.due, self.looking = False, 0.0

    def look(self, losses: Array, last: bool = False) -> Trouble | None:
        """After some steps: what went wrong in which of them, or None. Then the state is the one before that step.

        last   they were the last ones of the training: all of the state is looked at

        Nothing is kept yet: `back` leads to before these steps until `keep` is called, also while they are searched.
        """
        self.losses[-1].append(losses)
        self.done += len(losses)
        if not is_finite(losses):
            first = int(np.argmin(np.isfinite(losses)))
            return self._find(self._taken() - len(losses) + first, by_loss=True)
        started, plan = time.perf_counter(), self.plans[-1]
        self.due = started - self.kept_at > self.cost / SHARE
        if self.due or self.done == plan.steps or plan.epochs > 1:
            states = self.training.states if self.due or last else {}
            if not is_finite(self.training.live) or not_finite(states):
                return self._find(self._taken(), by_loss=False)
        self.looking = time.perf_counter() - started
        return None

    def _taken(self) -> int:
        """Steps since the state that is kept."""
        return sum(plan.steps for plan in self.plans[:-1]) - self.first + self.done

    def back(self) -> tuple[int, Array]:
        """Go back to the kept state; its epoch, and the losses of the steps of this epoch before it."""
        assert self.state is not None
        self.state.put(self.training)
        return self._place(self.plans[0], self.losses[0], self.first)

    @staticmethod
    def _place(plan: Plan, losses: list[Array], step: int) -> tuple[int, Array]:
        """The epoch of a step of a plan, and the losses of the steps of this epoch before it."""
        epoch, number = plan.place(step)
        return epoch, _joined(losses)[step - number : step]

    def _find(self, steps: int, by_loss: bool) -> Trouble:
        """Halve the steps since the kept state until the one is found after which something is not finite.

        steps     after so many of them something is not finite
        by_loss   that is the loss of the next one, and the state may still be fine
        """
        assert self.state is not None
        self.state.put(self.training)
        state = State(self.training)  # another one: who ends the search goes back to what was kept
        self._run(0, steps)
        low, high = (steps, steps) if by_loss and self._fine() else (0, steps)
        if low == high:
            state.refresh(self.training)
        while high - low > 1:
            middle = (low + high) // 2
            state.put(self.training)
            self._run(low, middle)
            if self._fine():
                low = middle
                state.refresh(self.training)
            else:
                high = middle
        k, step = self._where(low)
        plan = self.plans[k]
        epoch, before = self._place(plan, self.losses[k], step)
        loss = float(_joined(self.losses[k])[step])
        tensor = self._failing(plan, step)
        state.put(self.training)
        cause, rate = self._cause(plan, step, tensor), float(plan.rates[step])
        return Trouble(epoch, len(before), plan.steps_each, tensor, cause, loss, rate, before)

    def _fine(self) -> bool:
        return not not_finite(self.training.parameters) and not not_finite(self.training.states)

    def _where(self, step: int) -> tuple[int, int]:
        """Which plan a step since the kept state belongs to, and its number there."""
        at = step + self.first
        for k, plan in enumerate(self.plans[:-1]):
            if at < plan.steps:
                return k, at
            at -= plan.steps
        return len(self.plans) - 1, at

    def _run(self, first: int, last: int) -> None:
        """Take steps since the kept state once more."""
        at = -self.first
        for plan in self.plans:
            begin, end = max(first - at, 0), min(last - at, plan.steps)
            if begin < end:
                self.training.run(self.given, plan.order, plan.rates, plan.keys, begin, end)
            at += plan.steps

    # what to say

    def _failing(self, plan: Plan, step: int) -> str:
        """The first tensor of a step that is not finite, in the order in which they are computed."""
        training = self.keeping()
        training.clear_batch()  # what the step does not write must not be taken for its result
        loss = float(training.run(self.given, plan.order, plan.rates, plan.keys, step, step + 1)[0])
        for name, array in self._tensors(training, plan, step).items():
            if not is_finite(array):
                return f"{name} is {_first(array)}"
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        for arrays in (training.parameters, training.states):
            name = not_finite(arrays)
            if name:
                return f"{name} is {_first(arrays[name])}"
        return "a value was not finite, but is so when the step is taken again (were the data changed meanwhile?)"

    @staticmethod
    def _tensors(training: Any, plan: Plan, step: int) -> dict[str, Array]:
        """The arrays that the kernels compute for the samples of a step."""
        batch = training.batch
        samples = min(plan.samples - step % plan.steps_each * batch, batch)
        workspace = training.machine.kernels.get("workspace", {}).get("train", {})
        shapes = {name: shape for name, (_, shape) in workspace.items()}
        arrays = {name: array for name, array in training.of_batch().items() if name in shapes}
        return {
            name: array[:samples] if shapes[name][:1] in (("N",), ("apart",)) else array
            for name, array in arrays.items()
            if array.dtype.kind == "f"
        }

    def _cause(self, plan: Plan, step: int, tensor: str) -> str:
        """What is probably to blame, and what to do. The state is the one before the step."""
        name, size = largest(self.training.parameters)
        if size > GROWN:
            rate = f"the rate {plan.rates[step]:.3g} is too large"
            return f"{name} has grown to {size:.3g}: probably {rate}; take a smaller one, or clip_norm=1.0"
        data = {k: a for k, a in self.given.items() if a.dtype.kind == "f" and a.size}
        name, size = largest(data)
        if size > LARGE:
            return f"{name} reaches {size:.3g}: probably it should be scaled"
        formula = self.formula(tensor.split(" ")[0])
        dtype = next(iter(self.training.parameters.values())).dtype
        if not formula:
            return f"the update leaves the numbers of {dtype}: take a smaller rate, or clip_norm=1.0"
        return f"at these values {formula} leaves the numbers of {dtype}: take a smaller rate, or another formula"


def _joined(losses: list[Array]) -> Array:
    return np.concatenate(losses) if losses else np.zeros(0)


def _first(array: Array) -> str:
    """The first value that is not finite, and its place."""
    fine = np.isfinite(array)
    where = tuple(int(k) for k in np.unravel_index(int(np.argmin(fine)), array.shape))
    return f"{array[where]} at [{', '.join(map(str, where))}]" if array.size > 1 else f"{array[where]}"

"""Schedules: one row each, the formula is the learning rate of a step.

    lr    the base rate, which the optimiser states
    t     the step, from 0          T   the steps of the whole training
    e     the epoch, from 0         E   the epochs of the whole training

The rules are those of torch.optim.lr_scheduler where it has the rule, with its scheduler stepped after every
step (cosine, one_cycle, warm_up) or after every epoch (step, exponential). `ReduceOnPlateau` has a state, not
a formula. Any schedule may begin with a warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import sympy as sp

from .bounds import with_numbers
from .closure import closure, value_of
from .errors import SpecError, nearest
from .formula import checked_name
from .rows import (
    ANY,
    COUNT,
    FLAG,
    FRACTION,
    NONNEGATIVE,
    POSITIVE,
    SHARE,
    WHOLE,
    Constructor,
    FrozenMapping,
    Range,
    checked_number,
    checked_values,
    equals_signs,
    exact,
    read_formula,
    real_symbols,
)
from .table import Table
from .text import expression_text

SYMBOLS: Final = real_symbols(("lr", "t", "T", "e", "E"))


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of step and epoch.

    name             of the table, or "formula"
    formula          in lr, t, T, e, E and the hyperparameters
    hyperparameters  name -> value
    warm_up          steps in which the rate rises linearly to where the formula begins; the formula sees the
                     steps after them only

    >>> print(schedule("inverse_time", warm_up=10))
    inverse_time(decay_rate=1, decay_steps=1000, warm_up=10)
      rate = f(0, T - 10) (t + 1)/11 if t < 10; f(t - 10, T - 10) otherwise
      f(t, T) = lr/(decay_rate t/decay_steps + 1)
    >>> schedule("cosine").rate(0.1, t=100, T=100)
    0.0
    """

    name: str
    formula: sp.Expr
    hyperparameters: Mapping[str, float] = field(default_factory=FrozenMapping)
    warm_up: int = 0
    source: str = field(default="", compare=False)

    @cached_property
    def bound(self) -> sp.Expr:
        """The formula with numbers for the hyperparameters, in lr, t, T, e, E; without the warm-up."""
        values = {sp.Symbol(k, real=True): exact(v) for k, v in self.hyperparameters.items()}
        return with_numbers(self.formula, values, f"schedule '{self.name}'")

    def rate(self, lr: float, t: int, T: int = 1, e: int = 0, E: int = 1) -> float:
        """The learning rate of step t (from 0, of T) in epoch e (from 0, of E), for the base rate lr.

        Raises SpecError where the formula gives no finite rate of at least 0.
        """
        after, rest = float(max(t - self.warm_up, 0)), float(max(T - self.warm_up, 1))
        values = {"lr": lr, "t": after, "T": rest, "e": float(e), "E": float(max(E, 1))}
        rate = value_of(self.bound, values) * ramp(t, self.warm_up)
        if not 0 <= rate < math.inf:
            where = f"step {t} of {T}, epoch {e} of {E}"
            raise SpecError(f"schedule '{self.name}': the rate is {rate} at {where}; it must be at least 0")
        return rate

    def __repr__(self) -> str:
        warm_up = {"warm_up": self.warm_up} if self.warm_up else {}
        return f"{self.name}({equals_signs({**self.hyperparameters, **warm_up})})"

    def __str__(self) -> str:
        lines = [repr(self), f"rate = {expression_text(self.formula)}"]
        if self.warm_up:
            k = self.warm_up
            lines[1:] = [f"rate = f(0, T - {k}) (t + 1)/{k + 1} if t < {k}; f(t - {k}, T - {k}) otherwise"]
            lines += [f"f(t, T) = {expression_text(self.formula)}"]
        return "\n  ".join(lines)


def ramp(t: int, warm_up: int) -> float:
    """The share of the rate in step t: (t + 1)/(warm_up + 1), then 1.

    >>> [ramp(t, 3) for t in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min((t + 1) / (warm_up + 1), 1.0)


def _row(name: str, formula: str, source: str, /, **hyperparameters: float) -> tuple[str, Callable[[], Schedule]]:
    def made() -> Schedule:
        symbols = {**SYMBOLS, **real_symbols(hyperparameters)}
        expr = read_formula(formula, symbols, f"schedule '{name}'")
        return Schedule(name, expr, FrozenMapping(hyperparameters), 0, source)

    return name, made


RANGES: Final[Mapping[str, Range]] = {
    "step_size": COUNT,
    "gamma": SHARE,
    "floor": NONNEGATIVE,
    "pct_start": FRACTION,
    "div_factor": POSITIVE,
    "final_div_factor": POSITIVE,
    "steps": WHOLE,
    "decay_rate": NONNEGATIVE,
    "decay_steps": POSITIVE,
}

RISE: Final = "(1 - cos(pi*t/(pct_start*T - 1)))/2"
FALL: Final = "(1 + cos(pi*(min(t, T - 1) - pct_start*T + 1)/(T - pct_start*T)))/2"

SCHEDULES: Final = Table([
    _row("constant", "lr", ""),
    _row("step", "lr*gamma**floor(e/step_size)", "torch StepLR", step_size=10.0, gamma=0.1),
    _row("exponential", "lr*gamma**e", "torch ExponentialLR", gamma=0.95),
    _row(
        "cosine",
        "floor + (lr - floor)*(1 + cos(pi*min(t, T)/T))/2",
        "Loshchilov and Hutter 2017, eq. 5, without restarts; torch CosineAnnealingLR with T_max = T",
        floor=0.0,
    ),
    _row(
        "one_cycle",
        f"where(t < pct_start*T - 1, lr/div_factor + (lr - lr/div_factor)*{RISE}, "
        f"lr/(div_factor*final_div_factor) + (lr - lr/(div_factor*final_div_factor))*{FALL})",
        "Smith and Topin 2018; torch OneCycleLR with max_lr = lr",
        pct_start=0.3,
        div_factor=25.0,
        final_div_factor=1e4,
    ),
    _row(
        "warm_up",
        "lr*min((t + 1)/(steps + 1), 1)",
        "torch LinearLR with start_factor = 1/(steps + 1), total_iters = steps",
        steps=100.0,
    ),
    _row(
        "inverse_time",
        "lr/(1 + decay_rate*t/decay_steps)",
        "Robbins and Monro 1951; keras InverseTimeDecay",
        decay_rate=1.0,
        decay_steps=1000.0,
    ),
])  # fmt: skip


def schedule(name: str | sp.Expr | Schedule, warm_up: int = 0, **hyperparameters: float) -> Schedule:
    """The schedule of that name, or one given as a formula in lr, t, T, e, E and the hyperparameters.

    Raises SpecError for an unknown name, hyperparameter or symbol, and for a value out of its range.

    >>> schedule("step", step_size=30)
    step(step_size=30, gamma=0.1)
    >>> schedule("lr/(1 + k*e)", k=0.5).rate(0.75, t=0, e=4)
    0.25
    """
    if isinstance(name, Schedule):
        return name
    steps = int(checked_number(warm_up, WHOLE, "schedule: warm_up"))
    if isinstance(name, str) and name.strip().isidentifier() and name.strip() not in SYMBOLS:
        place = f"schedule '{name}'"
        if name == "reduce_on_plateau":
            raise SpecError(f"{place} has a state instead of a formula; use ReduceOnPlateau(...)")
        if name not in SCHEDULES:
            raise SpecError(f"{place} is not known. {nearest(name, SCHEDULES)}")
        row = SCHEDULES[name]
        values = checked_values(row.hyperparameters, hyperparameters, RANGES, place)
        return replace(row, hyperparameters=values, warm_up=steps)
    for own in hyperparameters:
        if checked_name(own, "schedule") in SYMBOLS:
            raise SpecError(f"schedule: the name '{own}' has a meaning already; choose another one")
    values = checked_values(hyperparameters, {}, {}, "schedule")
    formula = read_formula(name, {**SYMBOLS, **real_symbols(hyperparameters)}, "schedule")
    closure(formula)  # raises where the expression holds something that cannot be computed
    return Schedule("formula", formula, values, steps)


PLATEAU_RANGES: Final[Mapping[str, Range]] = {
    "factor": Range("a number in (0, 1)", lambda value: 0 < value < 1),
    "patience": WHOLE,
    "threshold": NONNEGATIVE,
    "cooldown": WHOLE,
    "floor": NONNEGATIVE,
    "larger_is_better": FLAG,
    "warm_up": WHOLE,
}


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Multiply the rate by `factor` when the loss has not improved for more than `patience` epochs.

    factor             in (0, 1)
    patience           epochs without improvement that are borne
    threshold          an improvement is a loss below best*(1 - threshold)
    cooldown           epochs after a reduction in which nothing is counted
    floor              the rate does not fall below it
    larger_is_better   True where `next` is given a score; an improvement is above best*(1 + threshold)
    warm_up            steps of a linear rise at the start, as in `Schedule`

    The other fields are the state; `next` gives the state after an epoch.
    Raises SpecError for values out of range.

    >>> state = ReduceOnPlateau(factor=0.5, patience=1)
    >>> for loss in (1.0, 0.8, 0.8, 0.9):
    ...     state, factor = state.next(loss)
    >>> factor, state.rate(0.1)
    (0.5, 0.05)

    Source: torch ReduceLROnPlateau, threshold_mode "rel"; torch also leaves out reductions below 1e-8.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    floor: float = 0.0
    larger_is_better: bool = False
    warm_up: int = 0
    best: float | None = None
    waited: int = 0
    cooling: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, within in PLATEAU_RANGES.items():
            checked_number(getattr(self, name), within, f"schedule 'reduce_on_plateau': {name}")

    def next(self, loss: float) -> tuple[ReduceOnPlateau, float]:
        """The state after an epoch with this loss, and what multiplies the rate: 1 or `factor`."""
        better = self._is_better(loss)
        cooling = max(self.cooling - 1, 0)
        waited = 0 if better or self.cooling else self.waited + 1
        reduce = waited > self.patience
        factor = self.factor if reduce else 1.0
        state = replace(
            self,
            best=loss if better else self.best,
            waited=0 if reduce else waited,
            cooling=self.cooldown if reduce else cooling,
            scale=self.scale * factor,
        )
        return state, factor

    def _is_better(self, loss: float) -> bool:
        if math.isnan(loss) or self.best is None:
            return not math.isnan(loss)
        if self.larger_is_better:
            return loss > self.best * (1 + self.threshold)
        return loss < self.best * (1 - self.threshold)

    def rate(self, lr: float, t: int = 0, T: int = 1, e: int = 0, E: int = 1) -> float:
        """The learning rate in this state; only the warm-up depends on the step t."""
        return max(lr * self.scale, min(lr, self.floor)) * ramp(t, self.warm_up)


def _constructor(called: str, name: str) -> Constructor[Schedule]:
    def build(**given: Any) -> Schedule:
        return schedule(name, **given)

    def defaults() -> dict[str, float]:
        return {**SCHEDULES[name].hyperparameters, "warm_up": 0}

    return Constructor(called, __name__, build, defaults, lambda: _documentation(called, SCHEDULES[name]))


def _documentation(called: str, row: Schedule) -> str:
    listed = "".join(f"    {h:<18}{RANGES.get(h, ANY).words}, default {v:g}\n" for h, v in row.hyperparameters.items())
    return f"""The schedule `{row.name}`.

        rate = {expression_text(row.formula)}

    where lr is the optimiser's rate, t the step of T, and e the epoch of E, both from 0.

{listed}    {"warm_up":<18}steps of a linear rise at the start, default 0

    Raises SpecError for unknown hyperparameters and values out of range.

    >>> {called}()
    {row!r}

    Source: {row.source or "common practice"}.
    """


Constant: Final = _constructor("Constant", "constant")
StepDecay: Final = _constructor("StepDecay", "step")
Exponential: Final = _constructor("Exponential", "exponential")
Cosine: Final = _constructor("Cosine", "cosine")
OneCycle: Final = _constructor("OneCycle", "one_cycle")
WarmUp: Final = _constructor("WarmUp", "warm_up")
InverseTime: Final = _constructor("InverseTime", "inverse_time")

"""Optimisers: one row each, the update rule as equations for one element of a parameter.

    w     the element            g   the gradient of the loss with respect to it
    lr    the learning rate of this step                t   the number of this step, from 1

First `scalar_updates` are computed, once a step, then `updates`, for every element, both in their order.
A name that is a state keeps its value until the next step, other names are intermediate; the last is `w`.

The rules and their defaults are those of torch.optim where it has the rule, but lr = 0.01 for the rules that
torch calls SGD. Where a paper divides both moments by their bias corrections, the corrections are moved into
scalars (alpha, epsilon): the same numbers, fewer operations an element, as at the end of section 2 of Kingma
and Ba 2015.
"""

from __future__ import annotations

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
    FLAG,
    FRACTION,
    NONNEGATIVE,
    POSITIVE,
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

Formula = Any  # text, a number, or a SymPy expression, which has no type
Updates = tuple[tuple[str, sp.Expr], ...]

LR: Final = sp.Symbol("lr", real=True)
SCALAR_SYMBOLS: Final = ("lr", "t")
ELEMENT_SYMBOLS: Final = ("w", "g", *SCALAR_SYMBOLS)


@dataclass(frozen=True)
class Optimiser:
    """An update rule, with values for its hyperparameters.

    name             of the table, or the user's own
    hyperparameters  name -> value, the learning rate "lr" first
    updates          (name, formula), in order, for every element of every parameter; the last name is "w"
    states           element-wise state -> its value before the first step
    scalars          state that all elements share -> its value before the first step
    scalar_updates   (name, formula), in order, once a step and before the updates
    source           where the rule was published

    >>> print(optimiser("momentum", lr=0.1))
    momentum(lr=0.1, momentum=0.9, weight_decay=0)
      d = g + w weight_decay
      m = d + m momentum
      w = w - lr m

    `bound` is the rule with numbers for all hyperparameters except lr, without what is then superfluous:

    >>> optimiser("momentum", lr=0.1).bound.updates
    (('m', g + 9*m/10), ('w', -lr*m + w))
    """

    name: str
    hyperparameters: Mapping[str, float]
    updates: Updates
    states: Mapping[str, float]
    scalars: Mapping[str, float]
    scalar_updates: Updates
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("hyperparameters", "states", "scalars"):
            object.__setattr__(self, name, FrozenMapping(getattr(self, name)))

    @cached_property
    def bound(self) -> Optimiser:
        """The rule that is computed: numbers for all hyperparameters except lr, no dead terms and states."""
        return _without_dead_parts(_with_numbers(self))

    def equations(self) -> list[str]:
        """The update rule as lines of text."""
        lines = (*self.scalar_updates, *self.updates)
        return [f"{name} = {expression_text(expr)}" for name, expr in lines]

    def __repr__(self) -> str:
        return f"{self.name}({equals_signs(self.hyperparameters)})"

    def __str__(self) -> str:
        return "\n  ".join([repr(self), *self.equations()])


def _with_numbers(rule: Optimiser) -> Optimiser:
    values = {sp.Symbol(k, real=True): exact(v) for k, v in rule.hyperparameters.items() if k != "lr"}

    def bound(lines: Updates) -> Updates:
        return tuple((name, with_numbers(e, values, f"optimiser '{rule.name}': {name}")) for name, e in lines)

    return replace(
        rule,
        hyperparameters=FrozenMapping({"lr": rule.hyperparameters["lr"]}),
        updates=bound(rule.updates),
        scalar_updates=bound(rule.scalar_updates),
    )


def _without_dead_parts(rule: Optimiser) -> Optimiser:
    """Remove what a hyperparameter of zero makes superfluous.

    before   d = g;  m = d;  w = w - lr*m       with the state m
    after    w = w - lr*g                       without states
    Keeps every value of w.
    """
    count = len(rule.scalar_updates)
    lines = [(name, expr, k < count) for k, (name, expr) in enumerate((*rule.scalar_updates, *rule.updates))]
    states = {*rule.states, *rule.scalars}
    while True:
        fewer_states = {s for s in states if _reads_previous_value(s, lines)}
        fewer_lines = _needed(_without_alias(lines, fewer_states), fewer_states)
        if (fewer_states, fewer_lines) == (states, lines):
            break
        states, lines = fewer_states, fewer_lines
    return replace(
        rule,
        updates=tuple((name, expr) for name, expr, scalar in lines if not scalar),
        scalar_updates=tuple((name, expr) for name, expr, scalar in lines if scalar),
        states=FrozenMapping({k: v for k, v in rule.states.items() if k in states}),
        scalars=FrozenMapping({k: v for k, v in rule.scalars.items() if k in states}),
    )


Lines = list[tuple[str, sp.Expr, bool]]


def _reads_previous_value(state: str, lines: Lines) -> bool:
    """Whether anything reads the state's value of the previous step: up to the line that assigns it."""
    for name, expr, _ in lines:
        if state in _names(expr):
            return True
        if name == state:
            return False
    return False


def _without_alias(lines: Lines, states: set[str]) -> Lines:
    """Put the first intermediate that is only another name, or a number, in the place of its uses."""
    for k, (name, expr, _) in enumerate(lines):
        assigned_later = {later for later, _, _ in lines[k:]}
        is_alias = expr.is_Number or (expr.is_Symbol and expr.name not in assigned_later)
        if is_alias and name != "w" and name not in states:
            alias = {sp.Symbol(name, real=True): expr}
            return lines[:k] + [(n, e.xreplace(alias), scalar) for n, e, scalar in lines[k + 1 :]]
    return lines


def _needed(lines: Lines, states: set[str]) -> Lines:
    """The lines that w depends on, now or through a state in a later step."""
    needed: set[str] = {"w"}
    while True:
        more = needed.union(*(_names(expr) for name, expr, _ in lines if name in needed))
        if more == needed:
            return [line for line in lines if line[0] in needed]
        needed = more


def _names(expr: sp.Expr) -> set[str]:
    return {symbol.name for symbol in expr.free_symbols}


def custom_optimiser(
    name: str,
    updates: Mapping[str, Formula],
    states: Mapping[str, float] | None = None,
    scalars: Mapping[str, float] | None = None,
    scalar_updates: Mapping[str, Formula] | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    source: str = "",
) -> Optimiser:
    """An optimiser of the user's own; formulas as text or SymPy.

    updates          name -> formula in w, g, t, lr, hyperparameters, states, scalars and the names before it
    states           element-wise state -> value before the first step; each is assigned in `updates`
    scalars          state of all elements together -> value before the first step; set in `scalar_updates`
    scalar_updates   name -> formula in t, lr, hyperparameters, scalars and the names before it
    hyperparameters  name -> value; lr is 0.01 if it is not among them

    Raises SpecError for symbols that are not declared, states that are never assigned, and where w is not the
    last name assigned.

    >>> mine = custom_optimiser("mine", {"m": "0.9*m + g", "w": "w - lr*sign(m)"}, states={"m": 0.0})
    >>> print(mine)
    mine(lr=0.01)
      m = g + 0.9 m
      w = w - lr sign(m)
    """
    place = f"optimiser '{checked_name(name, 'optimiser')}'"
    hyperparameters = {"lr": 0.01, **(hyperparameters or {})}
    states, scalars = dict(states or {}), dict(scalars or {})
    _check_names([*hyperparameters, *states, *scalars], place)
    first_values = {
        kind: FrozenMapping({s: checked_number(v, ANY, f"{place}: {kind} '{s}'") for s, v in given.items()})
        for kind, given in (("state", states), ("scalar", scalars))
    }
    shared = (*SCALAR_SYMBOLS, *hyperparameters, *scalars)
    scalar_lines = _read_updates(scalar_updates or {}, scalars, shared, f"{place}: scalar_updates")
    known = (*ELEMENT_SYMBOLS, *shared, *(n for n, _ in scalar_lines), *states)
    lines = _read_updates(updates, {**states, "w": 0.0}, known, f"{place}: updates")
    if not lines or lines[-1][0] != "w":
        last = lines[-1][0] if lines else "missing"
        raise SpecError(f"{place}: the last of the updates must be w; it is {last}")
    ranges = {"lr": POSITIVE, **{k: FLAG for k, v in hyperparameters.items() if isinstance(v, bool)}}
    return Optimiser(
        name=name,
        hyperparameters=checked_values(hyperparameters, {}, ranges, place),
        updates=lines,
        states=first_values["state"],
        scalars=first_values["scalar"],
        scalar_updates=scalar_lines,
        source=source,
    )


def _check_names(names: list[str], place: str) -> None:
    for k, name in enumerate(names):
        checked_name(name, place)
        if name in (*ELEMENT_SYMBOLS, *names[:k]) and (name, k) != ("lr", 0):
            raise SpecError(f"{place}: the name '{name}' has a meaning already; choose another one")


def _read_updates(
    updates: Mapping[str, Formula], states: Mapping[str, float], known: tuple[str, ...], place: str
) -> Updates:
    """The formulas, each in the names known before it; every state assigned, nothing else assigned twice."""
    lines: list[tuple[str, sp.Expr]] = []
    names = list(known)
    for name, formula in updates.items():
        checked_name(name, place)
        if name in known and name not in states:
            raise SpecError(f"{place}: '{name}' cannot be assigned; it is given. Choose another name")
        expr = read_formula(formula, real_symbols(tuple(names)), f"{place}: {name}")
        closure(expr)  # raises where the expression holds something that cannot be computed
        lines.append((name, expr))
        names.append(name)
    for state in states:
        if state not in updates and state != "w":
            raise SpecError(f"{place}: '{state}' is never assigned; give its formula. {nearest(state, updates)}")
    return tuple(lines)


def _row(
    name: str,
    hyperparameters: Mapping[str, float],
    updates: str,
    source: str,
    scalar_updates: str = "",
    states: str = "",
    scalars: Mapping[str, float] | None = None,
) -> tuple[str, Callable[[], Optimiser]]:
    """A row of the table: formulas as lines `name = formula`, states by name (they begin at 0)."""
    lines, scalar_lines = (
        dict(line.split(" = ", 1) for line in text.splitlines()) for text in (updates, scalar_updates)
    )
    first = dict.fromkeys(states.split(), 0.0)
    return name, lambda: custom_optimiser(name, lines, first, scalars, scalar_lines, hyperparameters, source)


def _lines(*lines: str) -> str:
    return "\n".join(lines)


RANGES: Final[Mapping[str, Range]] = {
    "lr": POSITIVE,
    **dict.fromkeys(("beta1", "beta2", "momentum", "alpha", "rho"), FRACTION),
    **dict.fromkeys(("nesterov", "centered"), FLAG),
    **dict.fromkeys(("eps", "weight_decay", "lr_decay", "momentum_decay"), NONNEGATIVE),
    "initial_accumulator_value": NONNEGATIVE,
}

DECAYED: Final = "d = g + weight_decay*w"
MOMENTS: Final = _lines(DECAYED, "m = beta1*m + (1 - beta1)*d", "v = beta2*v + (1 - beta2)*d**2")
CORRECTED: Final = _lines(
    "c1 = 1 - beta1**t",
    "c2 = 1 - beta2**t",
    "alpha = lr*sqrt(c2)/c1",
    "epsilon = eps*sqrt(c2)",
)
BETAS: Final = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

OPTIMISERS: Final = Table([
    _row(
        "sgd",
        {"lr": 1e-2, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        _lines(DECAYED, "m = momentum*m + d", "w = w - lr*where(nesterov > 0, d + momentum*m, m)"),
        "Robbins and Monro 1951; with momentum as below",
        states="m",
    ),
    _row(
        "momentum",
        {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0},
        _lines(DECAYED, "m = momentum*m + d", "w = w - lr*m"),
        "Polyak 1964, eq. 9, with lr outside of the momentum, as in torch.optim.SGD",
        states="m",
    ),
    _row(
        "nesterov",
        {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0},
        _lines(DECAYED, "m = momentum*m + d", "w = w - lr*(d + momentum*m)"),
        "Nesterov 1983 in the form of Sutskever et al. 2013, with lr outside, as in torch.optim.SGD",
        states="m",
    ),
    _row(
        "adagrad",
        {"lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
        _lines(DECAYED, "s = s + d**2", "w = w - rate*d/(sqrt(s + initial_accumulator_value) + eps)"),
        "Duchi et al. 2011, fig. 1; lr_decay, eps and the first value as in torch.optim.Adagrad",
        scalar_updates="rate = lr/(1 + (t - 1)*lr_decay)",
        states="s",
    ),
    _row(
        "rmsprop",
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
        _lines(
            DECAYED,
            "v = alpha*v + (1 - alpha)*d**2",
            "a = alpha*a + (1 - alpha)*d",
            "s = where(centered > 0, v - a**2, v)",
            "m = momentum*m + d/(sqrt(s) + eps)",
            "w = w - lr*m",
        ),
        "Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, eq. 38; eps outside of the root",
        states="v a m",
    ),
    _row(
        "adadelta",
        {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0},
        _lines(
            DECAYED,
            "v = rho*v + (1 - rho)*d**2",
            "s = sqrt(u + eps)/sqrt(v + eps)*d",
            "u = rho*u + (1 - rho)*s**2",
            "w = w - lr*s",
        ),
        "Zeiler 2012, algorithm 1, times lr",
        states="v u",
    ),
    _row(
        "adam",
        {"lr": 1e-3, **BETAS, "weight_decay": 0.0},
        _lines(MOMENTS, "w = w - alpha*m/(sqrt(v) + epsilon)"),
        "Kingma and Ba 2015, algorithm 1, computed as at the end of section 2",
        scalar_updates=CORRECTED,
        states="m v",
    ),
    _row(
        "amsgrad",
        {"lr": 1e-3, **BETAS, "weight_decay": 0.0},
        _lines(MOMENTS, "u = max(v, u)", "w = w - alpha*m/(sqrt(u) + epsilon)"),
        "Reddi et al. 2018, algorithm 2, with bias corrections as in torch.optim.Adam",
        scalar_updates=CORRECTED,
        states="m v u",
    ),
    _row(
        "adamw",
        {"lr": 1e-3, **BETAS, "weight_decay": 1e-2},
        _lines(
            "m = beta1*m + (1 - beta1)*g",
            "v = beta2*v + (1 - beta2)*g**2",
            "w = w - lr*weight_decay*w - alpha*m/(sqrt(v) + epsilon)",
        ),
        "Loshchilov and Hutter 2019, algorithm 2; the decay is times lr, as in torch.optim.AdamW",
        scalar_updates=CORRECTED,
        states="m v",
    ),
    _row(
        "adamax",
        {"lr": 2e-3, **BETAS, "weight_decay": 0.0},
        _lines(
            DECAYED,
            "m = beta1*m + (1 - beta1)*d",
            "size = abs(d) + eps",
            "decayed = beta2*u",
            "u = max(size, decayed)",
            "w = w - alpha*m/u",
        ),
        "Kingma and Ba 2015, algorithm 2; eps as in torch.optim.Adamax",
        scalar_updates="alpha = lr/(1 - beta1**t)",
        states="m u",
    ),
    _row(
        "nadam",
        {"lr": 2e-3, **BETAS, "weight_decay": 0.0, "momentum_decay": 4e-3},
        _lines(MOMENTS, "w = w - (alpha_g*d + alpha_m*m)/(sqrt(v) + epsilon)"),
        "Dozat 2016, with the momentum schedule of its section 3, as in torch.optim.NAdam",
        scalar_updates=_lines(
            "c2 = 1 - beta2**t",
            "mu = beta1*(1 - 0.96**(t*momentum_decay)/2)",
            "mu_next = beta1*(1 - 0.96**((t + 1)*momentum_decay)/2)",
            "mu_product = mu_product*mu",
            "alpha_g = lr*sqrt(c2)*(1 - mu)/(1 - mu_product)",
            "alpha_m = lr*sqrt(c2)*mu_next/(1 - mu_product*mu_next)",
            "epsilon = eps*sqrt(c2)",
        ),
        states="m v",
        scalars={"mu_product": 1.0},
    ),
    _row(
        "lion",
        {"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
        _lines(
            "c = beta1*m + (1 - beta1)*g",
            "m = beta2*m + (1 - beta2)*g",
            "w = w - lr*(sign(c) + weight_decay*w)",
        ),
        "Chen et al. 2023, algorithm 2",
        states="m",
    ),
])  # fmt: skip


def optimiser(name: str, **hyperparameters: float) -> Optimiser:
    """The optimiser of that name, with these values for its hyperparameters and the defaults for the others.

    Raises SpecError for a name or a hyperparameter that is not known, and for a value out of its range: lr above 0;
    beta1, beta2, momentum, alpha, rho in [0, 1); the others at least 0; nesterov and centered are true or false.

    >>> optimiser("adam", lr=0.01)
    adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0)
    >>> optimiser("adm")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: optimiser 'adm' is not known. Known: adadelta, adagrad, adam, adamax, adamw, amsgrad, lion, momentum, nadam, nesterov, rmsprop, sgd. Did you mean 'adam'?
    """  # noqa: E501  an expected message stands on one line
    place = f"optimiser '{name}'"
    if name not in OPTIMISERS:
        raise SpecError(f"{place} is not known. {nearest(str(name), OPTIMISERS)}")
    row = OPTIMISERS[name]
    values = checked_values(row.hyperparameters, hyperparameters, RANGES, place)
    if values.get("nesterov") and not values["momentum"]:
        raise SpecError(f"{place}: nesterov needs a momentum above 0; give one, such as momentum=0.9")
    return replace(row, hyperparameters=values)


def first_state(rule: Optimiser) -> dict[str, float]:
    """The states and scalars of one element before the first step.

    >>> first_state(optimiser("nadam"))
    {'mu_product': 1.0, 'm': 0.0, 'v': 0.0}
    """
    return {**rule.bound.scalars, **rule.bound.states}


def step(
    rule: Optimiser, w: float, g: float, state: Mapping[str, float], t: int, lr: float | None = None
) -> tuple[float, dict[str, float]]:
    """One step for one element, by the formulas as they stand: the oracle for everything that is faster.

    w, g, state   the element, its gradient, and the states and scalars before the step (see `first_state`)
    t             1 at the first step
    lr            the learning rate of this step; the rule's own if not given
    Returns the element and the states and scalars after the step.

    >>> rule = optimiser("momentum", lr=0.5)
    >>> w, state = step(rule, 1.0, 2.0, first_state(rule), t=1)
    >>> step(rule, w, 2.0, state, t=2)
    (-1.9, {'m': 3.8})
    """
    values = {**state, "w": w, "g": g, "t": float(t), "lr": rule.hyperparameters["lr"] if lr is None else lr}
    for name, expr in (*rule.bound.scalar_updates, *rule.bound.updates):
        values[name] = value_of(expr, values)
    return values["w"], {name: values[name] for name in first_state(rule)}


def _constructor(called: str, name: str) -> Constructor[Optimiser]:
    def build(**hyperparameters: Any) -> Optimiser:
        return optimiser(name, **hyperparameters)

    def defaults() -> Mapping[str, float]:
        return OPTIMISERS[name].hyperparameters

    return Constructor(called, __name__, build, defaults, lambda: _documentation(called, OPTIMISERS[name]))


def _documentation(called: str, row: Optimiser) -> str:
    equations = "\n".join(f"        {line}" for line in row.equations())
    width = max(len(h) for h in row.hyperparameters) + 2
    ranges = "\n".join(f"    {h:<{width}}{RANGES[h].words}, default {v:g}" for h, v in row.hyperparameters.items())
    return f"""The optimiser `{row.name}`.

{equations}

    for every element w with gradient g, in step t = 1, 2, ...

{ranges}

    Raises SpecError for unknown hyperparameters and values out of range.

    >>> {called}(lr=0.01)
    {replace(row, hyperparameters=FrozenMapping({**row.hyperparameters, "lr": 0.01}))!r}

    Source: {row.source}.
    """


SGD: Final = _constructor("SGD", "sgd")
Momentum: Final = _constructor("Momentum", "momentum")
Nesterov: Final = _constructor("Nesterov", "nesterov")
Adagrad: Final = _constructor("Adagrad", "adagrad")
RMSprop: Final = _constructor("RMSprop", "rmsprop")
Adadelta: Final = _constructor("Adadelta", "adadelta")
Adam: Final = _constructor("Adam", "adam")
AMSGrad: Final = _constructor("AMSGrad", "amsgrad")
AdamW: Final = _constructor("AdamW", "adamw")
Adamax: Final = _constructor("Adamax", "adamax")
NAdam: Final = _constructor("NAdam", "nadam")
Lion: Final = _constructor("Lion", "lion")

"""Initialisers: one row each, a distribution and the formula of its scale. `runtime/given.py` draws.

    fan_in    inputs that a unit sums over
    fan_out   units that an input goes to

The scale is the value itself (constant), the standard deviation (normal), the half-width (uniform: between
-scale and scale) or the gain (orthogonal). Normal means the normal distribution, as in torch; Keras cuts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

import sympy as sp

from .bounds import with_numbers
from .closure import closure, value_of
from .errors import SpecError, nearest
from .formula import checked_name
from .rows import (
    ANY,
    NONNEGATIVE,
    FrozenMapping,
    Range,
    checked_values,
    equals_signs,
    exact,
    read_formula,
    real_symbols,
)
from .table import Table
from .text import expression_text

SYMBOLS: Final = {name: sp.Symbol(name, positive=True) for name in ("fan_in", "fan_out")}


class Distribution(StrEnum):
    """What the scale is the scale of."""

    CONSTANT = "constant"
    NORMAL = "normal"
    UNIFORM = "uniform"
    ORTHOGONAL = "orthogonal"


@dataclass(frozen=True)
class Initialiser:
    """The distribution of a parameter's first values.

    name             of the table, or "formula"
    distribution     constant, normal, uniform or orthogonal
    scale            in fan_in, fan_out and the hyperparameters
    hyperparameters  name -> value

    >>> print(initialiser("glorot_uniform"))
    glorot_uniform(): uniform, scale = sqrt(6)/sqrt(fan_in + fan_out)
    >>> initialiser("lecun_normal").scale_of(fan_in=4, fan_out=9)
    0.5
    """

    name: str
    distribution: Distribution
    scale: sp.Expr
    hyperparameters: Mapping[str, float] = field(default_factory=FrozenMapping)
    source: str = field(default="", compare=False)

    @cached_property
    def bound(self) -> sp.Expr:
        """The scale with numbers for the hyperparameters."""
        values = {sp.Symbol(k, real=True): exact(v) for k, v in self.hyperparameters.items()}
        return with_numbers(self.scale, values, f"initialiser '{self.name}'")

    def scale_of(self, fan_in: int, fan_out: int) -> float:
        """The scale for a parameter; SpecError where it is not finite, or negative without a meaning."""
        value = value_of(self.bound, {"fan_in": float(fan_in), "fan_out": float(fan_out)})
        if not math.isfinite(value) or (value < 0 and self.distribution is not Distribution.CONSTANT):
            fans = f"fan_in = {fan_in}, fan_out = {fan_out}"
            raise SpecError(f"initialiser '{self.name}': the scale is {value} for {fans}; change its formula")
        return value

    def __repr__(self) -> str:
        return f"{self.name}({equals_signs(self.hyperparameters)})"

    def __str__(self) -> str:
        return f"{self!r}: {self.distribution}, scale = {expression_text(self.scale)}"


def _row(
    name: str, distribution: str, scale: str, source: str = "", /, **hyperparameters: float
) -> tuple[str, Callable[[], Initialiser]]:
    def made() -> Initialiser:
        symbols = {**SYMBOLS, **real_symbols(hyperparameters)}
        expr = read_formula(scale, symbols, f"initialiser '{name}'")
        return Initialiser(name, Distribution(distribution), expr, FrozenMapping(hyperparameters), source)

    return name, made


RANGES: Final[Mapping[str, Range]] = {
    "value": ANY,
    "std": NONNEGATIVE,
    "limit": NONNEGATIVE,
    "gain": NONNEGATIVE,
}

INITIALISERS: Final = Table([
    _row("zeros",          "constant",   "0"),
    _row("constant",       "constant",   "value", value=0.0),
    _row("normal",         "normal",     "std", std=0.05),
    _row("uniform",        "uniform",    "limit", limit=0.05),
    _row("glorot_uniform", "uniform",    "sqrt(6/(fan_in + fan_out))", "Glorot and Bengio 2010, eq. 16"),
    _row("glorot_normal",  "normal",     "sqrt(2/(fan_in + fan_out))", "Glorot and Bengio 2010, eq. 12"),
    _row("he_uniform",     "uniform",    "sqrt(6/fan_in)", "He et al. 2015, eq. 10"),
    _row("he_normal",      "normal",     "sqrt(2/fan_in)", "He et al. 2015, eq. 10"),
    _row("lecun_uniform",  "uniform",    "sqrt(3/fan_in)", "LeCun et al. 1998, section 4.6"),
    _row("lecun_normal",   "normal",     "sqrt(1/fan_in)", "LeCun et al. 1998, section 4.6"),
    _row("orthogonal",     "orthogonal", "gain", "Saxe et al. 2014", gain=1.0),
])  # fmt: skip

RELU_FAMILY: Final = frozenset({
    "relu", "leaky_relu", "prelu", "relu6", "elu", "gelu", "gelu_tanh", "silu", "swish", "hard_swish", "mish",
})  # fmt: skip


def initialiser(
    name: str | sp.Expr | float | Initialiser, distribution: str = "uniform", **hyperparameters: float
) -> Initialiser:
    """The initialiser of that name, or one whose scale is a formula in fan_in, fan_out and hyperparameters.

    distribution   of a formula: constant, normal, uniform or orthogonal
    Raises SpecError for an unknown name, hyperparameter or symbol, and for a value out of its range.

    >>> initialiser("normal", std=0.01)
    normal(std=0.01)
    >>> print(initialiser("sqrt(k/fan_in)", "normal", k=1.5))
    formula(k=1.5): normal, scale = sqrt(k)/sqrt(fan_in)
    """
    if isinstance(name, Initialiser):
        return name
    if isinstance(name, str) and name.strip().isidentifier() and name.strip() not in SYMBOLS:
        place = f"initialiser '{name}'"
        if name not in INITIALISERS:
            raise SpecError(f"{place} is not known. {nearest(name, INITIALISERS)}")
        row = INITIALISERS[name]
        return replace(row, hyperparameters=checked_values(row.hyperparameters, hyperparameters, RANGES, place))
    if distribution not in set(Distribution):
        known = nearest(str(distribution), Distribution)
        raise SpecError(f"initialiser: the distribution '{distribution}' is not known. {known}")
    for own in hyperparameters:
        if checked_name(own, "initialiser") in SYMBOLS:
            raise SpecError(f"initialiser: the name '{own}' has a meaning already; choose another one")
    values = checked_values(hyperparameters, {}, {}, "initialiser")
    scale = read_formula(name, {**SYMBOLS, **real_symbols(hyperparameters)}, "initialiser")
    made = Initialiser("formula", Distribution(distribution), scale, values)
    closure(made.bound)  # raises where the expression holds something that cannot be computed
    return made


def default_for(activation: str) -> Initialiser:
    """The initialiser that keeps the variance through a layer with this activation.

    he_normal for relu and what is shaped like it, lecun_normal for selu, glorot_uniform otherwise.

    >>> [default_for(a).name for a in ("relu", "selu", "tanh")]
    ['he_normal', 'lecun_normal', 'glorot_uniform']

    Source: He et al. 2015; Klambauer et al. 2017; Glorot and Bengio 2010.
    """
    if activation in RELU_FAMILY:
        return INITIALISERS["he_normal"]
    return INITIALISERS["lecun_normal" if activation == "selu" else "glorot_uniform"]

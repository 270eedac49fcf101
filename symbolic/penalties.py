"""Penalties: what is added to the loss for the size of the parameters; `w` is an element of a parameter.

The sum runs over all elements of the chosen parameters. l2 has the factor 1/2, so that its gradient is strength * w
(as weight decay in PyTorch and alpha in scikit-learn; Keras has no 1/2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import sympy as sp

from .activations import in_own_symbols
from .bounds import with_numbers
from .errors import SpecError, nearest
from .formula import checked_name, parse_formula
from .table import Table

W: Final = sp.Symbol("w", real=True)


@dataclass(frozen=True)
class Penalty:
    """A penalty on parameters.

    name             of the table, or any name for a formula of one's own
    formula          an expression in w and the hyperparameters
    hyperparameters  numbers in the formula
    on               "weights" (parameters with two indices or more), "all", or names of parameters

    >>> Penalty("l2", hyperparameters={"strength": 1e-3}).expr
    w**2/2000
    """

    name: str
    formula: sp.Expr | str = ""
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    on: str | tuple[str, ...] = "weights"

    def __post_init__(self) -> None:
        place = f"penalty '{checked_name(self.name, 'penalty')}'"
        hyperparameters = dict(self.hyperparameters)
        if isinstance(self.formula, str) and not self.formula:
            row = PENALTIES.get(self.name)
            if row is None:
                raise SpecError(f"{place} is not known. {nearest(self.name, PENALTIES)}")
            for name in set(hyperparameters) - set(row.hyperparameters):
                raise SpecError(f"{place}: '{name}' is not a hyperparameter. {nearest(name, row.hyperparameters)}")
            hyperparameters = {**row.hyperparameters, **hyperparameters}
            object.__setattr__(self, "formula", row.formula)
        for name, value in hyperparameters.items():
            checked_name(name, place)
            if name == "w":
                raise SpecError(f"{place}: the symbol 'w' has a meaning already; give it another name")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise SpecError(f"{place}: '{name}' has the value {value!r}; give a finite number of at least 0")
        symbols = {"w": W, **{h: sp.Symbol(h, real=True) for h in hyperparameters}}
        formula = self.formula
        if isinstance(formula, str):
            formula = parse_formula(formula, symbols, place)
        object.__setattr__(self, "formula", in_own_symbols(formula, symbols, place))
        object.__setattr__(self, "hyperparameters", MappingProxyType(hyperparameters))
        _ = self.expr  # raises where the numbers do not fit the formula
        object.__setattr__(self, "on", self.on if isinstance(self.on, str) else tuple(self.on))

    def __hash__(self) -> int:
        return hash((self.name, self.formula, tuple(self.hyperparameters.items()), self.on))

    @cached_property
    def expr(self) -> sp.Expr:
        """The formula with the values of the hyperparameters in it."""
        assert isinstance(self.formula, sp.Expr)
        values = {sp.Symbol(k, real=True): sp.Rational(str(v)) for k, v in self.hyperparameters.items()}
        return with_numbers(self.formula, values, f"penalty '{self.name}'")


def _row(name: str, formula: str, **hyperparameters: float) -> tuple[str, Callable[[], Penalty]]:
    return name, lambda: Penalty(name, formula, hyperparameters)


PENALTIES: Final = Table([
    _row("l1",          "strength*abs(w)", strength=1e-4),
    _row("l2",          "strength*w**2/2", strength=1e-4),
    _row("elastic_net", "strength*(ratio*abs(w) + (1 - ratio)*w**2/2)", strength=1e-4, ratio=0.5),
])  # fmt: skip


def L1(strength: float = 1e-4, on: str | tuple[str, ...] = "weights") -> Penalty:
    """strength * sum |w|."""
    return Penalty("l1", hyperparameters={"strength": strength}, on=on)


def L2(strength: float = 1e-4, on: str | tuple[str, ...] = "weights") -> Penalty:
    """strength/2 * sum w**2."""
    return Penalty("l2", hyperparameters={"strength": strength}, on=on)


def ElasticNet(strength: float = 1e-4, ratio: float = 0.5, on: str | tuple[str, ...] = "weights") -> Penalty:
    """strength * (ratio * sum |w| + (1 - ratio)/2 * sum w**2)."""
    return Penalty("elastic_net", hyperparameters={"strength": strength, "ratio": ratio}, on=on)

"""Losses: one row each, the formula is the definition, `y` the target and `y_hat` the model's output.

The loss of a sample is the mean of the formula over its outputs (`mean`), or the sum over the classes (`sum`) where the
outputs are one distribution. The loss of a batch is the mean over its samples, with sample weights the weighted mean

    L = sum_n w[n] l[n] / sum_n w[n]

so a weight of 2 is the same as having the sample twice. Integer targets stand for y[n,c] = [c = y[n]].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import sympy as sp

from .activations import in_own_symbols
from .bounds import with_numbers
from .errors import SpecError, nearest
from .formula import checked_name, checked_title, parse_formula
from .table import Table

Y: Final = sp.Symbol("y", real=True)
Y_HAT: Final = sp.Symbol("y_hat", real=True)
MOST_HEADS: Final = 16  # outputs a target
LOG_VARIANCE: Final = sp.Symbol("log_variance", real=True)


@dataclass(frozen=True)
class Loss:
    """A loss function.

    name             of the table, or any name for a formula of one's own
    formula          an expression in y, y_hat and the hyperparameters
    hyperparameters  numbers in the formula, such as the threshold of `huber`
    over             "mean" or "sum" over the outputs of a sample
    heads            what the outputs of a model are: by default one y_hat a target, with two names the first half of
                     the outputs is the first, the second half the second
    targets          what targets may be: "real", "probability", "sign" (-1 or 1), "count"
    classes          whether integer targets stand for one of several classes

    >>> Loss("huber", hyperparameters={"delta": 2.0}).hyperparameters["delta"]
    2.0
    >>> Loss("cauchy", "log(1 + (y - y_hat)**2/scale**2)", {"scale": 3.0}).expr
    log((y - y_hat)**2/9 + 1)
    """

    name: str
    formula: sp.Expr | str = ""
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    over: str = "mean"
    heads: tuple[str, ...] = ("y_hat",)
    targets: str = "real"
    classes: bool = False
    needs: str = ""  # the range of y_hat without which the formula has no value
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        checked_title(self.name, "loss")
        place = f"loss '{self.name}'"
        hyperparameters = dict(self.hyperparameters)
        if isinstance(self.formula, str) and not self.formula:
            row = LOSSES.get(self.name)
            if row is None:
                raise SpecError(f"{place} is not known. {nearest(self.name, LOSSES)}")
            for name in set(hyperparameters) - set(row.hyperparameters):
                raise SpecError(f"{place}: '{name}' is not a hyperparameter. {nearest(name, row.hyperparameters)}")
            hyperparameters = {**row.hyperparameters, **hyperparameters}
            for name in ("formula", "over", "heads", "targets", "classes", "needs", "source"):
                object.__setattr__(self, name, getattr(row, name))
        if self.over not in ("mean", "sum"):
            raise SpecError(f"{place}: over = {self.over!r}; it is 'mean' or 'sum'")
        self._check_heads(place)
        symbols = {"y": Y, **{h: sp.Symbol(h, real=True) for h in self.heads}}
        for name, value in hyperparameters.items():
            checked_name(name, place)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise SpecError(f"{place}: '{name}' has the value {value!r}; give a finite number")
            if name in symbols:
                raise SpecError(f"{place}: the symbol '{name}' has a meaning already; give it another name")
        symbols |= {h: sp.Symbol(h, real=True) for h in hyperparameters}
        formula = self.formula
        if isinstance(formula, str):
            formula = parse_formula(formula, symbols, place)
        object.__setattr__(self, "formula", in_own_symbols(formula, symbols, place))
        object.__setattr__(self, "hyperparameters", MappingProxyType(hyperparameters))
        _ = self.expr  # raises where the numbers do not fit the formula

    def _check_heads(self, place: str) -> None:
        for head in self.heads:
            if checked_name(head, place) == "y" or self.heads.count(head) > 1:
                raise SpecError(f"{place}: the head '{head}' has a meaning already; give each output a name of its own")
        if not 0 < len(self.heads) <= MOST_HEADS:
            raise SpecError(f"{place}: there are {len(self.heads)} heads; give 1 to {MOST_HEADS}")

    def __hash__(self) -> int:
        return hash((self.name, self.formula, tuple(self.hyperparameters.items()), self.over))

    @cached_property
    def expr(self) -> sp.Expr:
        """The formula with the values of the hyperparameters in it."""
        assert isinstance(self.formula, sp.Expr)
        values = {sp.Symbol(k, real=True): sp.Rational(str(v)) for k, v in self.hyperparameters.items()}
        return with_numbers(self.formula, values, f"loss '{self.name}'")


def loss(given: str | sp.Expr | Loss) -> Loss:
    """A loss from a name of the table, a formula as text, a SymPy expression, or a loss.

    >>> loss("(y - y_hat)**4").over
    'mean'
    """
    if isinstance(given, Loss):
        return given
    if isinstance(given, str) and given.isidentifier():
        return Loss(given)
    return Loss("formula", given)


def _row(name: str, formula: str, source: str = "", hyperparameters: Mapping[str, float] | None = None,
         **fields: Any) -> tuple[str, Callable[[], Loss]]:  # fmt: skip
    return name, lambda: Loss(name, formula, hyperparameters or {}, source=source, **fields)


LOSSES: Final = Table([
    _row("squared_error",  "(y - y_hat)**2"),
    _row("absolute_error", "abs(y - y_hat)"),
    _row("huber",          "where(abs(y - y_hat) <= delta, (y - y_hat)**2/2, delta*(abs(y - y_hat) - delta/2))",
         "Huber 1964", {"delta": 1.0}),
    _row("log_cosh",       "log(cosh(y_hat - y))"),
    _row("quantile",       "where(y - y_hat >= 0, tau*(y - y_hat), (tau - 1)*(y - y_hat))",
         "Koenker and Bassett 1978", {"tau": 0.5}),
    _row("cross_entropy",  "-y*log(y_hat)", over="sum", targets="probability", classes=True, needs="positive"),
    _row("binary_cross_entropy", "-y*log(y_hat) - (1 - y)*log(1 - y_hat)", targets="probability", needs="positive"),
    _row("hinge",          "max(1 - y*y_hat, 0)", targets="sign"),
    _row("squared_hinge",  "max(1 - y*y_hat, 0)**2", targets="sign"),
    _row("poisson",        "y_hat - y*log(y_hat)", "negative log-likelihood of a rate, up to log y!", targets="count",
         needs="positive"),
    _row("gaussian_nll",   "(log_variance + (y - y_hat)**2*exp(-log_variance))/2", "Nix and Weigend 1994",
         heads=("y_hat", "log_variance")),
    _row("kl_divergence",  "where(y <= 0, 0, y*(log(y) - log(y_hat)))", over="sum", targets="probability",
         classes=True, needs="positive"),
])  # fmt: skip

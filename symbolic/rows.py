"""What the tables of optimisers, schedules and initialisers share: frozen mappings, checked hyperparameters,
and Python constructors whose signature and docstring come from the row, so that they cannot drift from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from numbers import Real
from typing import Any, Final, Generic, TypeVar

import sympy as sp

from .activations import in_own_symbols
from .errors import SpecError, nearest
from .formula import parse_formula

V = TypeVar("V")
R = TypeVar("R")


class FrozenMapping(Mapping[str, V], Generic[V]):
    """A mapping that cannot change, in the order given; it hashes, copies and pickles.

    `types.MappingProxyType` does none of the three.

    >>> FrozenMapping({"lr": 0.1, "momentum": 0.9})
    {'lr': 0.1, 'momentum': 0.9}
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, name: str) -> V:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class Range:
    """The values that a hyperparameter may have, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


ANY: Final = Range("a finite number", lambda value: True)
POSITIVE: Final = Range("a number above 0", lambda value: value > 0)
NONNEGATIVE: Final = Range("a number of at least 0", lambda value: value >= 0)
FRACTION: Final = Range("a number in [0, 1)", lambda value: 0 <= value < 1)
SHARE: Final = Range("a number in (0, 1]", lambda value: 0 < value <= 1)
COUNT: Final = Range("a whole number of at least 1", lambda value: value >= 1 and value == int(value))
WHOLE: Final = Range("a whole number of at least 0", lambda value: value >= 0 and value == int(value))
FLAG: Final = Range("true or false", lambda value: value in (0, 1))


def checked_number(value: object, within: Range, place: str) -> float:
    """The value as a float (a flag stays a bool), or `SpecError`."""
    if within is FLAG and value in (0, 1):
        return bool(value)
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # an integer too large for a double
        number = math.nan
    if not math.isfinite(number) or not within.holds(number):
        raise SpecError(f"{place}: {value!r} is not {within.words}")
    return number


def checked_values(
    defaults: Mapping[str, float], given: Mapping[str, object], ranges: Mapping[str, Range], place: str
) -> FrozenMapping[float]:
    """The defaults, replaced where a value is given; every value in its range (if stated, else finite)."""
    for name in given:
        if name not in defaults:
            raise SpecError(f"{place}: the hyperparameter '{name}' is not known. {nearest(name, defaults)}")
    return FrozenMapping(
        {
            name: checked_number(given.get(name, default), ranges.get(name, ANY), f"{place}: {name}")
            for name, default in defaults.items()
        }
    )


def exact(value: float) -> sp.Rational:
    """The rational number that was written: 0.1 gives 1/10, not the nearest binary fraction."""
    return sp.Integer(int(value)) if isinstance(value, bool) else sp.Rational(str(value))


def real_symbols(names: Mapping[str, object] | tuple[str, ...]) -> dict[str, sp.Symbol]:
    """One real symbol a name."""
    return {name: sp.Symbol(name, real=True) for name in names}


def read_formula(formula: str | sp.Expr | float, symbols: Mapping[str, sp.Symbol], place: str) -> sp.Expr:
    """A formula given as text, as a number or as SymPy, in exactly these symbols.

    A SymPy expression may use symbols with other assumptions; they are matched by name.

    >>> a = sp.Symbol("a", real=True)
    >>> read_formula("a**2", {"a": a}, "here") == read_formula(sp.Symbol("a")**2, {"a": a}, "here")
    True
    """
    if isinstance(formula, str):
        formula = parse_formula(formula, symbols, place)
    elif isinstance(formula, int | float):
        formula = exact(checked_number(formula, ANY, place))
    return in_own_symbols(formula, symbols, place)


def equals_signs(values: Mapping[str, float]) -> str:
    """Hyperparameters as they are written in a call.

    >>> equals_signs({"lr": 0.001, "nesterov": True})
    'lr=0.001, nesterov=True'
    """
    return ", ".join(f"{k}={v}" if isinstance(v, bool) else f"{k}={v:.15g}" for k, v in values.items())


class Constructor(Generic[R]):
    """A function of this name that calls `build`; its signature and docstring come from a row when they are asked for.

    called     its name
    build      called with the values by name
    defaults   gives name -> value, in the order of the parameters
    doc        gives the docstring
    """

    def __init__(
        self,
        called: str,
        module: str,
        build: Callable[..., R],
        defaults: Callable[[], Mapping[str, Any]],
        doc: Callable[[], str],
    ) -> None:
        self.__name__ = self.__qualname__ = called
        self.__module__ = module
        self._build, self._defaults, self._doc = build, defaults, doc

    def __call__(self, *values: Any, **named: Any) -> R:
        if not values:
            return self._build(**named)
        names = tuple(self._defaults())
        if len(values) > len(names):
            known = ", ".join(names)
            raise SpecError(f"{self.__name__}: {len(values)} values are given; at most {len(names)}: {known}")
        for name in names[: len(values)]:
            if name in named:
                raise SpecError(f"{self.__name__}: {name} is given twice, by place and by name")
        return self._build(**dict(zip(names, values, strict=False)), **named)

    @property
    def __signature__(self) -> Signature:
        return Signature(
            [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD, default=v) for n, v in self._defaults().items()]
        )

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self._doc()

    def __repr__(self) -> str:
        return f"<constructor {self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__

"""One table of a spec, read key by key: a value of the right type, or a `SpecError` that says where.

A spec is what TOML and JSON have in common: tables with text keys, lists, text, numbers, true and false.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .errors import SpecError, nearest

T = TypeVar("T")
D = TypeVar("D")
REQUIRED: Final[Any] = object()


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put the place in front of the message of every `SpecError` from inside.

    >>> with at("net.toml: layer 2"):
    ...     raise SpecError("activation 'rleu' is not known.")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: net.toml: layer 2: activation 'rleu' is not known.
    """
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None


@dataclass(frozen=True)
class Section:
    """A table and its place, with one method a type; a key that is not there gives the default.

    >>> layer = Section({"units": 3, "activation": "relu"}, "net.toml: layer 1")
    >>> layer.whole("units"), layer.flag("bias", True)
    (3, True)
    >>> layer.whole("activation")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: net.toml: layer 1: activation = 'relu'; give a whole number of at least 1
    """

    values: Mapping[str, Any]
    place: str

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise SpecError(f"{self.place}: {shown(self.values)} is not a table; give keys and values")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def only(self, *known: str) -> Section:
        """This section, if it has no other keys than these."""
        for key in self.values:
            if key not in known:
                raise SpecError(f"{self.place}: the key {key!r} is not known. {nearest(str(key), known)}")
        return self

    def without(self, *keys: str) -> dict[str, Any]:
        """What is there under other keys."""
        return {key: value for key, value in self.values.items() if key not in keys}

    def wrong(self, key: str, rule: str) -> SpecError:
        return SpecError(f"{self.place}: {key} = {shown(self.values.get(key))}; {rule}")

    def read(self, key: str, default: D, read: Callable[[Any], T | None], rule: str) -> T | D:
        """The value, as `read` understands it; None from `read` means that it is not of this type."""
        if key not in self.values:
            if default is REQUIRED:
                raise SpecError(f"{self.place}: {key} is missing; {rule}{self._near(key)}")
            return default
        value = read(self.values[key])
        if value is None:
            raise self.wrong(key, rule)
        return value

    def _near(self, key: str) -> str:
        there = ", ".join(map(str, self.values))
        return f". There is: {there}" if there else ""

    def any(self, key: str, rule: str = "give it") -> Any:
        return self.read(key, REQUIRED, lambda v: v, rule)

    def text(self, key: str, default: D = REQUIRED, rule: str = "give text in quotes") -> str | D:
        return self.read(key, default, lambda v: v if isinstance(v, str) else None, rule)

    def flag(self, key: str, default: bool = False) -> bool:
        return self.read(key, default, lambda v: v if isinstance(v, bool) else None, "give true or false")

    def whole(self, key: str, default: D = REQUIRED, least: int = 1) -> int | D:
        rule = f"give a whole number of at least {least}"
        return self.read(key, default, lambda v: as_whole(v, least), rule)

    def number(
        self,
        key: str,
        default: D = REQUIRED,
        holds: Callable[[float], bool] = lambda value: True,
        rule: str = "give a finite number",
    ) -> float | D:
        def read(value: object) -> float | None:
            number = as_number(value)
            return number if number is not None and holds(number) else None

        return self.read(key, default, read, rule)

    def choice(self, key: str, default: D, known: tuple[str, ...]) -> str | D:
        """One of a few words."""
        value = self.text(key, default, f"give one of {', '.join(known)}")
        if isinstance(value, str) and value not in known:
            raise SpecError(f"{self.place}: {key} {value!r} is not known. {nearest(value, known)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] = (), rule: str = "give a list of names") -> tuple[str, ...]:
        def read(value: object) -> tuple[str, ...] | None:
            return tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None

        return self.read(key, default, read, rule)

    def table(self, key: str, rule: str = "give a table of keys and values") -> dict[str, Any]:
        def read(value: object) -> dict[str, Any] | None:
            return dict(value) if isinstance(value, Mapping) else None

        return self.read(key, {}, read, rule)

    def section(self, key: str) -> Section:
        return Section(self.table(key), f"{self.place}: {key}")


def as_whole(value: object, least: int) -> int | None:
    """The value, if it is an integer of at least this; 3.0 is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else None


def as_number(value: object) -> float | None:
    """The value as a float, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def shown(value: object) -> str:
    """A value as it stands in a message: short, on one line.

    >>> shown("a" * 80)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 61 else f"{text[:57]}...{text[-1]}"

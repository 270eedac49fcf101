"""The tables of a spec, looked at as a whole before anything is made of them: sizes, characters, numbers, formulas.

Nothing here imports SymPy, so that what is refused here is refused in a tenth of a second. What passes is read by
`spec.py`, which says what each key means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .errors import SpecError
from .limits import (
    DEEPEST_TABLE,
    LARGEST_EXTENT,
    LARGEST_INTEGER,
    LONGEST_KEY,
    LONGEST_TEXT,
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_VALUES,
)
from .section import shown
from .syntax import split_equations, syntax_tree

FORMULAS: Final = frozenset((
    "activation", "formula", "initialiser", "initialisers", "loss", "metrics", "penalties", "scalar_updates",
    "schedule", "updates",
))  # fmt: skip
SIZES: Final = frozenset(("indices", "inputs", "tokens", "units"))  # in the sections of the model
LINES: Final = str.maketrans("", "", "\n\r\t")

Path = tuple[str, ...]


def vetted(given: Mapping[str, Any], place: str) -> None:
    """Raise `SpecError` for the first value in the tables that no spec may hold.

    >>> vetted({"layer": [{"units": 10**9}]}, "net.toml")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: net.toml: layer 1: units = 1000000000; at most 100000000
    """
    for count, (path, value) in enumerate(_values(given, place), start=1):
        if count > MOST_VALUES:
            raise SpecError(f"{place}: there are more than {MOST_VALUES} values; put numbers into a file of data")
        problem = _problem(path, value)
        if problem:
            raise SpecError(f"{_where(path, place)} = {_shown(value)}; {problem}")
        if isinstance(value, str):
            _check_formula(path, value, place)
    layers = given.get("layer")
    if isinstance(layers, list) and len(layers) > MOST_LAYERS:
        raise SpecError(f"{place}: there are {len(layers)} layers; at most {MOST_LAYERS}")
    if least_weights(given) > MOST_NUMBERS:
        raise SpecError(f"{place}: the dense layers have {least_weights(given)} weights; at most {MOST_NUMBERS}")


def _values(given: Mapping[str, Any], place: str) -> Iterator[tuple[Path, Any]]:
    """Every value and the keys that lead to it, in order; tables and lists among them."""
    todo: list[tuple[Path, Any]] = [((), given)]
    while todo:
        path, value = todo.pop()
        if path:
            yield path, value
        if not isinstance(value, Mapping | list | tuple):
            continue
        if len(path) > DEEPEST_TABLE:
            raise SpecError(f"{place}: tables are nested too deeply; at most {DEEPEST_TABLE} in one another")
        if len(value) > MOST_VALUES:
            raise SpecError(f"{_where(path, place)} has {len(value)} values; at most {MOST_VALUES}")
        inner = value.items() if isinstance(value, Mapping) else ((str(k), v) for k, v in enumerate(value, start=1))
        steps = []
        for key, v in inner:
            if not isinstance(key, str) or len(key) > LONGEST_KEY or not key.isprintable():
                raise SpecError(f"{_where(path, place)}: the key {_shown(key)} is not known; keys are short words")
            steps.append(((*path, key), v))
        todo += reversed(steps)


def _where(path: Path, place: str) -> str:
    """The place of a value, as the messages of `Section` give it: layers have numbers, other items of lists do not."""
    if path[:1] == ("layer",) and len(path) > 1:
        path = (f"layer {path[1]}", *path[2:])
    return ": ".join((place, *path))


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    return shown(value)


def _problem(path: Path, value: object) -> str | None:
    """Why a value may stand nowhere in a spec, or not under its keys."""
    match value:
        case bool() | None | Mapping() | list() | tuple():
            return None
        case int():
            if abs(value) > LARGEST_INTEGER:
                return f"at most {LARGEST_INTEGER}"
            is_size = path[0] in ("model", "layer") and not SIZES.isdisjoint(path)
            return f"at most {LARGEST_EXTENT}" if is_size and value > LARGEST_EXTENT else None
        case float():
            return None if math.isfinite(value) else "give a finite number"
        case str():
            if len(value) > LONGEST_TEXT:
                return f"it has {len(value)} characters; at most {LONGEST_TEXT}"
            return None if value.translate(LINES).isprintable() else "it holds a character that cannot be printed"
    return "give text in quotes, a number, true or false, a list or a table"


def _check_formula(path: Path, text: str, place: str) -> None:
    """Formulas within their limits, before SymPy is there to read them."""
    if path[-1] == "name" or text.isidentifier() or not text:
        return
    if path[0] == "layer" and path[-1] == "equations":
        for _, _, formula, where in split_equations(text, _where(path, place)):
            syntax_tree(formula, where)
    elif not FORMULAS.isdisjoint(path):
        syntax_tree(text, _where(path, place))


def least_weights(given: Mapping[str, Any]) -> int:
    """At least how many weights the dense layers have, by what stands in the tables.

    >>> least_weights({"model": {"inputs": 4}, "layer": [{"type": "dense", "units": 3}, {"type": "dense", "units": 2}]})
    18
    """
    model, layers = given.get("model"), given.get("layer")
    inputs = model.get("inputs") if isinstance(model, Mapping) else None
    size = math.prod(_whole(v) for v in (inputs if isinstance(inputs, list) else [inputs]))
    total = 0
    for layer in layers if isinstance(layers, list) else []:
        kind = layer.get("type") if isinstance(layer, Mapping) else None
        if kind == "dense":
            total, size = total + size * _whole(layer.get("units")), _whole(layer.get("units"))
        elif kind == "equations":
            size = 1  # whatever goes out has one number at least
    return total


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1

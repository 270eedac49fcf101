"""The file of a spec: TOML or JSON -> tables, and `key=value` from the command line put into them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from ..symbolic.errors import SpecError, nearest
from ..symbolic.section import shown
from .files import similar_file

LARGEST_SPEC: Final = 1_000_000  # bytes


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a .toml or .json file."""
    if path.suffix.lower() not in READERS:
        if path.is_dir():
            raise SpecError(f"{path} is a directory; give a .toml or .json file")
        raise SpecError(f"{path}: the ending {path.suffix!r} is not known. {nearest(path.suffix, READERS)}")
    if not path.exists():
        raise SpecError(f"{path} does not exist{similar_file(path)}")
    if not path.is_file():
        raise SpecError(f"{path} is not a file; give a .toml or .json file")
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_SPEC + 1)
        if len(raw) > LARGEST_SPEC:
            raise SpecError(f"{path}: a spec has at most {LARGEST_SPEC} bytes; put numbers into a file of data")
        given = READERS[path.suffix.lower()](raw.decode("utf-8-sig"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: byte {error.start} is not text; a spec is text in UTF-8") from None
    except RecursionError:
        raise SpecError(f"{path}: is nested too deeply; a spec has tables in tables, not more") from None
    except ValueError as error:
        raise SpecError(f"{path}: is not {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(given, dict):
        raise SpecError(f"{path}: holds {shown(given)}; a spec is a table of sections")
    return given


def read_json(text: str) -> Any:
    """JSON as the standard has it: no NaN, no key twice."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number in JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} is there twice")
        return table

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


READERS: Final[Mapping[str, Callable[[str], Any]]] = {".toml": tomllib.loads, ".json": read_json}


def overridden(given: dict[str, Any], text: str) -> dict[str, Any]:
    """The tables with `key=value` put in; dots part a key, layers are counted from 0.

    The value is read as TOML has it, and as text where it is not TOML.

    >>> overridden({"layer": [{"units": 3}]}, "layer.0.units=64")
    {'layer': [{'units': 64}]}
    >>> overridden({"training": {"optimiser": "adam"}}, "training.optimiser.lr=0.1")
    {'training': {'optimiser': {'name': 'adam', 'lr': 0.1}}}
    >>> overridden({}, "training.optimiser=sgd")
    {'training': {'optimiser': 'sgd'}}
    """
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise SpecError(f"--set {text}: write key=value, such as training.epochs=5")
    made: dict[str, Any] = _put(given, parts, toml_value(value.strip()), f"--set {text}")
    return made


def toml_value(text: str) -> Any:
    """A value as TOML has it, or the text itself.

    >>> toml_value("1e-3"), toml_value("[8, 8]"), toml_value("max(z, 0)")
    (0.001, [8, 8], 'max(z, 0)')
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return table["value"] if set(table) == {"value"} else text


def _put(given: Any, parts: list[str], value: Any, place: str) -> Any:
    if not parts:
        return value
    first, *rest = parts
    if isinstance(given, str):  # a row by its name, of which a hyperparameter is set
        given = {"name" if given.isidentifier() else "formula": given}
    if isinstance(given, list):
        number = int(first) if first.isdecimal() else -1
        if not 0 <= number < len(given):
            raise SpecError(f"{place}: {first!r} is not a position; there are {len(given)}, counted from 0")
        return [_put(item, rest, value, place) if k == number else item for k, item in enumerate(given)]
    if not isinstance(given, dict):
        raise SpecError(f"{place}: {shown(given)} has no key {first!r}; set it as a whole")
    return {**given, first: _put(given.get(first, {}), rest, value, place)}

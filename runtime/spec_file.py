"""The file of a spec: TOML or JSON -> tables, and `key=value` from the command line put into them."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from ..symbolic.errors import SpecError, nearest
from ..symbolic.limits import LARGEST_SPEC, MOST_KEY_PARTS, MOST_LINES, MOST_VALUES
from ..symbolic.section import shown
from ..symbolic.vetting import vetted
from .memory import check_weights

PART: Final = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
DOTTED: Final = re.compile(rf"(?<![\w-]){PART}(?:[ \t]*+\.[ \t]*+{PART}){{{MOST_KEY_PARTS}}}")  # in linear time


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a .toml or .json file."""
    if path.suffix.lower() not in READERS:
        if path.is_dir():
            raise SpecError(f"{path} is a directory; give a .toml or .json file")
        raise SpecError(f"{path}: the ending {path.suffix!r} is not known. {nearest(path.suffix, READERS)}")
    if not path.exists():
        from .files import similar_file  # with NumPy, which a spec does not need

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


def _read_toml(text: str) -> Any:
    """TOML, with what its reader takes long for or much memory refused before."""
    if max(text.count("\n"), text.count("=")) > MOST_LINES:
        raise ValueError(f"it has more than {MOST_LINES} lines or keys")
    if text.count(",") > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    if DOTTED.search(text):
        raise ValueError(f"a key has more than {MOST_KEY_PARTS} parts")
    return tomllib.loads(text)


def read_json(text: str) -> Any:
    """JSON as the standard has it: no NaN, no key twice."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number in JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            raise ValueError(f"the key {shown(counts.most_common(1)[0][0])} is there twice")
        return table

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


READERS: Final[Mapping[str, Callable[[str], Any]]] = {".toml": _read_toml, ".json": read_json}


def read_tables(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a file with overrides put in, none of them larger than a spec may be."""
    given = read_file(path)
    for text in overrides:
        given = overridden(given, text)
    vetted(given, str(path))
    check_weights(given, str(path))
    return given


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
    if not equals or not all(parts) or len(parts) > MOST_KEY_PARTS:
        raise SpecError(f"--set {text}: write key=value, such as training.epochs=5")
    made: dict[str, Any] = _put(given, parts, toml_value(value.strip()), f"--set {text}")
    return made


def toml_value(text: str) -> Any:
    """A value as TOML has it, or the text itself.

    >>> toml_value("1e-3"), toml_value("[8, 8]"), toml_value("max(z, 0)")
    (0.001, [8, 8], 'max(z, 0)')
    """
    try:
        table = _read_toml(f"value = {text}")
    except (ValueError, RecursionError):
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

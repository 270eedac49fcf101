"""Sources of kernels that were generated before, found by the model alone: a warm start derives nothing.

The key is a hash of the model's values, of what was asked for, and of the files that derive and generate. An object
that is not one of ours (a layer in the user's own class) has no such key: its source is generated each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import sympy as sp

from .cache import cache_folder, read_entry, say_strange, write_entry

PACKAGE = Path(__file__).parent.parent
OURS = __name__.partition(".")[0]


def key_of(*values: Any) -> str | None:
    """The hash of some values and of the generator; None where a value is not known through and through."""
    try:
        told = "\n".join(map(_told, values))
    except TypeError:
        return None
    return hashlib.sha256(f"{_generator()}\n{told}".encode()).hexdigest()[:32]


def _told(value: Any) -> str:
    """All that a value consists of, as text."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return repr(value)
    if kind in (tuple, list):
        return f"({','.join(map(_told, value))})"
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_told(k)}:{_told(v)}' for k, v in value.items())}}}"
    if isinstance(value, sp.Basic):
        return sp.srepr(value)
    if is_dataclass(value) and kind.__module__.startswith(f"{OURS}."):
        inside = ",".join(f"{f.name}={_told(getattr(value, f.name))}" for f in fields(value))
        return f"{kind.__module__}.{kind.__qualname__}({inside})"
    raise TypeError(kind)


@lru_cache(maxsize=1)
def _generator() -> str:
    """The files that derive and generate, as they are now, and SymPy."""
    told = [sp.__version__]
    for folder in ("symbolic", "codegen"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            state = path.stat()
            told.append(f"{folder}/{path.name} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(told)


def _path(key: str) -> Path:
    return cache_folder() / f"source_{key}.txt"


def recalled(key: str, is_known: Callable[[str], bool]) -> str | None:
    """The source that was kept under a key, if it is there, whole, and known or what the emitter writes."""
    content = read_entry(_path(key))
    if content is None:
        return None
    source = content.decode(errors="replace")
    if not is_known(source):
        from ..codegen.grammar import is_emitted

        if not is_emitted(source):
            say_strange(_path(key), "is not what the emitter writes")
            return None
    return source


def remember(key: str, source: str) -> None:
    """Keep a source; a cache that cannot be written is no obstacle."""
    with suppress(OSError):
        write_entry(_path(key), source.encode())

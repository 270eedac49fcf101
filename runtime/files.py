"""Files of data: .npz, .npy and .csv become tables of named arrays or columns. Nothing in them is run."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import DataError, nearest

DELIMITERS: Final = ",;\t"
TEXT_FACTOR: Final = 12  # memory for a byte of csv: a text of Python for each cell
SMALLER: Final = "give fewer samples, or smaller types"
HEADERS: Final[Mapping[tuple[int, int], Callable[[Any], Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
MEMORY: Final = (  # Linux, and the limit of a container
    ("/proc/meminfo", r"MemAvailable:\s+(\d+) kB"),
    ("/sys/fs/cgroup/memory.max", r"^(\d+)$"),
)
UNREADABLE: Final = (  # what the readers of archives, headers and text raise where a file is not what its ending says
    OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, MemoryError, RecursionError, SyntaxError,
    RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds: arrays with names (npz), or columns with names or numbers (csv, npy).

    `lines` says for each row of a text file in which line it ends, so that messages can name it.
    """

    place: str
    values: Mapping[str, Any]
    columns: bool
    lines: tuple[int, ...] | None = None

    @property
    def kind(self) -> str:
        return "column" if self.columns else "array"


def read_table(path: Path) -> Table:
    """The arrays or columns of a file, by its ending: .npz, .npy or .csv.

    What the file says of its size is checked against the size that it has, and against the memory that there is, before
    anything of that size is made; a file that changes while it is read is refused.
    """
    place = str(path).replace("\n", "\\n")
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{place}: the ending {path.suffix!r} is not known. {nearest(path.suffix, FORMATS)}")
    if not path.exists():
        raise DataError(f"{place} does not exist{similar_file(path)}")
    if not path.is_file():
        raise DataError(f"{place} is not a file; give a {', '.join(FORMATS)} file")
    try:
        with path.open("rb") as file:
            before = _state(file)
            if not before[0]:
                raise DataError(f"{place}: the file is empty (0 bytes); write it anew")
            table = FORMATS[path.suffix.lower()](file, place)
            if _state(file) != before:
                raise DataError(f"{place}: the file was changed while it was read; read it again when it is written")
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{place}: cannot be read as {path.suffix}: {reason}") from None
    for name in table.values:
        if not name.isprintable():
            raise DataError(f"{place}: the {table.kind} {name!r} has a name with control characters; rename it")
    if not table.values or not all(np.shape(v)[:1] != (0,) for v in table.values.values()):
        raise DataError(f"{place}: there are no samples; give at least one")
    return table


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size and time of change."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


def check_memory(wanted: int, place: str, rule: str) -> None:
    """`DataError` where so many bytes are not there: the system would kill the process, not raise."""
    there = available_memory()
    if there is not None and wanted > there:
        raise DataError(f"{place}: takes {wanted / 1e9:.3g} GB of memory, and {there / 1e9:.3g} GB are free; {rule}")


def available_memory() -> int | None:
    """Bytes that may be allocated; None where the system does not say."""
    found = []
    for path, pattern in MEMORY:
        try:
            match = re.search(pattern, Path(path).read_text("ascii"))
        except (OSError, ValueError):
            continue
        if match:
            found.append(int(match[1]) * (1024 if "kB" in match[0] else 1))
    return min(found, default=None)


def similar_file(path: Path) -> str:
    """The end of a message about a missing file: what was probably meant."""
    if not path.parent.is_dir():
        return f"; neither does the folder {path.parent}"
    there = sorted(p.name for p in path.parent.iterdir())
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.6)
    return f". Did you mean {str(path.with_name(close[0]))!r}?" if close else "; look at the path"


def _read_npz(file: BinaryIO, place: str) -> Table:
    if file.read(6) == np.lib.format.MAGIC_PREFIX:
        raise ValueError("it holds one array without a name; rename it to .npy")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_memory(sum(member.file_size for member in members), place, SMALLER)
        values = {}
        for member in members:
            with archive.open(member) as content:
                values[member.filename.removesuffix(".npy")] = _array(content, member.file_size, member.filename)
    return Table(place, values, columns=False)


def _read_npy(file: BinaryIO, place: str) -> Table:
    if file.read(2) == b"PK":
        raise ValueError("it holds several arrays; rename it to .npz")
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    check_memory(size, place, SMALLER)
    array = _array(file, size, "it")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        rule = "give (samples, columns), or name the array in an .npz file"
        raise DataError(f"{place}: the array has the shape {array.shape}; {rule}")
    return Table(place, {str(k): array[:, k] for k in range(array.shape[1])}, columns=True)


def _array(file: Any, size: int, name: str) -> NDArray[Any]:
    """An array in NumPy's format, from a file of this size; its header is not believed."""
    start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise ValueError(f"{name} does not begin as an array of NumPy does; save it with numpy.save or numpy.savez")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"{name} is of version {version[0]}.{version[1]} of the format of arrays; save it anew")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python 2 wrote it
        shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError(
            f"{name} holds Python objects, which would be run to be read; save numbers (allow_pickle=False)"
        )
    told = math.prod(shape) * dtype.itemsize
    held = size - file.tell()
    if any(isinstance(length, bool) or length < 0 for length in shape) or told != held:
        raise ValueError(f"{name} holds {held} bytes, but its shape {shape} of {dtype} takes {told}; it is not whole")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_csv(file: BinaryIO, place: str) -> Table:
    """Columns of text; the first row names them. Separated by a comma, a semicolon or a tab."""
    check_memory(TEXT_FACTOR * os.fstat(file.fileno()).st_size, place, "save it as numbers, in an .npz file")
    text = io.TextIOWrapper(file, newline="", encoding="utf-8-sig")
    try:
        head = text.readline()
        text.seek(0)
        rows = csv.reader(text, delimiter=max(DELIMITERS, key=head.count))
        names = [name.strip() for name in next(rows, [])]
        _check_header(names, place)
        body = [(rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise DataError(f"{place}: line {rows.line_num}: {error}") from None
    finally:
        text.detach()  # the file is closed where it was opened
    for line, row in body:
        if len(row) != len(names):
            rule = f"the first row names {len(names)} columns"
            raise DataError(f"{place}: line {line} has {len(row)} values; {rule}")
    columns = zip(*(row for _, row in body), strict=True)
    lines = tuple(line for line, _ in body)
    return Table(place, dict(zip(names, columns, strict=False)), columns=True, lines=lines)


def _check_header(names: list[str], place: str) -> None:
    if not names:
        raise DataError(f"{place}: the file is empty; give a first row with the names of the columns")
    if all(as_float(name) is not None for name in names) and names != [str(k) for k in range(len(names))]:
        raise DataError(f"{place}: the first row holds numbers; put the names of the columns above it")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{place}: the column {name!r} is there {times} times; rename one")


def as_float(text: str) -> float | None:
    """The number that a text is, or None. An underscore, which Python takes for nothing, belongs to no number.

    >>> as_float(" 1e3 "), as_float("1_000")
    (1000.0, None)
    """
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


FORMATS: Final[Mapping[str, Callable[[BinaryIO, str], Table]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
}

"""Files of data: .npz, .npy and .csv become tables of named arrays or columns. Nothing in them is run."""

from __future__ import annotations

import csv
import difflib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..symbolic.errors import DataError, nearest

DELIMITERS: Final = ",;\t"


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
    """The arrays or columns of a file, by its ending: .npz, .npy or .csv."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: the ending {path.suffix!r} is not known. {nearest(path.suffix, FORMATS)}")
    if not path.exists():
        raise DataError(f"{path} does not exist{similar_file(path)}")
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a {', '.join(FORMATS)} file")
    try:
        table = FORMATS[path.suffix.lower()](path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path}: cannot be read as {path.suffix}: {reason}") from None
    if not table.values or not all(np.shape(v)[:1] != (0,) for v in table.values.values()):
        raise DataError(f"{path}: there are no samples; give at least one")
    return table


def similar_file(path: Path) -> str:
    """The end of a message about a missing file: what was probably meant."""
    if not path.parent.is_dir():
        return f"; neither does the folder {path.parent}"
    there = sorted(p.name for p in path.parent.iterdir())
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.6)
    return f". Did you mean {str(path.with_name(close[0]))!r}?" if close else "; look at the path"


def _read_npz(path: Path) -> Table:
    with path.open("rb") as file:  # a broken archive would leave its file open
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it holds one array without a name; rename it to .npy")
        return Table(str(path), {name: archive[name] for name in archive.files}, columns=False)


def _read_npy(path: Path) -> Table:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays; rename it to .npz")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        rule = "give (samples, columns), or name the array in an .npz file"
        raise DataError(f"{path}: the array has the shape {array.shape}; {rule}")
    return Table(str(path), {str(k): array[:, k] for k in range(array.shape[1])}, columns=True)


def _read_csv(path: Path) -> Table:
    """Columns of text; the first row names them. Separated by a comma, a semicolon or a tab."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter=max(DELIMITERS, key=head.count))
        try:
            names = [name.strip() for name in next(rows, [])]
            _check_header(names, path)
            body = [(rows.line_num, row) for row in rows if row]
        except csv.Error as error:
            raise DataError(f"{path}: line {rows.line_num}: {error}") from None
    for line, row in body:
        if len(row) != len(names):
            rule = f"the first row names {len(names)} columns"
            raise DataError(f"{path}: line {line} has {len(row)} values; {rule}")
    columns = zip(*(row for _, row in body), strict=True)
    lines = tuple(line for line, _ in body)
    return Table(str(path), dict(zip(names, columns, strict=False)), columns=True, lines=lines)


def _check_header(names: list[str], path: Path) -> None:
    if not names:
        raise DataError(f"{path}: the file is empty; give a first row with the names of the columns")
    if all(as_float(name) is not None for name in names) and names != [str(k) for k in range(len(names))]:
        raise DataError(f"{path}: the first row holds numbers; put the names of the columns above it")
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: the column {name!r} is there {names.count(name)} times; rename one")


def as_float(text: str) -> float | None:
    """The number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


FORMATS: Final[Mapping[str, Callable[[Path], Table]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
}

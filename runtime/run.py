"""A run: a directory of checkpoints, of which each holds the whole spec, with the data and what was learnt of them.

    runs/digits/checkpoint-000008/spec.json   model, training, data; under "run" the scalers and the labels of classes

A file is written beside its place and then renamed: what is there is whole, or is as it was.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..symbolic.errors import SpecError
from ..symbolic.spec import SECTIONS
from .durable import flush_folder
from .files import read_table
from .spec import Spec, spec_from_dict
from .spec_file import overridden
from .store import Saved, check_directory, check_free, in_file, latest, numbers

SPEC: Final = "spec.json"
CHANGEABLE: Final = (
    "data", "training.epochs", "training.early_stopping", "training.verbose", "training.checkpoint",
    "training.divergence",
)  # fmt: skip


def check_replaceable(directory: Path, again: bool = False) -> Path:
    """The directory, if a new run may begin there: it holds nothing, or (`again`) a run that is to be put aside."""
    return check_directory(directory) if again else check_free(directory)


def with_named_inputs(spec: Spec) -> Spec:
    """The spec with the names of a csv file's columns: another file may have them in another order."""
    if spec.data is None or spec.data.file.suffix.lower() != ".csv":
        return spec
    from .data import columns_of

    inputs, targets, _ = columns_of(read_table(spec.data.file), spec.data.selection)
    selection = replace(spec.data.selection, inputs=inputs, targets=targets)
    return replace(spec, data=replace(spec.data, selection=selection))


def open_run(directory: Path, overrides: Iterable[str] = ()) -> tuple[Spec, Saved]:
    """The spec of a run, and the newest of its checkpoints that is whole."""
    if not directory.is_dir():
        raise SpecError(f"{directory} is not a directory; give one that chainrule train has written")
    if not numbers(directory):
        raise SpecError(f"{directory} is no run: it has no checkpoint; give one that chainrule train has written")
    changes = []
    for text in overrides:
        if not any(f"{text.partition('=')[0].strip()}.".startswith(f"{key}.") for key in CHANGEABLE):
            problem = "the model of a run and its way of training stay as they are"
            raise SpecError(f"--set {text}: {problem}. To set: {', '.join(CHANGEABLE)}")
        changes.append(partial(overridden, text=text))
    saved = latest(directory)
    return spec_of(saved, changes), saved


def spec_of(saved: Saved, changes: Iterable[Callable[[dict[str, Any]], dict[str, Any]]] = ()) -> Spec:
    """The spec of a checkpoint, after some changes of its tables."""
    path = saved.path / SPEC
    with in_file(path):
        given = {k: v for k, v in saved.table(SPEC).items() if k in SECTIONS}
    for change in changes:
        given = change(given)
    return spec_from_dict(given, path)


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole, or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole, or not at all."""
    if path.is_dir():
        raise SpecError(f"{path} is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}; make it first")
    number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_mode(path))
        Path(name).replace(path)
        flush_folder(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """The mode of the file that is replaced, or the one that a new file gets."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def scores_text(scores: Mapping[str, float], part: str) -> list[str]:
    """One line a number: "test accuracy 0.975", the loss first.

    >>> scores_text({"loss": 0.0912, "accuracy": 0.975}, "test")
    ['test loss 0.0912', 'test accuracy 0.9750']
    """
    return [f"{part} {name} {_number(value)}" for name, value in scores.items()]


def _number(value: float) -> str:
    return f"{value:.4f}" if 0.01 <= abs(value) < 100 else f"{value:.4g}"

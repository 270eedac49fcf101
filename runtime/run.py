"""The directory of a run: the spec as JSON, what was learnt of the data, the weights, the history.

    runs/digits/spec.json             model, training, data; under "run" the scalers and the labels of classes
    runs/digits/weights.safetensors   and what else the trainer needs to go on

A directory or a file is written beside its place and then renamed: what is there is whole, or is as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from ..symbolic.errors import SpecError
from ..symbolic.spec import SECTIONS
from .data import Fitted
from .files import read_table
from .spec import Spec, spec_from_dict, spec_to_dict
from .spec_file import overridden, read_file

SPEC: Final = "spec.json"
CHANGEABLE: Final = ("data", "training.epochs", "training.early_stopping", "training.verbose")


class Saveable(Protocol):
    """What a trainer must be able to do."""

    def save(self, directory: str) -> object: ...


def check_replaceable(directory: Path) -> Path:
    """The directory, if a run may be written there: nothing is there, an empty directory, or a run."""
    if directory.exists() and not directory.is_dir():
        raise SpecError(f"{directory} is a file; give a directory for the run")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / SPEC).is_file():
        raise SpecError(f"{directory} is not empty and no run (it has no {SPEC}); give another directory")
    return directory


def save_run(directory: Path, trainer: Saveable, spec: Spec, fitted: Fitted) -> None:
    """Write a whole run, in place of the one that may be there."""
    check_replaceable(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        made.chmod(0o755)
        trainer.save(str(made))
        theirs = json.loads((made / SPEC).read_text("utf-8")) if (made / SPEC).is_file() else {}
        ours = spec_to_dict(with_named_inputs(replace(spec, fitted=fitted)), directory / SPEC)
        write_text(made / SPEC, json.dumps({**theirs, **ours}, indent=2, ensure_ascii=False) + "\n")
        _swap(made, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _swap(made: Path, directory: Path) -> None:
    if not directory.exists():
        made.rename(directory)
        return
    old = made.with_name(f"{made.name}-old")
    directory.rename(old)
    made.rename(directory)
    shutil.rmtree(old)


def with_named_inputs(spec: Spec) -> Spec:
    """The spec with the names of a csv file's columns: another file may have them in another order."""
    if spec.data is None or spec.data.file.suffix.lower() != ".csv":
        return spec
    from .data import columns_of

    inputs, targets, _ = columns_of(read_table(spec.data.file), spec.data.selection)
    selection = replace(spec.data.selection, inputs=inputs, targets=targets)
    return replace(spec, data=replace(spec.data, selection=selection))


def read_run(directory: Path, overrides: Iterable[str] = ()) -> Spec:
    """The spec of a run."""
    if not directory.is_dir():
        raise SpecError(f"{directory} is not a directory; give one that chainrule train has written")
    if not (directory / SPEC).is_file():
        raise SpecError(f"{directory} is no run: it has no {SPEC}; give one that chainrule train has written")
    given: dict[str, Any] = {k: v for k, v in read_file(directory / SPEC).items() if k in SECTIONS}
    for text in overrides:
        if not any(f"{text.partition('=')[0].strip()}.".startswith(f"{key}.") for key in CHANGEABLE):
            problem = "the model of a run and its way of training stay as they are"
            raise SpecError(f"--set {text}: {problem}. To set: {', '.join(CHANGEABLE)}")
        given = overridden(given, text)
    return spec_from_dict(given, directory / SPEC)


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

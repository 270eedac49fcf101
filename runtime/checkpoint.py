"""A trainer on disk: the spec as JSON, the weights and the optimiser's state as safetensors, the history as JSON.

spec.json             the model and how it is trained
weights.safetensors   the last weights;  best.safetensors  those of the best epoch
state.safetensors     the optimiser's state; empty for L-BFGS, which remembers nothing from one `fit` to the next
history.json          the epochs so far
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..symbolic.errors import DataError, SpecError
from ..symbolic.schedules import ReduceOnPlateau
from ..symbolic.section import Section
from ..symbolic.spec import SECTIONS, model_from_dict
from . import machine as machines
from .history import History
from .lbfgs import LBFGS
from .load import write_whole
from .metrics import metric
from .run import SPEC
from .spec import Spec, Training, spec_to_dict, training_from
from .spec_file import read_file

if TYPE_CHECKING:
    from .trainer import Trainer

WEIGHTS, BEST, STATE, HISTORY = "weights.safetensors", "best.safetensors", "state.safetensors", "history.json"
PLATEAU_STATE = ("best", "waited", "cooling", "scale")


def save(trainer: Trainer, directory: str | os.PathLike[str]) -> None:
    """Write a trainer to a directory, each file whole or not at all."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"{folder} is a file; give a directory")
    tables = spec_to_dict(_spec(trainer, folder), folder / SPEC)  # raises before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    _write_tensors(folder / WEIGHTS, trainer.parameters)
    if trainer.best_parameters is not None:
        _write_tensors(folder / BEST, trainer.best_parameters)
    else:
        (folder / BEST).unlink(missing_ok=True)  # of another training, which was here before
    training = trainer._training
    state = {} if training is None else {**training.states, "scalars": training.scalars}
    _write_tensors(folder / STATE, state)
    write_whole(folder / SPEC, json.dumps(tables, indent=2) + "\n")
    watched, least = trainer._best
    rows: dict[str, Any] = {
        "epochs": [{k: _as_json(v) for k, v in row.items()} for row in trainer.history],
        "stopped": trainer.history.stopped,
        "best": [watched, _as_json(least)],
    }
    if isinstance(trainer.schedule, ReduceOnPlateau):
        rows["plateau"] = {name: getattr(trainer.schedule, name) for name in PLATEAU_STATE}
    write_whole(folder / HISTORY, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def _as_json(value: Any) -> Any:
    """A number of the history; JSON has neither NaN nor infinity, so these are written as text."""
    if isinstance(value, int | str | None):
        return value
    return float(value) if math.isfinite(value) else str(float(value))


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _spec(trainer: Trainer, folder: Path) -> Spec:
    for m in trainer.metrics:
        if m.function is not None or metric(m.name) != m:
            what = "a function" if m.function is not None else "a formula with more said about it"
            raise SpecError(f"metric '{m.name}' is {what} and cannot be saved; leave it out of trainer.metrics")
    training = Training(
        optimiser=trainer.optimiser, schedule=trainer.schedule, batch_size=trainer.batch_size, seed=trainer.seed,
        dtype=trainer.dtype, threads=trainer.threads, clip_value=trainer.clip_value, clip_norm=trainer.clip_norm,
        metrics=tuple(m.name for m in trainer.metrics),
    )  # fmt: skip
    return Spec(trainer.model, training, None, folder / SPEC)


def _write_tensors(path: Path, arrays: dict[str, Any]) -> None:
    from safetensors.numpy import save as serialised

    content = serialised({name: np.array(array, order="C", copy=True) for name, array in arrays.items()})
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the directory is no saved run, or not whole") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as safetensors: {error}") from None


def restore(directory: str | os.PathLike[str]) -> Trainer:
    """The trainer that `save` wrote."""
    from .trainer import Trainer

    folder = Path(directory)
    if not (folder / SPEC).is_file():
        raise DataError(f"{folder} holds no {SPEC}; give a directory that Trainer.save has written")
    given = {k: v for k, v in read_file(folder / SPEC).items() if k in SECTIONS}
    model = model_from_dict(given, str(folder / SPEC))
    how = training_from(Section(given, str(folder / SPEC)).section("training"), folder / SPEC)
    names = ("batch_size", "dtype", "seed", "threads", "schedule", "clip_value", "clip_norm", "metrics")
    trainer = Trainer(model, how.optimiser, **{name: getattr(how, name) for name in names})
    with _named(folder / WEIGHTS):
        trainer.set_parameters(_read_tensors(folder / WEIGHTS))
    if (folder / BEST).is_file():
        best = _read_tensors(folder / BEST)
        with _named(folder / BEST):
            trainer._as_parameters(best)  # for its checks
        trainer.best_parameters = best
    _restore_history(trainer, folder / HISTORY)
    state = _read_tensors(folder / STATE)
    if state:
        _restore_state(trainer, state, folder / STATE)
    return trainer


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file in front of a message about what it holds."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _restore_state(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    """The optimiser's state, on arrays for batches of one sample; `fit` makes larger ones as it needs them."""
    if isinstance(trainer.optimiser, LBFGS):
        raise DataError(f"{path}: lbfgs has no state; the file belongs to another training")
    training = machines.Training(trainer.kernels.machine(), trainer.parameters, 1)
    wanted = {**training.states, "scalars": training.scalars}
    for name, array in wanted.items():
        if name not in state or state[name].shape != array.shape:
            raise DataError(f"{path}: the optimiser's state '{name}' is missing or has another shape")
        array[...] = state[name]
    trainer._training, trainer._variant = training, trainer.model.default_variant


def _restore_history(trainer: Trainer, path: Path) -> None:
    if not path.is_file():
        return
    try:
        saved = json.loads(path.read_text("utf-8"))
        rows = [{k: _from_json(v) for k, v in row.items()} for row in saved["epochs"]]
        trainer.history = History(rows, str(saved["stopped"]))
        watched, least = saved["best"]
        trainer._best = (str(watched), float(least))
        if isinstance(trainer.schedule, ReduceOnPlateau):
            trainer.schedule = replace(trainer.schedule, **{name: saved["plateau"][name] for name in PLATEAU_STATE})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read ({problem}); delete it to start a new history") from None

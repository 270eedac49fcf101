"""A trainer on disk: the spec as JSON, the weights and the optimiser's state as safetensors, the history as JSON.

    spec.json             the model and how it is trained
    weights.safetensors   the last weights;  best.safetensors  those of the best epoch
    state.safetensors     the optimiser's state
    history.json          the epochs so far
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..symbolic.errors import DataError, SpecError
from ..symbolic.optimisers import Optimiser
from ..symbolic.schedules import ReduceOnPlateau
from ..symbolic.section import Section
from ..symbolic.spec import SECTIONS, model_from_dict
from . import support
from .history import History
from .load import write_whole
from .run import SPEC
from .spec import Spec, Training, spec_to_dict, training_from
from .spec_file import read_file

if TYPE_CHECKING:
    from .trainer import Trainer

WEIGHTS, BEST, STATE, HISTORY = "weights.safetensors", "best.safetensors", "state.safetensors", "history.json"


def save(trainer: Trainer, directory: str | os.PathLike[str]) -> None:
    """Write a trainer to a directory, each file whole or not at all."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"{folder} is a file; give a directory")
    folder.mkdir(parents=True, exist_ok=True)
    _write_tensors(folder / WEIGHTS, trainer.parameters)
    if trainer.best_parameters is not None:
        _write_tensors(folder / BEST, trainer.best_parameters)
    training = trainer._training
    state = {} if training is None else {**training.states, "scalars": training.scalars}
    _write_tensors(folder / STATE, state)
    write_whole(folder / SPEC, json.dumps(spec_to_dict(_spec(trainer, folder), folder / SPEC), indent=2) + "\n")
    rows = {"epochs": trainer.history.epochs, "stopped": trainer.history.stopped, "best_loss": trainer._best_loss}
    if isinstance(trainer.schedule, ReduceOnPlateau):
        plateau = trainer.schedule
        rows["plateau"] = [plateau.best, plateau.waited, plateau.cooling, plateau.scale]
    write_whole(folder / HISTORY, json.dumps(rows, indent=1) + "\n")


def _spec(trainer: Trainer, folder: Path) -> Spec:
    if not isinstance(trainer.optimiser, Optimiser):
        raise SpecError("a trainer with LBFGS has no state to save; save trainer.parameters")
    for m in trainer.metrics:
        if m.function is not None:
            raise SpecError(f"metric '{m.name}' is a function and cannot be saved; give a name or a formula")
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
    trainer.set_parameters(_read_tensors(folder / WEIGHTS))
    if (folder / BEST).is_file():
        trainer.best_parameters = _read_tensors(folder / BEST)
    _restore_history(trainer, folder / HISTORY)
    state = _read_tensors(folder / STATE) if (folder / STATE).is_file() else {}
    if state:
        _restore_state(trainer, state, folder / STATE)
    return trainer


def _restore_state(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    training = support.Training(trainer.kernels.machine(), trainer.parameters, trainer.batch_size)
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
        rows = json.loads(path.read_text("utf-8"))
        trainer.history = History(list(rows["epochs"]), str(rows["stopped"]))
        trainer._best_loss = float(rows["best_loss"])
        if "plateau" in rows and isinstance(trainer.schedule, ReduceOnPlateau):
            from dataclasses import replace

            best, waited, cooling, scale = rows["plateau"]
            trainer.schedule = replace(trainer.schedule, best=best, waited=waited, cooling=cooling, scale=scale)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; delete it to start a new history") from None

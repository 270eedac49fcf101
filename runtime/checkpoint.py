"""A trainer as named files, and back: the spec as JSON, all numbers as safetensors, the history as JSON.

spec.json             the model and how it is trained; of a run also its data, their scales and classes
weights.safetensors   the last weights;  best.safetensors  those of the best epoch
state.safetensors     the optimiser's state; empty for L-BFGS, which has none between two iterations
history.json          the epochs so far
progress.json         the position: epoch, step, seed, state of the schedule, what callbacks keep
progress.safetensors  the losses of an epoch that is not over, and weights that the training may go back to
"""

from __future__ import annotations

import json
import math
import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import DataError, SpecError
from ..symbolic.schedules import ReduceOnPlateau
from ..symbolic.section import Section, as_number
from . import training as trainings
from .divergence import State, not_finite
from .durable import Lock
from .history import History
from .lbfgs import LBFGS
from .metrics import metric
from .position import Position
from .run import SPEC, spec_of
from .spec import TRAINER_KEYS, Spec, Training, spec_to_dict
from .store import KEPT, Saved, check_directory, in_file, latest, numbers, owner, set_aside, write

if TYPE_CHECKING:
    from .trainer import Trainer

Array = NDArray[Any]
WEIGHTS, BEST, STATE, HISTORY = "weights.safetensors", "best.safetensors", "state.safetensors", "history.json"
PROGRESS, REST = "progress.json", "progress.safetensors"
PLATEAU_STATE: Final = ("best", "waited", "cooling", "scale")
COUNTS: Final = ("epoch", "step", "planned", "rolled_back", "begun")
PACKAGES: Final = ("chainrule", "numba", "llvmlite", "numpy", "scipy")


# --- out


def save(trainer: Trainer, directory: str | os.PathLike[str], keep: int = KEPT) -> Path:
    """Add a checkpoint of a trainer to a directory. Those of another training that are there are put aside.

    Raises SpecError for what cannot be saved, before anything is written, and OSError where writing fails.
    """
    folder = check_directory(Path(directory))
    files = files_of(trainer, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with nullcontext() if trainer._writes_in == folder.resolve() else Lock(folder):
        if numbers(folder) and owner(folder) != trainer._run:
            aside = set_aside(folder)
            warnings.warn(f"{folder} held another training; its checkpoints are in {aside} now", stacklevel=3)
        return write(folder, files, trainer._run, versions(), keep)


def files_of(trainer: Trainer, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a checkpoint; those of tensors are made when it is their turn, since they may be large."""
    numbers_kept, arrays_kept = _kept_by_callbacks(trainer)
    tables = {
        SPEC: _json(spec_to_dict(_spec(trainer, folder), folder / "checkpoint" / SPEC)),
        HISTORY: _json({"epochs": list(trainer.history), "stopped": trainer.history.stopped}),
        PROGRESS: _json(_progress(trainer, numbers_kept)),
    }

    def tensors() -> Iterator[tuple[str, bytes]]:
        yield WEIGHTS, _tensors(trainer._live())
        yield STATE, _tensors(_state_arrays(trainer))
        yield REST, _tensors({**_rest(trainer), **arrays_kept})
        if (best := trainer.best_parameters) is not None:
            yield BEST, _tensors(best)

    return chain(tables.items(), tensors())


def _state_arrays(trainer: Trainer) -> dict[str, Array]:
    training = trainer._training
    return {} if training is None else {**training.states, "scalars": training.scalars}


def _progress(trainer: Trainer, kept: list[dict[str, Any]]) -> dict[str, Any]:
    at, schedule = trainer._position, trainer.schedule
    if trainer._fitting is not None:
        trainer._fitting.hash_of_data()
    plateau = schedule if isinstance(schedule, ReduceOnPlateau) else None
    return {
        "position": {f.name: getattr(at, f.name) for f in fields(at) if f.name != "losses"},
        "random": {"seed": trainer.seed, "epoch": at.epoch, "step": at.step},
        "best": list(trainer._best),
        "plateau": None if plateau is None else {name: getattr(plateau, name) for name in PLATEAU_STATE},
        "callbacks": kept,
    }


def _rest(trainer: Trainer) -> dict[str, Array]:
    """The losses of the epoch so far, states to roll back to, the weights that L-BFGS began with."""
    rest: dict[str, Array] = {"losses": trainer._position.all_losses()}
    for prefix, state in (("safe", trainer._safe), ("begun", trainer._epoch_start)):
        if state is not None:
            parameters, states, scalars = state.tables(trainer._training)
            rest |= _prefixed(f"{prefix}/parameters", parameters) | _prefixed(f"{prefix}/states", states)
            rest[f"{prefix}/scalars"] = scalars
    return rest | _prefixed("start", trainer._start or {})


def _kept_by_callbacks(trainer: Trainer) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """What callbacks keep: numbers with the callback's name, and arrays."""
    names: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for k, (name, values, weights) in enumerate(trainer._kept_by_callbacks()):
        names.append({"name": name, "values": dict(values), "holds": list(weights)})
        for key, tensors in weights.items():
            arrays |= _prefixed(f"callback{k}/{key}", tensors)
    return names, arrays


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _json(value: Any) -> bytes:
    return f"{json.dumps(_as_json(value), indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()


def _as_json(value: Any) -> Any:
    """JSON has neither NaN nor infinity, so these are written as text; NumPy's numbers become plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if isinstance(value, str | bool | int | None):
        return value
    return float(value) if math.isfinite(value) else str(float(value))


def _spec(trainer: Trainer, folder: Path) -> Spec:
    for m in trainer.metrics:
        if m.function is not None or metric(m.name) != m:
            what = "a function" if m.function is not None else "a formula with more said about it"
            raise SpecError(f"metric '{m.name}' is {what} and cannot be saved; leave it out of trainer.metrics")
    own = {name: getattr(trainer, name) for name in TRAINER_KEYS} | {"metrics": tuple(m.name for m in trainer.metrics)}
    own["optimiser"] = trainer.optimiser
    if trainer.spec is None:
        return Spec(trainer.model, Training(**own), None, folder / SPEC)
    return replace(trainer.spec, model=trainer.model, training=replace(trainer.spec.training, **own))


def _tensors(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as safetensors, which takes the bytes of an array as they lie: so they must lie in order."""
    from safetensors.numpy import save as serialised

    return serialised({name: np.require(array, requirements=["C"]) for name, array in arrays.items()})


def versions() -> dict[str, str]:
    """What the bits of a training depend on, besides its spec and its data."""
    from llvmlite.binding import get_host_cpu_name

    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": str(get_host_cpu_name()),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


# --- back


def restore(directory: str | os.PathLike[str]) -> Trainer:
    """The trainer of the newest whole checkpoint in a directory.

    A damaged checkpoint is named in a warning. Raises DataError where none is whole, or where one is whole and does not
    hold what it must.
    """
    return trainer_from(latest(Path(directory)))


def trainer_from(saved: Saved) -> Trainer:
    """The trainer of a checkpoint."""
    from .trainer import Trainer

    spec = spec_of(saved)
    how = spec.training
    trainer = Trainer(spec.model, how.optimiser, **{name: getattr(how, name) for name in TRAINER_KEYS})
    trainer.spec = spec if spec.data is not None else None
    trainer._run = saved.run
    with in_file(saved.path / WEIGHTS):
        trainer.set_parameters(_weights(trainer, _read_tensors(saved, WEIGHTS)))
    if BEST in saved.files:
        with in_file(saved.path / BEST):
            trainer.best_parameters = _weights(trainer, _read_tensors(saved, BEST))
    with in_file(saved.path / STATE):
        _restore_state(trainer, _read_tensors(saved, STATE))
    with in_file(saved.path / HISTORY):
        _restore_history(trainer, saved.table(HISTORY))
    with in_file(saved.path / PROGRESS):
        _restore_progress(trainer, saved.table(PROGRESS), _read_tensors(saved, REST))
    return trainer


def _read_tensors(saved: Saved, name: str) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(saved.content(name)))
    except SafetensorError as error:
        raise DataError(f"{name} cannot be read as safetensors: {error}") from None


def _weights(trainer: Trainer, given: dict[str, Array]) -> dict[str, Array]:
    """Weights, if they are the model's and finite."""
    trainer._as_parameters(given)  # for its checks
    for name, array in given.items():
        if array.dtype != trainer.dtype:
            raise DataError(f"parameter {name} is {array.dtype}, and the spec says {trainer.dtype}")
    wrong = not_finite(given)
    if wrong:
        raise DataError(f"parameter {wrong} is not finite")
    return {name: given[name] for name in trainer.kernels.parameters}  # in the model's order: L-BFGS sums in it


def _restore_state(trainer: Trainer, state: dict[str, Array]) -> None:
    """The optimiser's state, on arrays for batches of one sample; `fit` makes larger ones as it needs them."""
    if not state:
        return
    if isinstance(trainer.optimiser, LBFGS):
        raise DataError("lbfgs has no state; the file belongs to another training")
    training = trainings.Training(trainer.kernels.machine(), trainer.parameters, 1)
    for name, array in {**training.states, "scalars": training.scalars}.items():
        array[...] = _like(array, state.get(name), f"the optimiser's state '{name}'")
    trainer._training, trainer._variant = training, trainer.model.default_variant


def _like(wanted: Array, given: Array | None, name: str) -> Array:
    """The array that was read, if it is of the kind that is wanted."""
    if given is None or (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
        raise DataError(f"{name} is missing or has another shape or type")
    if not_finite({name: given}):
        raise DataError(f"{name} is not finite")
    return given


def _restore_history(trainer: Trainer, saved: dict[str, Any]) -> None:
    rows = [{str(k): _number(v) for k, v in row.items()} for row in saved["epochs"]]
    for k, row in enumerate(rows, start=1):
        if row.get("epoch") != k:
            raise DataError(f"row {k} is not that of epoch {k}")
    trainer.history = History(rows, str(saved["stopped"]))


def _number(value: Any) -> Any:
    number = float(value) if isinstance(value, str) else value
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise DataError(f"{value!r} is no number")
    return number


def _restore_progress(trainer: Trainer, saved: dict[str, Any], rest: dict[str, Array]) -> None:
    at = Section(saved["position"], "position")
    counts: dict[str, Any] = {name: at.whole(name, least=0) for name in COUNTS}
    position = Position(
        **counts, seconds=at.number("seconds"), data=at.text("data"), scale=at.number("scale", holds=lambda v: v > 0)
    )
    losses = rest["losses"]
    if losses.shape != (position.step,) or losses.dtype != np.float64 or position.epoch > len(trainer.history):
        raise DataError("the position, the losses and the history do not belong together")
    position.losses = [losses] if position.step else []
    trainer._position = position
    watched, least = saved["best"]
    trainer._best = (str(watched), float(least))
    if isinstance(trainer.schedule, ReduceOnPlateau):
        trainer.schedule = replace(trainer.schedule, **_plateau(Section(saved["plateau"], "plateau")))
    trainer._safe, trainer._epoch_start = (_state(trainer, prefix, rest) for prefix in ("safe", "begun"))
    start = _under("start", rest)
    trainer._start = _weights(trainer, start) if start else None
    trainer._pending = [_of_callback(k, given, rest) for k, given in enumerate(saved["callbacks"])]


def _plateau(given: Section) -> dict[str, Any]:
    best = given.values["best"]
    if best is not None and as_number(_number(best)) is None and not isinstance(best, str):
        raise DataError(f"plateau: best = {best!r} is no number")
    return {
        "best": _number(best),
        "waited": given.whole("waited", least=0),
        "cooling": given.whole("cooling", least=0),
        "scale": given.number("scale", holds=lambda v: v >= 0),
    }


def _state(trainer: Trainer, prefix: str, rest: dict[str, Array]) -> State | None:
    """A state to roll back to."""
    if f"{prefix}/scalars" not in rest or trainer._training is None:
        return None
    now, place = trainer._training, f"{prefix}/states"
    found = SimpleNamespace(
        parameters={
            k: _like(v, rest.get(f"{prefix}/parameters/{k}"), f"{prefix}: {k}") for k, v in now.parameters.items()
        },
        states={k: _like(v, rest.get(f"{place}/{k}"), f"{place}/{k}") for k, v in now.states.items()},
        scalars=_like(now.scalars, rest[f"{prefix}/scalars"], f"{prefix}/scalars"),
    )
    return State(found)


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _of_callback(k: int, given: dict[str, Any], rest: dict[str, Array]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    values = {str(name): _number(value) for name, value in given["values"].items()}
    return str(given["name"]), values, {str(key): _under(f"callback{k}/{key}", rest) for key in given["holds"]}

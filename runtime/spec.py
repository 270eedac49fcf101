"""A whole spec: the file, its overrides, and its sections [training] and [data] beside those of the model.

    training  ::= optimiser?  schedule?  batch_size?  epochs?  validation?  early_stopping?  seed?  dtype?
                  threads?  clip_value?  clip_norm?  metrics?  divergence?  checkpoint?  verbose?
    optimiser ::= name | { name, a hyperparameter... }
                | { name, updates, states?, scalars?, scalar_updates?, hyperparameters? }
    schedule  ::= name | formula | { name? | formula?, warm_up?, a hyperparameter... }
    data      ::= file  inputs?  targets?  sample_weight?  scale?  scale_targets?  test?
    divergence ::= "stop" | "raise" | "roll_back" | { policy, factor?, attempts? }
    checkpoint ::= every so many epochs | { epochs?, seconds? | false, keep? }
    part      ::= a share of the samples | a file              for validation and test

Paths are relative to the spec.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from ..symbolic.errors import SpecError, nearest
from ..symbolic.model import Model
from ..symbolic.optimisers import OPTIMISERS, Optimiser, custom_optimiser, optimiser
from ..symbolic.schedules import SCHEDULES, ReduceOnPlateau, Schedule, schedule
from ..symbolic.section import REQUIRED, Section, as_number, as_whole, at, shown
from ..symbolic.spec import SECTIONS, model_from_dict, model_to_dict
from ..symbolic.written import written
from .data import Fitted, Item, Selection, Source
from .divergence import Divergence, as_divergence
from .keeping import Checkpoint
from .lbfgs import LBFGS
from .memory import check_memory
from .metrics import metric
from .scaling import SCALES, scaler_from
from .spec_file import read_tables

DTYPES: Final = ("float32", "float64")
PLATEAU: Final = "reduce_on_plateau"
FULL_BATCH: Final = "lbfgs"
TRAINER_KEYS: Final = (  # of [training], which a trainer takes beside the optimiser
    "batch_size", "dtype", "seed", "threads", "schedule", "clip_value", "clip_norm", "metrics", "divergence",
)  # fmt: skip


@dataclass(frozen=True)
class Stopping:
    """End the training when what is monitored has not improved by min_delta for `patience` epochs."""

    patience: int = 5
    monitor: str = "val_loss"
    min_delta: float = 0.0


@dataclass(frozen=True)
class Training:
    """How a model is trained; the fields are the keys of [training]."""

    optimiser: Optimiser | LBFGS = field(default_factory=lambda: optimiser("adam"))
    schedule: Schedule | ReduceOnPlateau | None = None
    batch_size: int = 32
    epochs: int = 20
    validation: float | Path | None = None
    early_stopping: Stopping | None = None
    seed: int = 0
    dtype: str = "float32"
    threads: int | None = None
    clip_value: float | None = None
    clip_norm: float | None = None
    metrics: tuple[str, ...] = ()
    divergence: Divergence = field(default_factory=Divergence)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    verbose: int = 1


@dataclass(frozen=True)
class Spec:
    """What a spec says.

    fitted   in the directory of a run: how the data of its training were scaled, and its classes
    """

    model: Model
    training: Training
    data: Source | None
    path: Path
    fitted: Fitted | None = None


def read_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """A spec from a .toml or .json file, changed by `key=value` as the command line has them.

    Raises SpecError for whatever is wrong with it, with the place in front.
    """
    path = Path(path)
    return spec_from_dict(read_tables(path, overrides), path)


def load(path: str | Path) -> Model:
    """The model of a spec."""
    return read_spec(path).model


def spec_from_dict(given: Mapping[str, Any], path: Path) -> Spec:
    """A spec from its tables; `path` stands in messages, and data are looked for beside it."""
    spec = Section(given, str(path)).only(*SECTIONS)
    model = model_from_dict(given, str(path))
    training = training_from(spec.section("training"), path)
    data = data_from(spec.section("data"), path) if "data" in spec else None
    if data is not None and data.scale_targets != "none" and len(model.loss.heads) > 1:
        rule = "only one of its outputs is measured as the target is"
        raise SpecError(f"{path}: data: scale_targets does not fit the loss '{model.loss.name}': {rule}")
    check_memory(model, training.batch_size, states_of(training.optimiser), training.dtype, str(path))
    return Spec(model, training, data, path, fitted_from(spec.section("run")) if "run" in spec else None)


def states_of(rule: Optimiser | LBFGS) -> int:
    """How many numbers an optimiser keeps for every parameter."""
    return 2 * rule.history if isinstance(rule, LBFGS) else len(rule.states)


# --- [training]


def training_from(section: Section, path: Path) -> Training:
    """How to train, from the section [training]."""
    section.only(*(f.name for f in fields(Training)))
    plain = Training()
    positive = "give a number above 0"
    training = Training(
        optimiser=optimiser_from(section),
        schedule=schedule_from(section),
        batch_size=section.whole("batch_size", plain.batch_size),
        epochs=section.whole("epochs", plain.epochs),
        validation=part_from(section, "validation", path),
        early_stopping=stopping_from(section),
        seed=section.whole("seed", plain.seed, least=0),
        dtype=section.choice("dtype", plain.dtype, DTYPES),
        threads=section.whole("threads", None),
        clip_value=section.number("clip_value", None, lambda v: v > 0, positive),
        clip_norm=section.number("clip_norm", None, lambda v: v > 0, positive),
        metrics=metrics_from(section),
        divergence=divergence_from(section),
        checkpoint=checkpoint_from(section),
        verbose=section.read("verbose", plain.verbose, _verbosity, "give 0, 1, true or false"),
    )
    _check_monitor(training, section)
    return training


def _verbosity(value: object) -> int | None:
    return int(value) if isinstance(value, bool) else as_whole(value, 0)


def optimiser_from(section: Section) -> Optimiser | LBFGS:
    """An optimiser by its name, or with its update rule."""
    given = section.values.get("optimiser", "adam")
    with at(section.place):
        row = Section({"name": given} if isinstance(given, str) else given, "optimiser")
        name = row.text("name", "custom" if "updates" in row else REQUIRED, "give the name of an optimiser")
        if name == FULL_BATCH:
            row.only("name", *(f.name for f in fields(LBFGS)))
            return LBFGS(**row.without("name"))
        if "updates" not in row:
            _check_name(name)
            return optimiser(name, **row.without("name"))
        row.only("name", "lr", "updates", "states", "scalars", "scalar_updates", "hyperparameters")
        rate = {"lr": row.number("lr")} if "lr" in row else {}
        return custom_optimiser(
            name,
            row.table("updates"),
            row.table("states"),
            row.table("scalars"),
            row.table("scalar_updates"),
            {**rate, **row.table("hyperparameters")},
        )


def _check_name(name: str) -> None:
    """An optimiser of the table or the full-batch one, or `SpecError`."""
    known = [*OPTIMISERS, FULL_BATCH]
    if name not in known:
        raise SpecError(f"optimiser {name!r} is not known. {nearest(name, known)}")


def schedule_from(section: Section) -> Schedule | ReduceOnPlateau | None:
    """A schedule by its name, or as a formula."""
    given = section.values.get("schedule")
    if given is None:
        return None
    with at(section.place):
        row = Section({"name": given} if isinstance(given, str) else given, "schedule")
        name = row.text("formula" if "formula" in row else "name", rule="give the name of a schedule, or a formula")
        numbers = row.without("name", "formula")
        if name != PLATEAU:
            return schedule(name, **numbers)
        known = [f.name for f in fields(ReduceOnPlateau)][:7]  # the rest is its state
        return ReduceOnPlateau(**row.only("name", *known).without("name"))


def part_from(section: Section, key: str, path: Path) -> float | Path | None:
    """A part of the data: a share of the samples, a file, or (0) none."""

    def read(value: object) -> float | Path | None:
        if isinstance(value, str):
            return beside(path, value)
        share = as_number(value)
        return share if share is not None and 0 <= share < 1 else None

    rule = "give a share of the samples of at least 0 and less than 1, or a file"
    part: Any = section.read(key, None, read, rule)
    return part or None


def beside(path: Path, name: str) -> Path:
    """A path as it is meant in a spec: relative to the spec."""
    try:
        return path.parent / Path(name).expanduser()
    except RuntimeError:  # ~name of a user who is not known
        raise SpecError(f"{path}: the file {shown(name)} is in no known home; give its path") from None


def stopping_from(section: Section) -> Stopping | None:
    """Early stopping: the patience, or a table."""
    given = section.values.get("early_stopping")
    if given is None or given is False:
        return None
    if not isinstance(given, Mapping):
        return Stopping(section.whole("early_stopping"))
    row = section.section("early_stopping").only(*(f.name for f in fields(Stopping)))
    plain = Stopping()
    return Stopping(
        row.whole("patience", plain.patience),
        row.text("monitor", plain.monitor),
        row.number("min_delta", plain.min_delta, lambda v: v >= 0, "give a number of at least 0"),
    )


def divergence_from(section: Section) -> Divergence:
    """What to do when a loss is not finite: a policy, or a table."""
    given = section.values.get("divergence", "stop")
    with at(section.place):
        if not isinstance(given, Mapping):
            return as_divergence(given)
        row = Section(given, "divergence").only(*(f.name for f in fields(Divergence)))
        return Divergence(**row.values)


def checkpoint_from(section: Section) -> Checkpoint:
    """How often a run is saved while it trains: every so many epochs, or a table."""
    given = section.values.get("checkpoint", {})
    with at(section.place):
        table = given if isinstance(given, Mapping) else {"epochs": given}
        row = Section(table, "checkpoint").only("epochs", "seconds", "keep")
        values = {**row.values} if row.values.get("seconds") is not False else {**row.values, "seconds": None}
        return Checkpoint(**values)


def _check_monitor(training: Training, section: Section) -> None:
    stopping = training.early_stopping
    if stopping is None:
        return
    own = ["loss", *training.metrics]
    known = [*own, *(f"val_{name}" for name in own)]
    if stopping.monitor not in known:
        rule = nearest(stopping.monitor, known)
        raise SpecError(f"{section.place}: early_stopping: monitor {stopping.monitor!r} is not known. {rule}")
    if stopping.monitor.startswith("val_") and training.validation is None:
        rule = "give validation = 0.2, or monitor = 'loss'"
        problem = f"early_stopping watches {stopping.monitor!r}, but there is no validation part"
        raise SpecError(f"{section.place}: {problem}; {rule}")


def metrics_from(section: Section) -> tuple[str, ...]:
    """The names of metrics, checked."""
    names = section.texts("metrics", rule='give a list of names or formulas, such as ["accuracy"]')
    with at(section.place):
        for name in names:
            metric(name)
    return names


# --- [data] and [run]


def data_from(section: Section, path: Path) -> Source:
    """Where the data are, from the section [data]."""
    keys = ("file", "inputs", "targets", "sample_weight", "scale", "standardise", "scale_targets", "test")
    section.only(*keys)
    if "scale" in section and "standardise" in section:
        raise SpecError(f"{section.place}: scale and standardise are both there; give one of them")
    standard = "standard" if section.flag("standardise") else "none"
    weight = section.values.get("sample_weight")
    if weight is not None and not _is_item(weight):
        raise section.wrong("sample_weight", "give the name or the position of one column")
    return Source(
        beside(path, section.text("file", rule="give a .npz, .npy or .csv file")),
        Selection(items_from(section, "inputs"), items_from(section, "targets"), weight),
        section.choice("scale", standard, SCALES),
        section.choice("scale_targets", "none", SCALES),
        part_from(section, "test", path),
    )


def items_from(section: Section, key: str) -> tuple[Item, ...] | None:
    """Columns: one, or a list of them."""

    def read(value: object) -> tuple[Item, ...] | None:
        items: list[Any] = value if isinstance(value, list) else [value]
        return tuple(items) if items and all(map(_is_item, items)) else None

    return section.read(key, None, read, 'give names, positions or ranges such as "0:4", one or a list')


def _is_item(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def fitted_from(section: Section) -> Fitted:
    """What an earlier training learnt of its data."""
    section.only("inputs", "targets", "classes")
    return Fitted(scaler_from(section.table("inputs")), scaler_from(section.table("targets")), section.texts("classes"))


# --- back


def spec_to_dict(spec: Spec, path: Path) -> dict[str, Any]:
    """The tables of a spec, for a file at `path`; `spec_from_dict` makes the same of them."""
    made = {**model_to_dict(spec.model), "training": training_to(spec.training, path)}
    if spec.data is not None:
        made["data"] = data_to(spec.data, path)
    if spec.fitted is not None:
        made["run"] = {
            "inputs": spec.fitted.inputs.state(),
            "targets": spec.fitted.targets.state(),
            "classes": list(spec.fitted.classes),
        }
    return made


def training_to(training: Training, path: Path) -> dict[str, Any]:
    """The section [training]; what is not there is left out."""
    made = {f.name: getattr(training, f.name) for f in fields(Training)}
    made["optimiser"] = optimiser_to(training.optimiser)
    made["schedule"] = schedule_to(training.schedule)
    made["validation"] = part_to(training.validation, path)
    made["metrics"] = list(training.metrics)
    if training.early_stopping is not None:
        made["early_stopping"] = vars(training.early_stopping).copy()
    made["divergence"] = vars(training.divergence).copy()
    made["checkpoint"] = checkpoint_to(training.checkpoint)
    return {key: value for key, value in made.items() if value is not None}


def optimiser_to(given: Optimiser | LBFGS) -> dict[str, Any]:
    """An optimiser as a table.

    >>> optimiser_to(optimiser("momentum", lr=0.1))
    {'name': 'momentum', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0}
    """
    if isinstance(given, LBFGS):
        return {"name": FULL_BATCH, **{f.name: getattr(given, f.name) for f in fields(given)}}
    row = OPTIMISERS.get(given.name)
    if row is not None and replace(row, hyperparameters=given.hyperparameters) == given:
        return {"name": given.name, **given.hyperparameters}
    tables = {
        "updates": {name: written(expr) for name, expr in given.updates},
        "states": dict(given.states),
        "scalars": dict(given.scalars),
        "scalar_updates": {name: written(expr) for name, expr in given.scalar_updates},
        "hyperparameters": dict(given.hyperparameters),
    }
    return {"name": given.name, **{key: table for key, table in tables.items() if table}}


def checkpoint_to(given: Checkpoint) -> dict[str, Any]:
    """How often a run is saved, as a table."""
    epochs = {} if given.epochs is None else {"epochs": given.epochs}
    return {**epochs, "seconds": False if given.seconds is None else given.seconds, "keep": given.keep}


def schedule_to(given: Schedule | ReduceOnPlateau | None) -> dict[str, Any] | None:
    """A schedule as a table."""
    if given is None:
        return None
    if isinstance(given, ReduceOnPlateau):
        return {"name": PLATEAU, **{f.name: getattr(given, f.name) for f in fields(given)[:7]}}
    row = SCHEDULES.get(given.name)
    ours = row is not None and row.formula == given.formula
    first = {"name": given.name} if ours else {"formula": written(given.formula)}
    return {**first, **given.hyperparameters, **({"warm_up": given.warm_up} if given.warm_up else {})}


def part_to(part: float | Path | None, path: Path) -> float | str | None:
    return relative(part, path) if isinstance(part, Path) else part


def data_to(source: Source, path: Path) -> dict[str, Any]:
    """The section [data]."""
    selection = source.selection
    made = {
        "file": relative(source.file, path),
        "inputs": None if selection.inputs is None else list(selection.inputs),
        "targets": None if selection.targets is None else list(selection.targets),
        "sample_weight": selection.sample_weight,
        "scale": source.scale,
        "scale_targets": source.scale_targets,
        "test": part_to(source.test, path),
    }
    return {key: value for key, value in made.items() if value is not None}


def relative(file: Path, path: Path) -> str:
    """A file as the spec at `path` names it: relative where both stand on one disk."""
    try:
        return Path(os.path.relpath(file.resolve(), path.parent.resolve())).as_posix()
    except ValueError:
        return str(file.resolve())

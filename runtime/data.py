"""Data: files become named columns, columns become checked arrays, arrays are split and scaled.

    file -> Table -> Dataset -> training, validation and test part -> scaled by what the training part shows

Every rule about data is a `DataError` here that says which value breaks it, before a kernel sees the value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import DataError, nearest
from ..symbolic.model import Model
from .arrays import Array, as_inputs, as_targets, as_weights, cast
from .files import Table, as_float, read_table
from .scaling import Scaler, fit_scaler

Item = str | int  # a column: its name, its position, or a range of positions such as "0:4"

RANGE: Final = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*\Z")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples.

    x              (samples, ...) inputs
    y              (samples, ...) targets, or (samples,) integer classes; None where there are only inputs
    sample_weight  (samples,) or None
    classes        the labels behind integer classes, where the file had labels

    >>> len(Dataset(np.zeros((5, 2)), np.zeros(5)))
    5
    """

    x: Array
    y: Array | None = None
    sample_weight: Array | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Array) -> Dataset:
        """The samples at these positions."""
        y = None if self.y is None else self.y[rows]
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return replace(self, x=self.x[rows], y=y, sample_weight=weight)


@dataclass(frozen=True)
class Selection:
    """Which columns (of a csv or npy file) or arrays (of an npz file) are what.

    inputs   by default the array x; in a file with columns, all that are not targets or weights
    targets  by default the array y; a file with columns needs them named
    """

    inputs: tuple[Item, ...] | None = None
    targets: tuple[Item, ...] | None = None
    sample_weight: Item | None = None


def read_dataset(
    path: Path,
    selection: Selection,
    model: Model,
    classes: tuple[str, ...] | None = None,
    *,
    targets: bool = True,
) -> Dataset:
    """The samples of a file, checked against what the model takes.

    classes   the labels that the training part showed (none, where its targets are numbers), once known
    targets   whether there must be targets; otherwise they are left out
    """
    table = read_table(path)
    if not targets:
        inputs = inputs_of(table, selection, int(np.prod(model.inputs)))
        return Dataset(as_inputs(model, _joined(table, inputs), _named(table, inputs)), classes=classes or ())
    inputs, wanted, weight = columns_of(table, selection)
    x = as_inputs(model, _joined(table, inputs), _named(table, inputs))
    y, classes = _targets(table, wanted, model, classes)
    y = as_targets(model, y, _named(table, wanted))
    if len(x) != len(y):
        rule = "give equally many"
        raise DataError(f"{table.place}: {len(x)} samples of inputs, but {len(y)} of targets; {rule}")
    w = None if weight is None else as_weights(_numbers(table, weight), len(x), _named(table, (weight,)))
    return Dataset(x, y, w, classes)


def columns_of(table: Table, selection: Selection) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """The names of inputs, targets and weights in this table."""
    if table.columns and selection.targets is None:
        names = ", ".join(list(table.values)[:8])
        raise DataError(f"{table.place}: which of {names} ... is the target? Say targets = ... under [data]")
    targets = resolve(table, selection.targets or ("y",), "targets")
    given = () if selection.sample_weight is None else (selection.sample_weight,)
    weights = resolve(table, given, "sample_weight")
    if selection.inputs is not None or not table.columns:
        inputs = resolve(table, selection.inputs or ("x",), "inputs")
    else:
        inputs = tuple(name for name in table.values if name not in (*targets, *weights))
    if not inputs:
        raise DataError(f"{table.place}: no column is left for the inputs; name fewer targets")
    return inputs, targets, weights[0] if weights else None


def inputs_of(table: Table, selection: Selection, features: int) -> tuple[str, ...]:
    """The names of the inputs in a table that may have targets as well, or not."""
    names = tuple(table.values)
    if not table.columns:
        return resolve(table, selection.inputs or ("x",), "inputs")
    if len(names) == features and (selection.inputs is None or table.lines is None):
        return names
    if selection.inputs is not None:
        return resolve(table, selection.inputs, "inputs")
    others = [i for i in (*(selection.targets or ()), selection.sample_weight) if i in names or isinstance(i, int)]
    return tuple(n for n in names if n not in resolve(table, others, "targets"))


def resolve(table: Table, items: Sequence[Item], role: str) -> tuple[str, ...]:
    """Names, positions and ranges as the names of columns.

    >>> table = Table("t.csv", {"a": (), "b": (), "c": ()}, columns=True)
    >>> resolve(table, ["0:2", -1], "inputs")
    ('a', 'b', 'c')
    """
    names = list(table.values)
    found: list[str] = []
    for item in items:
        part = RANGE.match(item) if isinstance(item, str) and table.columns else None
        if item in table.values:
            found.append(str(item))
        elif part:
            bounds = (int(part[1]) if part[1] else None, int(part[2]) if part[2] else None)
            found += names[slice(*bounds)]
        elif isinstance(item, int) and table.columns and -len(names) <= item < len(names):
            found.append(names[item])
        else:
            problem = f"there is no {table.kind} {item!r}"
            raise DataError(f"{table.place}: {role}: {problem}. {_nearest(item, names)}")
    if not found and items:
        shown = ", ".join(map(str, items))
        raise DataError(f"{table.place}: {role}: {shown} is no column at all; there are {len(names)}")
    return tuple(found)


def _nearest(item: Item, names: list[str]) -> str:
    if isinstance(item, int):
        return f"There are {len(names)}, from 0 to {len(names) - 1}."
    if len(names) <= 24:
        return nearest(item, names)
    return f"There are {len(names)}." + nearest(item, names).partition(names[-1])[2].partition(".")[2]


def _named(table: Table, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{table.place}: {table.kind} '{names[0]}'" if table.columns else f"{table.place}: {names[0]}"
    return f"{table.place}: {names[0]} ... {names[-1]}" if names else table.place


def _joined(table: Table, names: Sequence[str]) -> Array:
    """One array as it is; several side by side."""
    parts = [_numbers(table, name) for name in names]
    if len(parts) == 1 and not table.columns:
        return parts[0]
    if len({len(p) for p in parts}) > 1:
        lengths = ", ".join(f"{n}: {len(p)}" for n, p in zip(names, parts, strict=True))
        raise DataError(f"{table.place}: the lengths differ ({lengths}); give equally many samples")
    return np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)


def _numbers(table: Table, name: str) -> Array:
    """A column or an array as numbers; text is read, and what cannot be read is named with its line."""
    values = table.values[name]
    if table.lines is None:
        return np.asarray(values)
    try:
        if any("_" in value for value in values):
            raise ValueError
        numbers = np.array(values, dtype=np.float64)
    except ValueError:
        numbers = np.array([np.nan if (number := as_float(v)) is None else number for v in values])
    if np.isfinite(numbers).all():
        return numbers
    row = int(np.argmin(np.isfinite(numbers)))
    rule = "fill it in or leave the row out" if not values[row].strip() else "give a finite number"
    raise DataError(f"{table.place}: line {table.lines[row]}, column '{name}': {values[row]!r}; {rule}")


def _targets(
    table: Table, names: Sequence[str], model: Model, classes: tuple[str, ...] | None
) -> tuple[Array, tuple[str, ...]]:
    """The targets as numbers, and their labels where the file has labels and the loss knows classes."""
    if len(names) != 1:
        return _joined(table, names), ()
    labels = _labels(table, names[0], classes)
    loss = model.loss
    if labels is None or not (loss.classes or (loss.targets in ("probability", "sign") and model.targets == (1,))):
        return _numbers(table, names[0]), ()
    place = _named(table, names)
    numbers, classes = encode(labels, classes, place)
    outputs = model.outputs[-1] if loss.classes else 2
    if len(classes) > outputs:
        some = " ".join(", ".join(classes[:12]).split()) + (", ..." if len(classes) > 12 else "")
        rule = f"the model tells {outputs} apart; change the units of the last layer, or the labels"
        raise DataError(f"{place}: there are {len(classes)} labels ({some}), but {rule}")
    return (2 * numbers - 1 if loss.targets == "sign" else numbers), classes


def _labels(table: Table, name: str, classes: tuple[str, ...] | None) -> list[str] | None:
    """The targets as labels: text, not all of it numbers; or any text, if the training part had labels."""
    values = np.asarray(table.values[name])
    if values.dtype.kind not in "US" or values.ndim != 1 or classes == ():
        return None
    labels = [str(value).strip() for value in values]
    if not classes and all(as_float(label) is not None for label in labels):
        return None
    if "" in labels:
        row = labels.index("")
        where = f"row {row}" if table.lines is None else f"line {table.lines[row]}"
        raise DataError(f"{table.place}: {where}, {table.kind} '{name}': the label is empty; fill it in")
    return labels


def encode(
    labels: Sequence[str], classes: tuple[str, ...] | None, place: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers: their positions among the classes, which are the sorted labels if not given.

    >>> encode(["no", "yes", "no"], None, "t.csv")
    (array([0, 1, 0]), ('no', 'yes'))
    """
    known = classes or tuple(sorted(set(labels)))
    number = {label: k for k, label in enumerate(known)}
    for row, label in enumerate(labels):
        if label not in number:
            problem = f"the label {label!r} of sample {row} is not known"
            raise DataError(f"{place}: {problem}. {nearest(label, known)}")
    return np.array([number[label] for label in labels], dtype=np.int64), known


def split(data: Dataset, fraction: float, rng: np.random.Generator, name: str) -> tuple[Dataset, Dataset]:
    """(the rest, a random part): round(fraction * samples) samples, at least one; both in their old order.

    >>> rest, part = split(Dataset(np.arange(10.0)), 0.2, np.random.default_rng(0), "test")
    >>> len(rest), len(part)
    (8, 2)
    """
    size = max(1, round(fraction * len(data)))
    if size >= len(data):
        rule = "none is left to train on; give more samples"
        raise DataError(f"{name} = {fraction}: of {len(data)} samples {rule}")
    order = rng.permutation(len(data))
    return data.take(np.sort(order[size:])), data.take(np.sort(order[:size]))


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learnt from the data before the training: how to scale, and which label has which number."""

    inputs: Scaler = field(default_factory=Scaler)
    targets: Scaler = field(default_factory=Scaler)
    classes: tuple[str, ...] = ()

    def apply(self, data: Dataset, dtype: str) -> Dataset:
        """Scaled samples in the precision of the training."""
        with np.errstate(over="ignore"):  # what does not fit is found by `cast`
            x = data.x if data.x.dtype.kind == "i" else cast(self.inputs.apply(data.x), dtype, "x")
            y = data.y
            if y is not None and y.dtype.kind == "f":
                y = cast(self.targets.apply(y), dtype, "y")
        weight = None if data.sample_weight is None else cast(data.sample_weight, dtype, "sample_weight")
        return Dataset(x, y, weight, data.classes)


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the data, scaled by what the training part shows."""

    training: Dataset
    validation: Dataset | None
    test: Dataset | None
    fitted: Fitted


@dataclass(frozen=True)
class Source:
    """Where samples come from and what is done with them before the training.

    file            .npz, .npy or .csv
    selection       which columns or arrays are what
    scale           of the inputs: none, standard or minmax
    scale_targets   of real targets, likewise
    test            what is kept aside until the end: a share of the samples, a file, or nothing
    """

    file: Path
    selection: Selection = Selection()
    scale: str = "none"
    scale_targets: str = "none"
    test: float | Path | None = None


def prepare(
    source: Source,
    model: Model,
    validation: float | Path | None = None,
    seed: int = 0,
    dtype: str = "float32",
    fitted: Fitted | None = None,
) -> Parts:
    """Read, split (first the test part, then of the rest the validation part, by seed) and scale.

    fitted   of an earlier run, which then goes on with the same scaling and the same numbers of classes
    """
    rng = np.random.default_rng(seed)
    classes = None if fitted is None else fitted.classes
    rest = read_dataset(source.file, source.selection, model, classes)

    def part(which: float | Path | None, rest: Dataset, name: str) -> tuple[Dataset, Dataset | None]:
        if isinstance(which, Path):
            return rest, read_dataset(which, source.selection, model, rest.classes)
        return (rest, None) if which is None else split(rest, which, rng, name)

    rest, test = part(source.test, rest, "test")
    rest, held_out = part(validation, rest, "validation")
    fitted = fit(source, rest) if fitted is None else fitted
    training, validated, tested = (
        None if data is None else fitted.apply(data, dtype) for data in (rest, held_out, test)
    )
    assert training is not None
    return Parts(training, validated, tested, fitted)


def fit(source: Source, data: Dataset) -> Fitted:
    """Scalers and classes, as the training part shows them."""
    for values, kind, name in (
        (data.x, source.scale, "scale"),
        (data.y, source.scale_targets, "scale_targets"),
    ):
        if kind != "none" and values is not None and values.dtype.kind != "f":
            raise DataError(f"{source.file}: {name} = {kind!r} needs real numbers, not integer classes or tokens")
    with np.errstate(over="ignore", invalid="ignore"):
        inputs = fit_scaler(source.scale, data.x)
        targets = Scaler() if data.y is None else fit_scaler(source.scale_targets, data.y)
    for scaler, name in ((inputs, "scale"), (targets, "scale_targets")):
        if not (np.isfinite(scaler.offset).all() and np.isfinite(scaler.scale).all()):
            raise DataError(f"{source.file}: {name} = {scaler.kind!r}: the numbers are too large to be scaled")
    return Fitted(inputs, targets, data.classes)

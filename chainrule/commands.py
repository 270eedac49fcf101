"""What the commands of the command line do; `cli.py` says how they are called."""

from __future__ import annotations

import csv
import io
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from .runtime.data import Dataset, Fitted, Parts, Source, prepare, read_dataset
from .runtime.run import check_replaceable, open_run, scores_text, with_named_inputs, write_bytes, write_text
from .runtime.signals import Terminated
from .runtime.spec import TRAINER_KEYS, Spec, read_spec
from .runtime.store import Saved
from .runtime.summary import summary
from .symbolic.errors import SpecError, nearest
from .symbolic.optimisers import Optimiser

Overrides = Iterable[str]

RUNS: Final = Path("runs")


def check(path: Path, overrides: Overrides) -> bool:
    """Read a spec, derive, prove, certify, and show what came out; whether all hold."""
    spec = read_spec(path, overrides)
    from .runtime.certify import check as certificate_of

    print(summary(spec.model))
    rule = spec.training.optimiser
    certificate = certificate_of(
        spec.model, rule if isinstance(rule, Optimiser) else None, batch_size=spec.training.batch_size
    )
    print(certificate)
    if certificate.holds:
        print(f"{path} is ok")
    return certificate.holds


def formulas(path: Path, overrides: Overrides, form: str, output: Path | None) -> None:
    """The derivation of a spec's model, with the optimiser's update, as text, LaTeX or HTML."""
    spec = read_spec(path, overrides)
    derivation = spec.model.derivation()
    render = {"text": derivation.text, "latex": derivation.latex, "html": derivation.html}[form]
    rule = spec.training.optimiser
    put(render(optimiser=rule if isinstance(rule, Optimiser) else None), output)


def generate(path: Path, overrides: Overrides, dtype: str | None, output: Path | None) -> None:
    """The kernels of a spec's model, with its optimiser, as one file."""
    spec = read_spec(path, overrides)
    from .runtime.standalone import generate_source

    how = spec.training
    if not isinstance(how.optimiser, Optimiser):
        raise SpecError(f"{path}: training: optimiser 'lbfgs' is SciPy's and has no kernel; choose another one")
    source = generate_source(
        spec.model,
        how.optimiser,
        dtype or how.dtype,
        clip_value=how.clip_value,
        clip_norm=how.clip_norm,
        weighted=spec.data is not None and spec.data.selection.sample_weight is not None,
    )
    put(source, output)


def put(text: str, output: Path | None) -> None:
    """Write a text to a file or to stdout."""
    text = text if text.endswith("\n") else f"{text}\n"
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


# --- training


def train(path: Path, overrides: Overrides, run: Path | None, again: bool, quiet: bool) -> None:
    """Read the data, train, measure, and save the run."""
    spec = read_spec(path, overrides)
    directory = check_replaceable(run or RUNS / path.stem, again)
    parts = prepared(spec)
    print(summary(spec.model))
    print(described(parts))
    spec = with_named_inputs(replace(spec, fitted=parts.fitted))
    fit(new_trainer(spec), spec, parts, directory, spec.training.epochs, quiet, again)


def resume(run: Path, overrides: Overrides, epochs: int | None, quiet: bool) -> None:
    """Go on with a run, on the same parts of its data: to its planned end, or for some more epochs.

    Where all is done and no more is asked for, nothing is: `resume` may follow any end of `train`, and be repeated.
    """
    with said_in_lines():
        spec, saved = open_run(run, overrides)
    parts = prepared(spec)
    trainer = restored(saved)
    print(described(parts))
    note_of_versions(saved)
    wanted = epochs or (spec.training.epochs if "training.epochs" in map(key_of, overrides) else 0)
    if wanted or trainer.unfinished:
        print(f"epochs to do: {wanted or trainer.unfinished}")
        fit(trainer, spec, parts, run, wanted or trainer.unfinished, quiet)
    else:
        print("all its epochs are done; --epochs asks for more")
        print("\n".join(final_scores(trainer, parts)))


def key_of(override: str) -> str:
    """The key of `key=value`."""
    return override.partition("=")[0].strip()


def note_of_versions(saved: Saved) -> None:
    """Say where a run was made with other versions: its bits then depend on these."""
    from .runtime.checkpoint import versions

    now = versions()
    others = [f"{name} {made}, here {now.get(name)}" for name, made in saved.made.items() if now.get(name) != made]
    if others:
        say(f"note: this run was made with {'; '.join(others)}: the last bits may differ")


def prepared(spec: Spec) -> Parts:
    """The parts of a spec's data."""
    how = spec.training
    return prepare(source_of(spec), spec.model, how.validation, how.seed, how.dtype, spec.fitted)


def source_of(spec: Spec) -> Source:
    if spec.data is None:
        raise SpecError(f"{spec.path}: there is no [data]; give at least its file")
    return spec.data


def described(parts: Parts) -> str:
    """How many samples there are in each part."""
    named = {"training": parts.training, "validation": parts.validation, "test": parts.test}
    sizes = ", ".join(f"{len(part):,} for {name}" for name, part in named.items() if part is not None)
    return f"samples: {sizes}"


def new_trainer(spec: Spec, **changed: Any) -> Any:
    """The trainer of a spec."""
    from .runtime.trainer import Trainer

    how = spec.training
    return Trainer(spec.model, how.optimiser, **{**{name: getattr(how, name) for name in TRAINER_KEYS}, **changed})


def restored(saved: Saved) -> Any:
    """The trainer of a run."""
    from .runtime.checkpoint import trainer_from

    return trainer_from(saved)


def callbacks(spec: Spec) -> list[Any]:
    """What the training section asks for beyond the steps themselves."""
    stopping = spec.training.early_stopping
    if stopping is None:
        return []
    from .runtime.callbacks import EarlyStopping

    return [EarlyStopping(patience=stopping.patience, monitor=stopping.monitor, min_delta=stopping.min_delta)]


def fit(trainer: Any, spec: Spec, parts: Parts, directory: Path, epochs: int, quiet: bool, again: bool = False) -> None:
    """Train, save, measure; when interrupted, save and say where."""
    data, held_out = parts.training, parts.validation
    trainer.spec, trainer.divergence = spec, spec.training.divergence
    try:
        with said_in_lines():
            trainer.fit(
                data.x,
                data.y,
                epochs=epochs,
                validation=None if held_out is None else (held_out.x, held_out.y, held_out.sample_weight),
                sample_weight=data.sample_weight,
                callbacks=callbacks(spec),
                verbose=0 if quiet else spec.training.verbose,
                checkpoint=replace(spec.training.checkpoint, directory=directory, again=again),
            )
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{error}; go on with: chainrule resume {directory}") from None
    except Terminated as error:
        raise Terminated(f"{error.message}; go on with: chainrule resume {directory}") from None
    print(f"saved in {directory}")
    print("\n".join(final_scores(trainer, parts)))


@contextmanager
def said_in_lines() -> Iterator[None]:
    """Warnings as lines on stderr, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: say(f"warning: {message}")
        yield


def say(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def final_scores(trainer: Any, parts: Parts) -> list[str]:
    """The scores on the validation part and the test part; on the training part where there is neither."""
    named = {"validation": parts.validation, "test": parts.test}
    if parts.validation is None and parts.test is None:
        named = {"training": parts.training}
    return [
        line for name, part in named.items() if part is not None for line in scores_text(scores(trainer, part), name)
    ]


def scores(trainer: Any, data: Dataset) -> Mapping[str, float]:
    measured: Mapping[str, float] = trainer.evaluate(data.x, data.y, sample_weight=data.sample_weight)
    return measured


# --- using a run


def evaluate(run: Path, data: Path | None, overrides: Overrides) -> None:
    """The loss and the metrics of a run, on a file or on the parts of its data that were kept aside."""
    with said_in_lines():
        spec, saved = open_run(run, overrides)
    trainer = restored(saved)
    if data is None:
        print("\n".join(final_scores(trainer, prepared(spec))))
        return
    fitted = spec.fitted or Fitted()
    given = read_dataset(data, source_of(spec).selection, spec.model, fitted.classes)
    print("\n".join(scores_text(scores(trainer, fitted.apply(given, spec.training.dtype)), data.stem)))


def predict(run: Path, data: Path, overrides: Overrides, output: Path | None) -> None:
    """What a run predicts for every sample of a file."""
    if output is not None and output.suffix.lower() not in WRITERS:
        raise SpecError(f"{output}: the ending {output.suffix!r} is not known. {nearest(output.suffix, WRITERS)}")
    with said_in_lines():
        spec, saved = open_run(run, overrides)
    fitted = spec.fitted or Fitted()
    given = read_dataset(data, source_of(spec).selection, spec.model, fitted.classes, targets=False)
    y_hat = fitted.targets.undo(restored(saved).predict(fitted.apply(given, spec.training.dtype).x))
    if output is None:
        sys.stdout.write(as_csv(y_hat, spec).decode())
    else:
        write_bytes(output, WRITERS[output.suffix.lower()](y_hat, spec))


def predicted_classes(y_hat: np.ndarray, spec: Spec) -> np.ndarray | None:
    """The class of each sample, by its label where there are labels; None where there are no classes."""
    labels = spec.fitted.classes if spec.fitted else ()
    if spec.model.loss.classes:
        number = y_hat.argmax(axis=-1)
    elif labels:  # two classes and one output
        number = (y_hat.reshape(-1) > (0.0 if spec.model.loss.targets == "sign" else 0.5)).astype(np.int64)
    else:
        return None
    return np.array(labels)[number] if labels else number


def as_csv(y_hat: np.ndarray, spec: Spec) -> bytes:
    """Predictions with a header: the class, where there are classes, and every output."""
    rows = y_hat.reshape(len(y_hat), -1)
    labels = spec.fitted.classes if spec.fitted else ()
    if spec.model.loss.classes and rows.shape[1] == spec.model.outputs[-1]:
        names = list(labels) + [str(k) for k in range(len(labels), rows.shape[1])]
    else:
        names = ["y_hat"] if rows.shape[1] == 1 else [f"y_hat_{k}" for k in range(rows.shape[1])]
    classes = predicted_classes(y_hat, spec)
    first = [] if classes is None or classes.ndim != 1 else [classes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["class"] if first else []), *names])
    for k, row in enumerate(rows):
        writer.writerow([*(str(column[k]) for column in first), *map(str, row)])
    return text.getvalue().encode()


def as_npy(y_hat: np.ndarray, spec: Spec) -> bytes:
    """The outputs alone."""
    content = io.BytesIO()
    np.save(content, y_hat, allow_pickle=False)
    return content.getvalue()


def as_npz(y_hat: np.ndarray, spec: Spec) -> bytes:
    """The outputs as y_hat, and the classes as class."""
    classes = predicted_classes(y_hat, spec)
    arrays = {"y_hat": y_hat} if classes is None else {"y_hat": y_hat, "class": classes}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


WRITERS: Final[Mapping[str, Callable[[np.ndarray, Spec], bytes]]] = {
    ".csv": as_csv,
    ".npy": as_npy,
    ".npz": as_npz,
}

"""`chainrule bench`: how fast a spec trains on this machine, or all workloads of `benchmarks/` beside their peers."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .commands import new_trainer, prepared
from .runtime.progress import duration
from .runtime.spec import read_spec
from .symbolic.errors import nearest

if TYPE_CHECKING:
    from .benchmarks.report import Results

REPEATS = 5


@dataclass(frozen=True)
class Output:
    """Where results go, besides the terminal."""

    json: Path | None = None
    plot: Path | None = None
    markdown: bool = False

    def check(self) -> None:
        """Say now what would fail after minutes of measuring."""
        for option, path in (("--json", self.json), ("--plot", self.plot)):
            if path is not None and not path.resolve().parent.is_dir():
                raise click.UsageError(f"{option} {path}: there is no such folder; make it, or name another one")
        if self.plot is not None and find_spec("matplotlib") is None:
            raise click.UsageError("--plot needs matplotlib; pip install 'chainrule[plot]'")

    def write(self, results: Results) -> None:
        """JSON, picture and table, as far as they are wanted."""
        if self.json is not None:
            self.json.write_text(json.dumps(results.to_dict(), indent=1) + "\n", "utf-8")
        if self.plot is not None:
            from .benchmarks.plot import save

            save(results, self.plot)
        if self.markdown:
            from .benchmarks.report import markdown

            print(markdown(results), end="")


def suite(
    workloads: Sequence[str], peers: Sequence[str], everything: bool, quick: bool, scaling: bool,
    seconds: float | None, output: Output,
) -> None:  # fmt: skip
    """Measure workloads beside peers; what is measured before an interruption is written as well."""
    from .benchmarks.environment import environment, lines
    from .benchmarks.report import Results
    from .benchmarks.suite import NAMES, PEERS, run, wanted

    check_names("--workload", workloads, NAMES)
    check_names("--peer", peers, (*PEERS, "none"))
    output.check()
    results = Results(environment())
    print("\n".join(lines(results.environment)), flush=True)
    try:
        run(
            wanted(workloads, peers, everything, quick, scaling, seconds),
            results,
            lambda text: print(text, flush=True),
        )
    finally:
        output.write(results)


def check_names(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise click.UsageError(f"{option} {name!r} is not known. {nearest(name, known)}")


def shown_again(source: Path, output: Output) -> None:
    """The results of an earlier run, from its JSON."""
    from .benchmarks.environment import lines
    from .benchmarks.report import HEADINGS, Results, start_lines
    from .benchmarks.report import lines as row_lines

    output.check()
    try:
        results = Results.from_dict(json.loads(source.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"--from {source}: not what --json writes ({type(error).__name__}: {error})") from None
    if not output.markdown:
        print("\n".join([*lines(results.environment), HEADINGS]))
        rows = [*results.rows, *(row for sweep in results.scaling.values() for row in sweep.values())]
        for row in rows:
            print("\n".join(row_lines(row)))
        if results.starts:
            print("\n".join(start_lines(results.starts)))
    output.write(results)


# --- one spec


@dataclass(frozen=True)
class Measurement:
    """Seconds for one epoch: the shortest and the median of several."""

    threads: int
    shortest: float
    median: float
    first: float  # with compiling

    def line(self, samples: int, batch_size: int) -> str:
        """One row of the table."""
        steps = math.ceil(samples / batch_size)
        step, least = duration_of_step(self.median / steps), duration_of_step(self.shortest / steps)
        rate = f"{samples / self.median:,.0f}"
        return f"{self.threads:>7}  {step:>11}  {least:>11}  {rate:>13}  {duration(self.first):>11}"


HEADINGS = f"{'threads':>7}  {'median step':>11}  {'best step':>11}  {'samples/s':>13}  {'first epoch':>11}"


def duration_of_step(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


def bench(path: Path, overrides: Iterable[str], seconds: float) -> None:
    """Measure and print, with one thread and with all that there are."""
    spec = read_spec(path, overrides)
    data = prepared(spec).training
    batch = spec.training.batch_size
    print(f"{len(data):,} samples, batches of {batch}, {spec.training.dtype}, {spec.training.optimiser!r}")
    print(HEADINGS)
    for threads in sorted({1, available_cores()}):
        trainer = new_trainer(spec, threads=threads, metrics=())

        def run(epochs: int, trainer: object = trainer) -> None:
            trainer.fit(  # type: ignore[attr-defined]
                data.x, data.y, epochs=epochs, validation=None, sample_weight=data.sample_weight, verbose=0
            )

        print(measured(run, threads, seconds).line(len(data), batch), flush=True)
    print("A step is an epoch divided by its batches; an epoch is part of a call to fit, overhead included.")
    print("The trainer takes fewer threads than it may where its first steps are faster with fewer.")


def measured(run: Callable[[int], None], threads: int, seconds: float) -> Measurement:
    """Time `run(epochs)`, after one that compiles, with so many epochs that each run has its share of time.

    >>> m = measured(lambda epochs: time.sleep(1e-3 * epochs), threads=1, seconds=0.05)
    >>> 1e-3 <= m.shortest <= m.median
    True
    """
    first, once = timed(run, 1), timed(run, 1)
    epochs = max(1, round(seconds / REPEATS / max(once, 1e-6)))
    each = [timed(run, epochs) / epochs for _ in range(REPEATS)]
    return Measurement(threads, min(each), statistics.median(each), first)


def timed(run: Callable[[int], None], epochs: int) -> float:
    start = time.perf_counter()
    run(epochs)
    return time.perf_counter() - start


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

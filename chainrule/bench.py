"""How fast a spec trains on this machine: whole epochs of `Trainer.fit`, as a user would run them."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import new_trainer, prepared
from .runtime.progress import duration
from .runtime.spec import read_spec

REPEATS = 5


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

"""How the cost of a step, or of an epoch, grows with width, batch, depth and the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from .workloads import CLASSIFIER, Workload

BASE: Final = replace(CLASSIFIER, batch=64, aim=None)
WIDTHS: Final = (8, 32, 128, 512, 1024)
BATCHES: Final = (1, 8, 64, 512, 4096)
DEPTHS: Final = (1, 2, 4, 8, 16)
SAMPLES: Final = (512, 4096, 32_768, 262_144)


def sweeps() -> dict[str, dict[int, Workload]]:
    """axis -> value -> workload; the other sizes are those of BASE."""
    return {
        "width": {v: _named("width", v, sizes=(64, v, v, 10), samples=2048) for v in WIDTHS},
        "batch": {v: _named("batch", v, batch=v, samples=max(64 * v, 1024) if v < 4096 else 8 * v) for v in BATCHES},
        "depth": {v: _named("depth", v, sizes=(64, *(64,) * v, 10), samples=4096) for v in DEPTHS},
        "samples": {v: _named("samples", v, samples=v) for v in SAMPLES},
    }


def _named(axis: str, value: int, **changed: object) -> Workload:
    return replace(BASE, name=f"{axis} {value}", **changed)  # type: ignore[arg-type]


def points() -> Iterator[tuple[str, int, Workload]]:
    """All points of all sweeps, one after another.

    >>> sum(1 for _ in points()) == len(WIDTHS) + len(BATCHES) + len(DEPTHS) + len(SAMPLES)
    True
    """
    for axis, workloads in sweeps().items():
        for value, workload in workloads.items():
            yield axis, value, workload


def seconds_shown(axis: str, workload: Workload, step: float) -> float:
    """What the plot shows of the seconds of a step: those of an epoch, where the samples grow."""
    return step * workload.steps if axis == "samples" else step

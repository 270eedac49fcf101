"""The results as a picture: how many times as fast, and how cost grows. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .report import Results, peers, ratio
from .scaling import seconds_shown
from .worker import CONTESTANTS, OURS

COLOURS: Final = dict(
    zip(CONTESTANTS, ("#111111", "#888888", "#0072b2", "#d55e00", "#e69f00", "#009e73", "#bbbbbb"), strict=True)
)  # of Okabe and Ito, which all eyes tell apart
LABELS: Final = {
    "width": "units of both hidden layers",
    "batch": "samples in a batch",
    "depth": "hidden layers",
    "samples": "samples",
}


def save(results: Results, path: Path) -> None:
    """Write the picture; the ending of `path` says in which format."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    parts = [part for part, there in ((_bars, results.rows), (_growth, results.scaling)) if there]
    if not parts:
        return
    figure = plt.figure(figsize=(10, 5 * len(parts)), layout="constrained")
    below = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
    for part, panel in zip(parts, below, strict=True):
        part(panel, results)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _bars(panel: Any, results: Results) -> None:
    """A group of bars for each workload, a bar for each peer."""
    axes = panel.subplots()
    named = list(dict.fromkeys(name for row in results.rows for name in peers(row)))
    width = 0.8 / max(len(named), 1)
    for k, name in enumerate(named):
        there = [(place, r) for place, row in enumerate(results.rows) if (r := ratio(row, name)) is not None]
        places = [place + (k - (len(named) - 1) / 2) * width for place, _ in there]
        bars = axes.bar(places, [r for _, r in there], width, bottom=0, color=COLOURS[name], label=name)
        axes.bar_label(bars, [f"{r:.2g}" for _, r in there], fontsize=6)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(results.rows)), [_two_lines(row.workload.title) for row in results.rows], fontsize=7)
    axes.set_ylabel("time of the peer / time of chainrule")
    axes.legend(fontsize=8)
    axes.set_title(f"Times as fast as each peer; {results.environment['cpu']}", fontsize=10)


def _two_lines(title: str) -> str:
    """The network above, the rest below.

    >>> _two_lines("2-16-1 tanh, squared error, batch 32, sgd")
    '2-16-1 tanh\\nsquared error\\nbatch 32, sgd'
    """
    return "\n".join(title.split(", ", 2))


def _growth(panel: Any, results: Results) -> None:
    """Cost against each size, on logarithmic axes."""
    columns = len(results.scaling)
    for axes, (axis, rows) in zip(_row_of_axes(panel, columns), results.scaling.items(), strict=True):
        named = dict.fromkeys(name for row in rows.values() for name in row.timings if name != "one thread")
        for name in sorted(named, key=list(CONTESTANTS).index):
            points = [
                (value, seconds_shown(axis, row.workload, row.timings[name].median))
                for value, row in rows.items()
                if name in row.timings
            ]
            style = ":" if name == "products" else "-"
            wide = 2.2 if name in OURS and name != "products" else 1.2
            axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, linewidth=wide,
                      color=COLOURS[name], label=name)  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel(LABELS[axis])
        axes.set_ylabel("seconds of an epoch" if axis == "samples" else "seconds of a step")
        axes.grid(which="major", linewidth=0.3)
    axes.legend(fontsize=7)
    panel.suptitle("How cost grows: 64-128-10 relu, cross entropy, batch 64, adam, but for the size that varies",
                   fontsize=10)  # fmt: skip


def _row_of_axes(panel: Any, columns: int) -> Sequence[Any]:
    """Panels in two columns; those that are not needed are taken away."""
    rows = -(-columns // 2)
    grid = panel.subplots(rows, min(columns, 2), squeeze=False).ravel()
    for spare in grid[columns:]:
        spare.remove()
    return list(grid[:columns])

"""Measured rows as text, as a table in Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import environment
from .measure import Row
from .startup import Start, needed
from .worker import OURS
from .workloads import ALL

HEADINGS = f"  {'':<15} {'median':>9}   {'quartiles':<21} {'times ours':>10}  {'cores busy':>10}"


@dataclass(frozen=True)
class Results:
    """All that one run of the command has measured.

    scaling   rows by axis and value
    failures  of contestants that did not start, and why
    """

    environment: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    scaling: dict[str, dict[int, Row]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "environment": self.environment,
            "rows": [row.to_dict() for row in self.rows],
            "starts": [start.to_dict() for start in self.starts],
            "scaling": {a: {str(v): row.to_dict() for v, row in rows.items()} for a, rows in self.scaling.items()},
            "failures": self.failures,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Results:
        """What `to_dict` gave."""
        return cls(
            given["environment"],
            [Row.from_dict(row) for row in given["rows"]],
            [Start(**start) for start in given["starts"]],
            {a: {int(v): Row.from_dict(row) for v, row in rows.items()} for a, rows in given["scaling"].items()},
            given["failures"],
        )


def shown(seconds: float) -> str:
    """A time with three digits.

    >>> shown(1.234e-6), shown(4.56e-5), shown(0.0789), shown(1.5)
    ('1.23 us', '45.6 us', '78.9 ms', '1.5 s')
    """
    unit, name = next((u, n) for u, n in ((1e-6, "us"), (1e-3, "ms"), (1.0, "s")) if seconds < 999.5 * u or n == "s")
    return f"{seconds / unit:.3g} {name}"


def peers(row: Row) -> list[str]:
    """The names of the others."""
    return [name for name in row.timings if name not in OURS]


def best_peer(row: Row) -> str | None:
    """The fastest of the others."""
    return min(peers(row), key=lambda name: row.timings[name].median, default=None)


def ratio(row: Row, name: str | None) -> float | None:
    """How many times as long as ours a contestant takes."""
    if name not in row.timings or "chainrule" not in row.timings:
        return None
    return row.timings[name].median / row.timings["chainrule"].median


# --- for the terminal


def lines(row: Row) -> Iterator[str]:
    """A row: a line for each contestant, then what came out."""
    yield f"{row.workload.name}: {row.workload.title}; a {row.workload.unit}"
    for name, timing in row.timings.items():
        low, high = (shown(quartile) for quartile in timing.quartiles)
        times = ratio(row, name)
        yield (
            f"  {name:<15} {shown(timing.median):>9}   {low:>9} - {high:<9} "
            f"{'' if times is None else f'{times:.3g}':>10}  {timing.cores:>10.1f}  {timing.variant}"
        )
    for name, reason in row.failures.items():
        yield f"  {name:<15} not measured: {reason}"
    yield from (f"  {sentence}" for sentence in sentences(row))


def sentences(row: Row) -> Iterator[str]:
    """What follows from a row's numbers."""
    best, products = best_peer(row), ratio(row, "products")
    if (times := ratio(row, best)) is not None:
        aim = f" (aim: {row.workload.aim:g})" if row.workload.aim else ""
        yield f"{times:.3g} times as fast as the best peer, {best}{aim}"
    if products is not None:
        yield f"the matrix products alone take {products:.0%} of our time"
    compared = {n: t for n, t in row.timings.items() if t.difference is not None and n != "chainrule"}
    if wrong := [n for n, t in compared.items() if not t.agrees(n, row.workload.dtype)]:
        named = ", ".join(f"{name} by {compared[name].difference:.1e}" for name in wrong)
        yield f"NOT THE SAME RESULTS as ours: {named}"
    elif compared:
        most = max(compared, key=lambda name: compared[name].difference or 0.0)
        yield f"all computed the same: results differ by at most {compared[most].difference:.1e} ({most})"


def start_lines(starts: Sequence[Start]) -> Iterator[str]:
    """Cold and warm starts."""
    yield f"start: the first epoch of {ALL[starts[0].workload].title} in a fresh process, imports included"
    yield f"  {'':<15} {'empty cache':>11}  {'full cache':>10}  {'memory':>8}"
    for start in starts:
        cold, warm = (shown(median(runs)) for runs in (start.cold, start.warm))
        yield f"  {start.name:<15} {cold:>11}  {warm:>10}  {start.memory / 1e6:>5.0f} MB"
    least = needed(ALL[starts[0].workload]) / 1e6
    yield f"  (model, optimiser state, data, and activations of a batch: {least:.1f} MB)"


def median(runs: Sequence[float]) -> float:
    """The median, the upper one of two.

    >>> median([3.0, 1.0, 2.0])
    2.0
    """
    return sorted(runs)[len(runs) // 2]


# --- for a README


def markdown(results: Results) -> str:
    """The rows and the starts as tables, and below them the machine."""
    named = [name for name in dict.fromkeys(n for row in results.rows for n in row.timings) if name not in OURS]
    parts = [_table(results, named)] if results.rows else []
    if results.starts:
        parts.append(_start_table(results.starts))
    return "\n\n".join([*parts, "  \n".join(environment.lines(results.environment))]) + "\n"


def _table(results: Results, named: Sequence[str]) -> str:
    head = ["workload", "chainrule", *named, "times as fast as the best", "products alone / ours"]
    body = []
    for row in results.rows:
        times = [shown(row.timings[n].median) if n in row.timings else "-" for n in ("chainrule", *named)]
        best, products = ratio(row, best_peer(row)), ratio(row, "products")
        ends = ["-" if best is None else f"{best:.3g}", "-" if products is None else f"{products:.0%}"]
        body.append([row.workload.title, *times, *ends])
    return _rows(head, body)


def _start_table(starts: Sequence[Start]) -> str:
    head = ["first epoch of a fresh process", "empty cache", "full cache", "memory"]
    return _rows(
        head,
        [
            [start.name, shown(median(start.cold)), shown(median(start.warm)), f"{start.memory / 1e6:.0f} MB"]
            for start in starts
        ],
    )


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))

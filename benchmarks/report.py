"""Rows as text."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import TOLERANCE, Row
from .worker import OURS


def shown(seconds: float) -> str:
    """A time with three digits.

    >>> shown(1.234e-6), shown(4.56e-5), shown(0.0789), shown(1.5)
    ('1.23 us', '45.6 us', '78.9 ms', '1.5 s')
    """
    for unit, name in ((1e-6, "us"), (1e-3, "ms"), (1.0, "s")):
        if seconds < 999.5 * unit or name == "s":
            return f"{seconds / unit:.3g} {name}"
    raise AssertionError


def best_peer(row: Row) -> str | None:
    """The name of the fastest of the others."""
    peers = [name for name in row.timings if name not in OURS]
    return min(peers, key=lambda name: row.timings[name].median, default=None)


def ratio(row: Row, name: str) -> float | None:
    """How many times as long as ours a contestant takes."""
    if name not in row.timings or "chainrule" not in row.timings:
        return None
    return row.timings[name].median / row.timings["chainrule"].median


def lines(row: Row) -> Iterator[str]:
    """A row, one line a contestant."""
    yield f"{row.workload.name}: {row.workload.title}"
    best = best_peer(row)
    for name, timing in row.timings.items():
        low, high = (shown(q) for q in timing.quartiles)
        times = ratio(row, name)
        marks = [timing.variant]
        if timing.difference is not None and name != "chainrule":
            bad = "" if timing.difference <= TOLERANCE[row.workload.dtype] else ", TOO LARGE"
            marks.append(f"results differ by {timing.difference:.0e}{bad}")
        if name == best and row.workload.aim:
            marks.append(f"aim {row.workload.aim:g}")
        yield (
            f"  {name:<15} {shown(timing.median):>9}   {low:>9} - {high:<9} "
            f"{'' if times is None else f'{times:.3g}x':>7}  {timing.cores:4.1f} cores  {'; '.join(marks)}"
        )
    for name, reason in row.failures.items():
        yield f"  {name:<15} not measured: {reason.removeprefix(f'{name}: ')}"

"""The whole measurement: which workloads and contestants, in which order, and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from . import environment, report
from .measure import Row, Worker, measure, start
from .report import Results
from .scaling import points
from .startup import WITH_START, measure_starts
from .worker import CONTESTANTS, OURS
from .workloads import ALL, WORKLOADS, Workload

START: Final = "start"  # named like a workload
NAMES: Final = (*ALL, START)
PEERS: Final = tuple(name for name in CONTESTANTS if name not in OURS)
SLOW_TO_COMPILE: Final = "torch compiled"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    workloads   names; START is the first epoch of a fresh process
    peers       names; those whose library is missing are left out, and said to be
    rounds      in each of which every contestant has one turn, of at least `seconds`
    quick       no search for the fastest way of writing: the first one
    scaling     how cost grows, too
    """

    workloads: tuple[str, ...]
    peers: tuple[str, ...] = PEERS
    rounds: int = 5
    seconds: float = 0.1
    quick: bool = False
    scaling: bool = False


def wanted(
    workloads: Sequence[str], peers: Sequence[str], everything: bool, quick: bool, scaling: bool, seconds: float | None
) -> Wanted:
    """What the options of the command line say.

    seconds   for a contestant and a workload, all rounds together

    >>> wanted((), ("none",), everything=False, quick=True, scaling=False, seconds=None).workloads[:2]
    ('tiny', 'regression')
    """
    named = tuple(workloads) or (() if scaling else _by_default(everything, quick))
    chosen = tuple(p for p in PEERS if p in peers or (not peers and not (quick and p == SLOW_TO_COMPILE)))
    rounds = 3 if quick else 5
    return Wanted(named, chosen, rounds, (seconds or (0.15 if quick else 0.5)) / rounds, quick, scaling)


def _by_default(everything: bool, quick: bool) -> tuple[str, ...]:
    return (*(ALL if everything else WORKLOADS), *(() if quick else (START,)))


def run(wanted: Wanted, results: Results, say: Say) -> None:
    """Measure, say each row as it comes, and add it to the results."""
    there, missing = installed(wanted.peers)
    results.failures.update(missing)
    for name, reason in missing.items():
        say(f"{name}: {reason}")
    workloads = [ALL[name] for name in wanted.workloads if name != START]
    if workloads or wanted.scaling:
        _measured_in_turns(wanted, workloads, there, results, say)
    if START in wanted.workloads:
        starting = [name for name in ("chainrule", *there) if name in WITH_START]
        starts, failures = measure_starts(starting)
        results.starts.extend(starts)
        for name, reason in failures.items():
            say(f"{name}: does not start: {reason}")
        if starts:
            say("\n".join(report.start_lines(starts)))


def installed(peers: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """(those whose library is there, what is said of the others)."""
    there, missing = [], {}
    for name in peers:
        needs = CONTESTANTS[name][2]
        if environment.version_of(needs):
            there.append(name)
        else:
            missing[name] = f"{needs} is not installed; pip install 'chainrule[benchmark]'"
    return there, missing


def _measured_in_turns(
    wanted: Wanted, workloads: Sequence[Workload], peers: Sequence[str], results: Results, say: Say
) -> None:
    """All workloads, then all sizes of the sweeps, with the same workers."""
    workers, failures = start([*OURS[:2], *peers, OURS[2]])
    results.failures.update(failures)
    for name, reason in failures.items():
        say(f"{name}: does not start: {reason}")
    try:
        if workloads:
            say(report.HEADINGS)
        for workload in workloads:
            results.rows.append(_said(workload, workers, wanted, say))
        if wanted.scaling:
            some = [worker for worker in workers if worker.name not in ("one thread", SLOW_TO_COMPILE)]
            for axis, value, workload in points():
                say(f"{axis} {value:,}")
                results.scaling.setdefault(axis, {})[value] = _said(workload, some, wanted, say)
    finally:
        for worker in workers:
            worker.close()


def _said(workload: Workload, workers: Sequence[Worker], wanted: Wanted, say: Say) -> Row:
    row = measure(workload, workers, wanted.rounds, wanted.seconds, wanted.quick)
    say("\n".join(report.lines(row)))
    return row

"""The measurement: all contestants take turns, A B C A B C ..., each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any, Final

from .worker import CONTESTANTS
from .workloads import Workload

SETTLE_SECONDS: Final = 0.06  # threads of a pool spin for a while after their work: OpenBLAS for 2**26 cycles
TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-8}  # of losses of whole epochs, relative


class WorkerFailedError(Exception):
    """What a worker said, or that it is gone."""


class Worker:
    """The process of a contestant, while another one is measured asleep."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the worker lives
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chainrule.benchmarks.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
        )
        self._read()

    def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or ["without a word"])[-1]
            raise WorkerFailedError(f"{self.name}: ended with code {self.process.wait()}: {last}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerFailedError(f"{self.name}: {reply['error']}")
        return reply

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            assert pipe is not None
            pipe.close()
        self.process.wait()


def installed(names: Iterable[str]) -> list[str]:
    """Those whose library is there."""
    return [name for name in names if version_of(CONTESTANTS[name][2])]


def version_of(distribution: str) -> str:
    """Its version, or nothing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Timing:
    """What one contestant took for one workload.

    rounds      seconds of a step or call, in each round
    cores       busy meanwhile, in the median
    variant     the way of writing that was fastest; tried: seconds of all
    difference  of its results from ours, the largest relative one; None where nothing is compared
    """

    rounds: list[float]
    cores: float
    variant: str
    tried: dict[str, float]
    difference: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third.

        >>> Timing([1.0, 2.0, 3.0, 4.0, 5.0], 1.0, "", {}).quartiles
        (2.0, 4.0)
        """
        if len(self.rounds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.rounds, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Row:
    """One workload, measured."""

    workload: Workload
    timings: dict[str, Timing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self) | {"title": self.workload.title}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Row:
        """What `to_dict` gave."""
        timings = {name: Timing(**timing) for name, timing in given["timings"].items()}
        return cls(Workload.from_dict(given["workload"]), timings, given["failures"])


def measure(workload: Workload, workers: Sequence[Worker], rounds: int, seconds: float, quick: bool = False) -> Row:
    """Prepare everybody, compare what they compute, then measure in turns."""
    prepared, failures = _each(workers, lambda w: w.ask(prepare=workload.to_dict(), quick=quick))
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in prepared}
    for _ in range(rounds):
        for worker in (w for w in workers if w.name in prepared and w.name not in failures):
            time.sleep(SETTLE_SECONDS)
            try:
                taken[worker.name].append(worker.ask(run=seconds))
            except WorkerFailedError as error:
                failures[worker.name] = str(error)
    ours = prepared.get("chainrule", {}).get("result")
    timings = {
        name: Timing(
            [run["seconds"] for run in runs],
            statistics.median(run["cores"] for run in runs),
            prepared[name]["variant"],
            prepared[name].get("tried", {}),
            _difference(prepared[name].get("result"), ours),
        )
        for name, runs in taken.items()
        if name not in failures
    }
    return Row(workload, timings, failures)


def _each(
    workers: Sequence[Worker], question: Callable[[Worker], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(answers, failures) of all workers, by name."""
    answers, failures = {}, {}
    for worker in workers:
        try:
            answers[worker.name] = question(worker)
        except WorkerFailedError as error:
            failures[worker.name] = str(error)
    return answers, failures


def _difference(theirs: list[float] | None, ours: list[float] | None) -> float | None:
    """The largest relative difference of what both computed: scikit-learn gives fewer epochs than others."""
    if theirs is None or ours is None:
        return None
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(theirs, ours, strict=False))

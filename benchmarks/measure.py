"""The measurement: all contestants take turns, A B C A B C ..., each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Final

from .environment import version_of
from .worker import CONTESTANTS
from .workloads import Workload

SETTLE_SECONDS: Final = 0.06  # threads of a pool spin for a while after their work: OpenBLAS for 2**26 cycles
TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-9}  # of the loss of an epoch, relative
# It adds Adam's eps before the bias correction, and cuts probabilities off at 1.2e-7 in its loss:
LOOSER: Final = {"scikit-learn": 2e-2}


class WorkerError(Exception):
    """What a worker said, or that it is gone."""


class Worker:
    """The process of a contestant; while another one is measured, it sleeps."""

    def __init__(self, name: str) -> None:
        self.name, self.broken = name, ""
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the worker is
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chainrule.benchmarks.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
        )
        try:
            self._read()
        except WorkerError:
            self.close()
            raise

    def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to a command."""
        if self.broken:
            raise WorkerError(self.broken)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, as reading will find
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or ["without a word"])[-1]
            self.broken = f"ended with code {self.process.wait()}: {last}"
            raise WorkerError(self.broken)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process: it ends when nobody can ask it any more."""
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(names: Iterable[str]) -> tuple[list[Worker], dict[str, str]]:
    """The workers that start, and why others do not."""
    workers, failures = [], {}
    for name in names:
        try:
            workers.append(Worker(name))
        except WorkerError as error:
            failures[name] = str(error)
    return workers, failures


def installed(names: Iterable[str]) -> list[str]:
    """Those whose library is there."""
    return [name for name in names if version_of(CONTESTANTS[name][2])]


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

    def agrees(self, name: str, dtype: str) -> bool:
        """Whether its results are ours, but for rounding."""
        return self.difference is None or self.difference <= LOOSER.get(name, TOLERANCE[dtype])


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
        ready = [worker for worker in workers if worker.name in prepared and worker.name not in failures]
        answers, failed = _each(ready, lambda w: _after_a_pause(w, seconds))
        failures |= failed
        for name, run in answers.items():
            taken[name].append(run)
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


def _after_a_pause(worker: Worker, seconds: float) -> dict[str, Any]:
    time.sleep(SETTLE_SECONDS)
    return worker.ask(run=seconds)


def _each(
    workers: Sequence[Worker], question: Callable[[Worker], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(answers, failures) of all workers, by name."""
    answers, failures = {}, {}
    for worker in workers:
        try:
            answers[worker.name] = question(worker)
        except WorkerError as error:
            failures[worker.name] = str(error)
    return answers, failures


def _difference(theirs: list[float] | None, ours: list[float] | None) -> float | None:
    """The largest difference of what both computed, relative to the largest number of ours."""
    if theirs is None or ours is None:
        return None
    return max(abs(a - b) for a, b in zip(theirs, ours, strict=True)) / max(map(abs, ours))

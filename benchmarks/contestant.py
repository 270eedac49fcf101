"""A contestant: it trains or asks a workload's network, written in one or more ways, of which the fastest counts."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from .workloads import Array, Weights, Workload, data, first_weights, question

COMPARED_EPOCHS: Final = 1
TRIAL_SECONDS: Final = 0.15
HOPELESS: Final = 4  # a variant whose first epoch takes so many times that of another one is given up,
HOPELESS_SECONDS: Final = 3.0  # if it takes longer than this: threads that spin beside other processes do


class UnsupportedError(Exception):
    """The contestant cannot do this workload; the message says why."""


class Network(Protocol):
    """A network of a workload that holds its weights, its optimiser's state and its data."""

    def fit(self, epochs: int) -> list[float]:
        """Train for some more epochs, each in a fresh order; the mean loss of each."""
        ...

    def predict(self, x: Array) -> Array:
        """NumPy in, NumPy out."""
        ...


Build = Callable[[Workload, Array, Array, Weights], Network]
Variants = Mapping[str, Build]


class Contestant:
    """Prepares a workload, then runs it as often as it is told."""

    def __init__(self, variants: Callable[[Workload], Variants]) -> None:
        self.variants = variants

    def prepare(self, workload: Workload, quick: bool = False) -> dict[str, Any]:
        """Build each variant, see what it computes, keep the fastest.

        Gives its name, the results that are compared with those of others, and the seconds of every variant.
        """
        self.workload, self.x = workload, question(workload)
        given = (*data(workload), first_weights(workload))
        self.network, self.pace, best, result = None, math.inf, "", []
        tried, first = {}, math.inf
        for name, build in list(self.variants(workload).items())[: 1 if quick else None]:
            start = time.perf_counter()
            network = build(workload, *given)
            found = self._result(network, 1)
            passed = time.perf_counter() - start
            if passed > max(HOPELESS * first, HOPELESS_SECONDS):
                tried[name] = math.inf
                continue
            first = min(first, passed)
            found += self._result(network, COMPARED_EPOCHS - 1)
            tried[name] = self._seconds(network, TRIAL_SECONDS)[0]
            if tried[name] < self.pace:
                self.network, self.pace, best, result = network, tried[name], name, found
        return {"variant": best, "result": result, "tried": {k: v for k, v in tried.items() if v < math.inf}}

    def run(self, seconds: float) -> dict[str, float]:
        """Seconds of a step or call, over at least so many seconds, and how many cores were busy meanwhile."""
        if self.pace * self._units < seconds:
            self._repeat(self.network, 1)  # awake, and in the caches; a long run sees to that itself
        each, cores = self._seconds(self.network, seconds)
        return {"seconds": each, "cores": cores}

    def _result(self, network: Network, epochs: int) -> list[float]:
        """Losses of epochs, or the answer to the first question: what all must agree on."""
        if self.workload.asked:
            return [float(value) for value in network.predict(self.x)[0]]
        return network.fit(epochs)

    @property
    def _units(self) -> int:
        """Steps or calls in one repetition."""
        return 1 if self.workload.asked else self.workload.steps

    def _repeat(self, network: Network, times: int) -> None:
        if not self.workload.asked:
            network.fit(times)
            return
        for _ in range(times):
            network.predict(self.x)

    def _seconds(self, network: Network, least: float) -> tuple[float, float]:
        """(seconds of a step or call, cores busy): one run that is long enough, found by doubling."""
        times = 1
        while True:
            busy, start = time.process_time(), time.perf_counter()
            self._repeat(network, times)
            passed = time.perf_counter() - start
            if passed >= least:
                return passed / (times * self._units), (time.process_time() - busy) / passed
            times = max(2 * times, int(1.1 * times * least / max(passed, 1e-9)))


def thread_counts() -> list[int]:
    """One thread, and all cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, cores})

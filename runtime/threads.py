"""How many threads train fastest: found by timing some steps, which are steps of the training like any other.

The results are the same, bit by bit, for any number of threads, so the choice may be made anew in every run, and again
on the way: what else the machine does changes, and may have disturbed the trials.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from .control import MOST_THREADS

ROUNDS: Final = 5  # a trial of every number, in turns: a disturbance seldom meets all trials of one
LONG_SECONDS, FEW_ROUNDS = 0.02, 2  # of steps that take so long fewer tell enough, and each is its own settling
TRIAL_SECONDS: Final = 2e-3  # long enough for the clock
SETTLING: Final = 0.25  # of a trial, before it: the threads are woken, and the system moves them to cores of their own
GAIN: Final = 0.9  # more threads must save a tenth: less is gone as soon as the machine does something else
LOSS_SECONDS: Final = 0.02  # what the trials of one number may cost before it is given up
FIRST_LOOK, LAST_LOOK = 10, 640  # trials are made again after so many times what they took, twice as many each time


def threads_at_most(wanted: int | None) -> int:
    """As many as the process may use, and not more than are wanted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(wanted or cores, MOST_THREADS))


def numbers_to_try(most: int) -> tuple[int, ...]:
    """Powers of two, and all that there are.

    >>> numbers_to_try(1), numbers_to_try(6)
    ((1,), (1, 2, 4, 6))
    """
    return (*(2**k for k in range(most.bit_length()) if 2**k < most), most)


@dataclass
class ThreadChoice:
    """Which number of threads to take next, and after the trials, which is best.

    most    threads that may be used; `limit` says that fewer are of use
    times   seconds a sample of every trial, by number of threads; the first one fills the caches, and does not count

    >>> choice = ThreadChoice(2)
    >>> while choice.best is None:
    ...     threads, steps = choice.next()
    ...     choice.took(threads, samples=32 * steps, seconds=steps * (43e-6 if threads == 1 else 57e-6), steps=steps)
    >>> choice.best
    1
    """

    most: int
    times: dict[int, list[float]] = field(init=False)
    best: int | None = field(default=None, init=False)
    _pace: dict[int, float] = field(default_factory=dict, init=False)  # seconds a step, of the fastest trial
    _settling: dict[int, list[float]] = field(default_factory=dict, init=False)
    _settled: int = field(default=0, init=False)  # the number of threads of the steps before
    _lost: dict[int, float] = field(default_factory=dict, init=False)  # seconds more than with one thread
    _spent: float = field(default=0.0, init=False)  # seconds, by the trials
    _since: float = field(default=0.0, init=False)  # seconds, after them
    _behind: float = field(default=0.0, init=False)  # of these, more than one thread would have taken
    _patience: int = field(default=FIRST_LOOK, init=False)
    _before: int | None = field(default=None, init=False)  # what was best
    _allowed: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        self._allowed = self.most
        self._begin()

    def limit(self, blocks: int) -> None:
        """No more threads than a phase has blocks: where it has one, nothing is tried.

        >>> choice = ThreadChoice(8)
        >>> choice.limit(blocks=1)
        >>> choice.best
        1
        >>> choice.limit(blocks=5)
        >>> choice.best, list(choice.times)
        (None, [1, 2, 4, 5])
        """
        before, self.most = self.most, max(1, min(self._allowed, blocks))
        if self.most != before and (self.best is None or self.best > self.most or before == 1):
            self._begin()

    def _begin(self) -> None:
        self.times = {threads: [] for threads in numbers_to_try(self.most)}
        self.best = 1 if self.most == 1 else None
        self._settling = {threads: [] for threads in self.times}
        self._pace, self._lost = {}, dict.fromkeys(self.times, 0.0)
        self._spent = self._since = self._behind = 0.0

    def next(self) -> tuple[int, int | None]:
        """The number of threads to take, and for how many steps (None: any number of them)."""
        if self.best is not None:
            return self.best, None
        threads = min(self.times, key=lambda k: (len(self.times[k]), k))
        if not self.times[threads]:
            return threads, 1
        seconds = SETTLING * TRIAL_SECONDS if self._settles(threads) else TRIAL_SECONDS
        return threads, max(1, min(1024, round(seconds / self._pace[threads])))

    def took(self, threads: int, samples: int, seconds: float, steps: int) -> None:
        """How long some steps took with so many threads."""
        if self.best is not None:
            self._look_again(samples, seconds)
            return
        self._spent += seconds
        (self._settling if self._settles(threads) else self.times)[threads].append(seconds / samples)
        self._settled = threads
        warm = self._warm(threads)
        self._pace[threads] = min(warm, default=seconds / samples) * samples / steps
        self._lost[threads] += seconds - samples * min(self._warm(1) or self.times[1])
        if self._hopeless(threads, warm):
            del self.times[threads]
        rounds = FEW_ROUNDS if all(pace > LONG_SECONDS for pace in self._pace.values()) else ROUNDS
        if all(len(trials) > rounds for trials in self.times.values()):
            self.best = self._chosen()
            self._patience = min(2 * self._patience, LAST_LOOK) if self.best == self._before else FIRST_LOOK

    def _settles(self, threads: int) -> bool:
        """Whether the next steps with so many threads are those before a trial, which do not count."""
        if not self.times[threads] or threads == self._settled:
            return False
        return self._pace[threads] <= LONG_SECONDS

    def _warm(self, threads: int) -> list[float]:
        """All times of a number but the first."""
        return self.times[threads][1:] + self._settling[threads]

    def _hopeless(self, threads: int, warm: list[float]) -> bool:
        """Whether this number cost much and even the better of two times was slower than one thread."""
        costly = threads > 1 and len(warm) > 1 and self._lost[threads] > LOSS_SECONDS
        return costly and min(warm) > min(self.times[1])

    def _chosen(self) -> int:
        chosen = 1
        for threads, trials in self.times.items():
            if min(trials[1:]) < GAIN * min(self.times[chosen][1:]):
                chosen = threads
        return chosen

    def _look_again(self, samples: int, seconds: float) -> None:
        """Begin the trials again after a while, or when several threads have lost as much as the trials cost.

        So no more than twice as much is ever lost, whatever else the machine begins to do.
        """
        self._since += seconds
        if self.best != 1:
            self._behind = max(0.0, self._behind + seconds - samples * min(self.times[1][1:]))
        disturbed = self._behind > max(LOSS_SECONDS, self._spent)
        if self.most > 1 and (disturbed or self._since > self._patience * self._spent):
            self._before = self.best
            self._begin()

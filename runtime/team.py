"""Threads that run the driver's loops together.

Helpers are threads of Python that wait until they are wanted, and then run machine code without Python's lock. After a
fork the child has none; it makes its own.

A thread that is woken is often put on the core of the one that woke it, and may stay there for seconds: the leader,
which never waits, does all the work, and the other core has nothing to do. So helpers are kept off the leader's core.
"""

import ctypes
import functools
import os
import threading
from contextlib import suppress

import numpy as np

from .blas import OneThread
from .control import MOST_THREADS, THREADS, WORDS
from .linking import provide

_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
MOST_BLOCKS = 2**20 - 1  # of a phase: places in a share


class Team:
    """Runs phases in parallel loops; one call at a time, others wait for it."""

    def __init__(self, code):
        """`code.address(name)` gives the machine code of the driver's functions."""
        self.code, self.one_thread = code, OneThread()
        self._provided = set()
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self):
        space = np.zeros(WORDS + 16, np.int64)
        skipped = -(space.ctypes.data // 8) % 16  # to the beginning of a pair of cache lines
        self._space, self.control = space, space[skipped : skipped + WORDS]
        self._place = self.control.ctypes.data
        self._lock, self._wanted, self._helpers = threading.Lock(), threading.Event(), []
        self._apart_from = None
        self._alone = self._team = self._shuffle = None

    def address(self, name):
        """Where one of the driver's functions stands."""
        return self.code.address(name)

    def provide_products(self, real):
        """Let machine code that is loaded from now on find the matrix product of a type."""
        name = f"product_{real}"
        if name not in self._provided:
            provide(f"chainrule_{name}", self.code.address(name))
            self._provided.add(name)

    def shuffle(self, order, key):
        """Fill an array of int64 with the numbers below its length, in the order that a key gives them."""
        if self._shuffle is None:
            self._shuffle = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(self.code.address("shuffle"))
        self._shuffle(order.ctypes.data, len(order), key)

    def run(self, phases, table, first, last, total, batch, threads, keys=None, kept=(0, 0, 0)):
        """Run the steps first..last-1 of some `Phases` on the arrays of a table, which stands at an address.

        keys   where those of the epochs stand
        kept   where a copy of something goes at the end of each epoch, where this is, and its numbers of 8 bytes
        """
        with self._lock:
            phases.tell(table, first, last, total, batch, keys, kept)
            if not phases.with_blas:
                self._run(phases, threads)
                return
            with self.one_thread:
                self._run(phases, threads)

    def _run(self, phases, threads):
        if threads > 1 and phases.most_blocks <= MOST_BLOCKS:
            self.control[: len(phases.control)] = phases.control
            self.control[THREADS] = threads = min(threads, MOST_THREADS)
            self._together(threads)
            return
        self._on_this_thread()(phases.place)

    def _on_this_thread(self):
        """What runs phases alone, called with the place of their control block."""
        if self._alone is None:
            self._alone = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.code.address("alone"))
        return self._alone

    def repeating(self, phases, table, samples, threads):
        """(a lock, a function that runs one step of phases that nobody else runs, while the lock is held).

        The shortest way there is: the lock is the one under which trainings change weights.
        """
        if threads > 1 or phases.with_blas:
            return threading.Lock(), functools.partial(self.run, phases, table, 0, 1, samples, samples, threads)
        phases.tell(table, 0, 1, samples, samples)
        return self._lock, functools.partial(self._on_this_thread(), phases.place)

    def _together(self, threads):
        if self._team is None:
            self._team = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self.code.address("team"))
        while len(self._helpers) < threads - 1:
            worker = len(self._helpers) + 1
            arguments = (worker, self._team, self._place, self._wanted)
            helper = threading.Thread(target=_help, args=arguments, daemon=True, name=f"chainrule-{worker}")
            self._helpers.append(helper)  # first: no other one gets its number, even if this one never starts
            helper.start()
            self._apart_from = None
        if _core is not None:
            self._keep_apart(_core())
        try:
            self._wanted.set()
            self._team(0, self._place)
        finally:
            self._wanted.clear()

    def _keep_apart(self, core):
        """Let the helpers run on every core that the leader may use but its own."""
        others = os.sched_getaffinity(0) - {core} if core != self._apart_from else None
        if not others:
            return
        self._apart_from = core
        for helper in self._helpers:
            with suppress(OSError, TypeError):  # it is not allowed; it never started
                os.sched_setaffinity(helper.native_id, others)


def _help(worker, team, place, wanted):
    while wanted.wait():
        team(worker, place)

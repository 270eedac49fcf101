"""Threads that run the driver's loops together.

Helpers are threads of Python that wait until they are wanted, and then run machine code without Python's lock. After a
fork the child has none; it makes its own.
"""

import ctypes
import os
import threading

import numpy as np
from llvmlite import binding

from .blas import OneThread
from .control import BATCH, FIRST, KEY, LAST, MOST_THREADS, TABLE, THREADS, TOTAL, WORDS

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
        self._lock, self._wanted, self._helpers = threading.Lock(), threading.Event(), 0
        self._alone = self._team = None

    def address(self, name):
        """Where one of the driver's functions stands."""
        return self.code.address(name)

    def provide_products(self, real):
        """Let machine code that is loaded from now on find the matrix product of a type."""
        name = f"product_{real}"
        if name not in self._provided:
            binding.add_symbol(f"chainrule_{name}", self.code.address(name))
            self._provided.add(name)

    def run(self, phases, table, first, last, total, batch, threads, key):
        """Run the steps first..last-1 of some `Phases` on the arrays of a table, which stands at an address."""
        words = phases.words
        with self._lock:
            words[FIRST], words[LAST], words[TOTAL], words[BATCH] = first, last, total, batch
            words[TABLE], words[KEY] = table, key
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
        if self._alone is None:
            self._alone = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.code.address("alone"))
        self._alone(phases.place)

    def _together(self, threads):
        if self._team is None:
            self._team = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self.code.address("team"))
        while self._helpers < threads - 1:
            self._helpers += 1
            arguments = (self._helpers, self._team, self._place, self._wanted)
            threading.Thread(target=_help, args=arguments, daemon=True, name=f"chainrule-{self._helpers}").start()
        try:
            self._wanted.set()
            self._team(0, self._place)
        finally:
            self._wanted.clear()


def _help(worker, team, place, wanted):
    while wanted.wait():
        team(worker, place)

"""The BLAS that NumPy brings, by the addresses of its routines, and the number of its threads.

How BLAS divides a sum depends on how many threads it has, so bits do: what enters a training runs on one.

NumPy has loaded it already. Where it cannot be found (NumPy stands on another library), SciPy's is taken.
"""

import ctypes
import os
import pathlib
import threading

import numpy as np

from .linking import provide

ROUTINES = ("sgemm", "dgemm")


class _Library:
    """A library of OpenBLAS that a package has brought along."""

    def __init__(self, package):
        self.routines, self.get, self.set = {}, None, None
        for path in (pathlib.Path(package.__file__).parent.parent / f"{package.__name__}.libs").glob("*openblas*"):
            library = ctypes.CDLL(str(path))
            found = {name: _first(library, f"scipy_{name}_64_", f"scipy_{name}_") for name in ROUTINES}
            if all(found.values()):
                self.routines = {name: ctypes.cast(f, ctypes.c_void_p).value for name, f in found.items()}
                self.get = _first(library, "scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads")
                self.set = _first(library, "scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads")
                return
        from numba.extending import get_cython_function_address
        from scipy.linalg import cython_blas

        self.routines = {name: get_cython_function_address(cython_blas.__name__, name) for name in ROUTINES}


def _first(library, *names):
    return next((getattr(library, name) for name in names if hasattr(library, name)), None)


class OneThread:
    """While it is entered, BLAS uses one thread: the parallel loops are those of the kernels.

    Several threads may be inside at once, and one more than once; the last to leave gives BLAS its threads back.
    """

    def __init__(self, package=np):
        self.library, self.inside, self.before, self.lock = _Library(package), 0, 1, threading.Lock()
        if package is np:
            for name, address in self.library.routines.items():
                provide(f"chainrule_{name}", address)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self):
        """In a forked child, which has none of the threads that were inside."""
        if self.inside:
            self._set(self.before)
        self.inside, self.lock = 0, threading.Lock()

    def _set(self, threads):
        if self.before != 1:
            self.library.set(threads)

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.before = self.library.get() if self.library.get and self.library.set else 1
                self._set(1)
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self._set(self.before)

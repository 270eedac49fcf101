"""The BLAS that NumPy brings, by the addresses of its routines, and the number of its threads.

NumPy has loaded it already. Where it cannot be found (NumPy stands on another library), SciPy's is taken.
"""

import ctypes
import pathlib

import numpy as np
from llvmlite import binding

ROUTINES = ("sgemm", "dgemm")


class _Library:
    """A library of OpenBLAS that a package has brought along."""

    def __init__(self):
        self.routines, self.get, self.set = {}, None, None
        for path in (pathlib.Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*"):
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
    """While it is entered, BLAS uses one thread: the parallel loops are those of the kernels."""

    def __init__(self):
        self.library = _Library()
        for name, address in self.library.routines.items():
            binding.add_symbol(f"chainrule_{name}", address)

    def __enter__(self):
        self.before = self.library.get() if self.library.get and self.library.set else 1
        if self.before != 1:
            self.library.set(1)

    def __exit__(self, *error):
        if self.before != 1:
            self.library.set(self.before)

"""What chainrule finds on a machine: versions, cores, BLAS, threads, cache; and whether a kernel runs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from .bench import available_cores

PACKAGES: Final = ("chainrule", "numpy", "numba", "llvmlite", "scipy", "sympy", "safetensors")


def report() -> bool:
    """Print what is found, one line each; whether all of it works."""
    works = True
    for name, look in LOOKS.items():
        try:
            for line in look():
                print(f"{name:<10} {line}")
        except Exception as error:  # noqa: BLE001  whatever is wrong with this machine is what was asked for
            works = False
            print(f"{name:<10} FAILS: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    print("all is well" if works else "something does not work; see FAILS above")
    return works


def versions() -> Iterator[str]:
    """Python and the packages."""
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} is not installed"


def cores() -> Iterator[str]:
    """What there is to run on."""
    import numba

    threads = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    yield f"{available_cores()} of {os.cpu_count()} may be used; Numba uses up to {threads} threads"


def blas() -> Iterator[str]:
    """The libraries behind matrix products."""
    import scipy.linalg.blas  # noqa: F401  brings its own BLAS, which is the one that kernels call
    from threadpoolctl import threadpool_info

    found = [i for i in threadpool_info() if i["user_api"] == "blas"]
    for info in found:
        kind = f"{info['internal_api']} {info['version']}"
        yield f"{kind}, {info['num_threads']} threads, {info.get('architecture', 'unknown architecture')}"
    if not found:
        yield "no BLAS library that threadpoolctl knows"


def threading() -> Iterator[str]:
    """A parallel loop that runs, and what carries it."""
    import numba
    import numpy as np

    def add(values: np.ndarray) -> None:
        for k in numba.prange(len(values)):
            values[k] += 1.0

    values = np.zeros(1000)
    start = time.perf_counter()
    numba.njit(parallel=True)(add)(values)
    if not (values == 1).all():
        raise RuntimeError("a parallel loop gave a wrong result")
    layer = numba.threading_layer()  # type: ignore[attr-defined]
    yield f"layer {layer}; a parallel loop compiled and ran in {time.perf_counter() - start:.2f} s"
    if layer == "workqueue":
        yield "workqueue is slow for small steps; a system with libgomp gets the layer omp"


def cache() -> Iterator[str]:
    """Where compiled kernels are kept."""
    from .runtime.folder import cache_folder

    folder = cache_folder()
    yield f"{folder} ({'can' if os.access(folder, os.W_OK) else 'cannot'} be written)"


def kernel() -> Iterator[str]:
    """A small model, from its formula to a gradient, against differences of its loss."""
    import numpy as np

    from .runtime.kernels import compile as compile_model
    from .symbolic.layers import Dense
    from .symbolic.model import Model

    start = time.perf_counter()
    kernels = compile_model(Model(2, [Dense(3, "tanh"), Dense(1)]), dtype="float64")
    parameters = kernels.init(seed=0)
    x, y = np.array([[0.5, -1.0], [0.25, 2.0]]), np.array([[1.0], [0.0]])
    _, gradients = kernels.loss_and_gradients(parameters, x, y)
    passed = time.perf_counter() - start
    step = 1e-6

    def loss(change: float) -> float:
        moved = {**parameters, "bo": parameters["bo"] + change}
        return float(kernels.loss_and_gradients(moved, x, y)[0])

    difference = (loss(step) - loss(-step)) / (2 * step)
    if abs(difference - float(gradients["bo"][0])) > 1e-6:
        raise RuntimeError(f"a gradient is {gradients['bo'][0]}, but differences give {difference}")
    yield f"derived, generated, compiled and run in {passed:.2f} s; its gradient is right"


LOOKS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "versions": versions,
    "cores": cores,
    "BLAS": blas,
    "threads": threading,
    "cache": cache,
    "kernel": kernel,
}

"""The roofline: the matrix products of a workload alone, each at the best rate that this machine's BLAS gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from threadpoolctl import ThreadpoolController

from .contestant import thread_counts
from .workloads import Array, Workload

Product = Callable[[], Array]


class Products:
    """What `Contestant` is for networks: prepares and runs."""

    def prepare(self, workload: Workload, quick: bool = False) -> dict[str, object]:
        """Find the best number of threads for each product."""
        self.controller = ThreadpoolController()
        self.products = products(workload)
        self.threads = [self._best(product) for product in self.products]
        return {"variant": "NumPy's BLAS", "products": len(self.products)}

    def run(self, seconds: float) -> dict[str, float]:
        """Seconds of one step: the sum over its products, each measured on its own."""
        share = seconds / len(self.products)
        each = [self._seconds(p, t, share) for p, t in zip(self.products, self.threads, strict=True)]
        return {"seconds": sum(each), "cores": float(max(self.threads))}

    def _best(self, product: Product) -> int:
        return min(thread_counts(), key=lambda threads: self._seconds(product, threads, 0.03))

    def _seconds(self, product: Product, threads: int, least: float) -> float:
        """The mean of so many calls as fill the time."""
        with self.controller.limit(limits=threads, user_api="blas"):
            product()
            calls, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < least:
                for _ in range(BETWEEN_LOOKS):
                    product()
                calls += BETWEEN_LOOKS
            return passed / calls


BETWEEN_LOOKS = 4  # products between two looks at the clock


def products(workload: Workload) -> list[Product]:
    """The products of a step, or of a prediction, into arrays that are there already."""
    rows = workload.asked or workload.batch
    made = []
    for k, (inputs, units) in enumerate(workload.layers):
        x, w, d = (np.ones(s, workload.dtype) for s in ((rows, inputs), (units, inputs), (rows, units)))
        made.append(partial(np.matmul, x, w.T, out=np.empty_like(d)))
        if not workload.asked:
            made.append(partial(np.matmul, d.T, x, out=np.empty_like(w)))
        if not workload.asked and k > 0:  # nobody needs the gradient of the inputs
            made.append(partial(np.matmul, d, w, out=np.empty_like(x)))
    return made

"""chainrule, as a user calls it: `Trainer.fit` and `Trainer.predict`."""

from __future__ import annotations

import chainrule as cr

from .contestant import Build, Variants
from .workloads import SEED, Array, Weights, Workload


class Ours:
    """A trainer and its data."""

    def __init__(self, workload: Workload, x: Array, y: Array, weights: Weights, threads: int | None) -> None:
        layers = [cr.Dense(u, a) for (_, u), a in zip(workload.layers, workload.activations, strict=True)]
        rule = cr.SGD(workload.lr) if workload.optimiser == "sgd" else cr.Adam(workload.lr)
        self.trainer = cr.Trainer(
            cr.Model(workload.sizes[0], layers, loss=workload.loss),
            rule,
            batch_size=workload.batch,
            dtype=workload.dtype,
            seed=SEED,
            threads=threads,
        )
        self.trainer.set_parameters(named(weights))
        self.x, self.y = x, y

    def fit(self, epochs: int) -> list[float]:
        return list(self.trainer.fit(self.x, self.y, epochs=epochs, verbose=0)["loss"][-epochs:])

    def predict(self, x: Array) -> Array:
        return self.trainer.predict(x)


def named(weights: Weights) -> dict[str, Array]:
    """The weights by the names that a `Model` gives them: W1, b1, ..., Wo, bo."""
    numbers = [*map(str, range(1, len(weights))), "o"]
    return {
        f"{kind}{k}": a for k, pair in zip(numbers, weights, strict=True) for kind, a in zip("Wb", pair, strict=True)
    }


def with_threads(threads: int | None) -> Build:
    return lambda workload, x, y, weights: Ours(workload, x, y, weights, threads)


def variants(workload: Workload) -> Variants:
    """As many threads as the trainer finds best."""
    return {"fit": with_threads(None)}


def variants_serial(workload: Workload) -> Variants:
    """One thread."""
    return {"fit, one thread": with_threads(1)}

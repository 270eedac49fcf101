"""Small trainings, each as the hash of all that it comes to; as a script it prints those of this process.

The batches have several blocks and several tasks, so that threads have something to share, and the last one is smaller.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.runtime.trainer import Trainer

RNG = np.random.default_rng(11)
X = RNG.normal(size=(130, 20))
LABELS = (X[:, 0] > 0) + (X[:, 1] * X[:, 2] > 0).astype(int)
VALUES = X[:, :2] ** 2
BATCH = 48
EPOCHS = 3

MLP = cr.Model(20, [cr.Dense(70, "tanh"), cr.Dropout(0.3), cr.Dense(3, "softmax")], loss="cross_entropy")
ACROSS_SAMPLES = """
m[j] = mean(n, x[n,j])
v[j] = mean(n, (x[n,j] - m[j])**2)
h[n,j] = g[j]*(x[n,j] - m[j])/sqrt(v[j] + 0.001)
"""
NORM = cr.Equations(ACROSS_SAMPLES, "h", {}, {"g": ["j"]}, {"g": 1.0})
WIDE = cr.Model(20, [cr.Dense(512, "tanh"), cr.Dense(512, "relu"), cr.Dense(2)])  # by blocks of units
PROGRAM = cr.Model(20, [cr.Dense(60, "gelu", bias=False), NORM, cr.Dropout(0.2), cr.Dense(2)])

Case = tuple[cr.Model, Any, Any, str, dict[str, Any]]
CASES: dict[str, Case] = {
    "MLP, Adam, float32": (MLP, LABELS, cr.Adam(0.01), "float32", {"schedule": "cosine"}),
    "wide, Adam, float32": (WIDE, VALUES, cr.Adam(0.001), "float32", {}),
    "program, SGD, float64": (PROGRAM, VALUES, cr.SGD(0.05), "float64", {"clip_norm": 0.5, "metrics": ["r2"]}),
}
SMALL: dict[str, Case] = {"one layer": (cr.Model(20, [cr.Dense(2)]), VALUES, cr.SGD(0.05), "float32", {})}


def made(name: str, threads: int = 1) -> tuple[Trainer, Any]:
    """A trainer that uses so many threads, whatever is faster; and its targets."""
    model, y, rule, dtype, more = {**CASES, **SMALL}[name]
    trainer = Trainer(model, rule, BATCH, dtype, seed=2, threads=threads, **more)
    use(trainer, threads)
    return trainer, y


def use(trainer: Trainer, *numbers: int) -> None:
    """Use so many threads, another number in every call of the compiled loop, whatever is faster."""
    turns = itertools.cycle(numbers)
    choice = trainer._choice
    choice.next = lambda: (next(turns), 1 if len(numbers) > 1 else None)  # type: ignore[method-assign]
    choice.took = lambda *_: None  # type: ignore[method-assign]


def trained(name: str, threads: int = 1) -> Trainer:
    trainer, y = made(name, threads)
    trainer.fit(X, y, epochs=EPOCHS, validation=0.1, verbose=0)
    return trainer


def sha256(*arrays: Any) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def bits(trainer: Trainer) -> str:
    """Weights, best weights, the optimiser's state, and the history without its times."""
    best, training = trainer.best_parameters or {}, trainer._training
    states = {} if training is None else {**training.states, "@scalars": training.scalars}
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]
    said = np.frombuffer(repr(rows).encode(), np.uint8)
    return sha256(*trainer.parameters.values(), *best.values(), *states.values(), said)


def long_sums() -> str:
    """What NumPy and SciPy would leave to the threads of BLAS: sums and products that are long enough for it."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12_000, 1)), rng.normal(size=(12_000, 1))
    steps = Trainer(cr.Model(1, [cr.Dense(1)]), cr.SGD(1e-4), 1, threads=1, metrics=["r2"])
    steps.fit(x, y, epochs=1, verbose=0)
    wide = cr.Model(20, [cr.Dense(600, "tanh", initialiser="orthogonal"), cr.Dense(2)])
    whole = Trainer(wide, cr.LBFGS(), 130, "float64", threads=1)
    whole.fit(X, VALUES, epochs=4, verbose=0)
    assert sum(w.size for w in whole.parameters.values()) > 10_000
    return bits(steps) + bits(whole)


def here(names: list[str], others: Callable[[], str] | None = None) -> dict[str, str]:
    """The hashes of some cases, each with two threads, and of their predictions."""
    found = {}
    for name in names:
        trainer = trained(name, 2)
        found[name] = bits(trainer) + sha256(trainer.predict(X))
    return found | ({"long sums": others()} if others else {})


if __name__ == "__main__":
    print(json.dumps(here(sys.argv[1:]) if sys.argv[1:] else here(list(CASES), long_sums)))

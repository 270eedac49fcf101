"""A fit to all samples at once, by L-BFGS in double precision: python examples/python/lbfgs.py [iterations]"""

from __future__ import annotations

import sys

import numpy as np

import chainrule as cr


def main(iterations: int = 400) -> float:
    """Fit a small net to a smooth function; returns the mean squared error."""
    x = np.linspace(-1, 1, 200)[:, None]
    y = np.sin(4 * x) / (1 + x**2)
    model = cr.Model(1, [cr.Dense(12, "tanh"), cr.Dense(1)], loss="squared_error")
    trainer = cr.Trainer(model, cr.LBFGS(history=20), dtype="float64", seed=0)
    history = trainer.fit(x, y, epochs=iterations, verbose=0)
    loss = trainer.evaluate(x, y)["loss"]
    print(f"{len(history)} iterations, mean squared error {loss:.2g}")
    print(f"largest error {abs(trainer.predict(x) - y).max():.2g}")
    return loss


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

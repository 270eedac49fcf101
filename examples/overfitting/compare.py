"""Trains the five specs of this folder with several seeds and prints what README.md shows.

python examples/overfitting/compare.py [seeds] [epochs]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule.runtime.data import Dataset, prepare

NAMES = ("none", "early_stopping", "l1", "l2", "dropout")


def loss_of_the_data(y_hat: np.ndarray, y: np.ndarray) -> float:
    """The cross-entropy alone, without penalties, so that the rows can be compared."""
    right = np.where(y.reshape(-1) == 1, y_hat.reshape(-1), 1 - y_hat.reshape(-1))
    return float(-np.log(np.maximum(right, 1e-7)).mean())


def measured(name: str, seed: int, epochs: int | None = None) -> list[float]:
    """Loss and accuracy on the training part and the test part after a training, and its epochs."""
    spec = cr.read_spec(Path(__file__).with_name(f"{name}.toml"))
    how = spec.training
    parts = prepare(spec.data, spec.model, how.validation, seed, how.dtype)
    trainer = cr.Trainer(spec.model, how.optimiser, how.batch_size, how.dtype, seed, threads=1, metrics=["accuracy"])
    stopping = how.early_stopping
    history = trainer.fit(
        parts.training.x,
        parts.training.y,
        epochs=epochs or how.epochs,
        validation=(parts.validation.x, parts.validation.y),
        callbacks=[cr.EarlyStopping(stopping.patience)] if stopping else [],
        verbose=0,
    )

    def on(data: Dataset) -> list[float]:
        loss = loss_of_the_data(trainer.predict(data.x).astype(float), data.y)
        return [loss, trainer.evaluate(data.x, data.y)["accuracy"]]

    return [*on(parts.training), *on(parts.test), len(history)]


def main(seeds: int = 5, epochs: int | None = None) -> None:
    print("| | training loss | training accuracy | test loss | test accuracy | epochs |")
    print("|---|---|---|---|---|---|")
    for name in NAMES:
        loss, accuracy, test_loss, test_accuracy, length = np.mean(
            [measured(name, seed, epochs) for seed in range(seeds)], axis=0
        )
        print(
            f"| [{name}]({name}.toml) | {loss:.3f} | {accuracy:.3f} | {test_loss:.3f} "
            f"| {test_accuracy:.3f} | {length:.0f} |"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Makes the synthetic data of the examples, always the same: python examples/data/make.py

noisy.npz   two classes that depend on 2 of 20 features; one label in ten is wrong
crop.csv    the harvest of made-up fields, from sun, rain and the acidity of the soil
words.csv   five made-up words a line, each from 0 to 19, and the mean of the words' hidden values
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def noisy(folder: Path) -> None:
    """Few samples, many features without meaning, wrong labels: what a net of some size learns by heart."""
    rng = np.random.default_rng(1)
    made = {}
    for part, samples in (("train", 120), ("validation", 120), ("test", 1000)):
        x = np.round(rng.uniform(-1, 1, (samples, 20)) * 64).astype(np.int8)
        y = (x[:, 0].astype(int) ** 2 > 64 * x[:, 1].astype(int) + 1024).astype(np.int8)
        wrong = rng.random(samples) < 0.1
        made[part] = {"x": x, "y": np.where(wrong, 1 - y, y)}
    for part, arrays in made.items():
        np.savez_compressed(folder / f"noisy_{part}.npz", **arrays)


def crop(folder: Path) -> None:
    """harvest = 6 exp(-((rain - 600)/250)^2) + 0.004 sun - (acidity - 6.5)^2 + noise."""
    rng = np.random.default_rng(2)
    sun, rain = rng.uniform(800, 2000, 400).round(), rng.uniform(200, 1200, 400).round()
    acidity = rng.uniform(5, 8, 400).round(1)
    harvest = 6 * np.exp(-(((rain - 600) / 250) ** 2)) + 0.004 * sun - (acidity - 6.5) ** 2
    harvest = (harvest + rng.normal(0, 0.3, 400)).round(2)
    lines = ["sun,rain,acidity,harvest"]
    lines += [f"{s:.0f},{r:.0f},{a},{h}" for s, r, a, h in zip(sun, rain, acidity, harvest, strict=True)]
    (folder / "crop.csv").write_text("\n".join(lines) + "\n")


def words(folder: Path) -> None:
    """The mean of five hidden values, and a little noise."""
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=20)
    text = rng.integers(0, 20, (500, 5))
    value = (hidden[text].mean(axis=1) + rng.normal(0, 0.05, 500)).round(3)
    lines = ["w1,w2,w3,w4,w5,value"]
    lines += [",".join(map(str, [*row, number])) for row, number in zip(text, value, strict=True)]
    (folder / "words.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for make in (noisy, crop, words):
        make(HERE)

"""Compiled gradients against central differences of the compiled loss.

A parameter is moved along random signs times the size of its numbers, all entries at once: one entry that is wrong
shows in the sum, and is then found by halves. Steps of several sizes are tried. Each gives a value (Richardson's, of
two steps) and how far it can be trusted: the difference of the two, and the rounding of the loss over the step. A kink
that is crossed makes the two differ; then a smaller step is trusted more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..symbolic.model import LOSS, Model
from .blocks import InBlocks
from .certificate import Whole
from .drawn import random_values
from .kernels import Kernels

SAMPLES, ROWS = 21, 8  # three blocks, the last of which is not full
STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
ROUNDING = 64 * 2.0**-52  # of the loss, as a part of it
BOUND = 2e-6  # of the sum of absolute terms
LEAST = 1e-2  # that a step must be trusted to
DIRECTIONS = 2
WHAT = "gradients and central differences of the loss, float64"

Array = NDArray[Any]


@dataclass(frozen=True)
class Point:
    """The loss and its gradients at parameters, which may be moved along a direction in one of them."""

    parameters: Mapping[str, Array]
    gradients: Mapping[str, Array]
    loss: Callable[[Mapping[str, Array]], float]

    def moved(self, name: str, direction: Array, by: float) -> float:
        return self.loss({**self.parameters, name: self.parameters[name] + by * direction})

    def error(self, name: str, direction: Array) -> tuple[float, float, float]:
        """How far a derivative is from what the steps give that can be trusted most; both values.

        As a part of the sum of absolute terms; what no step can be trusted to is not held against it.
        """
        terms = self.gradients[name] * direction
        analytic, size = float(terms.sum()), float(np.abs(terms).sum())
        here = abs(self.loss(self.parameters))
        best, trusted = (0.0, analytic, analytic), np.inf
        for step in STEPS:
            coarse, fine = (self._slope(name, direction, h) for h in (step, step / 2))
            value = (4 * fine - coarse) / 3
            trust = abs(fine - coarse) + ROUNDING * here / step
            scale = max(size, abs(value))
            if np.isfinite(trust) and scale > 0 and trust / scale < min(trusted, LEAST):
                trusted = trust / scale
                error = abs(value - analytic) / scale
                best = (error if trusted < BOUND else max(0.0, error - trusted), value, analytic)
        return best

    def _slope(self, name: str, direction: Array, step: float) -> float:
        return (self.moved(name, direction, step) - self.moved(name, direction, -step)) / (2 * step)


def differences(model: Model, seed: int = 0) -> Whole:
    """Compare them at a random point of the model's own kernel."""
    rng = np.random.default_rng(seed)
    return at_point(point_of(model, rng), rng)


def at_point(point: Point, rng: np.random.Generator) -> Whole:
    """Compare them along some directions in every parameter."""
    worst, fault = 0.0, ""
    for name, array in point.parameters.items():
        for _ in range(DIRECTIONS):
            sizes = np.abs(array) + 0.1 * np.mean(np.abs(array)) + 1e-3
            direction = rng.choice([-1.0, 1.0], array.shape) * sizes
            error, *_ = point.error(name, direction)
            worst = max(worst, error)
            if error > BOUND and not fault:
                fault = _named(point, name, direction)
    return Whole(WHAT, worst, BOUND, fault)


def _named(point: Point, name: str, direction: Array) -> str:
    """The entry of a parameter whose derivative is wrong, found by halves."""
    inside = np.arange(direction.size)
    while len(inside) > 1:
        halves = np.array_split(inside, 2)
        errors = [point.error(name, _only(direction, half))[0] for half in halves]
        inside = halves[int(np.argmax(errors))]
    entry = ",".join(str(k) for k in np.unravel_index(int(inside[0]), direction.shape))
    _, differs, analytic = point.error(name, _only(direction, inside))
    along = direction.reshape(-1)[inside[0]]
    at = point.parameters[name].reshape(-1)[inside[0]]
    return f"d{name}[{entry}] is {analytic / along:.9g}; differences give {differs / along:.9g} at {name} = {at:.6g}"


def _only(direction: Array, entries: Array) -> Array:
    kept = np.zeros_like(direction).reshape(-1)
    kept[entries] = direction.reshape(-1)[entries]
    return kept.reshape(direction.shape)


def point_of(model: Model, rng: np.random.Generator) -> Point:
    """Random parameters and samples, and the model's own kernel."""
    machine = InBlocks(Kernels(model, "float64").machine(), ROWS)
    program = model.derivation().forward
    given, parameters = random_values(program, machine.real, model.loss.targets, 1.0, rng, SAMPLES)
    workspace = machine.workspace("gradients", SAMPLES)

    def run(at: Mapping[str, Array]) -> float:
        arrays = {n: np.ascontiguousarray(a, machine.real) for n, a in at.items()}
        machine.run("gradients", machine.table("gradients", {**workspace, **arrays, **given}), SAMPLES, SAMPLES)
        return float(workspace[LOSS].reshape(-1)[0])

    run(parameters)
    found = {p: workspace[q].reshape(parameters[p].shape).copy() for p, q in machine.kernels["gradients"].items()}
    return Point(parameters, found, run)

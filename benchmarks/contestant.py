"""What a contestant is: something that trains or asks a workload's network, in one or more variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from .workloads import Array, Weights, Workload


class Unsupported(Exception):
    """The contestant cannot do this workload, or is not installed; the message says why."""


class Network(Protocol):
    """A network of a workload that holds its weights, its optimiser's state and its data."""

    def fit(self, epochs: int) -> list[float]:
        """Train for some more epochs, each in a fresh order; the mean loss of each."""
        ...

    def predict(self, x: Array) -> Array:
        """NumPy in, NumPy out."""
        ...


Build = Callable[[Workload, Array, Array, Weights], Network]
Variants = Mapping[str, Build]  # ways to write the same, of which the fastest counts

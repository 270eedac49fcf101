"""Random numbers of the kind that a model takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..symbolic.language import Kind, Program, Role
from ..symbolic.prove import lookup_limits
from .machine import aligned


def random_values(
    program: Program, real: np.dtype[Any], targets: str, size: float, rng: np.random.Generator, samples: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Inputs, targets and parameters at random."""
    given: dict[str, NDArray[Any]] = {}
    parameters: dict[str, NDArray[Any]] = {}
    limits = lookup_limits(program)
    for tensor in program.tensors:
        shape = tuple(program.size(i.extent, samples) for i in tensor.indices) or (1,)
        if tensor.role is Role.PARAMETER:
            fan = math.prod(shape[1:])
            parameters[tensor.name] = aligned(shape, real)
            parameters[tensor.name][...] = rng.normal(0, size / math.sqrt(fan), shape)
        elif tensor.kind is Kind.INTEGER:
            given[tensor.name] = rng.integers(0, limits.get(tensor.name, 2), shape)
        else:
            given[tensor.name] = aligned(shape, real)
            drawn = rng.normal(0, 1, shape) if tensor.role is Role.INPUT else random_targets(targets, shape, rng)
            given[tensor.name][...] = rng.uniform(0, 1, shape) if tensor.role is Role.WEIGHT else drawn
    return given, parameters


def random_targets(targets: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Targets of the kind that a loss takes."""
    if targets == "sign":
        return rng.choice([-1.0, 1.0], shape)
    if targets == "count":
        return rng.integers(0, 9, shape).astype(float)
    return rng.uniform(0, 1, shape) if targets == "probability" else rng.normal(0, 1, shape)

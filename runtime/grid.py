"""Where formulas are looked at: a program cut into what can be given any value.

Every equation whose sum reads a parameter (a matrix product) becomes an input, so that what follows, activation, loss,
derivatives, runs through the emitted lines at chosen values: large and tiny ones, saturation, kinks and both of their
sides, ties. Sums over samples are left to the whole kernel. Extents are tiny; a sample is a point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ..symbolic.derive import Derived
from ..symbolic.language import SAMPLE_INDEX, SAMPLES, Equation, Kind, Program, Role, Tensor, name_of
from ..symbolic.normalise import free_indices
from ..symbolic.prove import lookup_limits, tiny_sizes
from .drawn import random_targets

EVERYDAY: Final = (
    1e-30, 1e-20, 1e-10, 1e-8, 1e-5, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0,
    8.0, 10.0, 12.0, 15.0, 17.0, 18.5, 20.0, 25.0, 30.0, 37.0, 40.0, 60.0, 88.0, 89.5, 104.0, 200.0, 355.0, 500.0,
    700.0, 710.0, 746.0, 1000.0,
)  # fmt: skip
BEYOND: Final = (1e4, 1e6, 1e10, 1e13, 1e19, 3e38, 1e100, 1e155, 1e200, 1e300)  # what is reported, not required
TINIEST: Final = (1e-38, 1e-100, 1e-160, 1e-300)
RANDOM: Final = 24


@dataclass(frozen=True)
class Cut:
    """The cut program, its equations in the order of the whole, and the tensors whose values are chosen.

    roots      stand for sums over parameters, or are inputs of the model
    adjoints   of the derived program
    """

    program: Program
    roots: tuple[str, ...]
    adjoints: frozenset[str] = frozenset()


def cut(derived: Derived) -> Cut:
    """Cut a derived program."""
    whole = derived.program
    sizes = {**tiny_sizes(replace(whole, equations=derived.forward.equations)), SAMPLES: 1}
    parameters = {t.name for t in whole.parameters}
    tensors = {t.name: t for t in whole.tensors}
    equations: list[Equation] = []
    roots: list[str] = [t.name for t in whole.tensors if t.role is Role.INPUT]
    for equation in whole.equations:
        if _mixes_samples(equation, whole):
            tensors[equation.name] = equation.tensor
        elif _is_product(equation, parameters):
            tensors[equation.name] = equation.tensor
            roots.append(equation.name)
        else:
            equations.append(equation)
    read = {name for e in equations for name in e.reads}
    del sizes[SAMPLES]
    given = tuple(replace(t, role=_role(t)) for name, t in tensors.items() if name in read)
    program = Program(given, tuple(equations), tuple(e.name for e in equations), sizes)
    return Cut(program, tuple(name for name in roots if name in read), frozenset(derived.adjoint.values()))


def _role(tensor: Tensor) -> Role:
    by_samples = bool(tensor.indices) and tensor.indices[0].extent == SAMPLES
    return Role.INPUT if by_samples else Role.PARAMETER


def _is_product(equation: Equation, parameters: set[str]) -> bool:
    total = equation.contraction
    return total is not None and bool({name_of(r) for r in total.atoms(sp.Indexed)} & parameters)


def _mixes_samples(equation: Equation, program: Program) -> bool:
    """Whether an equation sums over the samples, or is not one value a sample."""
    total = equation.contraction
    if total is not None and any(high + 1 == SAMPLES for _, _, high in total.limits):
        return True
    return not equation.indices or equation.indices[0].symbol != SAMPLE_INDEX.symbol


def kinks(program: Program) -> list[float]:
    """Numbers that conditions compare with, and what they are reached from where that is linear in one element."""
    found: set[float] = {0.0}
    for equation in program.equations:
        for condition in equation.expr.atoms(sp.core.relational.Relational):
            if free_indices(condition.lhs) and condition.lhs.is_integer:
                continue
            difference = condition.lhs - condition.rhs
            for read in difference.atoms(sp.Indexed):
                slope = sp.diff(difference, read)
                rest = sp.expand(difference - slope * read)
                if slope.is_number and slope != 0 and rest.is_number:
                    found.add(float(-rest / slope))
                elif condition.rhs.is_number:
                    found.add(float(condition.rhs))
    return sorted(found)


def numbers(program: Program, dtype: str) -> NDArray[Any]:
    """The values that roots take in turn, rounded to the type: everyday ones first."""
    kind = np.dtype(dtype)
    largest = float(np.finfo(kind).max) / 4
    values: list[float] = [0.0, *(s * v for v in EVERYDAY for s in (1.0, -1.0))]
    for kink in kinks(program):
        at = kind.type(kink)
        sides = (np.nextafter(at, kind.type(np.inf)), np.nextafter(at, kind.type(-np.inf)))
        values += [float(at), *map(float, sides), kink + 1e-3, kink - 1e-3, kink + 1.0, kink - 1.0]
    values += [s * v for v in (*BEYOND, *TINIEST) if kind == np.float64 or 1e-38 < v < largest for s in (1.0, -1.0)]
    rng = np.random.default_rng(7)
    values += list(rng.normal(0, 2, RANDOM))
    return np.asarray(values, kind)


def points(cut: Cut, dtype: str, targets: str = "real", seed: int = 0) -> dict[str, NDArray[Any]]:
    """Values of everything that the cut program is given, one point a sample.

    A root takes the numbers in turn, the same in all its units for a tie, or others beside; adjoints are everyday
    numbers, targets are of the kind that the loss takes.
    """
    program = cut.program
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    line = numbers(program, dtype)
    samples = len(line) + len(line) // 2
    limits = lookup_limits(program)
    forward = [r for r in cut.roots if r not in cut.adjoints]
    given: dict[str, NDArray[Any]] = {}
    for tensor in program.tensors:
        shape = tuple(program.size(i.extent, samples) for i in tensor.indices)
        if tensor.kind is Kind.INTEGER:
            given[tensor.name] = rng.integers(0, limits.get(tensor.name, 2), shape)
        elif tensor.role is Role.PARAMETER:
            given[tensor.name] = rng.uniform(0.1, 2.0, shape).astype(kind)
        elif tensor.name in forward:
            given[tensor.name] = _root(line, shape, rng).astype(kind)
        elif tensor.name in cut.roots:
            size = 10.0 ** rng.choice([0.0, 0.0, 0.0, -3.0, 2.0], (samples, *(1 for _ in shape[1:])))
            given[tensor.name] = (rng.normal(0, 1, shape) * size).astype(kind)
        else:
            given[tensor.name] = _target(tensor, shape, targets, given, forward, rng).astype(kind)
    return given


def _root(line: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """The numbers twice: beside others, and (every third time) in a tie with itself or its negative."""
    units = math.prod(shape[1:])
    first = np.resize(line, shape[0]).astype(float)
    made = np.empty((len(first), units))
    made[:, 0] = first
    for k in range(1, units):
        choice = rng.integers(0, 5, len(first))
        others = [first, -first, first / 2, rng.normal(0, 1, len(first)), np.zeros(len(first))]
        made[:, k] = np.choose(choice, others)
    return made.reshape(shape)


def _target(
    tensor: Tensor, shape: tuple[int, ...], targets: str, given: Mapping[str, NDArray[Any]], roots: Iterable[str],
    rng: np.random.Generator,
) -> NDArray[Any]:  # fmt: skip
    """Targets of the kind that a loss takes; real ones are near what is predicted, equal to it, or elsewhere."""
    if tensor.name == "w_share" or tensor.role is Role.WEIGHT:
        return rng.uniform(0, 1, shape)
    made = random_targets(targets, shape, rng)
    if targets == "probability":
        return np.where(rng.uniform(0, 1, shape) < 0.3, np.round(made), made)
    if targets != "real":
        return made
    for root in roots:
        if root in given and given[root].shape == shape:
            near = given[root].astype(float)
            choice = rng.integers(0, 4, shape)
            made = np.choose(choice, [made, near, near * (1 + 1e-3), 0.0 * made])
    return made

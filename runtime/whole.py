"""Whole kernels: what all lines do together, and what a step of training does to the parameters.

Gradients are compared with central differences of the compiled loss, at the model's own extents. Loss, gradients and a
step of the compiled `train` (dropout and its noise included) are compared with the whole program in 50 digits
(`symbolic/running.py`); where there is too much of it, the same kernels are compiled at tiny extents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpmath import mp
from numpy.typing import NDArray

from ..codegen.request import Request, Update
from ..symbolic.derivation import derived_program
from ..symbolic.derive import Derived
from ..symbolic.language import Program, Role
from ..symbolic.model import LOSS, Model
from ..symbolic.optimisers import Optimiser
from ..symbolic.prove import tiny_sizes
from ..symbolic.running import PER_LINE, Running, run_exactly, work
from .blocks import InBlocks
from .certificate import DTYPES, Whole
from .differences import differences
from .drawn import random_values
from .judge import Table
from .kernels import LARGE_BATCH, Kernels, machine_of, support_source
from .load import stored
from .machine import Machine
from .stepped import judged, noise_fault, share, step

SAMPLES, ROWS = 3, 2  # two blocks
MANY = 4000  # terms of a program beyond which its extents are made tiny
MARGIN = 1e-3  # how far kinks should be
TRIES = 12
KEY = 7  # of the noise


@dataclass(frozen=True)
class Small:
    """A model's programs, at extents that can be computed in 50 digits."""

    model: Model
    plain: Derived
    training: Derived
    update: Update | None
    tiny: bool
    in_parts: bool

    def machine(self, routine: str, dtype: str) -> Machine:
        """The kernels for a routine; for gradients the model's own, which others use too, where they will do."""
        if routine == "gradients" and not self.tiny:
            return InBlocks(Kernels(self.model, dtype).machine(), ROWS)
        from ..codegen.generate import import_source, programs_source

        outputs = tuple(name for name in self.plain.program.outputs if name != LOSS)
        request = Request(self.model.default_variant, self.update, dtype, (routine,), self.in_parts)
        described = {"model": "whole", "classes": False, "weighted": False, "initial": {}}
        summary = [f"a model to look at as a whole; numbers are {dtype}"]
        source = programs_source(self.plain, self.training, request, import_source(dtype), summary, described, outputs)
        return InBlocks(machine_of(stored("whole", source, support_source()), source), ROWS)


def small(model: Model, optimiser: Optimiser | None, batch_size: int = 1) -> Small:
    """Derive a model without and with dropout, and bind its extents."""
    variant = model.default_variant
    plain = derived_program(model.program(variant))
    written = model.program(replace(variant, training=True))
    training = derived_program(written) if written.role(Role.NOISE) else plain
    tiny = work(plain.program, SAMPLES) > MANY
    if tiny:
        sizes = tiny_sizes(plain.forward)
        plain, training = _sized(plain, sizes), _sized(training, sizes)
    update = None if optimiser is None else Update(optimiser)
    return Small(model, plain, training, update, tiny, _in_parts(model, update, batch_size))


def _in_parts(model: Model, update: Update | None, batch_size: int) -> bool:
    """Whether the model's own step makes sums in parts: at tiny extents any could."""
    if update is None or batch_size < LARGE_BATCH:
        return False
    return "in_parts" in Kernels(model, "float32", update, batch=batch_size).machine().kernels["work"]["train"]


def _sized(derived: Derived, sizes: Mapping[Any, int]) -> Derived:
    return replace(derived, forward=replace(derived.forward, sizes=sizes))


def wholes(model: Model, optimiser: Optimiser | None, seed: int = 0, batch_size: int = 1) -> tuple[Whole, ...]:
    """All comparisons of whole kernels."""
    made = small(model, optimiser, batch_size)
    extents = " (at tiny extents)" if made.tiny else ""
    rng = np.random.default_rng(seed)
    given, parameters, exact = _point(made.plain.program, model, rng)
    found = [differences(model, seed)]
    wanted = (LOSS, *(made.plain.adjoint[p.name] for p in made.plain.forward.parameters))
    for dtype in DTYPES:
        workspace = gradients(made.machine("gradients", dtype), given, parameters)
        errors = compared({n: workspace[n] for n in wanted if n in workspace}, exact, dtype)
        found.append(whole(f"loss and gradients of the whole, {dtype}{extents}", dtype, errors))
    if optimiser is not None:
        dropout = ", with dropout" if made.training is not made.plain else ""
        for dtype in DTYPES:
            errors = _step(made, made.machine("train", dtype), dtype, given, parameters, rng)
            found.append(whole(f"a step of {optimiser.name}{dropout}, {dtype}{extents}", dtype, errors))
    return tuple(found)


def _point(
    program: Program, model: Model, rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], Running]:
    """Numbers that float32 has, with every kink some way off, and the program in 50 digits there."""
    best: Any = None
    for _ in range(TRIES):
        given, parameters = random_values(program, np.dtype(np.float32), model.loss.targets, 1.0, rng, SAMPLES)
        parameters = {n: a + np.float32(0.1) * rng.standard_normal(a.shape).astype(a.dtype)
                      for n, a in parameters.items()}  # fmt: skip
        exact = run_exactly(program, tables({**given, **parameters}, program), SAMPLES)
        if best is None or exact.margin > best[2].margin:
            best = given, parameters, exact
        if best[2].margin > MARGIN:
            break
    return best


def tables(arrays: Mapping[str, NDArray[Any]], program: Program) -> dict[str, Any]:
    """Arrays as tables of exact numbers; what has no index is at ()."""
    made = {}
    for name, array in arrays.items():
        scalar = name in program.by_name and not program.by_name[name].indices
        table = Table(array)
        made[name] = {(): table[()]} if scalar else {p: table[p] for p in np.ndindex(array.shape)}
    return made


def gradients(
    machine: Machine, given: Mapping[str, NDArray[Any]], parameters: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The arrays of one run of the kernel that computes gradients."""
    arrays = typed(machine, {**given, **parameters})
    workspace: dict[str, NDArray[Any]] = machine.workspace("gradients", SAMPLES)
    machine.run("gradients", machine.table("gradients", {**workspace, **arrays}), SAMPLES, SAMPLES)
    return workspace


def typed(machine: Machine, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Real arrays in the kernels' type."""
    return {n: a if a.dtype.kind == "i" else np.ascontiguousarray(a, machine.real) for n, a in arrays.items()}


def compared(arrays: Mapping[str, NDArray[Any]], exact: Running, dtype: str) -> Iterator[tuple[float, str]]:
    """The error of every entry, as a part of the sum of absolute terms, with words for it."""
    for name, array in arrays.items():
        for position, right in exact.values[name].items():
            computed = float(array[position] if position else array.reshape(-1)[0])
            entry = f"{name}[{','.join(map(str, position))}]" if position else name
            said = f"{entry} is {computed:.9g} instead of {mp.nstr(right, 9)}"
            yield share(computed, right, exact.bounds[dtype][name][position], dtype), said


def whole(what: str, dtype: str, errors: Iterable[tuple[float, str]]) -> Whole:
    """The largest of the errors, and the first that is out of its bound."""
    worst, fault = 0.0, ""
    for error, said in errors:
        worst = max(worst, error)
        fault = fault or ("" if error <= PER_LINE[dtype] else said)
    return Whole(what, worst, PER_LINE[dtype], fault)


def _step(
    made: Small, machine: Machine, dtype: str, given: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, NDArray[Any]], rng: np.random.Generator,
) -> Iterator[tuple[float, str]]:  # fmt: skip
    """A step of training: every parameter, state and number that all share, against the printed formulas."""
    assert made.update is not None
    program = made.training.program
    for key in range(KEY, KEY + TRIES):
        taken = step(machine, typed(machine, given), typed(machine, parameters), SAMPLES, key, rng)
        exact = run_exactly(program, tables({**given, **parameters, **taken.noise(program)}, program), SAMPLES)
        if exact.margin > MARGIN or not program.role(Role.NOISE):
            break
    wrong = noise_fault(taken, program)
    if wrong:
        yield math.inf, wrong
    yield from compared({LOSS: taken.loss}, exact, dtype)
    adjoints = {p.name: made.training.adjoint[p.name] for p in made.training.forward.parameters}
    yield from judged(taken, made.update.optimiser.bound, exact, adjoints, dtype)

"""`check`: every formula of a model proven, and its compiled lines held against 50 digits.

Equations are proven at tiny extents (`symbolic/proof.py`). Their emitted lines are compiled twice and looked at entry
by entry, each against its printed formula at the very numbers that it read: in the model's own kernel, at random
parameters of several sizes, and in the cut program of `grid.py`, at hard points. What they do together, and what a step
of training does, is looked at in `whole.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..codegen.request import Request
from ..symbolic.derivation import Derivation
from ..symbolic.derive import Derived
from ..symbolic.language import Equation, Program, Role
from ..symbolic.model import Model, Variant
from ..symbolic.optimisers import Optimiser
from ..symbolic.proof import Proof, proofs, proofs_of_update
from ..symbolic.text import expression_text
from .certificate import DTYPES, Certificate, Measured, Row
from .drawn import random_values
from .evaluation import run_forward
from .grid import Cut, cut, points
from .judge import Judge, Table, Verdict
from .kernels import Kernels, machine_of, support_source
from .load import stored
from .machine import Machine
from .whole import wholes

SAMPLES: Final = 5  # in the model's own kernel
SIZES: Final = (1.0, 1e-4, 8.0)  # of its parameters and inputs
ENTRIES: Final = 6  # of an equation that are looked at there, at each of them
UNITS: Final = 2  # of a point in the cut program


def check(model: Model, optimiser: Optimiser | None = None, seed: int = 0, batch_size: int = 1) -> Certificate:
    """Prove the derivation of a model and certify its kernels; `str()` of what comes back is the table.

    batch_size   of the training whose step is looked at: kernels for large batches are others

    >>> import chainrule as cr
    >>> cr.check(cr.Model(2, [cr.Dense(1)])).holds
    True
    """
    derivation = model.derivation()
    proven = proofs(derivation, seed=seed)
    found: dict[str, dict[str, Verdict]] = {}
    for dtype in DTYPES:
        verdicts = {e.name: Verdict(e.name) for e in derivation.program.equations}
        look_at_cut(cut(derivation.derived), dtype, verdicts, model.loss.targets, seed)
        look_at_model(model, derivation, dtype, verdicts, seed)
        found[dtype] = verdicts
    rows = list(_rows(derivation, {p.name: p for p in proven.rows}, found))
    if optimiser is not None:
        rows += [_proof_row(f"u{k}", p, {}) for k, p in enumerate(proofs_of_update(optimiser, seed), start=1)]
    notes = [f"never met on both sides: {condition}" for condition in proven.unseen]
    found_of_wholes = wholes(model, optimiser, seed, batch_size)
    return Certificate(model.name, tuple(rows), found_of_wholes, tuple(notes))


def _rows(
    derivation: Derivation, proven: Mapping[str, Proof], found: Mapping[str, Mapping[str, Verdict]]
) -> Iterator[Row]:
    """A row for every equation, in the order in which they are printed; then the derivatives by inputs."""
    names = [e.name for e in derivation.program.equations]
    for number, equation in enumerate(derivation.program.equations, start=1):
        measured = {d: _measured(verdicts[equation.name], d) for d, verdicts in found.items()}
        yield _proof_row(str(number), proven[equation.name], measured)
    for name in (name for name in proven if name not in names):
        yield _proof_row("dx", proven[name], {})


def _proof_row(number: str, proof: Proof, measured: Mapping[str, Measured]) -> Row:
    return Row(number, proof.name, proof.formula, proof.error, proof.against, proof.fault, measured)


def _measured(verdict: Verdict, dtype: str) -> Measured:
    low, high = verdict.range
    ulp = verdict.error / float(np.finfo(dtype).eps)
    return Measured(verdict.error, ulp, low, high, verdict.count, verdict.at, verdict.fault, verdict.remark)


# ---- the cut program


def compiled_cut(cut: Cut, dtype: str) -> Machine:
    """The kernels of a cut program: one routine, which computes every equation."""
    from ..codegen.generate import import_source, programs_source

    program = cut.program
    alone = Derived(program, (), {p.name: f"@{p.name}" for p in program.parameters}, ())
    request = Request(Variant(), None, dtype, ("predict",))
    described = {"model": "points", "classes": False, "weighted": False, "initial": {}}
    summary = [f"the formulas of a model at chosen points; numbers are {dtype}"]
    source = programs_source(alone, alone, request, import_source(dtype), summary, described, program.outputs)
    return machine_of(stored("points", source, support_source()), source)


def look_at_cut(cut: Cut, dtype: str, verdicts: Mapping[str, Verdict], targets: str = "real", seed: int = 0) -> None:
    """Hold every equation of a cut program against its formula at hard points."""
    if not cut.program.equations:
        return
    given = points(cut, dtype, targets, seed)
    machine = compiled_cut(cut, dtype)
    samples = len(next(a for t in cut.program.role(Role.INPUT) for a in [given[t.name]]))
    parameters = {t.name: given[t.name] for t in cut.program.parameters}
    inputs = {t.name: given[t.name] for t in cut.program.role(Role.INPUT)}
    ((_, _, workspace),) = run_forward(machine, "predict", parameters, inputs)
    arrays = _tables(cut.program, {**given, **workspace})
    judge = Judge(cut.program, dtype, samples)
    for equation in distinct(cut.program.equations):
        for position in _at_points(arrays[equation.name].array.shape, samples):
            judge.look(verdicts[equation.name], equation, position, arrays)


def distinct(equations: Iterable[Equation]) -> list[Equation]:
    """Equations of different shape: of layers that are alike, the first. All of them run in the model's own kernel."""
    return list({_shape(e): e for e in reversed([*equations])}.values())[::-1]


def _shape(equation: Equation) -> str:
    """The formula with its tensors numbered as they come."""
    names: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"t{len(names)}")

    return re.sub(r"[A-Za-z_]\w*(?=\[)", numbered, expression_text(equation.expr))


def _at_points(shape: tuple[int, ...], samples: int) -> Iterator[tuple[int, ...]]:
    """Every sample, and in each the first unit, where the numbers are in turn; now and then another."""
    inner = list(np.ndindex(shape[1:]))
    for n in range(samples):
        yield (n, *inner[0])
        if len(inner) > 1 and n % 3 == 0:
            yield (n, *inner[1 + n // 3 % (len(inner) - 1)])


# ---- the model's own kernel


@dataclass(frozen=True)
class Run:
    """One run of the kernel that computes gradients: everything that it read and made."""

    parameters: Mapping[str, NDArray[Any]]
    given: Mapping[str, NDArray[Any]]
    workspace: Mapping[str, NDArray[Any]]


def look_at_model(
    model: Model, derivation: Derivation, dtype: str, verdicts: Mapping[str, Verdict], seed: int = 0
) -> None:
    """Hold every equation of a model's own kernel against its formula at what it read."""
    program = derivation.program
    judge = Judge(program, dtype, SAMPLES)
    rng = np.random.default_rng(seed)
    for run in runs(model, derivation, dtype, rng):
        arrays = _tables(program, {**run.given, **run.parameters, **run.workspace})
        for equation in program.equations:
            if equation.name not in run.workspace:
                continue
            for position in _some(equation, arrays[equation.name].array.shape, rng):
                judge.look(verdicts[equation.name], equation, position, arrays)


def runs(model: Model, derivation: Derivation, dtype: str, rng: np.random.Generator) -> Iterator[Run]:
    """Runs at random parameters of several sizes."""
    kernels = Kernels(model, dtype)
    machine = kernels.machine(derivation.variant)
    for size in SIZES:
        given, parameters = random_values(derivation.forward, machine.real, model.loss.targets, size, rng, SAMPLES)
        workspace = machine.workspace("gradients", SAMPLES)
        table = machine.table("gradients", {**workspace, **parameters, **given})
        machine.run("gradients", table, SAMPLES, SAMPLES)
        yield Run(parameters, given, workspace)


def _some(equation: Equation, shape: tuple[int, ...], rng: np.random.Generator) -> Iterable[tuple[int, ...]]:
    if not equation.indices:
        return [()]
    count = math.prod(shape)
    chosen = range(count) if count <= ENTRIES else sorted({int(k) for k in rng.integers(0, count, ENTRIES)})
    return [tuple(int(k) for k in np.unravel_index(k, shape)) for k in chosen]


def _tables(program: Program, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Table]:
    return {name: Table(array) for name, array in arrays.items() if name in program.by_name}

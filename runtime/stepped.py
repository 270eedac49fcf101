"""One step of the compiled `train` at a random state, and what the printed update makes of the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from mpmath import mp
from numpy.typing import NDArray

from ..symbolic.exact import compiled
from ..symbolic.language import Program, Role
from ..symbolic.optimisers import Optimiser
from ..symbolic.running import DIGITS, LAST_DIGITS, PER_LINE, UNIT, Running
from ..symbolic.text import expression_text
from .given import shaped
from .machine import Machine
from .training import Training

RATE = 0.01
STEPS_BEFORE = 4
BITS = 2**64 - 1
CLOSE = 100  # a kink nearer than so many times what a gradient may be off is no point to look at

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """What a step read and made.

    before    states by `W@m`, then what all elements share, by name
    after     parameters, states, and what all elements share, likewise
    batch     everything else that the step computed
    """

    parameters: Arrays
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    batch: Arrays
    loss: NDArray[Any]
    key: int

    def noise(self, program: Program) -> dict[str, NDArray[Any]]:
        """The noise that the step drew."""
        return {t.name: self.batch[t.name] for t in program.role(Role.NOISE)}


def step(machine: Machine, given: Arrays, parameters: Arrays, samples: int, key: int, rng: np.random.Generator) -> Step:
    """Run one step, from states at random; what is a square is positive, and so are all."""
    training = Training(machine, shaped(machine, dict(parameters)), samples)
    for array in training.states.values():
        array[...] = rng.uniform(0.1, 1, array.shape)
    names = list(machine.kernels["optimiser"]["scalars"])
    training.scalars[...] = rng.uniform(0.1, 1, len(names))
    training.scalars[names.index("t")] = STEPS_BEFORE
    before = {n: a.copy() for n, a in training.states.items()} | dict(
        zip(names, training.scalars.tolist(), strict=True)
    )
    first = {name: array.copy() for name, array in training.parameters.items()}
    loss = training.run(dict(given), np.arange(samples), np.full(1, RATE), np.array([key]))
    after = {**training.parameters, **_copied(training, names)}
    return Step(first, before, after, training.of_batch(), loss, key)


def _copied(training: Training, names: list[str]) -> dict[str, Any]:
    states = {name: array.copy() for name, array in training.states.items()}
    return states | dict(zip(names, training.scalars.tolist(), strict=True))


def noise_at(key: int, position: int) -> float:
    """The number in [0, 1) of a key and a position: SplitMix64's finaliser, in integers."""
    bits = (key * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03) & BITS
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & BITS
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & BITS
    return ((bits ^ bits >> 31) >> 40) / 2.0**24


def noise_fault(taken: Step, program: Program) -> str:
    """The first number of the noise that is not what its key and position say."""
    for number, tensor in enumerate(program.role(Role.NOISE)):
        found = taken.batch[tensor.name].reshape(-1)
        for position, value in enumerate(found):
            right = noise_at(taken.key + number, position)
            if value != right:
                return f"{tensor.name}, number {position}, is {value:.9g}; key {taken.key + number} gives {right:.9g}"
    return ""


def share(computed: float, right: Any, bound: float, dtype: str) -> float:
    """An error as a part of the sum of absolute terms."""
    info = np.finfo(dtype)
    if not mp.isfinite(right) or abs(right) > float(info.max) / 2:
        return 0.0
    error = float(abs(computed - right)) / (bound / PER_LINE[dtype] + float(info.tiny))
    return error if np.isfinite(error) else np.inf


def judged(
    taken: Step, rule: Optimiser, gradients: Running, adjoints: Mapping[str, str], dtype: str
) -> Iterator[tuple[float, str]]:
    """Errors of everything that an update made, with words for each."""
    with mp.workdps(DIGITS):
        shared = _shared(taken, rule)
        known = {name for name, _ in rule.scalar_updates}
        for number, (name, expr) in enumerate(rule.scalar_updates, start=1):
            if name in taken.after:
                right, bound = shared.values[name][()], shared.bounds["float64"][name][()]
                yield _words(float(taken.after[name]), right, bound, "float64", name, f"(u{number}) {name}", expr)
        lines = [(f"(u{k}) {n}", n, e, compiled(e)) for k, (n, e) in enumerate(rule.updates, start=len(known) + 1)]
        for parameter, adjoint in adjoints.items():
            if adjoint in gradients.values:
                yield from _parameter(taken, rule, lines, shared, gradients, parameter, adjoint, dtype)


def _shared(taken: Step, rule: Optimiser) -> Running:
    """What all elements share, in 50 digits. It is computed in float64, whatever the elements are in."""
    numbers = {name: v for name, v in taken.before.items() if isinstance(v, float)}
    numbers |= {"t": STEPS_BEFORE + 1, "lr": RATE}
    running = Running({}, {name: {(): mp.mpf(v)} for name, v in numbers.items()})
    for name, expr in rule.scalar_updates:
        running.compute(name, (), compiled(expr), {})
        bound = running.bounds["float64"][name][()] + LAST_DIGITS * UNIT["float64"]  # of constants such as 0.999
        for known in running.bounds.values():
            known[name][()] = bound
    return running


def _parameter(
    taken: Step, rule: Optimiser, lines: list[tuple[str, str, sp.Expr, Any]], shared: Running, gradients: Running,
    parameter: str, adjoint: str, dtype: str,
) -> Iterator[tuple[float, str]]:  # fmt: skip
    final = {n: k for k, (_, n, _, _) in enumerate(lines)}
    for position, gradient in gradients.values[adjoint].items():
        running = Running({}, dict(shared.values), {d: dict(b) for d, b in shared.bounds.items()})
        place = position or (0,)
        start = {s: taken.before[f"{parameter}@{s}"][place] for s in rule.states}
        start["w"] = taken.parameters[parameter][place]
        running.values |= {"g": {(): gradient}, **{n: {(): mp.mpf(float(v))} for n, v in start.items()}}
        off = gradients.bounds[dtype][adjoint][position]
        running.bounds[dtype]["g"] = {(): off}
        for number, (label, name, expr, function) in enumerate(lines):
            running.compute(name, (), function, {})
            made = taken.after.get(parameter if name == "w" else f"{parameter}@{name}")
            if made is None or final[name] != number or running.margin <= CLOSE * off:
                continue
            entry = f"{name} of {parameter}[{','.join(map(str, position))}]"
            yield _words(
                float(made[place]), running.values[name][()], running.bounds[dtype][name][()], dtype, entry, label, expr
            )


def _words(
    computed: float, right: Any, bound: float, dtype: str, entry: str, label: str, expr: sp.Expr
) -> tuple[float, str]:
    said = f"{label} = {expression_text(expr)}: {entry} is {computed:.9g} instead of {mp.nstr(right, 9)}"
    return share(computed, right, bound, dtype), said

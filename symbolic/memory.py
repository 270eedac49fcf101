"""What a model asks of a machine's memory, counted from its equations before anything is allocated or derived.

    parameters   numbers that are trained
    sample       numbers that the equations compute for one sample
    batch        numbers that they compute once for all samples

Training holds every parameter, its gradient and its optimiser's states, and for each sample of a batch what the
equations compute and the adjoint of each. Kernels may need less, where they keep only blocks of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sympy as sp

from .errors import SpecError
from .language import SAMPLES, Equation, Program, Role, Tensor
from .limits import MOST_EQUATIONS, MOST_INDICES, MOST_NUMBERS

BYTES: Final = {"float32": 4, "float64": 8}
Held = Tensor | Equation


@dataclass(frozen=True)
class Memory:
    """Numbers that a program holds.

    >>> Memory(parameters=1_000, sample=10, batch=0).training(batch_size=32, states=2, dtype="float32")
    18560
    """

    parameters: int
    sample: int
    batch: int

    def training(self, batch_size: int, states: int, dtype: str) -> int:
        """Bytes for the steps of a training: parameters, gradients and states; values and adjoints of a batch."""
        numbers = self.parameters * (2 + states) + 2 * (self.sample * batch_size + self.batch)
        return numbers * BYTES[dtype]

    @property
    def largest(self) -> int:
        return max(self.parameters, self.sample, self.batch)


def planned(program: Program) -> Memory:
    """The numbers of a program whose extents are bound, all but that of the samples."""
    count = _counter(program)
    parameters = sum(map(count, program.role(Role.PARAMETER)))
    computed: list[Held] = [*program.equations, *(t for t in program.tensors if t.role is not Role.PARAMETER)]
    sample = sum(count(t) for t in computed if _is_of_a_sample(t))
    batch = sum(count(t) for t in computed if not _is_of_a_sample(t))
    return Memory(parameters, sample, batch)


def check_size(program: Program) -> Program:
    """The program, if it is no larger than any may be; else `SpecError`.

    The limits are far above what trains on one machine. What this machine has is the runtime's to say.
    """
    if len(program.equations) > MOST_EQUATIONS:
        raise SpecError(f"model: there are {len(program.equations)} equations; at most {MOST_EQUATIONS}")
    count = _counter(program)
    held: list[Held] = [*program.tensors, *program.equations]
    for tensor in held:
        if len(tensor.indices) > MOST_INDICES:
            raise SpecError(f"'{tensor.name}' has {len(tensor.indices)} indices; at most {MOST_INDICES}")
        if count(tensor) > MOST_NUMBERS:
            rule = f"at most {MOST_NUMBERS}; make its extents smaller"
            raise SpecError(f"'{tensor.name}' would hold {count(tensor)} numbers; {rule}")
    memory = planned(program)
    if memory.largest > MOST_NUMBERS:
        what = f"{memory.parameters} parameters, {memory.sample} numbers a sample"
        raise SpecError(f"model: {what}; at most {MOST_NUMBERS} each; make layers smaller")
    return program


def _counter(program: Program) -> Callable[[Held], int]:
    """How many numbers a tensor of a program holds, for one sample."""
    sizes = {symbol: sp.Integer(size) for symbol, size in program.sizes.items()} | {SAMPLES: sp.Integer(1)}

    def count(tensor: Held) -> int:
        extents = (index.extent.xreplace(sizes) for index in tensor.indices)
        return math.prod(int(e) for e in extents if e.is_Integer)  # the others are not bound yet

    return count


def _is_of_a_sample(tensor: Held) -> bool:
    return any(index.extent == SAMPLES for index in tensor.indices)

"""The samples of a batch and its noise, as lines of source: each block gathers and draws its own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from ..symbolic.language import Role, Tensor
from .arrays import LINE_BYTES, Arrays
from .layout import INDENT
from .legal import legal
from .plan import Plan, given_names

FETCHED = range(8, 257)  # numbers of a sample that are fetched a step ahead: fewer wait little, more come in a row


@dataclass(frozen=True)
class Batch:
    """What the blocks of a routine read of samples and noise."""

    plan: Plan
    arrays: Arrays

    @property
    def given(self) -> list[str]:
        """What every sample has."""
        return given_names(self.plan.program)

    @property
    def noises(self) -> list[tuple[int, Tensor]]:
        """With their numbers."""
        return list(enumerate(self.plan.program.role(Role.NOISE)))

    def drawn_by_rows(self, noise: str) -> int | None:
        """The phase whose rows draw a noise: the first that reads it; None where a task reads it no later."""
        for number, phase in enumerate(self.plan.phases):
            if any(noise in s.equation.reads for task in phase.tasks for s in task.steps):
                return None
            if any(noise in s.equation.reads for s in phase.rows):
                return number
        return None

    def gather(self, in_view: Container[str]) -> list[str]:
        """Copy the block's samples from the data set, in the order of this epoch; there are views of some already."""
        ahead = self._fetch()
        steps = "2*samples" if ahead else "samples"
        lines = [f"order = view(table[{self.arrays.slot('@order')}], (table[1] + {steps},), np.int64)"]
        for name in self.given:
            lines += [*([] if name in in_view else [self.arrays.view(name)]), self.arrays.view_of_data(name)]
        lines += ["for n in range(first, last):", f"{INDENT}sample = natural(order[table[1] + n])"]
        for name in self.given:
            sizes = self._sizes(self.arrays.tensor(name))
            loops = [legal(f"i{k}") for k in range(len(sizes))]
            at = ", ".join(["{}", *loops])
            copy = f"{name}[{at.format('n')}] = data_{name}[{at.format('sample')}]"
            lines += [INDENT + line for line in _under(loops, sizes, copy)]
        return ["if table[3]:  # gather this block's samples", *(INDENT + line for line in (*lines, *ahead))]

    def _fetch(self) -> list[str]:
        """Have the samples of the same block in the next step fetched; while parts are made, they would be lost."""
        sizes = {name: self.arrays.row(name) for name in self.given}
        fetched = {} if self.plan.in_parts else {name: size for name, size in sizes.items() if size in FETCHED}
        if not fetched:
            return []
        end = self.arrays.slots["@end"]
        lines = [f"if table[1] + 2*samples <= table[{end}]:  # fetch those of the next step"]
        lines += [f"{INDENT}for n in range(first, last):", f"{INDENT * 2}sample = order[table[1] + samples + n]"]
        for name, size in fetched.items():
            numbers = LINE_BYTES // self.arrays.bytes_of(self.arrays.tensor(name))
            lines.append(f"{INDENT * 2}for k in range(0, {size}, {numbers}):")
            lines.append(f"{INDENT * 3}fetch(data_{name}, sample*{size} + k)")
        return lines

    def draw(self, noise: Tensor, number: int, in_view: Container[str]) -> list[str]:
        """Draw the block's numbers of a noise."""
        sizes = self._sizes(noise)
        loops = [f"i{k}" for k in range(len(sizes))]
        position = "n"
        for size, variable in zip(sizes, loops, strict=True):
            position = f"({position})*{size} + {variable}"
        number_at = f"{noise.name}[{', '.join(['n', *loops])}] = real(uniform(table[4] + {number}, {position}))"
        view = [] if noise.name in in_view else [self.arrays.view(noise.name)]
        return [*view, "for n in range(first, last):", *(INDENT + line for line in _under(loops, sizes, number_at))]

    def _sizes(self, tensor: Tensor) -> list[int]:
        """Of the indices after that of the samples."""
        return [self.plan.program.size(i.extent) for i in tensor.indices[1:]]


def _under(loops: Sequence[str], sizes: Sequence[int], line: str) -> list[str]:
    """A line under nested loops."""
    pairs = enumerate(zip(loops, sizes, strict=True))
    return [*(f"{INDENT * k}for {name} in range({size}):" for k, (name, size) in pairs), INDENT * len(loops) + line]

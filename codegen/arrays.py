"""The arrays of a routine, which its functions find behind addresses in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..symbolic.language import SAMPLES, Kind, Tensor
from .plan import Plan

FIXED_SLOTS = (  # no tensor has such a name
    "@samples", "@start", "@step", "@gathering", "@key", "@scratch", "@rows", "@given", "@width", "@look",
    "@end",
)  # fmt: skip
LINE_BYTES = 64  # of a cache
BATCH, BLOCK, BLOCKS = "N", "rows", "blocks"  # in shapes: samples of a batch; of a block, for each worker; blocks
APART = "apart"  # samples of a batch, in blocks with a gap behind each
GAP = 4096  # bytes between what two cores write: a core fetches ahead, beyond the end of its block


class Slots:
    """Places in the table of addresses, given out in order."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {name: k for k, name in enumerate(FIXED_SLOTS)}

    def __getitem__(self, name: str) -> int:
        return self.places.setdefault(name, len(self.places))


class Arrays:
    """The arrays of one routine, as they are written.

    original   a name in the source -> the model's own
    real       the type of its numbers
    needs      names of those that have been written
    """

    def __init__(self, plan: Plan, original: Mapping[str, str], slots: Slots, real: str) -> None:
        self.plan, self.program, self.original, self.slots = plan, plan.program, original, slots
        self.item = 4 if real == "float32" else 8
        self.needs: dict[str, None] = {}

    def slot(self, name: str, before: str = "", after: str = "") -> int:
        """The place of an array in the table, under the model's own name for it."""
        name = self.plan.in_place.get(name, name)
        own = f"{before}{self.original.get(name, name)}{after}"
        self.needs.setdefault(own)
        return self.slots[own]

    def tensor(self, name: str) -> Tensor:
        return self.program.by_name[name]

    def bytes_of(self, tensor: Tensor) -> int:
        """Of a number."""
        return 8 if tensor.kind is Kind.INTEGER else self.item

    def row(self, name: str) -> int:
        """How many numbers the first index of a tensor steps over."""
        return math.prod(self.program.size(i.extent) for i in self.tensor(name).indices[1:])

    def shape(self, tensor: Tensor) -> tuple[object, ...]:
        """As the runtime allocates it."""
        samples = BLOCK if tensor.name in self.plan.passing else APART if tensor.name in self.plan.apart else BATCH
        return tuple(samples if i.extent == SAMPLES else self.program.size(i.extent) for i in tensor.indices) or (1,)

    def view(self, name: str, place: str | None = None) -> str:
        """The line that makes an array of what stands at its address, or at another place."""
        tensor = self.tensor(name)
        extents = ["samples" if i.extent == SAMPLES else str(self.program.size(i.extent)) for i in tensor.indices]
        if place is None:
            place, last = f"table[{self.slot(name)}]", self.plan.in_place.get(name, name)
            if last in self.plan.passing:  # each worker has rows for a block, which begins at `first`
                place += f" + worker*{GAP} + (worker*rows - first)*{self.row(name) * self.bytes_of(tensor)}"
            if last in self.plan.apart:
                place += f" + task*{GAP}"
        said = f"  # where {self.plan.in_place[name]} will be" if name in self.plan.in_place else ""
        return f"{name} = view({place}, {_tuple(extents or ['1'])}, {_type(tensor)}){said}"

    def view_of_data(self, name: str) -> str:
        """The line for all samples, of which those of a batch are gathered."""
        tensor = self.tensor(name)
        extents = ["table[3]", *(str(self.program.size(i.extent)) for i in tensor.indices[1:])]
        return f"data_{name} = view(table[{self.slot(name, before='@')}], {_tuple(extents)}, {_type(tensor)})"


def _tuple(words: list[str]) -> str:
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def _type(tensor: Tensor) -> str:
    return "np.int64" if tensor.kind is Kind.INTEGER else "real"

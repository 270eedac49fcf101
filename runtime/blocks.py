"""Kernels on small blocks of samples: where a block begins matters only in the second."""

from __future__ import annotations

from .machine import Machine


class InBlocks(Machine):
    """The same kernels, on blocks of `size` samples, however few samples there are."""

    def __init__(self, machine: Machine, size: int) -> None:
        super().__init__(machine.kernels, machine.code, machine.team)
        self.size = size

    def rows(self, routine: str, batch: int) -> int:
        """Samples in a block."""
        return self.size

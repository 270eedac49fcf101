"""What this machine has, against what a spec would ask of it: refused before anything is allocated or derived."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..symbolic.errors import SpecError
from ..symbolic.vetting import least_weights

if TYPE_CHECKING:
    from ..symbolic.model import Model

GROUPS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
LARGEST_BATCH: Final = 65_536


def memory_of_machine() -> int:
    """Bytes of memory that a process may have here: the machine's, its container's, or its own limit."""
    found = [sys.maxsize]
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(os.sysconf_names):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in map(Path, GROUPS):
        text = path.read_text("ascii").strip() if path.is_file() else ""
        if text.isdecimal():
            found.append(int(text))
    return min(size for size in found if size > 0)


def check_weights(given: Mapping[str, Any], place: str) -> None:
    """Raise `SpecError` where the dense layers in a spec's tables alone would fill the memory, with their gradients."""
    needed, there = 2 * 4 * least_weights(given), memory_of_machine()
    if needed > there:
        what = f"the dense layers have {least_weights(given):,} weights"
        rule = f"with their gradients {in_gigabytes(needed)}, of {in_gigabytes(there)} of memory; make layers smaller"
        raise SpecError(f"{place}: {what}, {rule}")


def check_memory(model: Model, batch_size: int, states: int, dtype: str, place: str) -> None:
    """Raise `SpecError` where training would need more memory than there is.

    batch_size   counted up to 65,536: a larger one stands for all samples, however many there are
    states       of the optimiser, each as large as the parameters
    """
    from ..symbolic.memory import planned  # with SymPy, which the tables of a spec do not need

    memory, batch_size = planned(model.program()), min(batch_size, LARGEST_BATCH)
    needed, there = memory.training(batch_size, states, dtype), memory_of_machine()
    if needed > there:
        what = f"{memory.parameters:,} parameters and {memory.sample:,} numbers a sample, times {batch_size:,}"
        rule = "make layers or batch_size smaller"
        raise SpecError(f"{place}: training needs {in_gigabytes(needed)} of memory ({what}); "
                        f"there are {in_gigabytes(there)}; {rule}")  # fmt: skip


def in_gigabytes(size: int) -> str:
    """A size as it is read.

    >>> in_gigabytes(12_345_678_901)
    '12.3 GB'
    """
    return f"{size / 1e9:,.1f} GB"

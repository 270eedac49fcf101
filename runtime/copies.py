"""What a training may go back to: copies of arrays, in memory while they are small, else in a file without a name.

Beside weights, states, data and the arrays of a batch, a process is to take some 150 MB, however large its model is.
A copy is made in the place of an earlier one, where there is one: memory and files that are new take ten times as long.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
IN_MEMORY: Final = 2**24  # bytes of a copy
PAGE: Final = 4096  # bytes
BY_POSITION: Final = hasattr(os, "preadv") and hasattr(os, "pwrite")  # a fork shares the place where a file is read


class Copy:
    """The numbers of some arrays as they were; `refresh` and `put` take as many arrays, of the same shapes and types.

    in_memory   bytes that are kept in memory; what is larger is written to the folder of temporary files, if it can be

    Raises OSError where the numbers cannot be read back.

    >>> weights = np.ones(3)
    >>> before = Copy([weights], in_memory=0)
    >>> weights *= 2
    >>> before.put([weights])
    >>> weights.tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, arrays: Sequence[Array], in_memory: int = IN_MEMORY) -> None:
        large = sum(array.nbytes for array in arrays) > in_memory
        self._kinds = [(array.shape, array.dtype) for array in arrays]
        self._file = _file(self) if large and BY_POSITION else None
        self._arrays: list[Array] = []
        self.refresh(arrays)

    def refresh(self, arrays: Sequence[Array]) -> None:
        """Copy once more, to the same place."""
        if self._file is not None:
            try:
                _all_of(arrays, self._file, lambda file, part, at: os.pwrite(file, part, at))
                return
            except OSError:  # the disk is full
                self._file = None
        if self._arrays:
            for own, other in zip(self._arrays, arrays, strict=True):
                own[...] = other
        else:
            self._arrays = [array.copy() for array in arrays]

    def put(self, arrays: Sequence[Array]) -> None:
        """Give arrays these numbers."""
        if self._file is not None:
            _all_of(arrays, self._file, lambda file, part, at: os.preadv(file, [part], at))
            return
        for own, other in zip(self._arrays, arrays, strict=True):
            np.copyto(other, own)

    def made(self) -> list[Array]:
        """These numbers in new arrays."""
        made = [np.empty(shape, dtype) for shape, dtype in self._kinds]
        self.put(made)
        return made


class Latest:
    """The last copy of some arrays; another thread may ask for it while the next one is made."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._now: Copy | None = None
        self._spare: Copy | None = None
        self._begun = self._made = 0  # how many copies

    def keep(self, arrays: Sequence[Array]) -> None:
        """Copy arrays, always of the same shapes and types; until that is done, the one before is the last copy."""
        self._begun = self._made + 1
        made = self._spare
        if made is None:
            made = Copy(arrays, self._in_memory)
        else:
            made.refresh(arrays)
        self._now, self._spare = made, self._now
        self._made = self._begun

    def made(self) -> list[Array]:
        """The numbers of the last copy in new arrays."""
        while True:
            count = self._made  # before it is known which one that is: the next one is made in another place
            assert self._now is not None
            found = self._now.made()
            if self._begun <= count + 1:  # the one after the next has not begun
                return found


def _file(owner: Copy) -> IO[bytes] | None:
    """A file that is gone with its owner, or with the process."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as its owner
    except OSError:  # no folder for it
        return None
    weakref.finalize(owner, file.close)
    return file


def _all_of(arrays: Sequence[Array], file: IO[bytes], move: Callable[[int, memoryview, int], int]) -> None:
    """Move all bytes of arrays to or from a file, each array at the beginning of a page, for speed."""
    number, at = file.fileno(), 0
    for array in arrays:
        rest = memoryview(array.reshape(-1).view(np.uint8).data)
        while rest:
            moved = move(number, rest, at)
            if not moved:
                raise OSError("a file of copies is shorter than it was")
            rest, at = rest[moved:], at + moved
        at += -at % PAGE

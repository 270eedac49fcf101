"""Files that survive a crash: written to the disk and read back, folders flushed, and one writer at a time.

A rename is only as durable as the folder that holds the name: `flush_folder` after it. Source: Pillai et al. 2014, "All
file systems are not created equal".
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ..symbolic.errors import SpecError

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
READ_AT_ONCE = 2**20  # bytes


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet; when this returns it is on the disk, byte by byte.

    Raises OSError, also where the disk took less than it was given.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        _flush(file.fileno())
    if not _holds(path, content):
        raise OSError(errno.EIO, "what is read back is not what was written", str(path))


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file holds this and no more; a part of it is read at a time."""
    with path.open("rb") as file:
        parts = (content[k : k + READ_AT_ONCE] for k in range(0, len(content), READ_AT_ONCE))
        return all(file.read(len(part)) == part for part in parts) and not file.read(1)


def flush_folder(folder: Path) -> None:
    """Put the names in a folder on the disk: what was made, renamed and deleted in it."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        _flush(number)
    finally:
        os.close(number)


def _flush(number: int) -> None:
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the disk's own cache
        fcntl.fcntl(number, fcntl.F_FULLFSYNC)
    else:
        os.fsync(number)


class Lock:
    """The right to write in a folder, as a context: one process at a time. It ends with the process, however that ends.

    A process that is forked meanwhile does not hold it, or the folder would stay locked for as long as that one lives.
    Raises SpecError where another one has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = -1

    def __enter__(self) -> Self:
        self.number = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.number)
            rule = "wait until it has ended, or give another directory"
            raise SpecError(f"{self.folder}: another training writes to this directory; {rule}") from None
        except OSError:
            pass  # a file system without locks
        _HELD.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in _HELD:
            _HELD.discard(self)
            os.close(self.number)


_HELD: set[Lock] = set()


def _leave_to_the_parent() -> None:
    """In a forked child: the locks are those of the process that it comes from."""
    while _HELD:
        os.close(_HELD.pop().number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)

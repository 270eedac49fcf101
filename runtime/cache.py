"""What is kept in the folder of kernels: written whole, verified when it is read, bounded, and cleared on request.

    name_<hash>.py                    a source, beside which nothing is compiled: its text is compared, not trusted
    source_<hash>.txt                 a source by the hash of its model
    name_<hash>.<function>.<machine>.o   machine code

The last two are entries: a line with the hash of their name and content, then the content. An entry that is not what
was written under its name, or that another user could have written, is said once and made anew. Reading one is a use;
where the folder grows beyond its bound, what was used least recently goes. There is no pickle in it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .folder import cache_folder, size_bound

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]

FORMAT: Final = b"chainrule entry 1 "
LARGEST: Final = 2**28  # bytes of an entry
OURS: Final = re.compile(r"\w+_[0-9a-f]{16,32}(\.\w+\.[0-9a-f]{12}\.o|\.py|\.txt)", flags=re.ASCII)
BESIDE: Final = re.compile(rf"\.{OURS.pattern}\.[a-z0-9_]{{8}}", flags=re.ASCII)  # while it is written
LOCK: Final = re.compile(r"\.lock-\d{1,2}")
LOCKS: Final = 64
LONGEST_WAIT: Final = 30.0  # seconds, for what another process makes
STALE: Final = 3600.0  # seconds after which nobody writes a file any more
FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_used: set[str] = set()  # names that this process has read or written; they stay
_said: set[tuple[str, str]] = set()
_here = threading.local()


# --- entries


def read_entry(path: Path) -> bytes | None:
    """What was written under a path; None where nothing is there, or something else."""
    found = _read(path)
    if found is None:
        return None
    line, _, content = found.partition(b"\n")
    if line != FORMAT + _digest(path, content):
        say_strange(path, "is not what was written" if found else "is empty")
        return None
    return content


def write_entry(path: Path, content: bytes) -> None:
    """Keep something under a path; raises OSError where that cannot be written."""
    write_whole(path, FORMAT + _digest(path, content) + b"\n" + content)
    keep_within_bound(path.parent)


def write_text(path: Path, text: str) -> None:
    """Keep a text as it is, if it is not there yet; raises OSError where that cannot be written."""
    content = text.encode()
    found = _read(path)
    if found == content:
        return
    if found is not None:
        say_strange(path, "is not what was written" if found else "is empty")
    write_whole(path, content)
    keep_within_bound(path.parent)


def say_strange(path: Path, why: str) -> None:
    """Warn of a file, once."""
    if (str(path), why) not in _said:
        _said.add((str(path), why))
        warnings.warn(f"{path} {why}; it is made anew", stacklevel=4)


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\n" + content).hexdigest().encode()


def _read(path: Path) -> bytes | None:
    """The bytes of a file that the user alone can have written; None where there is none, which may be said."""
    try:
        number = os.open(path, FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        say_strange(path, "is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})")
        return None
    state = os.fstat(number)
    why = _strange(state)
    if why:
        os.close(number)
        say_strange(path, why)
        return None
    with os.fdopen(number, "rb") as file:
        content = file.read(LARGEST)
    _used.add(path.name)
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))  # the time of its last use
    return content


def _strange(state: os.stat_result) -> str | None:
    """Why a file cannot be one of ours."""
    if not stat.S_ISREG(state.st_mode):
        return "is not a file"
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        return "belongs to another user"
    if hasattr(os, "getuid") and stat.S_IMODE(state.st_mode) & 0o022:
        return "can be written by others"
    return "is too large" if state.st_size >= LARGEST else None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, for the user alone, so that it is never seen half-written."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # nothing else can be in the way of a rename
        Path(beside).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise
    _used.add(path.name)


# --- several processes


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Inside, other processes that would make the same entry wait, and then find it. Nobody waits for long."""
    number = -1
    if fcntl is not None and not getattr(_here, "inside", False):
        with suppress(OSError):
            lock = path.parent / f".lock-{zlib.crc32(path.name.encode()) % LOCKS}"
            number = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if number < 0:
        yield
        return
    _here.inside = True
    try:
        _wait_for(number)
        yield
    finally:
        _here.inside = False
        os.close(number)


def _wait_for(number: int) -> None:
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            return  # a file system without locks
        else:
            return


# --- how much there is


@dataclass(frozen=True)
class Kept:
    """A file of ours."""

    path: Path
    size: int
    used: float  # when, in seconds since 1970


def kept(folder: Path) -> list[Kept]:
    """All entries, the least recently used first."""
    return sorted(_files(folder, OURS), key=lambda k: (k.used, k.path.name))


def _files(folder: Path, names: re.Pattern[str]) -> Iterator[Kept]:
    with os.scandir(folder) as found:
        for item in found:
            if names.fullmatch(item.name):
                with suppress(OSError):  # another process has removed it
                    state = item.stat(follow_symlinks=False)
                    if stat.S_ISREG(state.st_mode):
                        yield Kept(folder / item.name, state.st_size, max(state.st_atime, state.st_mtime))


def keep_within_bound(folder: Path) -> None:
    """Remove what was used least recently, as far as the bound asks for it; what this process uses stays."""
    with suppress(OSError):
        for left in _files(folder, BESIDE):
            if left.used < time.time() - STALE:
                left.path.unlink(missing_ok=True)
        entries, bound = kept(folder), size_bound()
        total = sum(k.size for k in entries)
        for entry in entries:
            if total <= bound:
                break
            if entry.path.name not in _used:
                entry.path.unlink(missing_ok=True)
                total -= entry.size


def clear(folder: Path) -> tuple[list[Kept], list[str]]:
    """Remove all that is ours; what was removed, and the names of what is left."""
    ours = [*kept(folder), *_files(folder, BESIDE)]
    for entry in (*ours, *_files(folder, LOCK)):
        entry.path.unlink(missing_ok=True)
    return ours, sorted(path.name for path in folder.iterdir())


__all__ = ["cache_folder", "clear", "kept", "read_entry", "turn", "write_entry", "write_text"]

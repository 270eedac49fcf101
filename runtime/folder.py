"""The folder of kernels: where it is, and that nobody but the user can put anything into it.

Loading a kernel is running code. So the folder belongs to the user alone (mode 0700, no link), and so does the way to
it: no folder or link on it can be swapped by another user. This is checked each time, not once.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from ..symbolic.errors import SpecError

ENVIRONMENT: Final = "CHAINRULE_CACHE"
NUMBA: Final = "NUMBA_CACHE_DIR"  # what holds machine code for those who use Numba: ours, too, if nothing else is said
SIZE: Final = "CHAINRULE_CACHE_SIZE"
DEFAULT_SIZE: Final = 10**9
UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MOST_LINKS: Final = 40  # on the way, as in the kernel
NOBODY: Final = 65534  # the owner of what has no owner inside of a container

_temporary: dict[int, Path] = {}  # by process: a child of a fork has its own


def cache_folder() -> Path:
    """The folder of kernels, made where it is missing; one for this process alone where it cannot be written.

    Raises `SpecError` where another user could write to it.
    """
    size_bound()
    try:
        folder = chosen_folder()
        _make(folder)
        _check(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("it is read-only")
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        return temporary_folder(error)
    return folder


def chosen_folder() -> Path:
    """Where the folder is to be: by the environment, else in the user's folder of caches."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given).absolute()
    base = os.environ.get(NUMBA) or os.environ.get("XDG_CACHE_HOME")
    return (Path(base).absolute() if base else Path.home() / ".cache") / "chainrule"


def size_bound() -> int:
    """How many bytes the folder may hold.

    >>> size_bound()
    1000000000
    """
    given = os.environ.get(SIZE, "").strip()
    if not given:
        return DEFAULT_SIZE
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kKMGT]?)B?", given, flags=re.ASCII)
    if found is None:
        raise SpecError(f"{SIZE} = {given[:40]!r}; give a number of bytes, such as 500000000, 500MB or 2G")
    return int(float(found[1]) * UNITS[found[2].upper()])


def temporary_folder(error: Exception) -> Path:
    """A folder of this process, which goes when it ends; said once."""
    process = os.getpid()
    if process not in _temporary or not _temporary[process].is_dir():
        made = _temporary[process] = Path(tempfile.mkdtemp(prefix="chainrule-"))
        atexit.register(_removed, process, made)
        why = getattr(error, "strerror", None) or error
        place = getattr(error, "filename", None) or os.environ.get(ENVIRONMENT) or "the folder of kernels"
        warnings.warn(
            f"{place}: {why}; kernels are kept in {made} until this process ends. "
            f"Set {ENVIRONMENT} to a folder that you can write to",
            stacklevel=3,
        )
    return _temporary[process]


def _removed(process: int, folder: Path) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    """Make a folder and those around it, all for the user alone."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _check(folder: Path) -> None:
    """Refuse a folder that is not the user's own, or the way to which is not safe; close it to others."""
    state = os.lstat(folder)
    if stat.S_ISLNK(state.st_mode):
        raise _refused(folder, "is a link")
    if not stat.S_ISDIR(state.st_mode):
        raise _refused(folder, "is not a folder")
    if not hasattr(os, "getuid"):
        return
    for place in way_to(folder.parent):
        danger = _danger(place)
        if danger:
            raise _refused(folder, f"is not safe: {place} {danger}")
    if state.st_uid != os.getuid():
        raise _refused(folder, "belongs to another user")
    if stat.S_IMODE(state.st_mode) & 0o077:
        folder.chmod(0o700)


def _refused(folder: Path, why: str) -> SpecError:
    return SpecError(f"cache folder {folder} {why}; set {ENVIRONMENT} to a folder of your own")


def way_to(path: Path) -> Iterator[Path]:
    """Every folder and link on the way to a path, from the root; links are followed one by one.

    >>> [str(place) for place in way_to(Path("/"))]
    ['/']
    """
    place, links = Path(path.anchor), 0
    todo = list(reversed(path.parts[1:]))
    yield place
    while todo:
        part = todo.pop()
        place = place.parent if part == ".." else place / part
        yield place
        if place.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise _refused(path, "has too many links on its way")
            target = place.readlink()
            todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            place = Path(target.anchor) if target.is_absolute() else place.parent


def _danger(place: Path) -> str | None:
    """Why another user could put something else in the place of what lies in a folder."""
    state = os.lstat(place)
    if state.st_uid not in _trusted(os.getuid()):
        return "belongs to another user"
    if stat.S_ISLNK(state.st_mode) or state.st_mode & stat.S_ISVTX:  # sticky: others cannot rename what is not theirs
        return None
    if state.st_mode & 0o002:
        return "can be written by everybody"
    if state.st_mode & 0o020 and not _is_own_group(state.st_gid):
        return "can be written by a group"
    return None


@lru_cache(maxsize=8)
def _trusted(user: int) -> frozenset[int]:
    """The users who may own folders on the way."""
    trusted = {0, user}
    with suppress(OSError, ValueError, IndexError):
        if int(Path("/proc/self/uid_map").read_text("ascii").split()[2]) < 2**32 - 1:
            trusted.add(NOBODY)  # in a container that knows some users only
    return frozenset(trusted)


def _is_own_group(group: int) -> bool:
    """Whether a group is that of root, or the one that many systems make for each user alone."""
    if group == 0:
        return True
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and found.gr_name == user.pw_name and not set(found.gr_mem) - {user.pw_name}

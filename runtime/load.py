"""Source -> a loaded module of kernels, from a folder of the user's own.

Loading a cached kernel is running code. The folder therefore belongs to the user alone (mode 0700, no link, checked
each time), a file's name is the hash of its content, and that is checked before it is imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from ..symbolic.errors import InternalError

ENVIRONMENT = "CHAINRULE_CACHE"


def cache_folder() -> Path:
    """The folder of kernels: $CHAINRULE_CACHE, else the user's cache folder; made where it is missing."""
    given = os.environ.get(ENVIRONMENT)
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "chainrule"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _own(folder)
    except OSError:
        return _own(Path(tempfile.mkdtemp(prefix="chainrule-")))


def _own(folder: Path) -> Path:
    state = os.lstat(folder)
    if stat.S_ISLNK(state.st_mode):
        raise InternalError(f"cache folder {folder} is a link; set {ENVIRONMENT} to a folder of your own")
    if hasattr(os, "getuid"):
        if state.st_uid != os.getuid():
            raise InternalError(f"cache folder {folder} belongs to another user; set {ENVIRONMENT} to one of your own")
        if stat.S_IMODE(state.st_mode) & 0o077:
            folder.chmod(0o700)
    return folder


def source_name(name: str, source: str, support: str) -> str:
    """model_<hash of everything that shapes the machine code>."""
    digest = hashlib.sha256("\x00".join((source, support)).encode()).hexdigest()[:16]
    stem = "".join(c if c.isalnum() else "_" for c in name)[:40]
    return f"{stem}_{digest}"


def stored(name: str, source: str, support: str) -> Path:
    """The path of the source in the cache folder, written if it is not there (or not the same)."""
    path = cache_folder() / f"{source_name(name, source, support)}.py"
    if not path.is_file() or path.is_symlink() or path.read_bytes() != source.encode():
        write_whole(path, source)
    return path


def write_whole(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that it is never seen half-written."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def load(path: Path) -> ModuleType:
    """Import a file under a name that is the same in every process, which Numba's cache relies on."""
    name = f"chainrule_kernels_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InternalError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

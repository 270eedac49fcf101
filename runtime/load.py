"""Source -> a loaded module of kernels. The source is looked at before it is imported: it must be the emitter's.

What is imported is the text that was checked, not what stands in the file by then; the file is there to be read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.abc import ExecutionLoader
from pathlib import Path
from types import ModuleType

from ..symbolic.errors import InternalError
from .cache import cache_folder, write_text
from .folder import temporary_folder

LONGEST_STEM = 28


def source_name(name: str, source: str, support: str) -> str:
    """model_<hash of everything that shapes the machine code>."""
    digest = hashlib.sha256("\x00".join((source, support)).encode()).hexdigest()[:32]
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:LONGEST_STEM]
    return f"{stem}_{digest}"


def is_stored(name: str, source: str, support: str) -> bool:
    """Whether a source has its file in the cache folder."""
    return (cache_folder() / f"{source_name(name, source, support)}.py").is_file()


def stored(name: str, source: str, support: str) -> Path:
    """The path of the source in the cache folder, written if it is not there (or not the same)."""
    path = cache_folder() / f"{source_name(name, source, support)}.py"
    try:
        write_text(path, source)
    except OSError as error:
        path = temporary_folder(error) / path.name
        write_text(path, source)
    return path


class _Checked(ExecutionLoader):
    """A text that is imported as the file in which it stands."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_source(self, fullname: str) -> str:
        return self.text

    def is_package(self, fullname: str) -> bool:
        return False


def load(path: Path, source: str, checked: bool = False) -> ModuleType:
    """Import a generated source under a name that is the same in every process; look at it first, or again."""
    name = f"chainrule_kernels_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if not checked:
        from ..codegen.grammar import check_source

        check_source(source)
    spec = importlib.util.spec_from_loader(name, _Checked(path, source))
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

"""The driver, compiled for the first time in a process of its own, while this one derives and compiles a model.

That process writes what it has compiled to the folder of kernels, part by part. Where this one needs a part before the
other has begun it, it compiles that part itself; where the other is at it, it waits (`cache.turn`). So nothing depends
on whether the process runs, or could be started at all.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from .folder import ENVIRONMENT
from .native import parts_of_driver, team

FEWEST: Final = 2  # parts that are missing; a process starts in the time that one of them takes
COMMAND: Final = "import sys; from {package}.runtime.ahead import compile_parts; compile_parts(sys.argv[1:])"


@lru_cache(maxsize=2)
def compile_driver_ahead(dtype: str) -> None:
    """Begin to compile what is missing of the driver, if that is much, and a core is there for it."""
    missing = {name: path for name, path in parts_of_driver(dtype).items() if not path.is_file()}
    if len(missing) < FEWEST or (os.cpu_count() or 1) < 2 or not _is_python():
        return
    package = __name__.partition(".")[0]
    home = Path(sys.modules[package].__file__ or "").parent.parent
    path = os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])
    folder = next(iter(missing.values())).parent
    with suppress(OSError):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND.format(package=package), *missing],
            env={**os.environ, "PYTHONPATH": path, ENVIRONMENT: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(_end, process, os.getpid())


def _is_python() -> bool:
    """Whether what runs this process is Python itself, and not a program that has it inside."""
    return "python" in Path(sys.executable or "").name.lower() and not getattr(sys, "frozen", False)


def _end(process: subprocess.Popen[bytes], parent: int) -> None:
    """At the end of this process, though not of one that was forked from it."""
    if os.getpid() == parent:
        process.terminate()
        process.wait()


def compile_parts(names: list[str]) -> None:
    """What the other process does."""
    team().code.prepare(names)

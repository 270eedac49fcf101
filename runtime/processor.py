"""What decides which machine code is made here: the processor, and what makes the code.

LLVM is not loaded for it, where the system shows the processor.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

CPUINFO: Final = Path("/proc/cpuinfo")
OF_A_PROCESSOR: Final = ("vendor_id", "cpu family", "model", "stepping", "flags")  # as Linux shows those of x86
ENOUGH: Final = 2**14  # characters of it, for the first processor: to read about all may take long
OF_RUNNING: Final = ("CACHE", "THREAD", "NUM_THREADS", "WARN")  # settings of Numba that shape no machine code


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor, and all that makes machine code for it, as a short hash."""
    names = sorted(n for n in os.environ if n.startswith("NUMBA_") and not n[6:].startswith(OF_RUNNING))
    said = [
        processor(), sys.platform, platform.machine(), ".".join(map(str, sys.version_info[:2])),
        version_of("numba"), version_of("llvmlite"), _size_of_llvm(), np.__version__,
        *(f"{name}={os.environ[name]}" for name in names),
    ]  # fmt: skip
    return sha256("\x00".join(said).encode()).hexdigest()[:12]


def processor() -> str:
    """Its kind and its features, as the system shows them, else as LLVM does.

    NumPy asks the processor itself, which an emulator may have changed.
    """
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as file:
            first = file.read(ENOUGH).partition("\n\n")[0]
    except OSError:
        first = ""
    lines = (line.partition(":") for line in first.splitlines())
    told = {name.strip(): value.strip() for name, _, value in lines}
    if all(told.get(name) for name in OF_A_PROCESSOR):
        return "\n".join([*(told[name] for name in OF_A_PROCESSOR), *_seen_by_numpy()])
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()}\n{binding.get_host_cpu_features().flatten()}"


def _seen_by_numpy() -> list[str]:
    features = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
    return sorted(name for name, there in getattr(features, "__cpu_features__", {}).items() if there)


def version_of(package: str) -> str:
    """Which Numba or llvmlite there is, by its own file: `importlib.metadata` takes 30 ms to import."""
    file = _folder_of(package) / "_version.py"
    if file.is_file():
        return file.read_text("utf-8")
    from importlib.metadata import version

    return version(package)


def _size_of_llvm() -> str:
    """Of the library that holds LLVM, which may be another one for the same llvmlite."""
    libraries = sorted((_folder_of("llvmlite") / "binding").glob("*llvmlite*"))
    return " ".join(str(path.stat().st_size) for path in libraries)


def _folder_of(package: str) -> Path:
    found = find_spec(package)
    return Path((found and found.origin) or package).parent

"""The machine and the versions that numbers belong to."""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from .contestant import thread_counts

PACKAGES: Final = ("chainrule", "numpy", "scipy", "numba", "llvmlite", "jax", "jaxlib", "torch", "scikit-learn")
CPUINFO: Final = Path("/proc/cpuinfo")
STAT: Final = Path("/proc/stat")
BUSY: Final = 0.2  # cores; more than this shows in the times
VECTORS: Final = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def environment() -> dict[str, Any]:
    """Date, machine, versions and BLAS."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu(),
        "cores": thread_counts()[-1],
        "busy": busy_cores(1.0),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := version_of(name))},
        "blas": blas(),
    }


def version_of(distribution: str) -> str:
    """Its version, or nothing where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def cpu() -> str:
    """The processor's name for itself, and its widest vectors."""
    if not CPUINFO.exists():
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in CPUINFO.read_text().splitlines() if ":" in line)
    entries = {name.strip(): value.strip() for name, value in pairs}
    flags = entries.get("flags", entries.get("Features", "")).split()
    widest = next((name for flag, name in VECTORS.items() if flag in flags), "")
    family = f"family {entries['cpu family']}, model {entries['model']}" if "cpu family" in entries else ""
    return ", ".join(part for part in (entries.get("model name", platform.machine()), family, widest) if part)


def busy_cores(seconds: float) -> float | None:
    """How many cores other processes keep busy, watched for so long; None where that cannot be seen."""
    if not STAT.exists():
        return None
    before, start = _busy_seconds(), time.perf_counter()
    time.sleep(seconds)
    return (_busy_seconds() - before) / (time.perf_counter() - start)


def _busy_seconds() -> float:
    """The time that all cores have worked since the start of the machine: all columns but idle and waiting."""
    columns = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(columns) - columns[3] - columns[4]) / os.sysconf("SC_CLK_TCK")


def blas() -> list[str]:
    """The libraries behind the matrix products of NumPy and SciPy, and their kernels."""
    import scipy.linalg.blas  # noqa: F401  brings its own
    from threadpoolctl import threadpool_info

    return [
        f"{info['prefix']} {info['version']} ({info.get('architecture', 'unknown')})"
        for info in threadpool_info()
        if info["user_api"] == "blas" and Path(info["filepath"]).exists()
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """What `environment` gave, for a reader."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    made = [
        f"{found['cpu']}, {found['cores']} cores; {found['system']}; {found['date']}",
        f"Python {found['python']}, {versions}",
        f"BLAS: {', '.join(found['blas'])}",
    ]
    if (found["busy"] or 0) > BUSY:
        made.append(
            f"Other processes keep {found['busy']:.1f} cores busy: these times are not what the machine can do."
        )
    return made

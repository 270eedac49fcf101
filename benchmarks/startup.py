"""The first epoch of a fresh process, with empty caches and with full ones, and the memory it takes.

python -m chainrule.benchmarks.startup NAME WORKLOAD    is that process
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .worker import contestant
from .workloads import ALL, Workload, data, first_weights

STATUS: Final = Path("/proc/self/status")
WORKLOAD: Final = ALL["classifier"]
WITH_START: Final = ("chainrule", "jax", "torch", "torch compiled", "scikit-learn")


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the end of its first epoch, imports included.

    cold, warm   with empty and with full caches, each several times
    memory       bytes, the most that the process held
    """

    name: str
    workload: str
    cold: list[float]
    warm: list[float]
    memory: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def measure_starts(
    names: Sequence[str], workload: Workload = WORKLOAD, cold: int = 2, warm: int = 3
) -> tuple[list[Start], dict[str, str]]:
    """Everybody in turns, first cold, then warm; and why some did not start."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    compile_to_bytecode(Path(__file__).parent.parent)
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(cold + warm):
            for name in (n for n in names if n not in failures):
                folder = Path(kept) / name / str(min(turn, cold - 1))  # the last cold one fills it for the warm ones
                try:
                    taken[name].append(first_epoch(name, workload, folder))
                except RuntimeError as error:
                    failures[name] = str(error)
    return [_start(name, workload, taken[name], cold) for name in names if name not in failures], failures


def compile_to_bytecode(package: Path) -> None:
    """As the installation of a wheel does, and an editable one does not: the peers were installed from wheels."""
    for folder in (package, *filter(Path.is_dir, package.iterdir())):
        compileall.compile_dir(folder, maxlevels=0, quiet=2)


def _start(name: str, workload: Workload, runs: list[dict[str, float]], cold: int) -> Start:
    seconds = [run["seconds"] for run in runs]
    return Start(name, workload.name, seconds[:cold], seconds[cold:], statistics.median(r["memory"] for r in runs))


def first_epoch(name: str, workload: Workload, folder: Path) -> dict[str, float]:
    """One process from its start to its answer, with its caches in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "chainrule.benchmarks.startup", name, workload.name],
        env={**os.environ, **caches(folder)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        passed = time.perf_counter() - start  # how long it takes to end does not count
        _, complaints = process.communicate()
    if not line:
        raise RuntimeError((complaints.strip().splitlines() or [f"ended with code {process.returncode}"])[-1])
    answer = json.loads(line)
    return {"seconds": passed - answer["apart"], "memory": answer["memory"]}


def caches(folder: Path) -> dict[str, str]:
    """Every cache that a contestant may have, in one folder."""
    return {
        "CHAINRULE_CACHE": str(folder / "chainrule"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
    }


def needed(workload: Workload) -> int:
    """Bytes of parameters, optimiser state, data, and the activations and deltas of one batch."""
    size = 8 if workload.dtype == "float64" else 4
    parameters = sum(units * (inputs + 1) for inputs, units in workload.layers)
    states = 1 if workload.optimiser == "sgd" else 3
    targets = workload.samples * (8 if workload.loss == "cross_entropy" else size * workload.sizes[-1])
    values = states * parameters + workload.samples * workload.sizes[0] + 2 * workload.batch * sum(workload.sizes)
    return size * values + targets


def peak_memory() -> float:
    """The most bytes that this process has held; 0 where Linux does not say."""
    if not STATUS.exists():
        return 0.0
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) * 1024


def main() -> None:
    """Train one epoch; making the data does not count."""
    name, workload = sys.argv[1], ALL[sys.argv[2]]
    start = time.perf_counter()
    given = (*data(workload), first_weights(workload))
    apart = time.perf_counter() - start
    build = next(iter(contestant(name).variants(workload).values()))
    build(workload, *given).fit(1)
    print(json.dumps({"apart": apart, "memory": peak_memory()}), flush=True)


if __name__ == "__main__":
    main()

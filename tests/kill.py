"""kill -9 at random moments of `chainrule train` and `chainrule resume`; what is resumed must end in the same bits.

    python tests/kill.py --kills 200          some minutes; prints a line for each run and a summary, exits 1 at a loss

A run is started, and killed at a random moment: of its whole time, of the time since its first checkpoint, or while a
checkpoint is written. Then it is resumed and killed again, until it comes to its end. Its weights, the best weights,
the optimiser's state and the history must be those of a run that nobody killed. The model is tiny and saved as often as
can be.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import cli
from chainrule.runtime import store, trainer  # noqa: F401  imported here, not in every fork

WRITING = 0.02  # seconds, about, that a checkpoint takes

SPEC = """
[model]
inputs = 6
loss = "cross_entropy"

[[layer]]
type = "dense"
units = 16
activation = "tanh"

[[layer]]
type = "dropout"
rate = 0.2

[[layer]]
type = "dense"
units = 3
activation = "softmax"

[training]
optimiser = { name = "adam", lr = 0.001 }
schedule = "cosine"
batch_size = 1
epochs = EPOCHS
validation = 0.1
early_stopping = { patience = 1000 }
metrics = ["accuracy"]
checkpoint = { epochs = 2, seconds = 0 }

[data]
file = "data.npz"
scale = "standard"
"""


@dataclass
class Tally:
    """What was seen: kills, those before the first checkpoint and those while one was written, and runs that ended."""

    kills: int = 0
    before: int = 0
    writing: int = 0
    within: int = 0  # an epoch: the newest checkpoint was
    runs: int = 0
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.before} before the first checkpoint, {self.writing} while one was written, "
            f"{self.within} resumed within an epoch), {self.runs} runs, {len(self.lost)} with other bits"
        )


def prepare(folder: Path, samples: int, epochs: int) -> None:
    """The spec and its data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 6))
    np.savez(folder / "data.npz", x=x, y=(x[:, 0] > 0) + (x[:, 1] * x[:, 2] > 0).astype(int))
    (folder / "net.toml").write_text(SPEC.replace("EPOCHS", str(epochs)), "utf-8")


def command(folder: Path, run: Path) -> list[str]:
    """A process that trains, or resumes where there is something to resume."""
    return [sys.executable, "-m", "chainrule", *words(folder, run)]


def words(folder: Path, run: Path) -> list[str]:
    begin = ["resume", str(run)] if store.numbers(run) else ["train", str(folder / "net.toml"), "-o", str(run)]
    return [*begin, "-q"]


def fresh(folder: Path, run: Path) -> subprocess.Popen[bytes]:
    """A process of its own, from the first import on."""
    return subprocess.Popen(command(folder, run), stdout=subprocess.DEVNULL)


def _silent(given: list[str]) -> None:
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        cli.main(given)


class Forked:
    """A fork of this process, which has imported all: more kills in the same time, and more of them in the steps."""

    def __init__(self, folder: Path, run: Path) -> None:
        given = (words(folder, run),)
        self.process = multiprocessing.get_context("fork").Process(target=_silent, args=given)
        self.process.start()
        self.kill = self.process.kill

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("chainrule", timeout or 0)
        return self.process.exitcode


Start = Callable[[Path, Path], subprocess.Popen[bytes] | Forked]


def result(run: Path) -> dict[str, Any]:
    """What a run has come to, times aside."""
    files = store.latest(run).files
    history = json.loads(files["history.json"])
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history["epochs"]]
    tensors = {name: store.sha256(content) for name, content in files.items() if name.endswith("safetensors")}
    return {**tensors, "rows": rows, "stopped": history["stopped"]}


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What is not the same in two results."""
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but take time, beside what runs here."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def killed(folder: Path, run: Path, moment: Moment, seconds: float, tally: Tally, start: Start = fresh) -> bool:
    """Start it, kill it some seconds after a moment; whether it had come to its end."""
    before = set(store.numbers(run))
    process = start(folder, run)
    while not moment(run, before) and process.poll() is None:
        time.sleep(0.0005)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        note(run, tally)
        return False
    if code:
        raise SystemExit(f"{run}: ended with {code}")
    return True


Moment = Callable[[Path, set[int]], bool]  # of a run that had these checkpoints: whether it is there


def started(run: Path, before: set[int]) -> bool:
    return True


def trains(run: Path, before: set[int]) -> bool:
    """It has written a checkpoint."""
    return bool({*store.numbers(run)} - before)


def writes(run: Path, before: set[int]) -> bool:
    """It has written a checkpoint, and is at another one."""
    return trains(run, before) and being_written(run)


def being_written(run: Path) -> bool:
    return any(store.LEFT_OVER.match(path.name) for path in run.iterdir())


def note(run: Path, tally: Tally) -> None:
    """What the kill has left."""
    tally.kills += 1
    if not store.numbers(run):
        tally.before += 1
        return
    tally.writing += being_written(run)
    tally.within += store.latest(run).table("progress.json")["position"]["step"] > 0


@dataclass(frozen=True)
class Times:
    """Seconds that a run takes, once all is compiled, and that it takes after its first checkpoint."""

    whole: float
    training: float


def measured(folder: Path, start: Start = fresh) -> tuple[dict[str, Any], Times]:
    """The result of a run that nobody kills, and how long it takes."""
    for name, how in (("warm", fresh), ("whole", start)):
        run, began = folder / name, time.monotonic()
        process = how(folder, run)
        while not trains(run, set()) and process.poll() is None:
            time.sleep(0.0005)
        first = time.monotonic()
        if process.wait():
            raise SystemExit(f"{run}: ended with {process.poll()}")
        times = Times(time.monotonic() - began, time.monotonic() - first)
    print(f"a run takes {times.whole:.1f} s, {times.training:.1f} s of them after its first checkpoint", flush=True)
    return result(folder / "whole"), times


def run_and_kill(
    folder: Path, wanted: dict[str, Any], times: Times, kills: int, seed: int, start: Start = fresh
) -> Tally:
    """So many kills of runs that take so long; each run must end as the one that nobody killed."""
    rng, tally = np.random.default_rng(seed), Tally()
    moments = ((started, times.whole), (trains, times.training), (trains, times.training), (writes, WRITING))
    while tally.kills < kills:
        run, before, ended = folder / f"run{tally.runs}", tally.kills, False
        while not ended:
            moment, most = moments[rng.integers(len(moments))]
            seconds = rng.uniform(0, 1.05 * most)
            if tally.kills == kills:  # enough: the last run is left in peace
                moment, seconds = started, 3600.0
            ended = killed(folder, run, moment, seconds, tally, start)
        tally.runs += 1
        other = differing(result(run), wanted)
        if other:
            tally.lost.append(f"{run.name} ({', '.join(other)})")
        said = f"OTHER BITS in {', '.join(other)}" if other else "the same bits"
        print(f"run {tally.runs}: {said} after {tally.kills - before} kills", flush=True)
    return tally


def main(kills: int, samples: int, epochs: int, seed: int, beside: int, forked: bool) -> Tally:
    """The whole thing, in a temporary folder."""
    start: Start = Forked if forked else fresh
    with tempfile.TemporaryDirectory() as name, busy(beside):
        folder = Path(name)
        prepare(folder, samples, epochs)
        return run_and_kill(folder, *measured(folder, start), kills, seed, start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--samples", type=int, default=120_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", type=int, default=0, help="processes that take time from the runs")
    parser.add_argument("--forked", action="store_true", help="runs are forks, which need not import anything")
    tally = main(**vars(parser.parse_args()))
    print(tally)
    sys.exit(bool(tally.lost))

"""Runs of the command line that are killed, interrupted and terminated go on to the bits of one that is not."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chainrule.runtime import store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such signals to send")


def script() -> ModuleType:
    """kill.py, which stands beside this file and is no part of the package."""
    spec = importlib.util.spec_from_file_location("kill_script", Path(__file__).with_name("kill.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


KILL = script()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec and its data, small enough to be trained often and long enough to be met."""
    made = tmp_path_factory.mktemp("kill")
    KILL.prepare(made, samples=60_000, epochs=3)
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[dict[str, Any], Any]:
    """What a run comes to that nobody kills, and how long it takes."""
    measured: tuple[dict[str, Any], Any] = KILL.measured(folder)
    return measured


def test_killed_at_random_moments(folder: Path, whole: tuple[dict[str, Any], Any]) -> None:
    """A few kills; 200 are made by `python tests/kill.py`."""
    tally = KILL.run_and_kill(folder, *whole, kills=3, seed=1)
    assert tally.lost == [], str(tally)


def _listen_to_interrupts() -> None:
    """As in the foreground: what a shell starts in the background ignores them, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
def test_signalled_it_saves_and_goes_on(
    folder: Path, whole: tuple[dict[str, Any], Any], number: signal.Signals, code: int, word: str
) -> None:
    run = folder / f"signal{number}"
    command = KILL.command(folder, run)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_listen_to_interrupts
    ) as process:
        try:
            while not store.numbers(run) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(0.05)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, err
    (line,) = err.splitlines()
    assert line.startswith(word)
    assert line.endswith(f"; saved in {run}; go on with: chainrule resume {run}")
    assert store.latest(run).table("progress.json")["position"]["epoch"] < 3
    subprocess.run(KILL.command(folder, run), check=True, capture_output=True)
    assert KILL.result(run) == whole[0]

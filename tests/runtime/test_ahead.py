"""Functions compiled in another process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chainrule.runtime import ahead

TRAIN = """
import sys, numpy as np, numpy.random, chainrule as cr
from chainrule.runtime import ahead
{before}
trainer = cr.Trainer(cr.Model(2, [cr.Dense(1)]), cr.SGD(0.1), 4, "float32", threads=2)
trainer.fit(np.ones((8, 2)), np.ones(8), epochs={epochs}, verbose=0)
print(trainer.history["loss"][-1], "numba" in sys.modules)
{after}
"""
TWO_CORES = "import os; os.cpu_count = lambda: 2"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")


def trained(cache: Path, before: str = "", after: str = "", **environment: str) -> list[str]:
    """What a training in a process of its own says: its loss, and whether it has imported Numba."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN.format(before=before, after=after, epochs=2)],
        env={**os.environ, "CHAINRULE_CACHE": str(cache), **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ahead") / "kernels"


@pytest.fixture(scope="module")
def loss(cache: Path) -> str:
    """The loss of a training all of whose functions were compiled elsewhere."""
    all_of_it = "cr.runtime.native.team().address('team')\n"
    gone = (
        f"{all_of_it}process = ahead.workshop().process; ahead.workshop().end(); print(process.returncode is not None)"
    )
    said = trained(cache, TWO_CORES, gone)
    assert said[1:] == ["False", "True"]
    return said[0]


def names(cache: Path) -> set[str]:
    return {path.name.split(".")[1] for path in cache.glob("*.o")}


@needs_fork
def test_an_empty_cache_is_filled_by_another_process(cache: Path, loss: str) -> None:
    assert names(cache) >= {"product_float32", "alone", "train_phase_0", "train_phase_1"}
    assert not [path for path in cache.iterdir() if path.name.startswith(".driver") or path.name.startswith(".model")]


@needs_fork
def test_a_full_cache_needs_no_process(cache: Path, loss: str) -> None:
    refused = "def no(*_): raise AssertionError\nahead._begun = no"
    assert trained(cache, refused) == [loss, "False"]


@pytest.mark.parametrize("command", ["import sys; sys.exit(3)", "import sys; sys.stdin.readline()"])
@needs_fork
def test_this_process_compiles_where_the_other_one_dies(command: str, cache: Path, loss: str, tmp_path: Path) -> None:
    """At once, or when it is told what to do. Of the parts that take long, the cache has all but the phases."""
    for path in cache.glob("driver_*.o"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert trained(tmp_path, f"{TWO_CORES}; ahead.COMMAND = {command!r}") == [loss, "True"]
    assert names(tmp_path) == names(cache)


def refused(*_: object, **__: object) -> None:
    raise PermissionError


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (ahead.os, "cpu_count", lambda: 1),
        (ahead.subprocess, "Popen", refused),
        (ahead.sys, "executable", "/usr/bin/blender"),
        (ahead.sys, "executable", None),
    ],
    ids=("one core", "refused", "Python inside", "unknown"),
)
def test_nothing_is_begun_where_it_cannot_be(
    place: Any, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(ahead, "_open", [])
    monkeypatch.setattr(place, name, value)
    assert ahead.open_workshop() is None


@needs_fork
def test_ctrl_c_ends_both_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The signal comes to both, as from a terminal, while functions are being compiled."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN.format(before=TWO_CORES, after="", epochs=10**9)],
        env={**os.environ, "CHAINRULE_CACHE": str(tmp_path / "kernels")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((tmp_path / "kernels").glob("model_*.py")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate()
    assert process.returncode in (-signal.SIGINT, 1, 130), complaint
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody is left
    assert all(path.suffix in (".py", ".o", ".txt", "") for path in (tmp_path / "kernels").iterdir())


@needs_fork
def test_a_source_that_is_not_the_one_looked_at_is_refused(tmp_path: Path) -> None:
    from chainrule.runtime.workshop import code_of

    (tmp_path / "model_0.py").write_text("import os\n", "utf-8")
    order: dict[str, Any] = {"stem": str(tmp_path / "model_0"), "names": ["train_phase_0"], "source": "0" * 64}
    with pytest.raises(ValueError, match="model_0"):
        code_of(order)


FORK = """
import os, subprocess, sys
from chainrule.runtime import ahead
process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, stdout=-1, bufsize=0)
ahead._open.append(other := ahead.Workshop(process))
if os.fork() == 0:
    os._exit(0 if ahead.workshop() is None and process.stdin.closed else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert ahead.workshop() is other
other.end()
assert ahead.workshop() is None
"""


@needs_fork
def test_what_was_begun_in_a_process_is_not_its_childs() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_fork
def test_a_training_begins_without_the_loops_of_several_threads(cache: Path, loss: str, tmp_path: Path) -> None:
    """They are still being compiled; the bits are those of any number of threads."""
    before = f"""{TWO_CORES}
from chainrule.runtime import native, threads
native.Code.is_coming = lambda self, name: name == "team"
threads.ThreadChoice.limit = lambda self, blocks: None  # of which this model has one
"""
    assert trained(cache, before, "print(trainer._choice.best)")[::2] == [loss, "None"]

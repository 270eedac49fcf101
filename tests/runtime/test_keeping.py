"""When checkpoints are written, and what happens where they cannot be."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime import keeping, store
from chainrule.runtime.keeping import Checkpoint, as_checkpoint
from chainrule.runtime.trainer import Trainer, _Pace
from chainrule.symbolic.optimisers import optimiser

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]
SLOPE = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])
MOMENTUM = optimiser("momentum")


def new(**more: Any) -> Trainer:
    return Trainer(SLOPE, MOMENTUM, 7, "float64", **more)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The positions that were written."""
    positions: list[tuple[int, int]] = []
    save = Trainer.save

    def noting(trainer: Trainer, *given: Any, **more: Any) -> None:
        positions.append((trainer._position.epoch, trainer._position.step))
        save(trainer, *given, **more)

    monkeypatch.setattr(Trainer, "save", noting)
    return positions


def test_at_the_start_and_at_the_end(tmp_path: Path, written: list[tuple[int, int]]) -> None:
    new().fit(X, Y, epochs=5, verbose=0, checkpoint=tmp_path / "run")
    assert written == [(0, 0), (5, 0)]
    assert Trainer.restore(tmp_path / "run").unfinished == 0


def test_every_so_many_epochs(tmp_path: Path, written: list[tuple[int, int]]) -> None:
    trainer = new()
    trainer.fit(X, Y, epochs=5, verbose=0, checkpoint=Checkpoint(tmp_path, epochs=2, seconds=None, keep=3))
    assert written == [(0, 0), (2, 0), (4, 0), (5, 0)]
    assert sorted(store.numbers(tmp_path)) == [2, 3, 4]


def test_every_so_many_seconds_also_within_an_epoch(
    tmp_path: Path, written: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Pace, "took", lambda *_: None)  # a look after every step
    monkeypatch.setattr(keeping, "SHARE", 1e9)
    new().fit(X, Y, epochs=1, verbose=0, checkpoint=Checkpoint(tmp_path, seconds=0))
    assert written == [(0, step) for step in range(8)] + [(1, 0)]


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    saves: list[float] = []
    monkeypatch.setattr(keeping.time, "perf_counter", lambda: now[0])

    class Slow:
        _run = ""

        def save(self, folder: Path, keep: int) -> None:
            saves.append(now[0])
            now[0] += 3.0

    keeper = keeping.Keeper(Slow(), Checkpoint(tmp_path, seconds=1))  # type: ignore[arg-type]
    keeper.begin()
    while now[0] < 1000:
        now[0] += 0.2
        keeper.after_steps()
    assert 14 <= len(saves) <= 1000 / 60
    assert 3 * len(saves) < 0.06 * now[0]


def test_callbacks_see_the_epoch_before_it_is_written(tmp_path: Path) -> None:
    def look(trainer: Trainer, row: Mapping[str, Any]) -> None:
        assert len(Trainer.restore(tmp_path).history) == row["epoch"] - 1

    new().fit(X, Y, epochs=3, verbose=0, callbacks=[look], checkpoint=Checkpoint(tmp_path, epochs=1))


def test_saved_by_a_callback_into_the_same_directory(tmp_path: Path) -> None:
    def save(trainer: Trainer, row: Mapping[str, Any]) -> None:
        trainer.save(tmp_path)

    new().fit(X, Y, epochs=3, verbose=0, callbacks=[save], checkpoint=tmp_path)
    assert len(Trainer.restore(tmp_path).history) == 3


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    def other(_: Trainer, row: Mapping[str, Any]) -> None:
        new().save(tmp_path)

    with pytest.raises(cr.SpecError, match="another training writes to this directory"):
        new().fit(X, Y, epochs=1, verbose=0, callbacks=[other], checkpoint=tmp_path)


def test_the_directory_of_another_training_is_refused(tmp_path: Path) -> None:
    first = new()
    first.fit(X, Y, epochs=1, verbose=0, checkpoint=tmp_path)
    second = new(seed=1)
    with pytest.raises(cr.SpecError, match="holds a run already; go on with it"):
        second.fit(X, Y, epochs=1, verbose=0, checkpoint=tmp_path)
    assert second.unfinished == len(second.history) == 0
    second.fit(X, Y, epochs=1, verbose=0, checkpoint=Checkpoint(tmp_path, again=True))
    assert (Trainer.restore(tmp_path).parameters["Wo"] == second.parameters["Wo"]).all()
    assert (Trainer.restore(tmp_path / "earlier-1").parameters["Wo"] == first.parameters["Wo"]).all()
    first.fit(X, Y, epochs=1, verbose=0)  # without a checkpoint it goes on all the same


# --- where it cannot be written


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A disk that is full while the list says so."""
    state = [False]
    write = store.write_new

    def write_new(path: Path, content: bytes) -> None:
        if state[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr(store, "write_new", write_new)
    return state


def filling(full: list[bool], *epochs: int) -> Callable[[Trainer, Mapping[str, Any]], None]:
    def fill(_: Trainer, row: Mapping[str, Any]) -> None:
        full[0] = row["epoch"] in epochs

    return fill


def test_at_the_start_nothing_is_trained(tmp_path: Path, full: list[bool]) -> None:
    full[0] = True
    trainer = new()
    with pytest.raises(OSError, match="No space left on device"):
        trainer.fit(X, Y, epochs=3, verbose=0, checkpoint=tmp_path)
    assert len(trainer.history) == 0


def test_on_the_way_it_is_said_and_training_goes_on(tmp_path: Path, full: list[bool]) -> None:
    trainer = new()
    every = Checkpoint(tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="could not be written .*No space left.*; the training goes on"):
        trainer.fit(X, Y, epochs=5, verbose=0, callbacks=[filling(full, 2, 3)], checkpoint=every)
    assert len(Trainer.restore(tmp_path).history) == 5


def test_at_the_end_it_is_an_error_and_what_was_written_is_whole(tmp_path: Path, full: list[bool]) -> None:
    trainer = new()
    every = Checkpoint(tmp_path, epochs=3, seconds=None)
    with pytest.raises(OSError, match="No space left") as caught:
        trainer.fit(X, Y, epochs=5, verbose=0, callbacks=[filling(full, 5)], checkpoint=every)
    assert caught.value.__notes__ == ["the training is done, but not saved; the checkpoints before its end are whole"]
    assert len(trainer.history) == 5
    restored = Trainer.restore(tmp_path)
    assert (len(restored.history), restored.unfinished) == (3, 2)
    full[0] = False
    trainer.save(tmp_path)  # once there is space again
    assert len(Trainer.restore(tmp_path).history) == 5


def test_interrupted_on_a_full_disk(tmp_path: Path, full: list[bool]) -> None:
    def interrupt(_: Trainer, row: Mapping[str, Any]) -> None:
        full[0] = True
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"could not be written .*No space left.*, those before it are whole"):
        new().fit(X, Y, epochs=5, verbose=0, callbacks=[interrupt], checkpoint=tmp_path)
    assert len(Trainer.restore(tmp_path).history) == 0


REFUSED = """
import os, tempfile
from pathlib import Path
import numpy as np, chainrule as cr
model = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])
x, y = np.ones((3, 2)), np.ones((3, 1))
with tempfile.TemporaryDirectory() as folder:
    top = Path(folder)
    top.chmod(0o755)
    trainer = cr.Trainer(model, cr.optimiser("momentum"), 7, "float64")
    trainer.fit(x, y, epochs=1, verbose=0, checkpoint=top / "closed")  # and so all is imported
    (top / "closed").chmod(0o555)
    os.seteuid(65534)  # root may write anywhere
    for place in (top, top / "run", top / "closed"):
        try:
            trainer.fit(x, y, epochs=1, verbose=0, checkpoint=place)
        except (OSError, cr.SpecError) as error:
            print(getattr(error, "strerror", error))
    os.seteuid(0)
    print(len(trainer.history), len(cr.Trainer.restore(top / "closed").history))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_directory_in_which_one_may_not_write() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=False, timeout=120)
    assert "is not empty and no run" in done.stdout.split("\n")[0], done.stderr
    assert done.stdout.split("\n")[1:-1] == ["Permission denied"] * 2 + ["1 1"], done.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to mount")
def test_a_disk_that_became_read_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("there is nothing to mount")
    try:
        trainer = new()
        trainer.fit(X, Y, epochs=1, verbose=0, checkpoint=disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError, match="Read-only file system"):
            trainer.fit(X, Y, epochs=1, verbose=0, checkpoint=disk / "run")
        assert len(Trainer.restore(disk / "run").history) == 1
        with pytest.raises(OSError, match="Read-only file system"):
            new().fit(X, Y, epochs=1, verbose=0, checkpoint=disk / "other")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_checkpoint(3), "checkpoint: directory = 3; give a path"),
        (lambda: as_checkpoint(Checkpoint()), "checkpoint: no directory; give one"),
        (lambda: Checkpoint("a", epochs=0), "checkpoint: epochs = 0; give a whole number"),
        (lambda: Checkpoint("a", epochs=True), "checkpoint: epochs = True"),
        (lambda: Checkpoint("a", seconds=-1.0), "checkpoint: seconds = -1.0; give a number of at least 0"),
        (lambda: Checkpoint("a", seconds="1"), "checkpoint: seconds = '1'"),  # type: ignore[arg-type]
        (lambda: Checkpoint("a", keep=1), "checkpoint: keep = 1; give a whole number of at least 2"),
    ],
)
def test_wrong_checkpoints(make: Callable[[], object], message: str) -> None:
    with pytest.raises(cr.SpecError, match=message):
        make()


def test_without_a_checkpoint_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new().fit(X, Y, epochs=1, verbose=0)
    assert list(tmp_path.iterdir()) == []

"""Numbered checkpoints: whatever happens while one is written, those that are there are whole."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainrule.runtime import durable, store
from chainrule.symbolic.errors import DataError, SpecError

OLD = {"a.json": b"{}", "b.safetensors": b"1" * 50}
NEW = {"a.json": b"[]", "b.safetensors": b"2" * 60, "c.json": b""}
ROOT = os.name == "posix" and os.geteuid() == 0


def written(folder: Path, *sets: dict[str, bytes]) -> Path:
    for files in sets:
        path = store.write(folder, files.items(), "me", {"numpy": "2"})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "runs" / "net", OLD, NEW)
    saved = store.latest(tmp_path / "runs" / "net")
    assert (saved.path, saved.run, saved.made, saved.files) == (path, "me", {"numpy": "2"}, NEW)
    assert store.read(path.with_name("checkpoint-000001")).files == OLD


def test_as_many_are_kept_as_are_wanted_and_two_at_least(tmp_path: Path) -> None:
    for _ in range(5):
        store.write(tmp_path, OLD.items(), "me", {}, keep=0)
    assert sorted(store.numbers(tmp_path)) == [4, 5]
    for _ in range(5):
        store.write(tmp_path, OLD.items(), "me", {}, keep=3)
    assert sorted(store.numbers(tmp_path)) == [8, 9, 10]


class Crash(BaseException):
    """The process is gone: nothing is done after it, no tidying up either."""


class Disk:
    """Lets so many changes of the disk happen, and then none; what it did is in `log`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changes: int, what: BaseException, forever: bool) -> None:
        self.left, self.what, self.forever = changes, what, forever
        self.log: list[str] = []
        for owner, name in (
            (Path, "mkdir"), (Path, "rename"), (Path, "open"), (os, "fsync"), (shutil, "rmtree"), (Path, "unlink"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self.counted(name, getattr(owner, name)))

    def counted(self, name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*given: Any, **more: Any) -> Any:
            if name == "open" and "x" not in (*given, *more.values())[1]:
                return change(*given, **more)
            self.left -= 1
            if self.left < 0 and (self.forever or self.left == -1):
                if name == "rmtree" and more.get("ignore_errors") and not isinstance(self.what, Crash):
                    return None
                raise self.what
            self.log.append(f"{name} {getattr(given[0], 'name', '')}".strip())
            return change(*given, **more)

        return counting


def test_a_crash_at_any_moment_leaves_whole_checkpoints(tmp_path: Path) -> None:
    """At each of its changes of the disk in turn, the writer is stopped; nothing else happens any more."""
    finished = False
    for changes in range(100):
        folder = tmp_path / f"run{changes}"
        written(folder, OLD, OLD)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, changes, Crash(), forever=True)
            try:
                written(folder, NEW)
                finished = True
            except Crash:
                pass
        saved = store.latest(folder)
        renamed = "rename .checkpoint-000003.part" in disk.log
        assert saved.files == (NEW if renamed else OLD)
        assert len(store.numbers(folder)) >= 2
        assert all(store.read(folder / f"checkpoint-{n:06d}") for n in store.numbers(folder))
        written(folder, NEW)  # the next one finds its way, and leaves no rest
        assert sorted(p.name for p in folder.iterdir()) == [
            f"checkpoint-{n:06d}" for n in ((3, 4) if renamed else (2, 3))
        ]
        if finished:
            break
    assert changes > 12


def failing(folder: Path) -> OSError | None:
    """What writing a checkpoint raised."""
    try:
        written(folder, NEW)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_an_error_of_the_disk_at_any_moment(tmp_path: Path, number: int) -> None:
    """The error is raised, what was there stays, and there is no rest."""
    for changes in range(100):
        folder = tmp_path / f"run{changes}"
        written(folder, OLD, OLD)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, changes, OSError(number, os.strerror(number)), forever=False)
            problem = failing(folder)
        if problem is None:
            break
        assert problem.errno == number
        renamed = "rename .checkpoint-000003.part" in disk.log
        assert store.latest(folder).files == (NEW if renamed else OLD)
        assert not list(folder.glob(".*part"))
    assert changes > 12


def test_files_then_manifest_then_folder_then_name_then_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, 1000, Crash(), forever=True)
        written(tmp_path / "run", OLD)
    assert disk.log == [
        "mkdir run", "mkdir .checkpoint-000001.part",
        "open a.json", "fsync", "open b.safetensors", "fsync",
        "open manifest.json", "fsync", "fsync",
        "rename .checkpoint-000001.part", "fsync",
    ]  # fmt: skip


@pytest.mark.skipif(not ROOT or sys.platform != "linux", reason="only root can mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("there is nothing to mount")
    try:
        written(disk / "run", OLD)
        with pytest.raises(OSError, match="No space left"):
            written(disk / "run", {"a.json": bytes(100_000)})
        assert store.latest(disk / "run").files == OLD
        assert [p.name for p in (disk / "run").iterdir()] == ["checkpoint-000001"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- damage


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_every_byte_counts(tmp_path: Path) -> None:
    """Whichever bit of whichever file is another one, the checkpoint is damaged."""
    path = written(tmp_path, OLD)
    for file in path.iterdir():
        whole = file.read_bytes()
        for at in range(len(whole)):
            flipped(file, at)
            with pytest.raises(store.DamageError):
                store.read(path)
        file.write_bytes(whole)
    assert store.read(path).files == OLD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "a.json").unlink(), "a.json is missing"),
        (lambda p: (p / "a.json").write_bytes(b""), "a.json has 0 bytes, not 2"),
        (lambda p: (p / "a.json").write_bytes(b"[]"), "a.json is not what was written .its sha256 is another one."),
        (lambda p: (p / "a.json").unlink() or (p / "a.json").mkdir(), "a.json is missing"),
        (lambda p: (p / "a.json").unlink() or os.mkfifo(p / "a.json"), "a.json is missing"),
        (lambda p: (p / store.MANIFEST).unlink(), "manifest.json is missing"),
        (lambda p: (p / store.MANIFEST).write_bytes(b"x" * 2_000_000), "manifest.json is missing or too long"),
        (lambda p: (p / store.MANIFEST).write_bytes(b"\xff"), "manifest.json is not what was written"),
        (lambda p: (p / store.MANIFEST).write_bytes(b"[" * 90_000), "manifest.json is not what was written"),
        (lambda p: (p / store.MANIFEST).write_bytes(b"[]"), "manifest.json is not what was written"),
    ],
)
def test_damage_is_named_and_the_one_before_used(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    path = written(tmp_path, OLD, OLD)
    change(path)
    with pytest.warns(UserWarning, match=rf"checkpoint-000002: {message}.*; checkpoint-000001, the one before it"):
        assert store.latest(tmp_path).files == OLD
    with pytest.raises(DataError, match=message):
        store.latest(path) if (path / store.MANIFEST).is_file() else store._read_or_say(path)
    store.set_damaged_aside(tmp_path)
    assert store.numbers(tmp_path) == [1]


@pytest.mark.parametrize(
    "body",
    [
        {"format": 2, "run": "", "made": {}, "files": {}},
        {"format": 1, "run": "", "made": {}, "files": {"../../etc.json": {"bytes": 1, "sha256": ""}}},
        {"format": 1, "run": "", "made": {}, "files": {"/a.json": {"bytes": 1, "sha256": ""}}},
        {"format": 1, "run": "", "made": {}, "files": {"a.json": {"bytes": "1", "sha256": ""}}},
        {"format": 1, "run": 3, "made": {}, "files": {}},
        {"format": 1, "run": "", "made": {}, "files": []},
        {},
    ],
)
def test_a_manifest_that_somebody_made(tmp_path: Path, body: dict[str, Any]) -> None:
    path = written(tmp_path, OLD)
    (path / store.MANIFEST).write_bytes(store.signed(body))
    with pytest.raises(store.DamageError, match="is none of format 1"):
        store.read(path)


# --- whose directory it is


def test_a_directory_is_not_overwritten(tmp_path: Path) -> None:
    assert store.check_free(tmp_path / "new")
    assert store.check_free(tmp_path)
    written(tmp_path, OLD)
    assert store.check_free(tmp_path, "me")
    with pytest.raises(SpecError, match=r"holds a run already; go on with it .*put it aside .* or give another"):
        store.check_free(tmp_path, "another")
    with pytest.raises(SpecError, match="holds a run already"):
        store.check_free(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="is a file"):
        store.check_free(tmp_path / "file")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "one.tex").touch()
    with pytest.raises(SpecError, match="is not empty and no run"):
        store.check_free(tmp_path / "thesis")


def test_putting_aside_loses_nothing(tmp_path: Path) -> None:
    written(tmp_path, OLD, NEW)
    assert store.set_aside(tmp_path) == tmp_path / "earlier-1"
    written(tmp_path, OLD)
    assert store.set_aside(tmp_path) == tmp_path / "earlier-2"
    assert store.latest(tmp_path / "earlier-1").files == NEW
    assert store.latest(tmp_path / "earlier-2").files == OLD
    assert store.check_free(tmp_path)


def test_a_lock_is_no_run(tmp_path: Path) -> None:
    with durable.Lock(tmp_path):
        pass
    assert store.check_free(tmp_path)

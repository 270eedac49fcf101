"""The cache folder: whose it is, what is in it, and what happens when something else is."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime.load import ENVIRONMENT, cache_folder, load, source_name, stored, write_whole

PROGRAM = """
import chainrule as cr
kernels = cr.compile(cr.Model(2, [cr.Dense(1)], "squared_error"))
loss, gradients = kernels.loss_and_gradients({"Wo": [[1.0, 2.0]], "bo": [0.0]}, [[1.0, 1.0]], [[1.0]])
print(loss, gradients["Wo"].tolist(), kernels.path.name)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv(ENVIRONMENT, str(place))
    return place


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The folder


def test_folder_is_the_users_alone(folder: Path) -> None:
    assert cache_folder() == folder
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    assert mode(cache_folder()) == 0o700


def test_folder_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "chainrule"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "chainrule"


def test_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(cr.ChainruleError, match=ENVIRONMENT):
        cache_folder()


def test_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(cr.ChainruleError, match="another user"):
        cache_folder()


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in the way: then a new folder of this process."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "file" / "cache"))
    made = cache_folder()
    assert made.is_dir()
    assert mode(made) == 0o700
    made.rmdir()


# Files


def test_name_is_the_hash_of_all_that_shapes_it() -> None:
    one = source_name("digits", "a", "b")
    assert one == source_name("digits", "a", "b")
    assert one.startswith("digits_")
    others = {source_name("digits", "a", "c"), source_name("digits", "ab", ""), source_name("digits", "", "ab")}
    assert len({one, *others}) == 4
    assert source_name("a/../b c", "a", "b").split("_")[:2] != ["a/..", "b c"]
    assert "/" not in source_name("a/../b", "a", "b")
    assert len(source_name("x" * 500, "", "")) < 64


def test_stored_once_and_repaired(folder: Path) -> None:
    path = stored("m", "x = 1\n", "")
    assert path.parent == folder
    first = path.stat().st_mtime_ns
    assert stored("m", "x = 1\n", "") == path
    assert path.stat().st_mtime_ns == first
    for damage in (b"x = 2\n", b"", b"\xff\xfe\x00"):
        path.write_bytes(damage)
        assert stored("m", "x = 1\n", "").read_text() == "x = 1\n"


def test_stored_replaces_a_link(folder: Path, tmp_path: Path) -> None:
    path = stored("m", "x = 1\n", "")
    path.unlink()
    (tmp_path / "theirs.py").write_text("x = 1\n")
    path.symlink_to(tmp_path / "theirs.py")
    assert not stored("m", "x = 1\n", "").is_symlink()


def test_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    write_whole(path, "one")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "two")
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.py"]


def test_load_is_by_one_name(tmp_path: Path) -> None:
    path = tmp_path / "m_0123.py"
    path.write_text("made = []\n")
    module = load(path)
    assert module.__name__ == "chainrule_kernels_m_0123"
    assert load(path) is module
    assert sys.modules[module.__name__] is module


def test_load_of_what_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "broken_0123.py"
    path.write_text("1/0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load(path)
    assert "chainrule_kernels_broken_0123" not in sys.modules


# Processes


def run() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_two_processes_at_once_then_a_damaged_cache(folder: Path) -> None:
    both = [run(), run()]
    one, other = (result(p) for p in both)
    assert one == other
    assert one.startswith("4.0 [[4.0, 4.0]] model_")
    compiled = sorted(folder.glob("*.o"))
    (source,) = folder.glob("*.py")
    assert {p.name.partition("_")[0] for p in compiled} == {"driver", "model"}
    assert all(mode(p) == 0o600 for p in compiled)
    stamps = [p.stat().st_mtime_ns for p in compiled]
    assert result(run()) == one
    assert [p.stat().st_mtime_ns for p in compiled] == stamps  # read, not made again
    whole = [p.read_bytes() for p in compiled]
    compiled[0].write_bytes(whole[0][:100])
    compiled[1].write_bytes(b"\x80nonsense")
    compiled[-1].write_bytes(whole[-1].replace(b"chainrule object", b"something else", 1)[:-1] + b"?")
    assert result(run()) == one
    assert [p.read_bytes()[:40] for p in compiled] == [w[:40] for w in whole]  # made anew
    source.write_bytes(b"\xff")
    assert result(run()) == one
    assert mode(folder) == 0o700
    left = {p.name for p in folder.iterdir()} - {"__pycache__"} - {p.name for p in folder.glob("source_*.txt")}
    assert left == {source.name, *(p.name for p in compiled)}  # no temporary file is left


def test_damage_within_a_process(folder: Path) -> None:
    model, given = cr.Model(1, [cr.Dense(1, "sin")]), (np.ones((1, 1)), np.ones((1, 1)))
    kernels = cr.compile(model)
    wanted = kernels.loss_and_gradients(kernels.init(), *given)[0]
    for path in folder.glob("*.o"):
        path.write_bytes(b"")
    assert cr.compile(model).loss_and_gradients(kernels.init(), *given)[0] == wanted

"""The cache folder: whose it is, what is in it, and what happens when something else is."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.codegen import grammar
from chainrule.runtime import cache
from chainrule.runtime import folder as folders
from chainrule.runtime.folder import ENVIRONMENT
from chainrule.runtime.load import is_stored, load, source_name, stored

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
    assert mode(path) == 0o600
    assert is_stored("m", "x = 1\n", "")
    assert not is_stored("m", "x = 2\n", "")
    first = path.stat().st_mtime_ns
    assert stored("m", "x = 1\n", "") == path
    assert path.stat().st_mtime_ns == first
    path.write_bytes(b"x = 2\n")
    with pytest.warns(UserWarning, match=f"{path.name} is not what was written; it is made anew"):
        assert stored("m", "x = 1\n", "").read_text() == "x = 1\n"


def test_stored_replaces_a_link(folder: Path, tmp_path: Path) -> None:
    path = stored("m", "x = 3\n", "")
    path.unlink()
    (tmp_path / "theirs.py").write_text("x = 3\n")
    path.symlink_to(tmp_path / "theirs.py")
    with pytest.warns(UserWarning, match="is a link"):
        assert not stored("m", "x = 3\n", "").is_symlink()


def test_stored_elsewhere_where_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cache.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.parent == folder:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(folders, "_temporary", {})
    monkeypatch.setattr(cache, "write_whole", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        path = stored("m", "x = 4\n", "")
    assert path.parent != folder
    assert path.read_text() == "x = 4\n"
    path.unlink()
    path.parent.rmdir()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that may be imported, whatever it is."""
    monkeypatch.setattr(grammar, "check_source", lambda text: None)
    return "made = []\n"


def test_load_is_by_one_name(tmp_path: Path, source: str) -> None:
    path = tmp_path / "m_0123.py"
    module = load(path, source)
    assert module.__name__ == "chainrule_kernels_m_0123"
    assert module.__file__ == str(path)
    assert load(path, source) is module
    assert sys.modules[module.__name__] is module


@pytest.mark.usefixtures("source")
def test_load_of_what_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "broken_0123.py"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load(path, "1/0\n")
    assert "chainrule_kernels_broken_0123" not in sys.modules


def test_what_is_imported_is_the_text_that_was_checked(tmp_path: Path, source: str) -> None:
    """Not the file, and not what an earlier import has left beside it."""
    path = tmp_path / "beside_0123.py"
    path.write_text("made = 'by somebody else'\n")
    assert load(path, source).made == []
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_load_of_what_the_emitter_does_not_write(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "codegen" / "golden" / "tanh.py.txt").read_text("utf-8")
    with pytest.raises(cr.ChainruleError, match=r"generated source, line \d+: .*open"):
        load(tmp_path / "hostile_0123.py", text.replace("    samples = table[0]\n", "    open('x', 'w')\n", 1))
    assert not list(tmp_path.iterdir())


# Processes


def run(warnings: str = "error") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", warnings, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    for path in (p for p in compiled if p.name.startswith("model_")):
        path.write_bytes(path.read_bytes()[:100])
    assert result(run(warnings="ignore")) == one
    assert result(run()) == one  # made anew: no warning
    assert mode(folder) == 0o700
    begun = {p.name for k in ("source_*.txt", "driver_*.o") for p in folder.glob(k)}  # the driver, as far as it came
    left = {p.name for p in folder.iterdir() if not p.name.startswith(".lock-")} - begun
    assert left == {source.name, *(p.name for p in compiled)} - begun  # no temporary file is left

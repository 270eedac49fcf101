"""What is kept: read as it was written or made anew, bounded, cleared; by several processes at once."""

import os
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding

import chainrule as cr
from chainrule.runtime import cache, folder, processor
from chainrule.runtime.cache import clear, kept, read_entry, turn, write_entry, write_text, write_whole

NAME = f"model_{'0' * 32}.phase.{'0' * 12}.o"
CONTENT = bytes(range(256)) * 3


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels, of which this process has used nothing yet."""
    monkeypatch.setattr(cache, "_used", set())
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setenv(folder.ENVIRONMENT, str(tmp_path / "cache"))
    return folder.cache_folder()


def damaged(path: Path, match: str) -> None:
    """A warning once, then none; and nothing is read."""
    with pytest.warns(UserWarning, match=rf"{path.name} .*{match}.*; it is made anew"):
        assert read_entry(path) is None
    assert read_entry(path) is None


# --- entries


def test_read_as_written(place: Path) -> None:
    path = place / NAME
    assert read_entry(path) is None
    for content in (CONTENT, b"", b"\n", b"one\ntwo"):
        write_entry(path, content)
        assert read_entry(path) == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in place.iterdir()] == [NAME]


@pytest.mark.parametrize("length", [0, 1, 17, 18, 50, 82, 83, 84, 500, -1])
def test_truncated(place: Path, length: int) -> None:
    path = place / NAME
    write_entry(path, CONTENT)
    path.write_bytes(path.read_bytes()[:length])
    damaged(path, "is empty" if length == 0 else "is not what was written")
    write_entry(path, CONTENT)
    assert read_entry(path) == CONTENT


def test_every_byte_counts(place: Path) -> None:
    path = place / NAME
    write_entry(path, CONTENT[:100])
    whole = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(len(whole)):
            path.write_bytes(whole[:k] + bytes([whole[k] ^ 1 << k % 8]) + whole[k + 1 :])
            assert read_entry(path) is None
        for more in (b"\x00", b"\n"):
            path.write_bytes(whole + more)
            assert read_entry(path) is None
    path.write_bytes(whole)
    assert read_entry(path) == CONTENT[:100]


def test_under_another_name(place: Path) -> None:
    write_entry(place / NAME, CONTENT)
    other = place / NAME.replace("phase", "other")
    (place / NAME).rename(other)
    damaged(other, "is not what was written")


def test_a_link(place: Path) -> None:
    path, other = place / NAME, place / "elsewhere"
    write_entry(path, CONTENT)
    path.rename(other)
    path.symlink_to(other)
    damaged(path, "is a link")
    write_entry(path, b"new")
    assert not path.is_symlink()
    assert read_entry(path) == b"new"
    assert other.read_bytes().endswith(CONTENT)  # what the link led to is as it was


def test_what_is_no_file(place: Path) -> None:
    path = place / NAME
    path.mkdir()
    damaged(path, "is not a file")
    write_entry(path, b"new")
    assert read_entry(path) == b"new"
    pipe = place / NAME.replace("phase", "pipe")
    os.mkfifo(pipe)
    damaged(pipe, "is not a file")  # and nobody waits for a writer


def test_of_another_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(place / NAME, CONTENT)
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    damaged(place / NAME, "belongs to another user")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_that_others_can_write(place: Path, mode: int) -> None:
    write_entry(place / NAME, CONTENT)
    (place / NAME).chmod(mode)
    damaged(place / NAME, "can be written by others")


def test_that_cannot_be_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(place / NAME, CONTENT)

    def fail(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    damaged(place / NAME, r"cannot be read \(Permission denied\)")


def test_too_large(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(place / NAME, CONTENT)
    os.truncate(place / NAME, cache.LARGEST)  # a hole: no byte of it is read
    damaged(place / NAME, "is too large")


def test_a_text(place: Path) -> None:
    path = place / f"m_{'0' * 32}.py"
    write_text(path, "one = 'ü'\n")
    first = path.stat().st_mtime_ns
    write_text(path, "one = 'ü'\n")
    assert path.stat().st_mtime_ns == first  # not written again
    for damage, why in ((b"two\n", "is not what was written"), (b"", "is empty")):
        path.write_bytes(damage)
        with pytest.warns(UserWarning, match=why):
            write_text(path, "one = 'ü'\n")
        assert path.read_bytes() == "one = 'ü'\n".encode()


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    write_whole(path, b"one")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.py"]


# --- how much there is


def numbered(k: int) -> str:
    return NAME.replace("phase", f"phase_{k}")


def filled(place: Path, count: int = 6, size: int = 1000) -> list[Path]:
    """Entries that an earlier process made, one second after the other."""
    paths = [place / numbered(k) for k in range(count)]
    for k, path in enumerate(paths):
        write_entry(path, bytes(size))
        os.utime(path, (1_000_000 + k, 1_000_000 + k))
    cache._used.clear()
    return paths


def test_the_least_recently_used_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = filled(place)
    written = paths[0].stat().st_mtime_ns
    assert read_entry(paths[0]) is not None  # a use, which is no change
    assert paths[0].stat().st_mtime_ns == written
    cache._used.clear()
    assert [k.path.name for k in kept(place)][-1] == numbered(0)
    monkeypatch.setenv(folder.SIZE, "4.5k")
    write_entry(place / numbered(9), bytes(1000))
    assert {k.path.name for k in kept(place)} == {numbered(k) for k in (4, 5, 0, 9)}


def test_what_is_in_use_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = filled(place)
    for path in paths[:3]:
        assert read_entry(path) is not None
    monkeypatch.setenv(folder.SIZE, "0")
    write_entry(place / numbered(9), bytes(1000))
    assert {k.path.name for k in kept(place)} == {numbered(k) for k in (0, 1, 2, 9)}


def test_the_bound_touches_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(place, 2)
    (place / "notes.py").write_bytes(bytes(10**5))
    old, new = place / f".{NAME}.abcd1234", place / f".{NAME}.abcd5678"
    old.write_text("left by a process that was killed")
    new.write_text("being written")
    os.utime(old, (1_000_000, 1_000_000))
    monkeypatch.setenv(folder.SIZE, "1k")
    write_entry(place / numbered(9), bytes(1000))
    assert {p.name for p in place.iterdir()} == {"notes.py", new.name, numbered(9)}


def test_clear(place: Path, tmp_path: Path) -> None:
    paths = filled(place, 2)
    write_text(place / f"m_{'0' * 32}.py", "x = 1\n")
    write_entry(place / f"source_{'0' * 32}.txt", b"")
    with turn(paths[0]):
        pass
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (place / numbered(7)).symlink_to(theirs)
    (place / numbered(8)).mkdir()
    for name in ("notes.py", "model_xyz.py", "source.txt", f"{NAME}.bak", "weights.npz"):
        (place / name).write_text("")
    removed, left = clear(place)
    assert len(removed) == 4
    others = ["notes.py", "model_xyz.py", "source.txt", f"{NAME}.bak", "weights.npz", numbered(7), numbered(8)]
    assert left == sorted(p.name for p in place.iterdir()) == sorted(others)
    assert theirs.read_text() == "theirs"


# --- several processes and threads


def test_a_turn_is_that_of_one(place: Path) -> None:
    inside: list[str] = []

    def make(name: str) -> None:
        with turn(place / NAME):
            assert not inside
            inside.append(name)
            with turn(place / NAME):  # one inside of another waits for nobody
                time.sleep(0.01)
            inside.remove(name)

    threads = [threading.Thread(target=make, args=(str(k),)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_nobody_waits_for_long(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"""
import sys, time
from pathlib import Path
from chainrule.runtime.cache import turn
with turn(Path({str(place / NAME)!r})):
    print("inside", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == b"inside\n"
    monkeypatch.setattr(cache, "LONGEST_WAIT", 0.1)
    start = time.monotonic()
    with turn(place / NAME):
        assert time.monotonic() - start >= 0.1
    other.stdin.close()
    assert other.wait(60) == 0
    other.stdout.close()


def test_a_folder_without_locks(place: Path) -> None:
    with turn(place / "missing" / NAME):
        pass


# --- kernels


def outcome(model: cr.Model) -> float:
    kernels = cr.compile(model)
    value: float = kernels.loss_and_gradients(kernels.init(), np.ones((1, 1)), np.ones((1, 1)))[0]
    return value


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "a bit": lambda whole: whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:],
    "another file": lambda _: b"\x7fELF" + bytes(1000),
}


def test_damaged_files_are_made_anew(place: Path) -> None:
    model = cr.Model(1, [cr.Dense(1, "sin")])
    wanted = outcome(model)
    for damage in DAMAGES.values():
        cache._said.clear()
        files = [*place.glob("model_*"), *place.glob("source_*")]
        assert {path.suffix for path in files} == {".o", ".py", ".txt"}
        for path in files:
            path.write_bytes(damage(path.read_bytes()))
        with pytest.warns(UserWarning, match="it is made anew") as said:
            assert outcome(model) == wanted
        assert sorted(str(w.message).split()[0] for w in said) == sorted(map(str, files))  # each once
        for path in files:
            assert path.suffix == ".py" or read_entry(path)


def test_a_remembered_source_that_the_emitter_does_not_write(place: Path) -> None:
    """With a right hash, as a user's own program could write it: it is not imported."""
    model = cr.Model(1, [cr.Dense(1, "sin")])
    wanted = outcome(model)
    (path,) = place.glob("source_*.txt")
    source = read_entry(path)
    assert source is not None
    write_entry(path, source.replace(b"import math\n", b"import math, os\n", 1))
    with pytest.warns(UserWarning, match="is not what the emitter writes"):
        assert outcome(model) == wanted
    assert read_entry(path) == source


def test_all_that_shapes_machine_code_is_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> str:
        processor.machine.cache_clear()
        return processor.machine()

    found = [now()]
    for variable in ("NUMBA_OPT", "NUMBA_CPU_NAME", "NUMBA_BOUNDSCHECK"):
        monkeypatch.setenv(variable, "1")
        found.append(now())
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert now() == found[-1]
    monkeypatch.setattr(np, "__version__", "another")
    found.append(now())
    known = processor.version_of
    for package in ("numba", "llvmlite"):
        monkeypatch.setattr(processor, "version_of", lambda name, other=package: known(name) + "+" * (name == other))
        found.append(now())
    monkeypatch.setattr(processor, "_size_of_llvm", lambda: "another")
    found.append(now())
    monkeypatch.setattr(processor, "processor", lambda: "another")
    found.append(now())
    assert len(set(found)) == len(found)
    monkeypatch.undo()
    processor.machine.cache_clear()


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Some: kind
stepping\t: 7
cpu MHz\t\t: 2500.000
flags\t\t: fpu sse2 avx2

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: none
"""


def test_the_processor_is_known_without_llvm_where_the_system_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(text: str | None) -> str:
        file = tmp_path / "cpuinfo"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(processor, "CPUINFO", file)
        return processor.processor()

    found = told(CPUINFO)
    assert found.startswith("GenuineIntel\n6\n85\n7\nfpu sse2 avx2")
    assert told(CPUINFO.replace("2500", "3100")) == found  # what changes from moment to moment is no part of it
    assert told(CPUINFO.replace("avx2", "avx2 avx512f")) != found
    for text in (None, "", CPUINFO.replace("flags", "Features"), CPUINFO.replace(": 85", ":")):
        assert told(text).startswith(binding.get_host_cpu_name())


def test_no_pickle(place: Path) -> None:
    """Every file is a text or a verified object file; Numba's own cache, which is made of pickles, is not used."""
    cr.compile(cr.Model(1, [cr.Dense(1, "sin")])).predict({"Wo": [[1.0]], "bo": [0.0]}, [[1.0]])
    assert not list(place.rglob("*.nb?"))
    assert not list(place.rglob("*.pyc"))
    sources = Path(cr.__file__).parent
    for name in ("runtime", "codegen", "symbolic"):
        for path in (sources / name).rglob("*.py"):
            assert "import pickle" not in path.read_text("utf-8"), path

"""Files that are on the disk, byte by byte, and one writer at a time."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainrule.runtime import durable
from chainrule.runtime.durable import Lock, flush_folder, write_new
from chainrule.symbolic.errors import SpecError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def test_a_file_is_flushed_before_it_is_called_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_size) or flush(number))
    write_new(tmp_path / "a", b"content")
    assert flushed == [7]
    flush_folder(tmp_path)
    assert len(flushed) == 2
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", b"other")
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"t", lambda c: b"k" + c[1:], lambda _: b""])
@pytest.mark.parametrize("at_once", [1, 3, 7, 8, 2**20])
def test_what_is_read_back_must_be_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes], at_once: int
) -> None:
    monkeypatch.setattr(durable, "READ_AT_ONCE", at_once)
    write_new(tmp_path / "a", b"content")
    monkeypatch.setattr(durable, "_flush", lambda _: (tmp_path / "b").write_bytes(change(b"content")))  # by the disk
    with pytest.raises(OSError, match="what is read back is not what was written"):
        write_new(tmp_path / "b", b"content")


LIMITED = """
import resource, sys
from pathlib import Path
from chainrule.runtime.durable import write_new
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the disk takes so many bytes of a file
try:
    write_new(Path(sys.argv[1]), bytes(5000))
except OSError as error:
    print(error.errno)
"""


@LINUX
def test_a_disk_that_takes_only_a_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == errno.EFBIG


HOLDING = """
import sys
from pathlib import Path
from chainrule.runtime.durable import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@LINUX
def test_a_lock_is_that_of_one_process_and_ends_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SpecError, match="another training writes to this directory"), Lock(tmp_path):
            pass
        process.kill()
        process.wait()
    with Lock(tmp_path), pytest.raises(SpecError), Lock(tmp_path):  # nor twice in one
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(tmp_path), Lock(tmp_path):
        pass

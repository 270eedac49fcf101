"""Functions that are not in the cache, compiled by a process of its own (`workshop.py`), while this one goes on.

It imports Numba while this one derives a model; then each function is compiled by a child of it, on all cores. This
process waits for what it needs, and never imports Numba. It compiles itself where that process cannot be started, dies,
or fails at a function; so nothing but time depends on it.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

COMMAND: Final = "from {package}.runtime.workshop import main; main()"
LONGEST_WAIT: Final = 120.0  # seconds, for one function


class Workshop:
    """The other process, as this one sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.owner = process, os.getpid()
        self.news = threading.Condition()
        self.ordered: set[str] = set()  # entries that are still to come
        self.alive = True
        self.listener = threading.Thread(target=self._listen, daemon=True, name="chainrule-workshop")
        self.listener.start()

    def _listen(self) -> None:
        """Take note of the entries that are there, until the process ends."""
        assert self.process.stdout is not None
        with suppress(OSError, ValueError):
            for line in self.process.stdout:
                with self.news:
                    self.ordered.discard(line[1:].rstrip(b"\n").decode())
                    self.news.notify_all()
        with self.news:
            self.alive = False
            self.news.notify_all()
        self.process.wait()
        self.close()

    def order(self, stem: Path, entries: dict[str, Path], source: str | None) -> bool:
        """Have functions compiled; whether they will be."""
        digest = None if source is None else hashlib.sha256(source.encode()).hexdigest()
        line = json.dumps({"stem": str(stem), "names": list(entries), "source": digest})
        with self.news:
            if not self.alive:
                return False
            self.ordered.update(map(str, entries.values()))
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{line}\n".encode())
        except (OSError, ValueError):
            return False
        return True

    def wait(self, entry: Path) -> None:
        """Until an entry that was ordered is there, or will not be."""
        with self.news:
            self.news.wait_for(lambda: not self.works_on(entry), LONGEST_WAIT)

    def works_on(self, entry: Path) -> bool:
        """Whether an entry is still to come."""
        return self.alive and str(entry) in self.ordered

    def end(self) -> None:
        """With this process, though not with one that was forked from it."""
        if os.getpid() == self.owner:
            self.process.terminate()
            if self.process.stdin is not None:
                self.process.stdin.close()  # it ends by this as well: a signal just before it waits would not wake it
            self.listener.join()

    def close(self) -> None:
        """Close the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def abandon(self) -> None:
        """In a child of a fork, whose child the other process is not."""
        self.process.returncode = 0
        self.close()


_lock = threading.Lock()
_open: list[Workshop] = []  # one, or none


def workshop() -> Workshop | None:
    """The other process, where it runs."""
    return next((w for w in _open if w.alive and w.owner == os.getpid()), None)


def open_workshop() -> Workshop | None:
    """The other process, begun where none runs; None where it is of no use, or cannot be started."""
    if "numba" in sys.modules or (os.cpu_count() or 1) < 2 or not hasattr(os, "fork") or not _is_python():
        return workshop()
    with _lock:
        if workshop() is None:
            _open.clear()
            with suppress(OSError, RuntimeError):  # RuntimeError: no thread can be started any more
                _open.append(_begun())
        return workshop()


def _begun() -> Workshop:
    package = __name__.partition(".")[0]
    home = Path(sys.modules[package].__file__ or "").parent.parent
    path = os.pathsep.join([str(home), *filter(None, sys.path)])  # so that `site` need not look for it again
    process = subprocess.Popen(
        [sys.executable, "-S", "-W", "ignore", "-c", COMMAND.format(package=package)],
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    begun = Workshop(process)
    atexit.register(begun.end)
    return begun


def _is_python() -> bool:
    """Whether what runs this process is Python itself, and not a program that has it inside."""
    return "python" in Path(sys.executable or "").name.lower() and not getattr(sys, "frozen", False)


def _forked() -> None:
    """In a child of a fork: the lock may be held by a thread that it does not have."""
    global _lock
    _lock = threading.Lock()
    for other in _open:
        other.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

"""The process that compiles for another one: Numba is imported once, then each function has a child of its own.

It reads orders from stdin, one JSON object a line, and says on stdout which entries are there. It ends when the other
process does, or has wanted nothing for a while. A child that is ended has written its entry whole, or not at all.

Nothing of SciPy, SymPy or `coverage` is imported: Numba looks for them, but machine code does not depend on them.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

NOT_NEEDED: Final = ("coverage", "scipy", "scipy.linalg")
WANTED: Final = ("support", "elementary_float32", "elementary_float64")
ENDS: Final = (signal.SIGTERM,)
IDLE: Final = 20.0  # seconds without orders, after which the process ends
BEHIND: Final = "shuffle"  # of which a training has need after all others
WITHOUT: Final = "team"  # it begins without: when nothing else is wanted
OBJECTS: Final = 100_000  # that are made before a child looks for those that nobody needs


class Workshop:
    """The children that compile, and what is still to do.

    A pipe of which only the child has the other end tells when it is over, however it ends.
    """

    def __init__(self, most: int) -> None:
        self.most, self.process = most, os.getpid()
        self.todo: list[tuple[Path, str, dict[str, Any]]] = []
        self.working: dict[int, tuple[int, Path]] = {}  # pipe -> process, entry
        self.ordered: set[Path] = set()

    def order(self, line: str) -> None:
        """Take an order: functions of the driver, or of a generated module."""
        from .native import entry_path

        order = json.loads(line)
        for name in order["names"]:
            path = entry_path(Path(order["stem"]), name)
            if path not in self.ordered:
                self.ordered.add(path)
                self.todo.append((path, name, order))
        self.todo.sort(key=lambda job: (job[1] == WITHOUT, job[1] == BEHIND))

    def room(self, name: str) -> int:
        """How many children may be at work, with one for this function.

        One more than there are cores, or one core is idle at the end; as many as there are for what may wait a little;
        one for what a training begins without.
        """
        if name == WITHOUT:
            return 1
        return self.most - (name == BEHIND)

    def begin(self) -> None:
        """A child for each function."""
        while self.todo and len(self.working) < self.room(self.todo[0][1]):
            path, name, order = self.todo.pop(0)
            ours, its = os.pipe()
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # until the child is one of those that end with this process
            process = os.fork()
            if process == 0:
                _work(name, order, (0, 1, ours, *self.working))
            self.working[ours] = process, path
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
            os.close(its)

    def over(self, pipe: int) -> None:
        """A child has ended: say whether its entry is there."""
        process, path = self.working.pop(pipe)
        os.close(pipe)
        _, status = os.waitpid(process, 0)
        os.write(1, f"{'-' if status else '+'}{path}\n".encode())

    def end(self, *_: object) -> NoReturn:
        """End here, and let no child go on; what a child is writing is whole, or goes with it."""
        if os.getpid() == self.process:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough, and twice would not wait for all
            for process, _path in self.working.values():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            for process, _path in self.working.values():
                os.waitpid(process, 0)
        os._exit(0)


def _work(name: str, order: dict[str, Any], pipes: Iterable[int]) -> None:
    """What a child does, which ends here: with 0 where the entry is written."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        for pipe in pipes:  # who waits at their other ends is to see when the workshop ends
            os.close(pipe)
        gc.enable()
        gc.set_threshold(OBJECTS)
        code_of(order).prepare((name,))
        status = 0
    finally:  # who wants the function compiles it itself, and sees what is wrong
        os._exit(status)


def code_of(order: dict[str, Any]) -> Any:
    """The functions that an order is about."""
    from . import native

    stem = Path(order["stem"])
    if order["source"] is None:
        return native.Code(stem, native.compiled_of_driver)
    path = stem.with_suffix(".py")
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != order["source"]:  # not what was looked at
        raise ValueError(path)
    return native.kernels(path, source.decode(), checked=True)


def warm() -> None:
    """Import Numba, and let it fill its tables, as it does for the first function."""
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    from numba import cfunc, types
    from numba.core.registry import cpu_target

    from .lean import Lean, fill_tables_for_kernels, remember_types

    fill_tables_for_kernels()
    remember_types(cpu_target.typing_context)
    for name in WANTED:
        import_module(f".{name}", __package__)
    cfunc(types.void(types.int64), pipeline_class=Lean)(_nothing)


def _nothing(number: int) -> None:
    """The first function."""


def main() -> None:
    """Until the other process ends, or wants nothing any more."""
    gc.disable()  # what is made from here on stays
    workshop, rest, since = Workshop(1 + (os.cpu_count() or 1)), b"", time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process
    signal.signal(signal.SIGTERM, workshop.end)
    try:
        warm()
        gc.freeze()
        while workshop.working or workshop.todo or time.monotonic() - since < IDLE:
            workshop.begin()
            ready, _, _ = select.select([0, *workshop.working], [], [], IDLE)
            since = time.monotonic() if ready else since
            for pipe in ready:
                if pipe in workshop.working:
                    workshop.over(pipe)
                    continue
                read = os.read(0, 1 << 16)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    workshop.order(line.decode())
    finally:
        workshop.end()

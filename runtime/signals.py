"""Ctrl-C and SIGTERM while a model trains: heard between two steps, so that what is kept is the state after a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

TERMINATED: Final = 143  # 128 + SIGTERM, as shells have it


class Terminated(SystemExit):
    """The process was told to end, and has saved what it had."""

    def __init__(self, message: str = "") -> None:
        super().__init__(TERMINATED)
        self.message = message


class Signals:
    """A context in which Ctrl-C, and SIGTERM where there is a place to save to, wait for the next `check`.

    A second Ctrl-C does not wait. Handlers that somebody else has set are left alone, and so is everything outside the
    main thread, where Python has no handlers.
    """

    def __init__(self, terminate: bool) -> None:
        self.terminate = terminate
        self.heard: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._take(signal.SIGINT, signal.default_int_handler)
            if self.terminate:
                self._take(signal.SIGTERM, signal.SIG_DFL)
        return self

    def _take(self, number: int, default: Any) -> None:
        if signal.getsignal(number) is default or signal.getsignal(number) == default:
            self.before[number] = signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.heard = number

    def check(self, message: str = "") -> None:
        """Raise KeyboardInterrupt or Terminated, if a signal has come."""
        if self.heard is None:
            return
        raise Terminated(message) if self.heard == signal.SIGTERM else KeyboardInterrupt(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

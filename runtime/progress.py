"""What is shown while a model trains: one moving line in a terminal, plain lines in a pipe or a file.

    terminal   epoch 7/20  loss 0.1042  val_loss 0.1311  accuracy 0.973:  35%|####      | 7/20 [00:02<00:03]
    pipe       epoch  7/20  loss 0.1042  val_loss 0.1311  accuracy 0.973  0.3 s/epoch, 4 s left

A pipe gets the first and the last epoch and at most about 20 lines in between, at round numbers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TextIO

LINES: Final = 20  # in a pipe
NOT_SHOWN: Final = ("epoch", "seconds")


class Progress:
    """A display of the epochs of a training; used as a context, told about each epoch when it is over.

    epochs    how many there will be
    verbose   0 shows nothing
    stream    where to; by default stderr
    clock     seconds, for the remaining time

    >>> with Progress(2, stream=sys.stdout, clock=iter([0.0, 1.0, 2.0]).__next__) as progress:
    ...     progress.epoch({"epoch": 1, "loss": 0.5})
    ...     progress.epoch({"epoch": 2, "loss": 0.25})
    epoch 1/2  loss 0.5  1.00 s/epoch, 1.00 s left
    epoch 2/2  loss 0.25  1.00 s/epoch
    """

    def __init__(
        self,
        epochs: int,
        verbose: int = 1,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.epochs = epochs
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.done = 0
        self.over = 0  # epochs that are over: several may be so at once, and are shown one after the other
        self.line_at, self.line_of = 0.0, 0  # when the last line was shown, and of which epoch
        self.show: Callable[[Mapping[str, Any]], None] = self._nothing
        self.bar: Any = None
        if verbose:
            self.show = self._moving if _is_terminal(self.stream) else self._line

    def __enter__(self) -> Self:
        self.begin()
        if self.show == self._moving:
            from tqdm import tqdm

            self.bar = tqdm(total=self.epochs, file=self.stream, unit="epoch", dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin(self) -> None:
        """The first epoch begins now: what came before, compiling for one, does not count as its time."""
        self.line_at = self.clock()

    def epochs_are_over(self, count: int) -> None:
        """So many epochs are over, and are going to be shown."""
        self.over = self.done + count

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show an epoch that is over: its losses and metrics, and how long the rest will take."""
        self.done += 1
        self.over = max(self.over, self.done)
        self.show(row)

    def note(self, text: str) -> None:
        """Say something that is not about one epoch, also where epochs are not shown."""
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def _nothing(self, row: Mapping[str, Any]) -> None:
        pass

    def _moving(self, row: Mapping[str, Any]) -> None:
        self.bar.set_description_str(shown(row), refresh=False)
        self.bar.update()

    def _line(self, row: Mapping[str, Any]) -> None:
        a_step = stride(self.epochs)
        if self.done not in (1, self.epochs) and self.done % a_step:
            return
        number = str(self.done).rjust(len(str(self.epochs)))
        now = self.clock()
        each = (now - self.line_at) / (self.over - self.line_of)  # since the last line: the first epoch may take longer
        self.line_at, self.line_of = now - each * (self.over - self.done), self.done
        left = self.epochs - self.done
        times = f"{duration(each)}/epoch" + (f", {duration(each * left)} left" if left > 0 else "")
        print(f"epoch {number}/{self.epochs}  {shown(row)}  {times}", file=self.stream, flush=True)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # not a file, or closed
        return False


def stride(epochs: int) -> int:
    """Every how many epochs a line is due: 1, 2 or 5 times a power of ten, so that there are about 20 lines.

    >>> [stride(n) for n in (5, 20, 30, 100, 1000)]
    [1, 1, 2, 5, 50]
    """
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if epochs <= step * LINES:
                return step
        power *= 10


def shown(row: Mapping[str, Any]) -> str:
    """Losses and metrics of an epoch.

    >>> shown({"epoch": 3, "loss": 0.123456, "accuracy": 0.97512, "seconds": 1.0})
    'loss 0.1235  accuracy 0.9751'
    """
    numbers = ((k, v) for k, v in row.items() if k not in NOT_SHOWN and isinstance(v, int | float))
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers)


def duration(seconds: float) -> str:
    """Seconds as one reads them.

    >>> [duration(s) for s in (74e-6, 0.00123, 0.5, 12.3, 75, 4025)]
    ['74 us', '1.2 ms', '0.50 s', '12 s', '1 min 15 s', '1 h 07 min']
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

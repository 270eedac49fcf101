"""The orders in which the samples of epochs are taken: drawn from seed and epoch, while epochs before them run.

An order is a function of its arguments alone. So it does not matter when it is drawn, nor by whom.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from . import training
from .native import team

Array = NDArray[Any]
Order = tuple[Array, int]
FEW: Final = 8_000  # samples of all epochs that are left, which are put in order sooner than a thread is told of it
MOST_SAMPLES: Final = 262_144  # of several epochs whose orders are drawn at once
MOST_EPOCHS: Final = 256


def order_of(seed: int, epoch: int, samples: int) -> Order:
    """The order of an epoch's samples, and the key of its random numbers.

    >>> order, key = order_of(seed=0, epoch=3, samples=5)
    >>> sorted(order.tolist()), 0 <= key < 2**40
    ([0, 1, 2, 3, 4], True)
    """
    return training.order_of(team(), seed, epoch, samples)


@dataclass(frozen=True)
class Wanted:
    """The orders of the epochs first..last-1 of a training."""

    seed: int
    samples: int
    first: int
    last: int

    def holds(self, seed: int, samples: int, epoch: int) -> bool:
        """Whether an epoch is among them."""
        return (seed, samples) == (self.seed, self.samples) and self.first <= epoch < self.last


@dataclass(frozen=True, eq=False)
class Block:
    """What was wanted, drawn: a row of `orders` and one of `keys` for each epoch."""

    wanted: Wanted
    orders: Array
    keys: Array

    def part(self, epoch: int, most: int) -> tuple[Array, Array]:
        """The orders of an epoch and of some that follow, one after the other, and their keys."""
        at = epoch - self.wanted.first
        return self.orders[at : at + most].reshape(-1), self.keys[at : at + most]


class Orders:
    """`order_of`, some epochs ahead in a thread of its own where that pays; a context that ends the thread.

    It is told of several epochs at once: to wake a thread may take as long as to draw an order.
    """

    def __init__(self, draw: Callable[[int, int, int], Order] = order_of) -> None:
        self.draw = draw
        self._wanted: SimpleQueue[Wanted | None] = SimpleQueue()
        self._drawn: SimpleQueue[Block | BaseException] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ahead: Wanted | None = None  # what is being drawn, or was drawn and not yet used
        self._block: Block | None = None
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()

    def of(self, seed: int, epoch: int, samples: int, left: int, most: int = 1) -> tuple[Array, Array]:
        """The orders of an epoch and of up to `most` in all that follow it, one after the other, and their keys.

        left   epochs after this one; orders of the next ones are begun
        """
        block = self._block
        if block is None or not block.wanted.holds(seed, samples, epoch):
            block = self._next(seed, epoch, samples, left, most)
        self._block = block
        return block.part(epoch, most)

    def _next(self, seed: int, epoch: int, samples: int, left: int, most: int) -> Block:
        """A block that begins with an epoch, and the next one begun."""
        ahead, self._ahead = self._ahead, None
        if self._thread is not None and not self._thread.is_alive():  # after a fork
            self._thread = ahead = None
        found = self._drawn.get() if ahead is not None else None
        if isinstance(found, BaseException):
            raise found
        if found is None or not found.wanted.holds(seed, samples, epoch):  # what a roll back leaves is of no use
            now = max(1, min(most, left + 1, MOST_EPOCHS, FEW // samples))
            found = self._draw(Wanted(seed, samples, epoch, epoch + now))
        first, end = found.wanted.last, epoch + left + 1
        if samples * (end - first) > FEW:
            self._begin(Wanted(seed, samples, first, min(end, first + epochs_at_once(samples))))
        return found

    def _begin(self, wanted: Wanted) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._draw_ahead, daemon=True, name="chainrule-orders")
            thread.start()
            self._thread = thread  # that runs, or there is none
        self._ahead = wanted
        self._wanted.put(wanted)

    def _draw(self, wanted: Wanted) -> Block:
        epochs = range(wanted.first, wanted.last)
        drawn = [self.draw(wanted.seed, epoch, wanted.samples) for epoch in epochs if not self._over]
        orders = drawn[0][0][None] if len(drawn) == 1 else np.stack([order for order, _ in drawn])  # one may be large
        return Block(wanted, orders, np.array([key for _, key in drawn], np.int64))

    def _draw_ahead(self) -> None:
        while (wanted := self._wanted.get()) is not None and not self._over:
            try:
                self._drawn.put(self._draw(wanted))
            except BaseException as error:  # noqa: BLE001  it is raised where the order is wanted
                self._drawn.put(error)


def epochs_at_once(samples: int) -> int:
    """How many orders are drawn at once.

    >>> epochs_at_once(10), epochs_at_once(8192), epochs_at_once(10**6)
    (256, 32, 1)
    """
    return max(1, min(MOST_EPOCHS, MOST_SAMPLES // samples))

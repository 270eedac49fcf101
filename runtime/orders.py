"""The orders in which the samples of epochs are taken: drawn from seed and epoch, each while the epoch before it runs.

An order is a function of its arguments alone. So it does not matter when it is drawn, nor by whom.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Order = tuple[NDArray[Any], int]
FEW: Final = 2_000  # samples that are put in order sooner than another thread is told of it


def order_of(seed: int, epoch: int, samples: int) -> Order:
    """The order of an epoch's samples, and the key of its random numbers.

    >>> order, key = order_of(seed=0, epoch=3, samples=5)
    >>> sorted(order.tolist()), 0 <= key < 2**40
    ([0, 1, 2, 3, 4], True)
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(samples), int(rng.integers(2**40))


class Orders:
    """`order_of`, one epoch ahead in a thread of its own where that pays; a context that ends the thread."""

    def __init__(self, draw: Callable[[int, int, int], Order] = order_of) -> None:
        self.draw = draw
        self._wanted: SimpleQueue[tuple[int, int, int] | None] = SimpleQueue()
        self._drawn: SimpleQueue[Order | BaseException] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ahead: tuple[int, int, int] | None = None  # what is being drawn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()

    def of(self, seed: int, epoch: int, samples: int, last: bool) -> Order:
        """The order of an epoch; that of the next one is begun, unless this is the last."""
        wanted, ahead, drawn = (seed, epoch, samples), self._ahead, None
        if ahead is not None and self._thread is not None and self._thread.is_alive():  # it is not after a fork
            drawn = self._drawn.get()
        self._ahead = None
        if isinstance(drawn, BaseException):
            raise drawn
        found = drawn if drawn is not None and ahead == wanted else self.draw(*wanted)
        if samples > FEW and not last:
            self._ahead = (seed, epoch + 1, samples)
            self._begin(self._ahead)
        return found

    def _begin(self, following: tuple[int, int, int]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw_ahead, daemon=True, name="chainrule-orders")
            self._thread.start()
        self._wanted.put(following)

    def _draw_ahead(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            try:
                self._drawn.put(self.draw(*wanted))
            except BaseException as error:  # noqa: BLE001  it is raised where the order is wanted
                self._drawn.put(error)

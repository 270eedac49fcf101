"""The orders in which the samples of epochs are taken: drawn from seed and epoch, while epochs before them run.

An order is a function of its arguments alone. So it does not matter when it is drawn, nor by whom.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Order = tuple[NDArray[Any], int]
Key = tuple[int, int, int]  # seed, epoch, samples
FEW: Final = 2_000  # samples that are put in order sooner than another thread is told of it
MOST_AHEAD: Final = 65_536  # samples of all epochs whose orders are drawn ahead, if they are several


def order_of(seed: int, epoch: int, samples: int) -> Order:
    """The order of an epoch's samples, and the key of its random numbers.

    >>> order, key = order_of(seed=0, epoch=3, samples=5)
    >>> sorted(order.tolist()), 0 <= key < 2**40
    ([0, 1, 2, 3, 4], True)
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(samples), int(rng.integers(2**40))


class Orders:
    """`order_of`, some epochs ahead in a thread of its own where that pays; a context that ends the thread.

    It is told of several epochs at once: to wake a thread may take as long as to draw an order.
    """

    def __init__(self, draw: Callable[[int, int, int], Order] = order_of) -> None:
        self.draw = draw
        self._wanted: SimpleQueue[Key | None] = SimpleQueue()
        self._drawn: SimpleQueue[Order | BaseException] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ahead: deque[Key] = deque()  # what is being drawn, or was drawn and not yet used
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()

    def of(self, seed: int, epoch: int, samples: int, left: int) -> Order:
        """The order of an epoch, after which so many are left; those of the next ones are begun."""
        wanted, found = (seed, epoch, samples), None
        if self._thread is not None and not self._thread.is_alive():  # after a fork
            self._ahead.clear()
        while self._ahead and found is None:
            drawn, key = self._drawn.get(), self._ahead.popleft()
            found = drawn if key == wanted else None  # after a roll back what was drawn ahead is of no use
        if isinstance(found, BaseException):
            raise found
        most = min(left, max(1, MOST_AHEAD // samples))
        if samples > FEW and len(self._ahead) <= most // 2:
            for ahead in range(len(self._ahead) + 1, most + 1):
                self._begin((seed, epoch + ahead, samples))
        return self.draw(*wanted) if found is None else found

    def _begin(self, following: Key) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._draw_ahead, daemon=True, name="chainrule-orders")
            thread.start()
            self._thread = thread  # that runs, or there is none
        self._ahead.append(following)
        self._wanted.put(following)

    def _draw_ahead(self) -> None:
        while (wanted := self._wanted.get()) is not None and not self._over:
            try:
                self._drawn.put(self.draw(*wanted))
            except BaseException as error:  # noqa: BLE001  it is raised where the order is wanted
                self._drawn.put(error)

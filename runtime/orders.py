"""The orders in which the samples of epochs are taken: drawn from seed and epoch, each while the epoch before it runs.

An order is a function of its arguments alone. So it does not matter when it is drawn, nor by whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

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
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[tuple[int, int, int], Future[Order]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def of(self, seed: int, epoch: int, samples: int, last: bool) -> Order:
        """The order of an epoch; that of the next one is begun, unless this is the last."""
        wanted, ahead = (seed, epoch, samples), self._ahead
        found = ahead[1].result() if ahead is not None and ahead[0] == wanted else self.draw(*wanted)
        self._ahead = None
        if samples > FEW and not last:
            following = (seed, epoch + 1, samples)
            self._ahead = following, self._helper().submit(self.draw, *following)
        return found

    def _helper(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "chainrule-orders")
        return self._pool

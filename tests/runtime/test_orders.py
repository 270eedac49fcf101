import threading

import numpy as np
import pytest

from chainrule.runtime.orders import FEW, Order, Orders, order_of


def test_an_order_is_a_function_of_its_arguments() -> None:
    (a, first), (b, second) = order_of(1, 2, 100), order_of(1, 2, 100)
    assert first == second
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a), np.arange(100))
    assert order_of(1, 3, 100)[1] != first


def test_the_next_one_is_drawn_in_another_thread_and_the_orders_are_the_same() -> None:
    drawn_by = []

    def draw(seed: int, epoch: int, samples: int) -> Order:
        drawn_by.append((epoch, threading.current_thread() is threading.main_thread()))
        return order_of(seed, epoch, samples)

    with Orders(draw) as orders:
        for epoch in (0, 1, 5, 6):  # a roll back or a resumed training leaps
            order, key = orders.of(3, epoch, FEW + 1, last=epoch == 6)
            wanted = order_of(3, epoch, FEW + 1)
            np.testing.assert_array_equal(order, wanted[0])
            assert key == wanted[1]
    assert sorted(drawn_by) == [(0, True), (1, False), (2, False), (5, True), (6, False)]
    assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-orders")]


def test_few_samples_are_put_in_order_at_once() -> None:
    with Orders() as orders:
        orders.of(0, 0, FEW, last=False)
        assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-orders")]


def test_what_goes_wrong_in_the_other_thread_is_raised_here() -> None:
    def draw(seed: int, epoch: int, samples: int) -> Order:
        if epoch == 1:
            raise MemoryError("no room")
        return order_of(seed, epoch, samples)

    with Orders(draw) as orders:
        orders.of(0, 0, FEW + 1, last=False)
        with pytest.raises(MemoryError, match="no room"):
            orders.of(0, 1, FEW + 1, last=False)
        assert orders.of(0, 2, FEW + 1, last=True)[1] == order_of(0, 2, FEW + 1)[1]

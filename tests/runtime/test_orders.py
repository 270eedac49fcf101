import threading

import numpy as np
import pytest

from chainrule.runtime.orders import FEW, MOST_SAMPLES, Order, Orders, epochs_at_once, order_of


def test_an_order_is_a_function_of_its_arguments() -> None:
    (a, first), (b, second) = order_of(1, 2, 100), order_of(1, 2, 100)
    assert first == second
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a), np.arange(100))
    assert order_of(1, 3, 100)[1] != first


def test_the_next_ones_are_drawn_in_another_thread_and_the_orders_are_the_same() -> None:
    here = []

    def draw(seed: int, epoch: int, samples: int) -> Order:
        if threading.current_thread() is threading.main_thread():
            here.append(epoch)
        return order_of(seed, epoch, samples)

    epochs = (0, 1, 2, 3, 100, 101, 50, 51, 52)  # a roll back or a resumed training leaps
    with Orders(draw) as orders:
        for epoch in epochs:
            order, (key,) = orders.of(3, epoch, FEW + 1, left=102 - epoch)
            wanted = order_of(3, epoch, FEW + 1)
            np.testing.assert_array_equal(order, wanted[0])
            assert key == wanted[1]
    assert here == [0, 100, 50]
    assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-orders")]


@pytest.mark.parametrize("samples", [5, FEW, MOST_SAMPLES // 3])
def test_some_epochs_on_end_are_each_in_its_own_order(samples: int) -> None:
    epoch, epochs = 0, 2 * epochs_at_once(samples) + 2
    with Orders() as orders:
        while epoch < epochs:
            order, keys = orders.of(7, epoch, samples, left=epochs - epoch - 1, most=3)
            assert 1 <= len(keys) <= min(3, epochs - epoch)
            for row, key in zip(order.reshape(len(keys), samples), keys, strict=True):
                wanted = order_of(7, epoch, samples)
                np.testing.assert_array_equal(row, wanted[0])
                assert key == wanted[1]
                epoch += 1
    assert epoch == epochs


def test_no_more_are_drawn_than_are_left_nor_than_there_is_room_for() -> None:
    drawn = []

    def draw(seed: int, epoch: int, samples: int) -> Order:
        drawn.append(epoch)
        return np.arange(samples), 0

    with Orders(draw) as orders:
        for epoch in range(3):
            orders.of(0, epoch, FEW + 1, left=2 - epoch)
    assert sorted(drawn) == [0, 1, 2]
    with Orders(draw) as orders:
        orders.of(0, 10, MOST_SAMPLES + 1, left=100)
        assert orders._ahead is not None
        assert (orders._ahead.first, orders._ahead.last) == (11, 12)


def test_few_samples_are_put_in_order_at_once() -> None:
    with Orders() as orders:
        orders.of(0, 0, FEW, left=1)
        assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-orders")]


def test_few_samples_of_many_epochs_are_put_in_order_at_once_as_well() -> None:
    with Orders() as orders:
        order, keys = orders.of(0, 3, samples=4, left=99, most=30)
        assert [int(key) for key in keys] == [order_of(0, epoch, 4)[1] for epoch in range(3, 33)]
        assert order.tobytes() == np.concatenate([order_of(0, epoch, 4)[0] for epoch in range(3, 33)]).tobytes()
        assert len(orders.of(0, 33, samples=4, left=4, most=30)[1]) == 5
        assert len(orders.of(0, 38, samples=FEW, left=99, most=30)[1]) == 1


def test_what_goes_wrong_in_the_other_thread_is_raised_here() -> None:
    def draw(seed: int, epoch: int, samples: int) -> Order:
        if epoch == 1:
            raise MemoryError("no room")
        return order_of(seed, epoch, samples)

    with Orders(draw) as orders:
        orders.of(0, 0, FEW + 1, left=9)
        with pytest.raises(MemoryError, match="no room"):
            orders.of(0, 1, FEW + 1, left=9)
        assert orders.of(0, 2, FEW + 1, left=0)[1][0] == order_of(0, 2, FEW + 1)[1]

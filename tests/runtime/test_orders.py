import threading
from collections import Counter

import numpy as np
import pytest

from chainrule.runtime.native import team
from chainrule.runtime.orders import FEW, MOST_SAMPLES, Order, Orders, epochs_at_once, order_of


def test_an_order_is_a_function_of_its_arguments() -> None:
    (a, first), (b, second) = order_of(1, 2, 100), order_of(1, 2, 100)
    assert first == second
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a), np.arange(100))
    assert order_of(1, 3, 100)[1] != first


def in_python(samples: int, key: int) -> list[int]:
    """What `shuffle` does, in integers of Python."""
    whole, chosen = 2**64 - 1, list[int]()
    for place in range(samples):
        z = (key + place * 0x9E3779B97F4A7C15) & whole
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & whole
        z = (z ^ z >> 27) * 0x94D049BB133111EB & whole
        z ^= z >> 31
        j = z * (place + 1) >> 64
        chosen.append(place)
        chosen[place], chosen[j] = chosen[j], place
    return chosen


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 7, 64, 1000])
def test_machine_code_shuffles_as_python_does(samples: int) -> None:
    for key in (0, 1, -1, 2**63 - 1, -(2**63), 0x123456789ABCDEF):
        order = np.zeros(samples, np.int64)
        team().shuffle(order, key)
        assert order.tolist() == in_python(samples, key)


def test_every_order_is_as_likely_as_the_others() -> None:
    """Chi squared of the 24 orders of four samples, with 23 degrees of freedom: 60 is passed once in 26,000 times."""
    for orders in (((seed, 0) for seed in range(6000)), ((0, epoch) for epoch in range(6000))):
        counts = Counter(tuple(order_of(seed, epoch, 4)[0].tolist()) for seed, epoch in orders)
        assert len(counts) == 24
        assert sum((count - 250) ** 2 / 250 for count in counts.values()) < 60


def test_where_a_sample_goes_does_not_depend_on_where_it_was() -> None:
    """Of 1,000 orders of 100 samples: how often one that was in some tenth is then in another."""
    places = np.array([order_of(0, epoch, 100)[0] for epoch in range(1000)])
    counts = np.zeros((10, 10))
    np.add.at(counts, (np.arange(100) // 10 * np.ones((1000, 1), int), places // 10), 1)
    assert abs(counts / 1000 - 1).max() < 0.15  # 5 standard deviations, which are 0.0286 (hypergeometric)
    assert abs(np.corrcoef(places[:-1].ravel(), places[1:].ravel())[0, 1]) < 0.015


def test_an_order_and_its_key_do_not_change_from_version_to_version() -> None:
    order, key = order_of(1, 2, 10)
    assert (order.tolist(), key) == ([5, 3, 1, 6, 9, 7, 0, 4, 2, 8], 864087570991)
    assert order_of(2**70, 2, 10)[1] != order_of(0, 2, 10)[1]


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

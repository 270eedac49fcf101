"""Arrays on their way to kernels, and how a batch is cut into blocks."""

import math

import numpy as np
import pytest

from chainrule.runtime.given import conform, draw
from chainrule.runtime.machine import (
    FEWEST_ROWS,
    FEWEST_WIDE_ROWS,
    MOST_ROWS,
    MOST_WIDE_ROWS,
    WIDE,
    WORTH_A_SECOND,
    aligned,
    rows_of_block,
)


def test_blocks_of_samples_are_of_one_size_and_hold_a_fair_amount_of_work() -> None:
    for samples in (1, 7, 32, 100, 256, 4096):
        for operations in (0, 1, 1000, 40_000, 10**9):
            rows = rows_of_block(samples, operations, 1)
            assert rows % 8 == 0
            assert min(samples, FEWEST_ROWS) <= rows <= MOST_ROWS
    assert rows_of_block(32, 40_000, 1) == 16
    assert rows_of_block(128, 10**6, WIDE + 1) == FEWEST_WIDE_ROWS
    assert rows_of_block(4096, 10**5, 1) == FEWEST_WIDE_ROWS, "many blocks: each may be larger"


def test_wide_products_have_two_blocks_at_least_and_large_ones_where_there_are_many() -> None:
    assert [rows_of_block(n, 10**6, WIDE + 1) for n in (16, 32, 64, 128)] == [16, 16, 32, 64]
    assert [rows_of_block(n, 10**6, WIDE + 1) for n in (256, 2048, 5000, 100_000)] == [64, 128, 256, MOST_WIDE_ROWS]


def test_blocks_are_as_many_as_a_power_of_two() -> None:
    for operations in (1, 5_000, 8_000, 20_000, 10**5, 10**7):
        count = 512 / rows_of_block(512, operations, 1)
        assert count == 2 ** round(math.log2(count))
    assert rows_of_block(64, WORTH_A_SECOND // 64, 1) == 32


def test_arrays_begin_at_a_cache_line() -> None:
    for shape in ((3,), (2, 5), (1, 100)):
        made = aligned(shape, np.float32)
        assert made.shape == shape
        assert made.ctypes.data % 64 == 0


# The door


def test_conform_makes_contiguous_arrays_of_the_type() -> None:
    made = conform("x", np.arange(12).reshape(3, 4).T, "real", (3,), np.dtype("float32"))
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert made.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert conform("x", [1, 2], "real", (1,), np.dtype("float64")).shape == (2, 1)
    assert conform("y", [[1.0], [2.0]], "integer", (), np.dtype("float64")).tolist() == [1, 2]
    same = np.zeros((2, 3))
    assert conform("x", same, "real", (3,), np.dtype("float64")) is same  # nothing is copied without need


@pytest.mark.parametrize(
    ("value", "kind", "shape", "words"),
    [
        ([["a"]], "real", (1,), "give numbers"),
        ([[None]], "real", (1,), "give numbers"),
        ([[1j]], "real", (1,), "complex"),
        (1.0, "real", (1,), "samples, 1"),
        ([[1.0, 2.0]], "real", (3,), r"\(1, 2\)"),
        ([[[1.0]]], "real", (1,), "samples, 1"),
        ([0.5], "integer", (), "0.5 is not an integer"),
        ([np.nan], "integer", (), "nan is not an integer"),
        ([-1], "integer", (), "-1"),
        ([4], "integer", (), "0 to 3"),
        ([[1, 2]], "integer", (), "samples"),
    ],
)
def test_conform_names_what_does_not_fit(value: object, kind: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        conform("thing", value, kind, shape, np.dtype("float64"), 4)
    assert str(error.value).startswith("thing: ")


def test_draws() -> None:
    rng = np.random.default_rng(0)
    assert (draw("constant", 0.5, (2, 3), rng) == 0.5).all()
    normal, flat = draw("normal", 0.5, (100, 100), rng), draw("uniform", 0.5, (100, 100), rng)
    assert normal.std() == pytest.approx(0.5, abs=0.02)
    assert abs(normal).max() > 1
    assert flat.std() == pytest.approx(0.5 / math.sqrt(3), abs=0.01)
    assert 0.49 < abs(flat).max() <= 0.5
    for shape in ((3, 5), (5, 3), (2, 3, 4)):
        Q = draw("orthogonal", 2.0, shape, rng).reshape(shape[0], -1)
        gram = Q @ Q.T if Q.shape[0] <= Q.shape[1] else Q.T @ Q
        np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)

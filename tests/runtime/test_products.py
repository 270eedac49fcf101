"""The matrix product for vectors of any processor: LLVM splits those that this one lacks."""

import ctypes
import itertools
import random

import numpy as np
import pytest

from chainrule.runtime import driver, products, tiles

EXTENTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 20, 28, 29, 31, 32, 33, 65)
UNTOUCHED = 77.5


@pytest.mark.parametrize("near", [products.NEAR, 0], ids=["near", "far"])
@pytest.mark.parametrize(("width", "dtype"), [(16, "float32"), (32, "float64"), (64, "float32"), (64, "float64")])
def test_products_for_vectors_of_any_width(width: int, dtype: str, near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small integers, so that every order of adding gives the same; nothing beside the result is written.

    Operands that lie far apart are packed, here also small ones, some tiles of rows at a time.
    """
    monkeypatch.setattr(products, "NEAR", near)
    if near == 0:
        monkeypatch.setattr(products, "MOST_PACKED", 2**12)
    for module in (tiles, products):
        monkeypatch.setattr(module, "vector_bytes", lambda: width)
        monkeypatch.setattr(module, "TILE_ROWS", 14 if width == 64 else 6)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 15)(driver.compiled(f"product_{dtype}").address)
    rng, chance = np.random.default_rng(0), random.Random(0)
    ways = list(itertools.product((False, True), repeat=3))
    for left_turned, right_turned, started in ways * 60:
        rows, columns, depth = (chance.choice(EXTENTS) for _ in range(3))
        left, right = rng.integers(-4, 5, (rows, depth)), rng.integers(-4, 5, (depth, columns))
        start, beside = rng.integers(-9, 10, columns).astype(dtype), chance.choice((0, 3))
        a, b = (_wider(m.T if t else m, beside, dtype) for m, t in ((left, left_turned), (right, right_turned)))
        out = np.full((rows + 1, columns + beside), UNTOUCHED, dtype)
        others = [np.full_like(out, k).ctypes.data for k in range(3)] if chance.random() < 0.5 else [0, 0, 0]
        function(
            left_turned, right_turned, rows, columns, depth, a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1],
            out.ctypes.data, out.shape[1], start.ctypes.data if started else 0, *others,
        )  # fmt: skip
        what = f"{left_turned=} {right_turned=} {started=} {rows=} {columns=} {depth=} {beside=}"
        np.testing.assert_array_equal(out[:rows, :columns], left @ right + started * start, err_msg=what)
        assert (out[rows:] == UNTOUCHED).all(), what
        assert (out[:, columns:] == UNTOUCHED).all(), what
        out[...] = UNTOUCHED
        b = _wider(right, beside, dtype)
        function(
            True, False, 1, columns, depth, 0, 0, b.ctypes.data, b.shape[1], out.ctypes.data, out.shape[1], 0, 0, 0, 0
        )  # fmt: skip
        np.testing.assert_array_equal(out[0, :columns], right.sum(axis=0), err_msg=what)
        assert (out[1:] == UNTOUCHED).all(), what
        assert (out[:, columns:] == UNTOUCHED).all(), what


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_few_columns(width: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits for any part of the rows, if it is not too small."""
    for module in (tiles, products):
        monkeypatch.setattr(module, "vector_bytes", lambda: width)
        monkeypatch.setattr(module, "TILE_ROWS", 14 if width == 64 else 6)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 15)(driver.compiled(f"product_{dtype}").address)
    rng = np.random.default_rng(0)

    def product(a: np.ndarray, b: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
        function(False, True, len(a), len(b), a.shape[1], a.ctypes.data, a.strides[0] // a.itemsize, b.ctypes.data,
                 b.shape[1], out.ctypes.data, out.shape[1], start.ctypes.data, 0, 0, 0)  # fmt: skip

    for columns, depth, beside in itertools.product(range(1, 24), (64, 65, 79, 128), (0, 1)):
        a, b = (rng.normal(size=(n, depth)).astype(dtype) for n in (23, columns))
        start, out = rng.normal(size=columns).astype(dtype), np.full((24, columns + beside), UNTOUCHED, dtype)
        product(a, b, start, out)
        right = a.astype(np.longdouble) @ b.astype(np.longdouble).T + start
        np.testing.assert_allclose(out[:23, :columns], right, rtol=0, atol=300 * np.finfo(dtype).eps)
        assert (out[23:] == UNTOUCHED).all()
        assert (out[:, columns:] == UNTOUCHED).all()
        for first, last in ((0, 5), (3, 9), (6, 17), (12, 23)):
            part = np.full((last - first, columns + beside), UNTOUCHED, dtype)
            product(a[first:last], b, start, part)
            assert (part == out[first:last]).all(), (columns, depth, beside, first, last)


def _wider(matrix: np.ndarray, beside: int, dtype: str) -> np.ndarray:
    """A matrix in the left columns of one that is filled with NaN."""
    made = np.full((matrix.shape[0], matrix.shape[1] + beside), np.nan, dtype)
    made[:, : matrix.shape[1]] = matrix
    return made

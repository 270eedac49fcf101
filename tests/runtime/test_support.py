"""What kernels stand on: products by address, random numbers, elementary functions at their edges."""

import itertools
import math

import numpy as np
import pytest
from numba import njit

from chainrule.runtime.native import team
from chainrule.runtime.support import affine, flat, gemm, maximum, sign, uniform, view

DTYPES = ("float32", "float64")


@pytest.fixture(scope="module", autouse=True)
def _products() -> None:
    """What the functions below call, in machine code."""
    for real in DTYPES:
        team().provide_products(real)


@njit
def multiply(ta, tb, rows, columns, depth, a, a_at, a_stride, b, b_at, b_stride, c, c_at, c_stride):
    gemm(ta, tb, rows, columns, depth, a, a_at, a_stride, b, b_at, b_stride, c, c_at, c_stride)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_on_parts_of_arrays(dtype: str) -> None:
    """Every transposition, sizes with 1 among them, rows longer than the part; nothing is written beside it."""
    rng = np.random.default_rng(0)
    tolerance = 1e-4 if dtype == "float32" else 1e-13
    for ta, tb, (rows, columns, depth), extra in itertools.product(
        (False, True), (False, True), [(1, 1, 1), (1, 4, 3), (5, 1, 2), (4, 3, 1), (7, 9, 33)], (0, 3)
    ):
        a = rng.normal(size=((depth, rows + extra) if ta else (rows, depth + extra))).astype(dtype)
        b = rng.normal(size=((columns, depth + extra) if tb else (depth, columns + extra))).astype(dtype)
        c = np.full((rows + 2, columns + extra), 7.0, dtype)
        at = extra and 1  # where there is room, begin one element later
        multiply(ta, tb, rows, columns, depth, a, at, a.shape[1], b, at, b.shape[1], c, c.shape[1] + at, c.shape[1])
        left = a[:, at : at + rows].T if ta else a[:, at : at + depth]
        right = b[:, at : at + depth].T if tb else b[:, at : at + columns]
        np.testing.assert_allclose(c[1:-1, at : at + columns], left @ right, rtol=tolerance, atol=tolerance)
        c[1:-1, at : at + columns] = 7.0
        assert (c == 7.0).all()


@njit
def add_product(ta, tb, rows, columns, depth, a, a_stride, b, b_stride, c, row):
    affine(ta, tb, rows, columns, depth, a, 0, a_stride, b, 0, b_stride, c, 0, columns, row)


@pytest.mark.parametrize("dtype", DTYPES)
def test_affine_begins_with_a_row(dtype: str) -> None:
    """In tiles of every width, with and without packing, as dot products of few rows, and by BLAS."""
    rng = np.random.default_rng(0)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    sizes = [(1, 1, 1), (3, 37, 5), (6, 8, 3), (7, 9, 33), (13, 16, 40), (20, 50, 7), (9, 21, 1025), (150, 160, 130)]
    sizes += [
        (30, 10, 70),
        (13, 4, 64),
        (26, 8, 33),
        (21, 17, 48),
        (7, 2, 40),
        (310, 40, 220),
        (22, 41, 400),
        (23, 600, 40),
        (300, 280, 250),
    ]
    for ta, tb, (rows, columns, depth) in itertools.product((False, True), (False, True), sizes):
        left, right = rng.normal(size=(rows, depth)).astype(dtype), rng.normal(size=(depth, columns)).astype(dtype)
        a, b = (np.ascontiguousarray(m.T if turned else m) for m, turned in ((left, ta), (right, tb)))
        c, row = np.full((rows, columns), np.nan, dtype), rng.normal(size=columns).astype(dtype)
        add_product(ta, tb, rows, columns, depth, a, a.shape[1], b, b.shape[1], c, row)
        np.testing.assert_allclose(c, row + left @ right, rtol=tolerance, atol=tolerance * depth**0.5)


def test_flat_is_the_rest_of_an_array() -> None:
    @njit
    def third(array):
        return flat(array, 2)[1], len(flat(array, 2))

    assert third(np.arange(6.0).reshape(2, 3)) == (3.0, 4)


def test_gemm_overwrites_and_keeps_nan() -> None:
    a, b, c = np.ones((2, 2)), np.ones((2, 2)), np.full((2, 2), np.nan)
    multiply(False, False, 2, 2, 2, a, 0, 2, b, 0, 2, c, 0, 2)
    assert (c == 2.0).all()  # what stood there does not matter
    a[0, 0] = np.nan
    multiply(False, False, 2, 2, 2, a, 0, 2, b, 0, 2, c, 0, 2)
    assert np.isnan(c).tolist() == [[True, True], [False, False]]


def test_view_is_the_array_at_an_address() -> None:
    @njit
    def write(address):
        view(address, (2, 3), np.float32)[1, 2] = 5.0
        view(address, (6,), np.float32)[0] = 4.0

    array = np.zeros((2, 3), np.float32)
    write(array.ctypes.data)
    assert array.tolist() == [[4.0, 0.0, 0.0], [0.0, 0.0, 5.0]]


# Random numbers


@njit
def uniforms(key, count):
    made = np.empty(count)
    for k in range(count):
        made[k] = uniform(key, k)
    return made


def test_uniform_numbers() -> None:
    n = 200_000
    u = uniforms(12345, n)
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert np.float32(u.max()) < 1
    assert u.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * n))
    assert u.var() == pytest.approx(1 / 12, abs=4 * 0.0745 / math.sqrt(n))
    counts = np.histogram(u, 64, (0, 1))[0]
    chi = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert 63 - 4 * math.sqrt(126) < chi < 63 + 4 * math.sqrt(126)
    for lag in (1, 2, 32):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 4 / math.sqrt(n)


def test_keys_give_sequences_of_their_own() -> None:
    """Also keys that lie side by side, as those of two layers, and as far apart as those of two steps."""
    n = 20_000
    base = uniforms(7, n)
    assert np.array_equal(base, uniforms(7, n))
    for key in (8, 7 + 1000003, 0, 2**40):
        other = uniforms(key, n)
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(n)
        assert not np.isin(other[:100], base).all()


# Functions that Python's math lacks


@njit
def compared(a, b):
    return maximum(a, b), sign(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_larger_one_and_the_sign(dtype: str) -> None:
    kind = np.dtype(dtype).type
    numbers = [-math.inf, -1e30, -1.0, -1e-45, 0.0, 1e-45, 0.5, 3e38, math.inf]
    for a, b in itertools.product(map(kind, numbers), repeat=2):
        assert compared(a, b) == (max(a, b), int(a > 0) - int(a < 0))
    for a, b in ((math.nan, 1), (math.inf, math.nan), (math.nan, math.nan)):
        assert np.isnan(compared(kind(a), kind(b))[0])
    assert np.isnan(compared(kind(math.nan), kind(0))[1])
    signature = compared.overloads[next(s for s in compared.signatures if str(s[0]) == dtype)].signature
    assert str(signature.return_type) in (f"UniTuple({dtype} x 2)", f"UniTuple({dtype}, 2)")

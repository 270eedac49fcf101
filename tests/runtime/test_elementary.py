"""Elementary functions: within 4 ulp of the exact value in loops and single calls, right at the edges, vectorised."""

import functools
import math
import platform
import re
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import scipy.special
from numba import njit

from chainrule.runtime import elementary_float32, elementary_float64

MODULES = {"float32": elementary_float32, "float64": elementary_float64}
FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}  # as emitted kernels have it
BOUND = 4.0  # ulp
INF, NAN = math.inf, math.nan

# name -> the function in mpmath, and in doubles
UNARY: dict[str, tuple[Callable, Callable]] = {
    "exp": (mpmath.exp, np.exp),
    "expm1": (mpmath.expm1, np.expm1),
    "log": (mpmath.log, np.log),
    "log1p": (mpmath.log1p, np.log1p),
    "tanh": (mpmath.tanh, np.tanh),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), scipy.special.expit),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), lambda x: np.logaddexp(0.0, x)),
    "erf": (mpmath.erf, scipy.special.erf),
    "erfc": (mpmath.erfc, scipy.special.erfc),
    "sin": (mpmath.sin, np.sin),
    "cos": (mpmath.cos, np.cos),
    "tan": (mpmath.tan, np.tan),
    "sinh": (mpmath.sinh, np.sinh),
    "cosh": (mpmath.cosh, np.cosh),
    "asin": (mpmath.asin, np.arcsin),
    "acos": (mpmath.acos, np.arccos),
    "atan": (mpmath.atan, np.arctan),
    "asinh": (mpmath.asinh, np.arcsinh),
    "acosh": (mpmath.acosh, np.arccosh),
    "atanh": (mpmath.atanh, np.arctanh),
}
ODD = {"expm1", "log1p", "tanh", "erf", "sin", "tan", "sinh", "asin", "atan", "asinh", "atanh"}
EDGES = {
    "exp": [(0, 1), (INF, INF), (-INF, 0), (1e9, INF), (-1e9, 0)],
    "expm1": [(INF, INF), (-INF, -1), (1e9, INF), (-1e9, -1)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (-1, NAN), (INF, INF), (-INF, NAN)],
    "log1p": [(-1, -INF), (-2, NAN), (INF, INF), (-INF, NAN)],
    "tanh": [(INF, 1), (-INF, -1), (1e9, 1), (-1e9, -1)],
    "sigmoid": [(0, 0.5), (INF, 1), (-INF, 0), (1e9, 1), (-1e9, 0)],
    "softplus": [(INF, INF), (-INF, 0), (1e9, 1e9), (-1e9, 0)],
    "erf": [(INF, 1), (-INF, -1), (1e9, 1)],
    "erfc": [(0, 1), (INF, 0), (-INF, 2), (1e9, 0), (-1e9, 2)],
    "sin": [(INF, NAN), (-INF, NAN)],
    "cos": [(0, 1), (INF, NAN), (-INF, NAN)],
    "tan": [(INF, NAN), (-INF, NAN)],
    "sinh": [(INF, INF), (-INF, -INF), (1e9, INF), (-1e9, -INF)],
    "cosh": [(0, 1), (INF, INF), (-INF, INF), (-1e9, INF)],
    "asin": [(2, NAN), (INF, NAN), (-INF, NAN)],
    "acos": [(1, 0), (2, NAN), (-INF, NAN)],
    "atan": [(INF, math.pi / 2), (-INF, -math.pi / 2)],
    "asinh": [(INF, INF), (-INF, -INF)],
    "acosh": [(1, 0), (0.5, NAN), (-2, NAN), (INF, INF), (-INF, NAN)],
    "atanh": [(1, INF), (-1, -INF), (2, NAN), (INF, NAN), (-INF, NAN)],
}
UNARY = {name: row for name, row in UNARY.items() if hasattr(elementary_float64, name)}
CASES = [(name, dtype) for name in UNARY for dtype in MODULES]
WITH_DOUBLES = {"sin", "cos", "tan"}  # whose reduction needs them


@functools.cache
def loop(name: str, dtype: str) -> Callable:
    function = getattr(MODULES[dtype], name)

    @njit(fastmath=FAST, error_model="numpy")
    def over_array(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return over_array


def values(name: str, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    loop(name, x.dtype.name)(x, out)
    return out


def sample(dtype: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bit patterns at random, numbers around 0 and 1, and the neighbourhoods of multiples of pi/4 and ln 2 / 2."""
    word = {"float32": np.uint32, "float64": np.uint64}[dtype]
    info = np.finfo(dtype)
    patterns = rng.integers(0, np.iinfo(word).max, count, word, endpoint=True).view(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [
            patterns[np.isfinite(patterns)],
            rng.normal(0, 1, count), rng.normal(0, 20, count), rng.uniform(-1, 1, count), rng.uniform(-800, 800, count),
            1 + rng.normal(0, 1, count // 4) * np.exp(rng.uniform(math.log(info.eps), 0, count // 4)),
            rng.integers(-2000, 2000, count // 4) * (math.pi / 4),
            rng.integers(-2000, 2000, count // 4) * (math.log(2) / 2),
            rng.integers(-50, 50, 100) * float(info.smallest_subnormal), [info.max, info.tiny],
        ]  # fmt: skip
    return np.concatenate([np.asarray(p, dtype) for p in parts])


def ulp(exact: np.ndarray, dtype: str) -> np.ndarray:
    """The unit in the last place of numbers given as doubles."""
    info = np.finfo(dtype)
    exponent = np.frexp(exact)[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)


def errors_in_float32(computed: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """In ulp; what overflows to infinity is right, and so is NaN where there is no value."""
    with np.errstate(over="ignore", invalid="ignore"):
        alike = (computed == exact.astype(np.float32)) | (np.isnan(computed) & np.isnan(exact))
        error = np.abs(computed - exact) / ulp(exact, "float32")
    return np.where(alike & ~np.isfinite(computed), 0.0, np.where(np.isnan(error), INF, error))


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
def test_float32_is_within_4_ulp(name: str) -> None:
    x = sample("float32", 100_000, np.random.default_rng(0))
    exact = UNARY[name][1](x.astype(np.float64))
    error = errors_in_float32(values(name, x), exact)
    worst = np.argmax(error)
    assert error[worst] <= BOUND, f"{name}({x[worst]!r}): {error[worst]:.2f} ulp"


def error_in_float64(function: Callable, x: float, computed: float) -> float:
    """In ulp, against mpmath."""
    try:
        exact = function(mpmath.mpf(x))
    except (ValueError, ZeroDivisionError):
        return 0.0  # the edges have a test of their own
    if isinstance(exact, mpmath.mpc) or mpmath.isnan(exact):
        return 0.0 if math.isnan(computed) else INF
    if math.isinf(computed) or mpmath.isinf(exact):
        return 0.0 if computed == float(exact) else INF
    exponent = max(mpmath.frexp(exact)[1] - 1, -1022)
    return float(abs(computed - exact) * mpmath.mpf(2) ** (52 - exponent))


@pytest.mark.parametrize("name", UNARY)
def test_float64_is_within_4_ulp(name: str) -> None:
    x = sample("float64", 400, np.random.default_rng(1))
    computed = values(name, x)
    with mpmath.workprec(120):
        error = [error_in_float64(UNARY[name][0], float(a), float(b)) for a, b in zip(x, computed, strict=True)]
    worst = int(np.argmax(error))
    assert error[worst] <= BOUND, f"{name}({x[worst]!r}): {error[worst]:.2f} ulp"


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_edges(name: str, dtype: str) -> None:
    arguments, expected = np.array([*EDGES[name], (NAN, NAN)], dtype).T
    np.testing.assert_array_equal(values(name, np.ascontiguousarray(arguments)), expected)
    if name in ODD:
        tiny = np.array([0.0, -0.0, np.finfo(dtype).smallest_subnormal, -np.finfo(dtype).smallest_subnormal], dtype)
        made = values(name, tiny)
        np.testing.assert_array_equal(made, tiny)
        np.testing.assert_array_equal(np.signbit(made), np.signbit(tiny))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_single_calls_give_the_bits_of_vectorised_loops(name: str, dtype: str) -> None:
    x = sample(dtype, 200, np.random.default_rng(2))
    together = values(name, x)
    one_by_one = np.concatenate([values(name, x[i : i + 1]) for i in range(x.size)])
    word = np.int32 if dtype == "float32" else np.int64
    np.testing.assert_array_equal(together.view(word), one_by_one.view(word))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_loops_are_vectorised(name: str, dtype: str) -> None:
    """Packed products, no function called by name, and no doubles in float32."""
    values(name, np.ones(1, dtype))
    (assembly,) = loop(name, dtype).inspect_asm().values()
    letter = "s" if dtype == "float32" else "d"
    assert re.search(rf"\tv?(mul|fn?m(add|sub)\d+)p{letter}\t", assembly)
    assert not re.findall(r"\tcall\w*\t[^*\n]*\n", assembly)
    if dtype == "float32" and name not in WITH_DOUBLES:
        assert not re.search(r"cvt[ps]s2[ps]d", assembly)

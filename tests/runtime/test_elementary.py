"""Elementary functions: within 4 ulp of the exact value in loops and single calls, right at the edges, vectorised."""

import functools
import math
import pathlib
import platform
import re
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import scipy.special
from numba import config, njit

from chainrule.runtime import elementary_float32, elementary_float64

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="they work on bits, with instructions of the machine")
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
    "erfc": (lambda x: mpmath.erfc(x) if abs(x) < 100 else mpmath.mpf(0 if x > 0 else 2), scipy.special.erfc),
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
CASES = [(name, dtype) for name in UNARY for dtype in MODULES]
WITH_DOUBLES = {"sin", "cos", "tan", "power"}


@functools.cache
def loop(name: str, dtype: str) -> Callable:
    """The function over arrays, as an emitted kernel calls it."""
    function = getattr(MODULES[dtype], name)
    if name == "power":

        @njit(fastmath=FAST, error_model="numpy")
        def over_arrays(x, y, out):
            for i in range(x.size):
                out[i] = function(x[i], y[i])

        return over_arrays

    @njit(fastmath=FAST, error_model="numpy")
    def over_array(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return over_array


def values(name: str, *arguments: np.ndarray) -> np.ndarray:
    out = np.empty_like(arguments[0])
    loop(name, out.dtype.name)(*arguments, out)
    return out


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.int32 if array.dtype == np.float32 else np.int64)


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


def test_tanh_is_bounded_and_within_4_ulp_where_its_errors_are_largest() -> None:
    """A quotient of polynomials: every 17th float32 from 2^-5 on, and float64 numbers near which it becomes 1."""
    low, high = np.array([2.0**-5, 11.0], np.float32).view(np.int32)
    x = np.arange(low, high, 17, dtype=np.int32).view(np.float32)
    computed = values("tanh", x)
    assert errors_in_float32(computed, np.tanh(x.astype(np.float64))).max() <= BOUND
    near = np.random.default_rng(2).uniform(15.0, 20.0, 1_000_000)
    assert max(computed.max(), values("tanh", near).max()) == 1.0


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


def power_sample(dtype: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bases of all sizes and near 1, with exponents that give results of all sizes; negative bases, whole exponents."""
    info = np.finfo(dtype)
    low, high = math.log(float(info.smallest_subnormal)) - 2, math.log(float(info.max)) + 1
    base = np.concatenate([
        np.exp(rng.uniform(low, high, count)), 1 + rng.normal(0, 1, count) * np.exp(rng.uniform(-15, 0, count))
    ]).astype(dtype)  # fmt: skip
    with np.errstate(divide="ignore"):
        exponent = (rng.uniform(low, high, base.size) / np.log(np.abs(base.astype(np.float64)))).astype(dtype)
    whole = rng.integers(-30, 30, count).astype(dtype)
    return np.concatenate([base, rng.normal(0, 5, count).astype(dtype)]), np.concatenate([exponent, whole])


def exact_power(x: float, y: float) -> mpmath.mpf:
    if x < 0 and y != math.floor(y):
        return mpmath.mpf("nan")
    return mpmath.power(mpmath.mpf(x), mpmath.mpf(y))


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_powers_in_float32_are_within_4_ulp() -> None:
    x, y = power_sample("float32", 40_000, np.random.default_rng(3))
    error = errors_in_float32(values("power", x, y), np.power(x.astype(np.float64), y.astype(np.float64)))
    worst = np.argmax(error)
    assert error[worst] <= BOUND, f"power({x[worst]!r}, {y[worst]!r}): {error[worst]:.2f} ulp"


def test_powers_in_float64_are_within_4_ulp() -> None:
    x, y = power_sample("float64", 1000, np.random.default_rng(4))
    computed = values("power", x, y)
    with mpmath.workprec(160):
        error = [
            error_in_float64(lambda a, b=b: exact_power(a, b), float(a), float(c))
            for a, b, c in zip(x, y, computed, strict=True)
        ]
    worst = int(np.argmax(error))
    assert error[worst] <= BOUND, f"power({x[worst]!r}, {y[worst]!r}): {error[worst]:.2f} ulp"


def power_by_c(x: float, y: float) -> float:
    """C's pow, from Python's, which raises where C gives infinity or NaN."""
    odd = y == math.floor(y) and math.fmod(y, 2) != 0 if math.isfinite(y) else False
    try:
        return math.pow(x, y)
    except OverflowError:
        return -INF if x < 0 and odd else INF
    except ValueError:
        return (math.copysign(INF, x) if odd else INF) if x == 0 else NAN


@pytest.mark.parametrize("dtype", MODULES)
def test_edges_of_powers(dtype: str) -> None:
    """0, infinity, NaN, 1, and whole, odd and broken exponents, all with all: value and sign."""
    digits = np.finfo(dtype).nmant
    numbers = [0, 1, 2, 3, 0.5, 2.5, 1e9, 2.0**digits, 2.0**digits + 1, 2.0 ** (digits + 1), INF]
    grid = np.array([*numbers, *(-v for v in numbers), -0.0, NAN], dtype)
    x, y = (a.ravel().copy() for a in np.meshgrid(grid, grid))
    expected = np.array([power_by_c(float(a), float(b)) for a, b in zip(x, y, strict=True)])
    with np.errstate(over="ignore", under="ignore"):
        expected = expected.astype(dtype)
    computed = values("power", x, y)
    np.testing.assert_allclose(computed, expected, rtol=1e-6)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(computed[known]), np.signbit(expected[known]))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_single_calls_give_the_bits_of_vectorised_loops(name: str, dtype: str) -> None:
    x = sample(dtype, 200, np.random.default_rng(2))
    one_by_one = np.concatenate([values(name, x[i : i + 1]) for i in range(x.size)])
    np.testing.assert_array_equal(bits(values(name, x)), bits(one_by_one))


@pytest.mark.parametrize("dtype", MODULES)
def test_a_result_does_not_depend_on_the_caller(dtype: str) -> None:
    """A caller's product could be fused with the reduction that follows it, its sum taken apart with what it enters."""
    module = MODULES[dtype]
    exp, sin, log1p = module.exp, module.sin, module.log1p

    @njit(fastmath=FAST, error_model="numpy")
    def formula(x, y, out):
        for i in range(x.size):
            out[0, i], out[1, i], out[2, i] = exp(x[i] * y[i]), sin(x[i] * y[i]), log1p(x[i] * y[i])

    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 9, (2, 1000)).astype(dtype)
    out = np.empty((3, x.size), dtype)
    formula(x, y, out)
    for row, name in zip(out, ("exp", "sin", "log1p"), strict=True):
        np.testing.assert_array_equal(bits(row), bits(values(name, x * y)))


@pytest.mark.skipif(bool(config.BOUNDSCHECK), reason="a loop that checks its positions is not vectorised")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize(("name", "dtype"), [*CASES, ("power", "float32"), ("power", "float64")])
def test_loops_are_vectorised(name: str, dtype: str) -> None:
    """Packed products, no function called by name, and no doubles in float32."""
    values(name, *np.ones((2 if name == "power" else 1, 1), dtype))
    (assembly,) = loop(name, dtype).inspect_asm().values()
    letter = "s" if dtype == "float32" else "d"
    assert re.search(rf"\tv?(mul|fn?m(add|sub)\d+)p{letter}\t", assembly)
    assert not re.findall(r"\tcall\w*\t[^*\n]*\n", assembly)
    if dtype == "float32" and name not in WITH_DOUBLES:
        assert not re.search(r"cvt[ps]s2[ps]d", assembly)


def test_the_two_modules_write_instructions_alike() -> None:
    """They stand alone, so each holds the text; only the types above it and the functions below it differ."""
    texts = [pathlib.Path(module.__file__).read_text("utf-8") for module in MODULES.values()]
    head, tail = "# ---- writing LLVM instructions as formulas", "# ---- exponentials"
    alike = {text[text.index(head) : text.index(tail)] for text in texts}
    assert len(alike) == 1

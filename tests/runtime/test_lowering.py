"""What is written for a kernel computes what Python computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import cfunc, config, types

from chainrule.runtime.elementary_float32 import exp
from chainrule.runtime.lean import Lean
from chainrule.runtime.lowering import Lowering
from chainrule.runtime.support import view

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="it compiles")

PHASE = types.void(types.int64, types.int64, types.CPointer(types.int64))


def run(function: Callable[..., None], *arrays: np.ndarray, task: int = 0, worker: int = 0) -> None:
    """Compile a function and run it: the table has where the arrays are."""
    made = cfunc(PHASE, pipeline_class=Lean, error_model="numpy")(function)
    table = np.array([array.ctypes.data for array in arrays], np.int64)
    made.ctypes(task, worker, table.ctypes.data_as(made.ctypes.argtypes[2]))


def counted(task: int, worker: int, table: Any) -> None:
    out = view(table[0], (64,), np.int64)
    at = 0
    for k in range(3):
        out[at] = k
        at += 1
    for k in range(task, worker):
        out[at] = k
        at += 1
    for k in range(worker, task):
        out[at] = 1000 + k
        at += 1
    last = worker
    for k in range(task, last, 4):
        last = 0  # a range is what it was at its beginning
        out[at] = k
        at += 1
    for i in range(2):
        for k in range(i, 2 * i + 1):
            k += 10
            out[at] = 100 * i + k
            at += 1
    out[at] = k


@pytest.mark.parametrize(("task", "worker"), [(-2, 9), (5, 5), (7, 2)])
def test_loops_count_as_ranges(task: int, worker: int) -> None:
    out = np.full(64, -7)
    run(counted, out, task=task, worker=worker)
    told = [*range(3), *range(task, worker), *(1000 + k for k in range(worker, task)), *range(task, worker, 4)]
    told += [10, 111, 112, 12]
    assert out.tolist() == told + [-7] * (64 - len(told))


def placed(task: int, worker: int, table: Any) -> None:
    x = view(table[0], (2, 3, 4), np.float64)
    y = view(table[1], (2, 12), np.float32)
    z = view(table[2], (24,), np.int64)
    for i in range(2):
        for j in range(3):
            for k in range(4):
                y[i, 4 * j + k] = x[i, j, k]
                z[12 * i + 4 * j + k] = x[1 - i, j, 3 - k]


def test_indices_are_those_of_rows_after_rows() -> None:
    x = np.random.default_rng(0).normal(0, 9, (2, 3, 4))
    y, z = np.zeros((2, 12), np.float32), np.zeros(24, np.int64)
    run(placed, x, y, z)
    assert np.array_equal(y, x.reshape(2, 12).astype(np.float32))
    assert np.array_equal(z, x[::-1, :, ::-1].ravel().astype(np.int64))


def computed(task: int, worker: int, table: Any) -> None:
    x = view(table[0], (2,), np.float32)
    n = view(table[1], (2,), np.int64)
    real, whole = view(table[2], (12,), np.float64), view(table[3], (8,), np.int64)
    a, b = x[0], x[1]
    i, j = n[0], n[1]
    real[0], real[1], real[2], real[3] = a + b, a - b, a * b, a / b
    real[4], real[5], real[6] = i + b, a * j, np.float64(a) - 1.0 / 3.0
    real[7], real[8], real[9], real[10], real[11] = a < b, a <= b, a > b, a >= b, a == b
    whole[0], whole[1], whole[2] = i + j, i - j, i * j
    whole[3], whole[4], whole[5], whole[6], whole[7] = i < j, i <= j, i > j, i >= j, i == j


@pytest.mark.parametrize("x", [(1.5, -0.3), (2.0, 2.0), (np.nan, 1.0), (np.inf, -np.inf), (0.0, -0.0)])
@pytest.mark.parametrize("n", [(3, -7), (4, 4), (-(2**40), 2**20)])
def test_operators_are_those_of_numbers(x: tuple[float, float], n: tuple[int, int]) -> None:
    numbers, integers = np.array(x, np.float32), np.array(n)
    real, whole = np.zeros(12), np.zeros(8, np.int64)
    run(computed, numbers, integers, real, whole)
    told_real, told_whole = np.zeros(12), np.zeros(8, np.int64)
    (a, b), (i, j) = numbers, integers
    with np.errstate(all="ignore"):
        told_real[:4] = a + b, a - b, a * b, a / b
        told_real[4:7] = float(i) + float(b), float(a) * float(j), float(a) - 1.0 / 3.0
    told_real[7:] = a < b, a <= b, a > b, a >= b, a == b
    told_whole[:] = i + j, i - j, i * j, i < j, i <= j, i > j, i >= j, i == j
    assert np.array_equal(real, told_real, equal_nan=True)
    assert np.array_equal(whole, told_whole)


def backwards(task: int, worker: int, table: Any) -> None:
    for k in range(worker, task, -1):
        view(table[0], (8,), np.int64)[k] = k


def unknown(task: int, worker: int, table: Any) -> None:
    for k in range(0, 8, worker):
        view(table[0], (8,), np.int64)[k] = k


@pytest.mark.parametrize("function", [backwards, unknown])
def test_a_loop_that_may_not_count_upwards_is_refused(function: Callable[..., None]) -> None:
    with pytest.raises(Exception, match="a loop of a kernel counts upwards"):
        run(function, np.zeros(8, np.int64))


def test_what_is_rare_is_left_to_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers without a sign, division, remainders and shifts."""
    left: list[Any] = []
    numbas = Lowering.__mro__[1].lower_binop  # type: ignore[attr-defined]
    monkeypatch.setattr(Lowering.__mro__[1], "lower_binop", lambda *a: (left.append(a[-1].__name__), numbas(*a))[1])

    def rare(task: int, worker: int, table: Any) -> None:
        out = view(table[0], (4,), np.int64)
        out[0] = (np.uint64(2**63) + np.uint64(5)) >> np.uint64(60)
        out[1] = np.uint64(2**63) > np.uint64(5)
        out[2] = task // 3
        out[3] = task % 3

    out = np.zeros(4, np.int64)
    run(rare, out, task=-7)
    assert out.tolist() == [8, 1, -3, 2]
    assert set(left) == {"add", "rshift", "gt", "floordiv", "mod"}


def stores_of_loop(function: Callable[..., None]) -> int:
    """How many vectors a turn of the vectorised loop writes."""
    made = cfunc(PHASE, pipeline_class=Lean, error_model="numpy", fastmath={"contract"})(function)
    _, _, loop = made.inspect_llvm().partition("\nvector.body:")
    body, *_ = loop.split("\n\n")
    return len(re.findall(r"store <\d+ x float>", body))


def functions(task: int, worker: int, table: Any) -> None:
    x, y = view(table[0], (1000,), np.float32), view(table[1], (1000,), np.float32)
    for k in range((worker - task) * 4):
        y[k] = exp(x[k])


def uneven(task: int, worker: int, table: Any) -> None:
    x, y = view(table[0], (1000,), np.float32), view(table[1], (1000,), np.float32)
    for k in range(task, worker):
        y[k] = exp(x[k])


def begun(task: int, worker: int, table: Any) -> None:
    x, y = view(table[0], (1000,), np.float32), view(table[1], (1000,), np.float32)
    for k in range(task, worker * 4):
        y[k] = exp(x[k])


def short(task: int, worker: int, table: Any) -> None:
    x, y = view(table[0], (1000,), np.float32), view(table[1], (1000,), np.float32)
    for k in range(8):
        y[k] = exp(x[k])


def copied(task: int, worker: int, table: Any) -> None:
    x, y = view(table[0], (100, 40), np.float32), view(table[1], (100, 40), np.float32)
    for n in range(task, worker):
        for k in range(40):
            y[worker - n, k] = x[n, k] * x[n, k]


@pytest.mark.parametrize(("function", "vectors"), [(functions, 4), (uneven, 2), (begun, 2), (short, 0)])
def test_an_elementary_function_of_many_numbers_is_computed_side_by_side(
    function: Callable[..., None], vectors: int
) -> None:
    """The shorter a loop may be, the fewer at once: what is left over is computed number by number."""
    assert stores_of_loop(function) == vectors


def test_a_row_of_some_vectors_is_computed_in_vectors() -> None:
    """LLVM writes it out as 40 numbers, unless it is told not to."""
    assert stores_of_loop(copied) > 0

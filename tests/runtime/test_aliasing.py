"""Arrays of a kernel share no memory, and LLVM knows: no loop looks for it at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import cfunc, config, types

import chainrule as cr
from chainrule.codegen.request import Update
from chainrule.runtime import native
from chainrule.runtime.kernels import LARGE_BATCH, Kernels
from chainrule.runtime.lean import Lean
from chainrule.runtime.support import flat, view
from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.formula import FUNCTIONS

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="it compiles")

PHASE = types.void(types.int64, types.int64, types.CPointer(types.int64))
LOOKS = "vector.memcheck"  # how LLVM calls the block before a loop that looks
real = np.float64


def run(function: Callable[..., None], *arrays: np.ndarray) -> str:
    """Compile a function, and run it: the table has two arrays, and then 100; its instructions."""
    made = cfunc(PHASE, pipeline_class=Lean)(function)
    table = np.array([*(array.ctypes.data for array in arrays), 100], np.int64)
    made.ctypes(0, 0, table.ctypes.data_as(made.ctypes.argtypes[2]))
    return str(made.inspect_llvm())


@pytest.mark.parametrize(
    "model",
    [
        cr.Model(3, [cr.Dense(5, "tanh"), cr.Dense(4, "softmax")], "cross_entropy"),
        cr.Model(3, [cr.Dense(6, "gelu"), cr.Dropout(0.1), cr.Dense(2)], penalties=[cr.L1(0.1)]),
        cr.Model(4, [cr.Dense(3, "sigmoid")], "binary_cross_entropy"),
    ],
    ids=["softmax", "dropout", "sigmoid"],
)
@pytest.mark.parametrize("batch", [1, LARGE_BATCH])
def test_no_loop_looks_whether_arrays_share_memory(model: cr.Model, batch: int) -> None:
    made = Kernels(model, "float32", Update(cr.Adam(0.01)), batch=batch)
    code, routines = native.kernels(made.path, made.source), made.machine().kernels["routines"]
    names = [phase["function"] for phases in routines.values() for phase in phases]
    assert len(names) > 5
    assert ("def summed" in made.source) == (batch >= LARGE_BATCH)
    for name in names:
        assert LOOKS not in code.compiled(name).inspect_llvm(), name


def test_what_takes_the_place_of_what_it_is_computed_from_is_always_written() -> None:
    """A number that may stay as it is would not be written again, but a store be asked for each time, which is slow."""
    functions = [name for name in FUNCTIONS if name not in ("max", "min", "where", "clip")]
    activations = [name for name in ACTIVATIONS if name != "softmax"]
    layers = [cr.Dense(5, name) for name in [*activations, *(f"{name}(z)" for name in functions)]]
    made = Kernels(cr.Model(5, [*layers, cr.Dense(2)]), "float32")
    assert made.source.count("  # where ") > len(layers), "some take such a place in predict and evaluate"
    library = native.kernels(made.path, made.source).compiled("predict_phase_0")._library
    assert "vmaskmov" not in library.get_asm_str(), "such a store, where a processor has AVX2"


def doubled(task: int, worker: int, table: Any) -> None:
    count = table[2]
    x, y = view(table[0], (count,), real), view(table[1], (count,), real)
    for k in range(task, count):
        y[k] = 2 * x[k]


def test_it_would_look_without_marks() -> None:
    assert LOOKS in cfunc(PHASE)(doubled).inspect_llvm()
    x, y = np.arange(100.0), np.zeros(100)
    assert LOOKS not in run(doubled, x, y)
    assert (y == 2 * x).all()


def test_what_stands_at_one_place_may_be_shared() -> None:
    """As views of a worker's scratch are: each number is read when the one before it was written."""

    def moved(task: int, worker: int, table: Any) -> None:
        count = table[2] - 1
        x, y, z = (
            view(table[0] + 8 * worker, (count,), real),
            view(table[0] + 8, (count,), real),
            view(table[1], (1,), real),
        )
        for k in range(count):
            y[k] = x[k] + 1
            z[0] = x[k]

    x, z = np.zeros(100), np.zeros(1)
    run(moved, x, z)
    assert (x == np.arange(100)).all()
    assert z[0] == 98


def test_a_part_of_an_array_is_in_its_scope() -> None:
    def shifted(task: int, worker: int, table: Any) -> None:
        count = table[2] - 1
        x, y = view(table[0], (2, table[2]), real), view(table[1], (table[2],), real)
        row = flat(x, 1)
        for k in range(count):
            row[k] = x[0, k] + y[k]

    x, y = np.zeros((2, 100)), np.ones(100)
    run(shifted, x, y)
    assert (x[0] == np.arange(100)).all()


def test_what_is_not_understood_is_not_marked() -> None:
    def chosen(task: int, worker: int, table: Any) -> None:
        count, place = table[2] - 1, table[0]
        if worker == task:
            place = table[1]
        x, y = view(place, (count,), real), view(table[1] + 8, (count,), real)
        for k in range(count):
            y[k] = x[k] + 1

    x, y = np.ones(100), np.zeros(100)
    run(chosen, x, y)
    assert (y == np.arange(100)).all()


def test_an_address_that_is_counted_up_is_not_marked() -> None:
    def counted(task: int, worker: int, table: Any) -> None:
        count, place = table[2] - 1, table[1]
        y = view(table[1] + 8, (count,), real)
        for k in range(count):
            x = view(place, (1,), real)
            y[k] = x[0] + 1
            place += 8

    x, y = np.ones(100), np.zeros(100)
    run(counted, x, y)
    assert (y == np.arange(100)).all()

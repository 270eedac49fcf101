"""Emitted kernels run by Python itself: what the source says, without Numba, without BLAS, one task after the other.

Whatever is computed into is filled with NaN beforehand, and the tasks of a phase may run in either order: a number
that is read before it is made, or made by a task beside the reader, does not stay hidden.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from chainrule.codegen.generate import ELEMENTARY, HEAD, NUMBA, model_source, programs_source
from chainrule.codegen.request import Request
from chainrule.runtime import machine, support
from chainrule.symbolic.derivation import derived_program
from chainrule.symbolic.derive import Derived
from chainrule.symbolic.language import Program
from chainrule.symbolic.model import Model, Variant

FAR_AWAY = -(2**62)  # an integer that no array has a place for


def view(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    assert address, "an array without an address"
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(int(address))
    return np.frombuffer(memory, dtype).reshape([int(k) for k in shape])


def part(array: np.ndarray, at: int, transposed: bool, rows: int, columns: int, stride: int) -> np.ndarray:
    """A matrix inside an array; every element that it touches must be there."""
    flat, step = array.reshape(-1), array.itemsize
    stored = (columns, rows) if transposed else (rows, columns)
    assert at >= 0
    assert stored[1] <= stride
    assert at + (stored[0] - 1) * stride + stored[1] <= flat.size, "a product beyond its array"
    matrix = np.lib.stride_tricks.as_strided(flat[at:], stored, (stride * step, step))
    return matrix.T if transposed else matrix


def gemm(
    left_transposed: bool, right_transposed: bool, rows: int, columns: int, depth: int,
    left: np.ndarray, left_at: int, left_stride: int, right: np.ndarray, right_at: int, right_stride: int,
    out: np.ndarray, out_at: int, out_stride: int,
) -> None:  # fmt: skip
    a = part(left, left_at, left_transposed, rows, depth, left_stride)
    b = part(right, right_at, right_transposed, depth, columns, right_stride)
    part(out, out_at, False, rows, columns, out_stride)[...] = a @ b


def gemm_fetching(*arguments: Any) -> None:
    gemm(*arguments[:-3])


def affine(*arguments: Any) -> None:
    *rest, row = arguments
    gemm(*rest)
    rows, columns, (out, at, stride) = rest[2], rest[3], rest[-3:]
    made = part(out, at, False, rows, columns, stride)
    made[...] = made + row.reshape(-1)[:columns]


def sum_rows(rows: int, columns: int, given: np.ndarray, at: int, stride: int, out: np.ndarray, out_at: int) -> None:
    part(out, out_at, False, 1, columns, columns)[...] = part(given, at, False, rows, columns, stride).sum(axis=0)


def natural(number: int) -> int:
    assert number >= 0, "a negative index"
    return number


def fetch(array: np.ndarray, at: int) -> None:
    assert 0 <= at < array.size, "what is fetched is not there"


def flat(array: np.ndarray, at: int) -> np.ndarray:
    return array.reshape(-1)[at:]


def power(base: float, exponent: float) -> float:
    return base**exponent


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def sign(z: float) -> float:
    return np.sign(z)


def as_it_is(*arguments: Any, **options: Any) -> Any:
    """njit, with or without options."""
    return arguments[0] if arguments else as_it_is


uniform = getattr(support.uniform, "py_func", support.uniform)  # the function itself where the JIT is off

NAMES: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in ELEMENTARY if hasattr(math, name)},
    "affine": affine,
    "fetch": fetch,
    "flat": flat,
    "gemm": gemm,
    "gemm_fetching": gemm_fetching,
    "maximum": np.maximum,
    "natural": natural,
    "njit": as_it_is,
    "power": power,
    "sigmoid": sigmoid,
    "sign": sign,
    "softplus": softplus,
    "sum_rows": sum_rows,
    "uniform": uniform,
    "view": view,
}


class PythonMachine(machine.Machine):
    """Runs the phases of a module in Python; `backwards` is the other order of the tasks in each phase."""

    def __init__(self, source: str, folder: Path) -> None:
        assert NUMBA in source
        path = folder / "kernels.py"
        path.write_text(source.replace(NUMBA, ""), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("kernels_in_python", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module).update(NAMES)
        spec.loader.exec_module(module)
        super().__init__(module.KERNELS, None, SimpleNamespace(one_thread=nullcontext()))
        self.functions = vars(module)
        self.source, self.backwards = source, False

    def workspace(self, *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
        made = super().workspace(*arguments, **options)
        for array in made.values():
            array.fill(np.nan if array.dtype.kind == "f" else FAR_AWAY)
        return made

    def run(  # type: ignore[no-untyped-def]
        self, routine, table, total, batch, threads=1, first=0, last=1, keys=None, kept=None
    ):  # fmt: skip
        rows = self.rows(routine, batch)
        for step in range(first, last):
            samples = min(batch, total - step * batch)
            table[:3] = samples, step * batch, step
            table[4], table[6] = 1000003 * step, rows
            for phase in self.kernels["routines"][routine]:
                count = phase["tasks"] + sum(-(-samples // (block or rows)) for block in phase["sample_blocks"])
                tasks = range(count)[::-1] if self.backwards else range(count)
                with np.errstate(all="ignore"):
                    for task in tasks:
                        self.functions[phase["function"]](task, 0, table)


def model_machine(
    model: Model, folder: Path, variant: Variant | None = None, routines: tuple[str, ...] = ("gradients",)
) -> PythonMachine:
    variant = model.default_variant if variant is None else variant
    return PythonMachine(model_source(model, Request(variant, None, "float64", routines), ""), folder)


def program_source(
    program: Program,
    routines: tuple[str, ...] = ("predict", "evaluate", "gradients"),
    support: str = "",
    derived: Derived | None = None,
) -> str:
    derived = derived_program(program) if derived is None else derived
    request = Request(Variant(), None, "float64", routines)
    outputs = tuple(name for name in program.outputs if name != "L")
    if not outputs:
        request = Request(Variant(), None, "float64", ("gradients",))
    return programs_source(derived, derived, request, support, ["a program"], {"weighted": False}, outputs)


def program_machine(program: Program, folder: Path, derived: Derived | None = None) -> PythonMachine:
    return PythonMachine(program_source(program, derived=derived), folder)


Arrays = dict[str, np.ndarray]
Run = Callable[[PythonMachine], tuple[float, Arrays]]


def in_both_orders(machine: PythonMachine, run: Run) -> tuple[float, Arrays]:
    """The result of `run`, which must not depend on the order of the tasks in a phase, in any bit."""
    loss, gradients = run(machine)
    machine.backwards = True
    other_loss, others = run(machine)
    assert np.array_equal(loss, other_loss, equal_nan=True), "the loss depends on the order of tasks"
    for name, gradient in gradients.items():
        assert np.array_equal(gradient, others[name], equal_nan=True), f"d{name} depends on the order of tasks"
    return loss, gradients


assert NUMBA in HEAD

"""A model's kernels: compiled, checked at the door, called with NumPy arrays."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codegen.request import Request, Update
from ..symbolic.errors import DataError, SpecError
from ..symbolic.initialisers import initialiser
from ..symbolic.language import Program
from ..symbolic.model import LOSS, Model, Variant
from .ahead import open_workshop
from .evaluation import run_forward, run_gradients, run_predict
from .given import initial_parameters
from .load import is_stored, stored
from .machine import Machine
from .native import kernels as native_kernels
from .native import prepare_driver, team
from .remembered import key_of, recalled, remember

DTYPES = ("float32", "float64")
LARGE_BATCH = 256  # samples, from which on sums over samples are made in parts


@lru_cache(maxsize=1)
def support_source() -> str:
    """The text of what shapes the machine code of all kernels."""
    shaping = ["support", "elementary_float32", "elementary_float64", "lean", "lowering", "aliasing", "hints"]
    return "\n".join(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in shaping)


def description(source: str) -> dict[str, Any]:
    """What a generated module says of itself in `KERNELS`; the module is not imported."""
    found: dict[str, Any] = ast.literal_eval(source.partition("\nKERNELS = ")[2])
    return found


def machine_of(path: Path, source: str, made: bool = False) -> Machine:
    """What runs the kernels of a generated module; `made` says that this process has made it, and not read it."""
    return Machine(description(source), native_kernels(path, source, checked=made), team())


class Kernels:
    """The kernels of one model in one type; made by `compile`.

    One module of source holds what the model needs for one kind of targets; where sample weights or another kind of
    targets come along, their module is derived, generated and compiled then.
    """

    def __init__(
        self, model: Model, dtype: str = "float64", update: Update | None = None, threads: int = 1, batch: int = 1,
        keeps: bool = False,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise SpecError(f"dtype = {dtype!r}; choose one of {', '.join(DTYPES)}")
        prepare_driver(dtype)
        self.model, self.dtype, self.update, self.threads = model, dtype, update, threads
        self.in_parts, self.keeps = update is not None and batch >= LARGE_BATCH, keeps
        self._modules: dict[Variant, tuple[Path, Machine, str]] = {}

    @property
    def source(self) -> str:
        """The generated source, for the model's usual targets and without sample weights."""
        return self._module(self.model.default_variant)[2]

    @property
    def path(self) -> Path:
        """The file that holds the source."""
        return self._module(self.model.default_variant)[0]

    def machine(self, variant: Variant | None = None) -> Machine:
        """What runs the kernels of a variant."""
        return self._module(self.model.default_variant if variant is None else variant)[1]

    def _module(self, variant: Variant) -> tuple[Path, Machine, str]:
        if variant not in self._modules:
            request = Request(variant, self.update, self.dtype, in_parts=self.in_parts, keeps=self.keeps)
            key = key_of(self.model, request)
            kept = None if key is None else recalled(key, self._is_known)
            source = self._generated(request, key) if kept is None else kept
            path = stored(self.model.name, source, support_source())
            self._modules[variant] = (path, machine_of(path, source, made=kept is None), source)
        return self._modules[variant]

    def _generated(self, request: Request, key: str | None) -> str:
        """The source, made now and kept."""
        open_workshop()  # which is ready when the source is

        from ..codegen.generate import import_source, model_source

        source = model_source(self.model, request, import_source(self.dtype))
        if key is not None:
            remember(key, source)
        return source

    def _is_known(self, source: str) -> bool:
        """Whether a source was generated before, and so has a file of its own."""
        return is_stored(self.model.name, source, support_source())

    def variant(self, y: ArrayLike | None, sample_weight: ArrayLike | None = None) -> Variant:
        """The form of the program that fits the targets: integers where they are classes, else numbers."""
        if not self.model.loss.classes:
            return Variant(False, sample_weight is not None)
        return Variant(y is None or is_classes(np.asarray(y), self.model), sample_weight is not None)

    def init(self, seed: int = 0) -> dict[str, NDArray[Any]]:
        """First values of all parameters, by name, drawn as the layers' initialisers say."""
        return initial_parameters(self.machine(), seed)

    def predict(self, params: Mapping[str, ArrayLike], x: ArrayLike) -> NDArray[Any]:
        """The model's output for every sample: x (samples, features) -> (samples, outputs)."""
        machine = self.machine()
        with as_data_errors():
            return run_predict(machine, params, x, self.threads)

    def loss_and_gradients(
        self,
        params: Mapping[str, ArrayLike],
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """The loss of a batch, penalties included, and its gradient with respect to every parameter.

        Dropout is off. Raises `DataError` where x, y or the weights do not fit the model.
        """
        variant = self.variant(y, sample_weight)
        machine = self.machine(variant)
        with as_data_errors():
            return run_gradients(
                machine, params, x, checked_targets(y, self.model, variant), sample_weight, self.threads
            )

    def evaluate(
        self,
        params: Mapping[str, ArrayLike],
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, NDArray[Any]]:
        """The loss of a data set, penalties included, and the outputs."""
        variant = self.variant(y, sample_weight)
        machine = self.machine(variant)
        data_loss, outputs, weights, total = "E" if self.model.penalties else "L", [], [], []
        penalties = 0.0
        with as_data_errors():
            targets = checked_targets(y, self.model, variant)
            weight = None if sample_weight is None else np.asarray(sample_weight, float)
            for first, last, workspace in run_forward(machine, "evaluate", params, x, targets, weight, self.threads):
                outputs.append(workspace["y_hat"][: last - first].copy())
                weights.append(float(last - first) if weight is None else float(weight[first:last].sum()))
                total.append(float(workspace[data_loss][0]))
                penalties = float(workspace["L"][0]) - float(workspace[data_loss][0])
        mean = float(np.average(total, weights=weights)) if sum(weights) else 0.0
        return mean + penalties, np.concatenate(outputs)

    @cached_property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of all parameters."""
        return {k: tuple(v) for k, v in self.machine().kernels["parameters"].items()}

    def __repr__(self) -> str:
        return f"Kernels({self.model.name}, {self.dtype}, {len(self.parameters)} parameters)"


class ProgramKernels:
    """The kernels of a program in the language of equations; made by `compile`.

    Inputs, targets and weights are given by name, as dicts; the first index of each is that of the samples.
    """

    def __init__(
        self, program: Program, dtype: str = "float64", update: Update | None = None, threads: int = 1
    ) -> None:
        if dtype not in DTYPES:
            raise SpecError(f"dtype = {dtype!r}; choose one of {', '.join(DTYPES)}")
        from ..codegen.generate import import_source, programs_source
        from ..symbolic.check import check
        from ..symbolic.derivation import derived_program

        self.program, self.dtype, self.threads = program, dtype, threads
        derived = derived_program(check(program, normal=False))
        outputs = tuple(name for name in program.outputs if name != LOSS)
        request = Request(Variant(), update, dtype)
        described = {
            "model": "program",
            "classes": False,
            "weighted": False,
            "initial": initial_of_program(program),
        }
        summary = [f"a program; numbers are {dtype}"]
        source = programs_source(derived, derived, request, import_source(dtype), summary, described, outputs)
        self.source = source  # as generated
        self.path = stored("program", source, support_source())
        self._machine = machine_of(self.path, source)

    def machine(self) -> Machine:
        """What runs the kernels."""
        return self._machine

    def init(self, seed: int = 0) -> dict[str, NDArray[Any]]:
        """First values of all parameters."""
        return initial_parameters(self._machine, seed)

    def predict(self, params: Mapping[str, ArrayLike], x: Any) -> Any:
        """The outputs besides the loss: an array, or a dict where there are several."""
        with as_data_errors():
            return run_predict(self._machine, params, x, self.threads)

    def loss_and_gradients(
        self, params: Mapping[str, ArrayLike], x: Any = None, y: Any = None, sample_weight: Any = None
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """The loss and its gradient with respect to every parameter."""
        with as_data_errors():
            return run_gradients(self._machine, params, x, y, sample_weight, self.threads)


def initial_of_program(program: Program) -> dict[str, tuple[str, float]]:
    """First values where no layer says more: Glorot's uniform for weights, zero for the rest."""
    initial = {}
    for tensor in program.parameters:
        sizes = [program.size(e) for e in tensor.shape]
        fans = (math.prod(sizes[1:]), sizes[0]) if len(sizes) > 1 else (1, 1)
        rule = initialiser("glorot_uniform" if len(sizes) > 1 else "zeros")
        initial[tensor.name] = (str(rule.distribution.value), rule.scale_of(*fans))
    return initial


@contextmanager
def as_data_errors() -> Iterator[None]:
    """What `support` says of wrong data, as `DataError`."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(str(error)) from None


def is_classes(y: NDArray[Any], model: Model) -> bool:
    """Whether targets are integers that stand for classes: one number a sample, not one a class."""
    outputs = model.outputs
    if y.shape[1:] == outputs and not (outputs == (1,) and y.dtype.kind in "iub"):
        return False
    return y.ndim == len(outputs) or (y.ndim == len(outputs) + 1 and y.shape[-1] == 1)


def checked_targets(y: ArrayLike, model: Model, variant: Variant) -> NDArray[Any]:
    """Targets of the right kind: classes below the number of outputs, signs for hinge losses."""
    array = np.asarray(y)
    if variant.classes:
        classes = model.outputs[-1]
        if array.dtype.kind not in "iubf":
            raise DataError(f"y: values of type {array.dtype}; give the classes as integers 0 to {classes - 1}")
        if array.size and (array.max() >= classes or array.min() < 0):
            wrong = array.max() if array.max() >= classes else array.min()
            raise DataError(f"y: the class {wrong}; the model has the classes 0 to {classes - 1}")
    elif model.loss.targets == "sign" and array.size and not np.all((array == 1) | (array == -1)):
        wrong = array[(array != 1) & (array != -1)].flat[0]
        raise DataError(f"y: the value {wrong}; loss '{model.loss.name}' takes -1 and 1 (2*y - 1 for 0 and 1)")
    return array


def compile(
    model: Model | Program, dtype: str = "float64", optimiser: Any = None, clip_value: float | None = None,
    clip_norm: float | None = None, threads: int = 1,
) -> Any:  # fmt: skip
    """Derive, generate and load the kernels of a model, or of a program in the language of equations.

    Machine code is made when a kernel is first called.

    >>> import numpy as np, chainrule as cr
    >>> kernels = cr.compile(cr.Model(2, [cr.Dense(1)], "squared_error"))
    >>> loss, grads = kernels.loss_and_gradients({"Wo": [[1.0, 2.0]], "bo": [0.0]}, [[1.0, 1.0]], [[1.0]])
    >>> loss, grads["Wo"]
    (4.0, array([[4., 4.]]))
    """
    update = None if optimiser is None else Update(optimiser, clip_value, clip_norm)
    if isinstance(model, Program):
        return ProgramKernels(model, dtype, update, threads)
    return Kernels(model, dtype, update, threads)

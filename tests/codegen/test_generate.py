"""The source of every program, run by Python and by Numba, gives what the interpreter gives."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import chainrule as cr
from chainrule.codegen import plan
from chainrule.codegen.generate import model_source, work_of
from chainrule.codegen.request import Request, Update
from chainrule.runtime.control import DEEPEST, MOST_TURNED
from chainrule.runtime.evaluation import run_gradients, run_predict
from chainrule.runtime.machine import may_use_blas
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import SAMPLES, Kind, Program, Role, Tensor
from chainrule.symbolic.model import Variant

from ..symbolic.programs import PROGRAMS, SAMPLE_COUNT, derived_example, random_values
from .plain_python import in_both_orders, model_machine, program_machine, program_source, uniform

Tables = dict[str, dict[tuple[int, ...], Any]]
Arrays = dict[str, np.ndarray]

# One of each kind for Numba's types; all are run by Python, which takes a tenth of the time. Convolution, pooling,
# attention, look-ups and norms are compiled in tests/runtime/test_kernels.py.
COMPILED = ("elementary_functions", "gru", "largest_of_all", "pairs_of_samples")


def names(program: Program) -> list[str]:
    return [e.name for e in program.equations]


def samples_of(program: Program) -> int:
    """Without inputs nothing says how many samples there are: one."""
    given = (Role.INPUT, Role.STATE, Role.TARGET)
    read = any(t.role in given and t.indices and t.indices[0].extent == SAMPLES for t in program.tensors)
    return SAMPLE_COUNT if read else 1


def array_of(tensor: Tensor, table: Mapping[tuple[int, ...], Any], program: Program, samples: int) -> np.ndarray:
    shape = tuple(program.size(e, samples) for e in tensor.shape)
    made = np.zeros(shape, np.int64 if tensor.kind is Kind.INTEGER else float)
    for position, value in table.items():
        made[position] = value
    return made


def values_of(program: Program, seed: int = 0) -> tuple[Tables, Arrays, Arrays]:
    """Random values as tables, and as arrays: the parameters, and everything else that is given.

    Noise is what the kernels draw: the k-th tensor of it from the key k.
    """
    samples = samples_of(program)
    tables = {k: dict(v) for k, v in random_values(program, samples, seed).items()}
    for key, noise in enumerate(program.role(Role.NOISE)):
        shape = [program.size(e, samples) for e in noise.shape]
        positions = itertools.product(*map(range, shape))
        tables[noise.name] = {p: uniform(key, k) for k, p in enumerate(positions)}
    with np.errstate(over="ignore"):
        arrays = {t.name: array_of(t, tables[t.name], program, samples) for t in program.tensors}
    parameters = {p.name: arrays[p.name] for p in program.parameters}
    given = {t.name: arrays[t.name] for t in program.tensors if t.role not in (Role.PARAMETER, Role.NOISE)}
    return tables, parameters, given


def assert_as_interpreted(name: str, loss: float, gradients: Arrays, tables: Tables) -> None:
    program, made = PROGRAMS[name](), derived_example(name)
    samples = samples_of(program)
    wanted = interpret(made.program, tables, samples)
    assert loss == pytest.approx(wanted["L"][()], rel=1e-10, abs=1e-14)
    for parameter in program.parameters:
        expected = array_of(parameter, wanted[made.adjoint[parameter.name]], program, samples)
        got = gradients[parameter.name]
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * (1 + abs(expected).max()))
        idle = name == "unused_parameter" and parameter.name in ("idle", "aside")
        assert np.any(expected) is not np.bool_(idle), "zeros prove nothing"


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the random numbers, in Python
@pytest.mark.parametrize("name", PROGRAMS)
def test_source_says_what_the_interpreter_computes(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]()
    machine = program_machine(program, tmp_path, derived_example(name))
    tables, parameters, given = values_of(program)
    loss, gradients = in_both_orders(machine, lambda m: run_gradients(m, parameters, given, given))
    assert_as_interpreted(name, loss, gradients, tables)


@pytest.mark.parametrize("batch", [1, 500, 1500, 40_000])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_runtime_knows_when_a_product_may_be_one_of_blas(name: str, batch: int) -> None:
    """By the rule of `products.py`, at the extents that each product has for so many samples."""
    program = derived_example(name).program
    planned = plan.plan(program, dict.fromkeys(names(program), 0), {})
    for equation in program.equations:
        p = plan.product_of(equation, program)
        if p is None:
            continue
        rows, columns, depth = (
            math.prod(program.size(i.extent, batch) for i in group) for group in (p.rows, p.columns, p.depth)
        )
        if depth > DEEPEST or (p.left_transposed and rows * columns * depth > MOST_TURNED):
            assert may_use_blas(work_of(planned), batch)
    assert not may_use_blas(work_of(planned), 1), "tiny"


WITH_PRODUCTS = [
    n for n, build in PROGRAMS.items() if plan.plan(build(), dict.fromkeys(names(build()), 0), {}).largest_product
]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("name", WITH_PRODUCTS)
def test_every_product_in_blocks_of_units(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done for wide layers only, with layers that are not, in blocks that do not fit."""
    monkeypatch.setattr(plan, "WIDE", 0)
    monkeypatch.setattr(plan, "UNITS", 2)
    program = PROGRAMS[name]()
    machine = program_machine(program, tmp_path, derived_example(name))
    tables, parameters, given = values_of(program)
    loss, gradients = in_both_orders(machine, lambda m: run_gradients(m, parameters, given, given))
    assert_as_interpreted(name, loss, gradients, tables)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("name", COMPILED)
def test_kernels_compute_what_the_interpreter_computes(name: str) -> None:
    program = PROGRAMS[name]()
    tables, parameters, given = values_of(program, seed=1)
    loss, gradients = cr.compile(program).loss_and_gradients(parameters, given, given)
    assert_as_interpreted(name, loss, gradients, tables)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("name", [n for n, build in PROGRAMS.items() if len(build().outputs) > 1])
def test_outputs_are_those_of_the_interpreter(name: str, tmp_path: Path) -> None:
    program, made = PROGRAMS[name](), derived_example(name)
    tables, parameters, given = values_of(program)
    got = run_predict(program_machine(program, tmp_path, made), parameters, given)
    names = [o for o in program.outputs if o != "L"]
    got = got if isinstance(got, dict) else {names[0]: got}
    wanted = interpret(made.program, tables, SAMPLE_COUNT)
    for output in names:
        expected = array_of(made.forward.by_name[output], wanted[output], program, SAMPLE_COUNT)
        np.testing.assert_allclose(got[output], expected, rtol=1e-10, atol=1e-13)


# The request


MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dropout(0.5), cr.Dense(2, "softmax")], "cross_entropy")


def source(model: cr.Model = MODEL, update: Any = None, dtype: str = "float32", **variant: bool) -> str:
    return model_source(model, Request(Variant(**variant), update, dtype), "")


def test_without_a_rule_there_is_no_training() -> None:
    assert "def train" not in source()
    assert "def train_phase_0" in source(update=Update(cr.SGD(0.1)))


def test_dropout_is_in_training_only() -> None:
    text = source(update=Update(cr.SGD(0.1)))
    drawing = [line for line in text.splitlines() if "uniform(" in line and "import" not in line]
    assert drawing
    assert text.index(drawing[0]) > text.index("def train_")


def test_dtype_is_said_once() -> None:
    one, other = source(dtype="float32"), source(dtype="float64")
    assert "real = np.float32" in one
    assert "real = np.float64" in other
    assert "np.float64" not in one.replace("np.float64)", "")  # losses, rates and scalars are doubles


def test_classes_and_weights_are_in_the_description(tmp_path: Path) -> None:
    kernels = model_machine(MODEL, tmp_path, Variant(classes=True, weighted=True)).kernels
    assert kernels["targets"] == {"y": ("integer", ())}
    assert kernels["weights"] == {"w": ("real", ())}
    kernels = model_machine(MODEL, tmp_path, Variant()).kernels
    assert kernels["targets"] == {"y": ("real", (2,))}
    assert kernels["weights"] == {}


def test_positions_that_are_given_have_bounds(tmp_path: Path) -> None:
    assert program_machine(PROGRAMS["embedding"](), tmp_path).kernels["bounds"] == {"token": 4}
    assert program_machine(PROGRAMS["dense"](), tmp_path).kernels["bounds"] == {}


def test_first_values_fit_the_activations(tmp_path: Path) -> None:
    layers = [cr.Dense(5, "relu"), cr.Dense(4), cr.Activation("relu"), cr.Dense(3, "prelu"), cr.Dense(2, "tanh")]
    initial = model_machine(cr.Model(8, layers), tmp_path).kernels["initial"]
    he, glorot = initial["W1"], initial["Wo"]
    assert initial["b1"] == ("constant", 0.0)
    assert initial["alpha3"] == ("constant", 0.25)
    assert initial["W2"][0] == he[0]
    assert he[1] ** 2 * 8 == pytest.approx(initial["W2"][1] ** 2 * 5)  # by what comes in
    assert glorot == ("uniform", pytest.approx((6 / (3 + 2)) ** 0.5))


def test_extents_are_numbers_in_the_source() -> None:
    text = program_source(PROGRAMS["symbolic_extents"]())
    body = text[text.index("\ndef ") :]
    assert "range(3)" in body
    assert not any(word in body for word in ("range(U)", "range(F)", "*U", "*F"))
    assert sp.Symbol("U", integer=True, positive=True) in PROGRAMS["symbolic_extents"]().sizes

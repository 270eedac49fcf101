"""Names that mean something else in the source."""

import keyword
import math
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import chainrule as cr
from chainrule.codegen.emit import OPTIONS
from chainrule.codegen.generate import ELEMENTARY, OTHERS, model_source
from chainrule.codegen.legal import RESERVED, legal, legalised
from chainrule.codegen.request import Request, Update
from chainrule.runtime.evaluation import run_gradients, run_predict
from chainrule.runtime.given import initial_parameters
from chainrule.runtime.training import Training
from chainrule.symbolic.language import SAMPLE_INDEX, Equation, Program, Role, Tensor, index

from ..symbolic.programs import PROGRAMS
from .plain_python import NAMES, PythonMachine, program_machine, program_source

NASTY = [
    *keyword.kwlist, *NAMES, "KERNELS", "abs", "array", "count", "blocks", "exp", "first", "float",
    "forward_0",
    "forward_backward_0", "gradient_W", "gradients_phase_0", "int", "i0", "largest", "last", "len", "log", "losses",
    "lr",
    "max", "min", "np", "numba", "order", "position", "print", "range", "rates", "real", "sample", "samples", "scalars",
    "scale", "self", "squares", "step", "table", "task", "total", "update_W", "value", "worker",
]  # fmt: skip


def program(tensor: str = "W", inner: str = "j", scalar: str = "b", result: str = "z") -> Program:
    """z[n,i] = sum_j W[i,j] x[n,j]**2 + b, with names of one's choice."""
    i, j = index("i", 2), index(inner, 3)
    x = Tensor("x", (SAMPLE_INDEX, j), Role.INPUT)
    W, b = Tensor(tensor, (i, j), Role.PARAMETER), Tensor(scalar, (), Role.PARAMETER)
    z = Equation(result, (SAMPLE_INDEX, i), sp.Sum(W.element * x.element**2, j.limits) + b.element)
    loss = Equation("L", (), sp.Sum(z.element**2, SAMPLE_INDEX.limits, i.limits))
    return Program((x, W, b), (z, loss), ("L", result))


RNG = np.random.default_rng(3)
X, W, B = RNG.normal(size=(5, 3)), RNG.normal(size=(2, 3)), 0.5
Z = X**2 @ W.T + B


def assert_right(loss: float, gradients: dict[str, np.ndarray], tensor: str, scalar: str) -> None:
    assert loss == pytest.approx((Z**2).sum())
    np.testing.assert_allclose(gradients[tensor], 2 * Z.T @ X**2, rtol=1e-12)
    np.testing.assert_allclose(gradients[scalar], 2 * Z.sum(), rtol=1e-12)


def run(made: Program, folder: Path, tensor: str = "W", scalar: str = "b") -> None:
    machine = program_machine(made, folder)
    parameters = {tensor: W, scalar: B}
    assert_right(*run_gradients(machine, parameters, {"x": X}), tensor, scalar)
    np.testing.assert_allclose(run_predict(machine, parameters, X), Z)


@pytest.mark.parametrize("first", range(4))
def test_any_name_for_anything(first: int, tmp_path: Path) -> None:
    """By Python, four of the names at once, each that of a parameter; what comes in and goes out keeps its own name."""
    names = list(dict.fromkeys(NASTY))
    for k in range(2 * first, len(names), 8):
        tensor, inner, scalar, result = (names[(k + step) % len(names)] for step in (0, 4, 1, 7))
        run(program(tensor, inner, scalar, result), tmp_path, tensor, scalar)


def test_nasty_names_in_machine_code() -> None:
    made = cr.compile(program("range", "exp", "first", "view"))
    assert_right(*made.loss_and_gradients({"range": W, "first": B}, {"x": X}), "range", "first")
    np.testing.assert_allclose(made.predict({"range": W, "first": B}, X), Z)


def test_names_do_not_fall_together(tmp_path: Path) -> None:
    """`first` becomes `first_`, which is taken; and a scalar's local name is no index."""
    run(program("first", "last", "first_", "first__"), tmp_path, "first", "first_")
    run(program("last", "first_", "first"), tmp_path, "last", "first")
    run(program("W", "b_value", "b"), tmp_path)
    run(program("lambda_", "lambda", "lambda__"), tmp_path, "lambda_", "lambda__")


def test_indices_that_fall_together(tmp_path: Path) -> None:
    i, j = index("first", 2), index("first_", 3)
    x, w = Tensor("x", (SAMPLE_INDEX, j), Role.INPUT), Tensor("W", (i, j), Role.PARAMETER)
    z = Equation("z", (SAMPLE_INDEX, i), sp.Sum(w.element * x.element**2, j.limits))
    loss = Equation("L", (), sp.Sum(z.element**2, SAMPLE_INDEX.limits, i.limits))
    machine = program_machine(Program((x, w), (z, loss), ("L", "z")), tmp_path)
    value, gradients = run_gradients(machine, {"W": W}, {"x": X})
    assert value == pytest.approx(((Z - B) ** 2).sum())
    np.testing.assert_allclose(gradients["W"], 2 * (Z - B).T @ X**2)


def test_parameters_of_a_layer_that_end_as_functions() -> None:
    """expm in the first layer is expm1."""
    layer = cr.Equations("h[n,j] = expm[j]*x[n,j]", "h", {}, {"expm": "j"}, {"expm": "normal"})
    made = cr.compile(cr.Model(3, [layer, cr.Dense(2)]))
    parameters = made.init(1)
    wanted = (X * parameters["expm1"]) @ parameters["Wo"].T + parameters["bo"]
    np.testing.assert_allclose(made.predict(parameters, X), wanted)


def test_legal() -> None:
    assert legal("W1") == "W1"
    for name in NASTY:
        assert legal(legal(name)) == legal(name)
        assert legal(name).isidentifier()
        assert not keyword.iskeyword(legal(name))
    assert legal("a", {"a", "a_"}) == "a__"


def test_fine_programs_stay_as_they_are() -> None:
    made = PROGRAMS["gru"]()
    same, names = legalised(made)
    assert same is made
    assert all(old == new for new, old in names.items())


def test_all_that_the_module_calls_is_reserved() -> None:
    """Whatever is imported at the head of the source, and the locals of its functions."""
    head = program_source(PROGRAMS["dense"]()).split("real = np.")[0].split('"""\n', 2)[-1]
    imported = set(re.findall(r"[a-z_0-9]+", head)) - {
        "import",
        "from",
        "as",
        "numpy",
        "numba",
        *re.findall(r"[a-z_]+", OPTIONS),
        "dict",
    }
    assert {"sqrt", "np", "njit"} <= imported
    assert {*ELEMENTARY, *OTHERS} <= RESERVED
    assert imported <= RESERVED | set(dir(math))
    assert {n for n in imported if n in dir(math)} <= RESERVED
    assert {"first", "last", "samples", "table", "task", "worker", "total", "largest", "position", "value"} <= RESERVED


SMALL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], "squared_error")
OF_RULES = (
    ("first", "first_", "first__", "first_of"), ("k", "scale", "count", "table"), ("scale", "k", "real", "view"),
    ("gradients", "weights", "gradients_at", "weights_at"), ("m", "m_of", "m_at", "m_"), ("m_of", "m", "k", "scale"),
    ("m_at", "m", "scale", "k"), ("v", "m", "m_of", "v_of"), ("v", "m", "v_at", "m_at"),
    ("power", "W1", "x", "samples"), ("blocks", "rows", "order", "losses"),
    ("update_m", "the_update_m", "scalars", "np"),
)  # fmt: skip


def rule_of(m: str, v: str, shared: str, between: str) -> cr.Optimiser:
    """Two states, a scalar and an intermediate of these names."""
    updates = {
        m: f"0.9*{m} + g*{shared}", between: f"{m}*0.5 + g", v: f"0.8*{v} + {between}**2",
        "w": f"w - lr*{m}/(1 + sqrt({v}))",
    }  # fmt: skip
    return cr.custom_optimiser("mine", updates, {m: 0.1, v: 0.2}, {shared: 1.0}, {shared: f"{shared}*0.99 + 0.001*t"})


@pytest.mark.parametrize("clipped", [False, True])
def test_any_name_for_what_an_optimiser_keeps(clipped: bool, tmp_path: Path) -> None:
    """Names of the function that updates are not those of a rule, and no two of a rule are one."""
    x, order, rates, keys = np.linspace(-1, 1, 20).reshape(10, 2), np.arange(10), np.full(3, 0.1), np.zeros(1, np.int64)
    given = {"x": x, "y": x[:, :1] * x[:, 1:]}

    def trained(*names: str) -> dict[str, np.ndarray]:
        update = Update(rule_of(*names), *((0.05, 1.0) if clipped else (None, None)))
        made = PythonMachine(model_source(SMALL, Request(SMALL.default_variant, update, "float64"), ""), tmp_path)
        training = Training(made, initial_parameters(made, 1), 4)
        training.run(given, order, rates, keys)
        return training.parameters

    plain = trained("p", "q", "r", "s")
    for names in OF_RULES:
        for name, weights in trained(*names).items():
            np.testing.assert_allclose(weights, plain[name], rtol=1e-12, err_msg=f"{names}: {name}")


def test_nasty_names_of_an_optimiser_in_machine_code() -> None:
    x, trained = np.linspace(-1, 1, 20).reshape(10, 2), []
    for names in (("p", "q", "r", "s"), ("k", "gradients", "scale", "k_of")):
        trainer = cr.Trainer(SMALL, rule_of(*names), 4, "float64", clip_norm=1.0)
        trainer.fit(x, x[:, :1], epochs=2, verbose=0)
        trained.append(trainer.parameters)
    for name, weights in trained[0].items():
        np.testing.assert_allclose(weights, trained[1][name], rtol=1e-12)

"""The emitted file: its bytes, its numbers, its names, and that all of it is read by somebody."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest

import chainrule as cr
from chainrule.codegen.emit import HELPER, OPTIONS
from chainrule.codegen.generate import import_source, model_source
from chainrule.codegen.request import Request, Update
from chainrule.symbolic.derivation import derived_program
from chainrule.symbolic.model import Variant

from ..symbolic.programs import PROGRAMS
from .plain_python import program_source

TANH = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], "squared_error", name="tanh")
SOFTMAX = cr.Model(4, [cr.Dense(3, "relu"), cr.Dense(2, "softmax")], "cross_entropy", [cr.L2(0.01)], name="softmax")
ALL = cr.Model(
    3, [cr.Dense(3, "prelu"), cr.Dropout(0.5), cr.Dense(4, "log_softmax"), cr.Dense(2, "swish")], "log_cosh",
    [cr.ElasticNet(0.1, on="all")], name="all",
)  # fmt: skip


def source(model: cr.Model, update: Update | None = None, dtype: str = "float32", **variant: bool) -> str:
    return model_source(model, Request(Variant(**variant), update, dtype), import_source(dtype))


MODULES = {
    "tanh": lambda: source(TANH, Update(cr.SGD(0.1))),
    "softmax": lambda: source(SOFTMAX, Update(cr.Adam(1e-3), clip_norm=1.0), "float64", classes=True, weighted=True),
    "all": lambda: source(ALL, Update(cr.AMSGrad(1e-3), clip_value=0.5), weighted=True),
    "gru": lambda: program_source(PROGRAMS["gru"]()),
    "attention": lambda: program_source(PROGRAMS["attention"]()),
    "several_inputs_and_outputs": lambda: program_source(PROGRAMS["several_inputs_and_outputs"]()),
}


@cache
def module(name: str) -> str:
    return MODULES[name]()


every_module = pytest.mark.parametrize("name", MODULES)


@pytest.mark.parametrize("name", ["tanh", "softmax"])
def test_golden_file(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.py.txt", module(name))


HASH = """
import hashlib
import chainrule as cr
from chainrule.codegen.request import Request, Update
from chainrule.codegen.generate import import_source, model_source
from chainrule.symbolic.model import Variant

layers = [cr.Dense(3, "prelu"), cr.Dropout(0.5), cr.Dense(2, "swish"), cr.Dense(2, "softmax")]
model = cr.Model(3, layers, "cross_entropy", [cr.L1(), cr.L2()])
text = model_source(model, Request(Variant(True, True), Update(cr.NAdam(1e-3), clip_norm=1.0)), "")
print(len(text), hashlib.sha256(text.encode()).hexdigest())
"""


def test_bytes_are_the_same_in_every_process() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HASH],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4242")
    ]
    found = {process.communicate(timeout=120)[0] for process in running}
    assert len(found) == 1
    assert int(found.pop().split()[0]) > 10_000


@every_module
def test_module_is_well_formed(name: str) -> None:
    text = module(name)
    tree = ast.parse(text)
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(defined) == len(set(defined)), "a function is defined twice"
    assert not [line for line in text.splitlines() if line != line.rstrip() or "\t" in line]
    code = [line for line in text.split("KERNELS = ")[0].splitlines() if not line.startswith("@njit")]
    assert max(map(len, code)) <= 120
    assert not re.search(r"\btmp|_\d{3,}|0x[0-9a-f]{6}", text)  # names of the model, no addresses
    assert not re.search(r"20\d\d-\d\d", text)  # no dates


@every_module
def test_jit_options_are_literal(name: str) -> None:
    text = module(name)
    assert text.count(f"OPTIONS = dict({OPTIONS})") == 1
    assert text.count("@njit(") == text.count(HELPER)
    assert "nnan" not in OPTIONS  # a NaN must stay one
    assert "ninf" not in OPTIONS


@every_module
def test_every_function_is_called_and_every_array_used(name: str) -> None:
    text = module(name)
    tree = ast.parse(text)
    phases = set(re.findall(r"'function': '(\w+)'", text))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert node.name in phases | called
            if node.decorator_list:
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                arguments = {a.arg for a in node.args.args} - {"first", "last", "samples"}
                assert arguments <= used, f"{node.name} does not use {arguments - used}"


@every_module
def test_formulas_are_numbered_and_cited(name: str) -> None:
    """Each formula of the banner has a number, and each is cited by the statement that computes it."""
    text = module(name)
    _, head, body = text.split("KERNELS = ")[0].split('"""', 2)
    numbers = [int(k) for k in re.findall(r"^  \((\d+)\)", head, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 5
    cited = {int(k) for k in re.findall(r"  # \((\d+)\)$", body, re.MULTILINE)}
    assert cited <= set(numbers)
    formulas = {int(k): f for k, f in re.findall(r"^  \((\d+)\)\s+(.*)", head, re.MULTILINE)}
    missing = {formulas[k] for k in set(numbers) - cited}
    # the training formulas before the dropout are those of the other routines, and are emitted once
    repeated = {f for f in missing if [g for k, g in formulas.items() if k in cited and g == f]}
    assert missing == repeated


def test_numbers_are_those_of_the_derivation() -> None:
    text = source(TANH)
    equations = derived_program(TANH.program()).program.equations
    head = " ".join(text.split('"""')[1].split())
    for number, equation in enumerate(equations, start=1):
        assert f"({number}) {' '.join(str(equation).split())}" in head
    assert f"({len(equations) + 1})" not in head


def test_cited_line_computes_what_the_formula_names() -> None:
    """The array that a statement assigns is the left side of the formula that it cites."""
    text = source(SOFTMAX, classes=True)
    left = dict(re.findall(r"^  \((\d+)\)\s+(\w+)", text.split('"""')[1], re.MULTILINE))
    found = set()
    for line in text.splitlines():
        match = re.search(r"^\s*(.*?)  # \((\d+)\)$", line)
        if match and ("gemm" in line or "affine" in line):
            assert re.search(rf"\b{left[match[2]]}\b", match[1])
        elif match and "=" in match[1]:
            assert match[1].removeprefix("_").startswith(left[match[2]])
            found.add(match[2])
    assert len(found) >= 10


def test_options_of_the_update_are_in_the_source() -> None:
    plain, value, norm = (
        source(TANH, Update(cr.Adam(1e-3), **more)) for more in ({}, {"clip_value": 0.25}, {"clip_norm": 3.0})
    )
    assert "0.25" in value
    assert "3.0/" in norm
    assert "train_norm" not in plain
    assert "train_norm" in norm
    for text in (plain, value, norm):
        assert text.count("def update(") == 1
        assert "m_of = view(" in text
    assert plain != value


def test_gradients_are_stored_only_where_they_must_be() -> None:
    """Without clipping by the norm the update follows its gradient block at once, in the worker's own memory."""
    plain, norm = source(TANH, Update(cr.SGD(0.1))), source(TANH, Update(cr.SGD(0.1), clip_norm=1.0))

    def training(text: str) -> str:
        return text[text.index("def train_phase_0") :]

    assert "worker*" in training(plain)
    assert "worker*" not in training(norm)


def test_description_holds_what_the_runtime_allocates() -> None:
    text = source(SOFTMAX, Update(cr.Adam(1e-3)), classes=True)
    namespace = ast.literal_eval(text.split("KERNELS = ")[1])
    assert namespace["parameters"] == {"W1": (3, 4), "b1": (3,), "Wo": (2, 3), "bo": (2,)}
    assert namespace["inputs"] == {"x": ("real", (4,))}
    assert namespace["targets"] == {"y": ("integer", ())}
    assert namespace["real"] == "float32"
    assert set(namespace["routines"]) == {"predict", "evaluate", "gradients", "train"}
    assert sorted(namespace["slots"].values()) == list(range(len(namespace["slots"])))
    assert namespace["scratch"] % 64 == 0
    assert namespace["workspace"]["gradients"]["z1"] == ("real", ("N", 3))
    assert namespace["workspace"]["gradients"]["L"] == ("real", (1,))
    assert "dWo" not in namespace["workspace"]["predict"]


BAD = ['"""; import os; """', "a\\", 'a"', "a'", "a\nimport os", "{x}", "%s", "é", "'''"]


def of_name(kind: str, name: str) -> cr.Model:
    match kind:
        case "activation":
            return cr.Model(2, [cr.Dense(1, cr.Activation(name, "z*z"))])
        case "loss":
            return cr.Model(2, [cr.Dense(1)], cr.Loss(name, "(y - y_hat)**4"))
        case "penalty":
            return cr.Model(2, [cr.Dense(1)], penalties=[cr.Penalty(name, "w**2")])
        case _:
            return cr.Model(2, [cr.Dense(1)], name=name)


@pytest.mark.parametrize("kind", ["activation", "loss", "penalty", "model"])
@pytest.mark.parametrize("name", BAD)
def test_names_are_never_code(kind: str, name: str) -> None:
    """Names come from specs, and stand in docstrings: refused, or text and nothing else."""
    try:
        model = of_name(kind, name)
    except cr.SpecError:
        return
    tree, usual = ast.parse(source(model)), ast.parse(source(of_name(kind, "fine")))
    assert [type(n) for n in tree.body] == [type(n) for n in usual.body]
    for made, wanted in zip(tree.body, usual.body, strict=True):
        if isinstance(made, ast.FunctionDef) and isinstance(wanted, ast.FunctionDef):
            assert [type(n) for n in made.body] == [type(n) for n in wanted.body]
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported == {"math", "numpy"}

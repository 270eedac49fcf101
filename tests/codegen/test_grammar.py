"""What the emitter writes is let through, and nothing else: lines planted anywhere in a module are refused."""

from functools import cache
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.codegen.generate import import_source, model_source
from chainrule.codegen.grammar import check_source, is_emitted
from chainrule.codegen.request import Request, Update
from chainrule.symbolic.errors import InternalError
from chainrule.symbolic.model import Variant
from chainrule.symbolic.optimisers import OPTIMISERS

from ..symbolic.programs import PROGRAMS
from .plain_python import program_source

GOLDENS = sorted((Path(__file__).parent / "golden").glob("*.py.txt"))
ALL = cr.Model(
    3, [cr.Dense(3, "prelu"), cr.Dropout(0.5), cr.Dense(4, "log_softmax"), cr.Dense(2, "swish")], "log_cosh",
    [cr.ElasticNet(0.1, on="all")], name="all",
)  # fmt: skip


def source(model: cr.Model, update: Update | None = None, **variant: bool) -> str:
    return model_source(model, Request(Variant(**variant), update, "float32"), import_source("float32"))


@cache
def golden() -> str:
    return GOLDENS[0].read_text("utf-8")


@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.name)
def test_goldens_pass(path: Path) -> None:
    check_source(path.read_text("utf-8"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_pass(name: str) -> None:
    check_source(program_source(PROGRAMS[name](), support=import_source("float64")))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_pass(name: str) -> None:
    model = cr.Model(2, [cr.Dense(2, "tanh"), cr.Dense(1)])
    check_source(source(model, Update(OPTIMISERS[name], clip_norm=1.0)))


def test_all_kinds_of_layers_pass() -> None:
    check_source(source(ALL, Update(cr.AMSGrad(1e-3), clip_value=0.5), weighted=True))


NAMES = ["lambda", "import", "class", "prange", "affine", "flat", "njit", "np", "eval", "real", "update", "predict_x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_model_that_mean_something_are_changed(name: str) -> None:
    layer = cr.Equations(f"{name}[n,i] = tanh(a_b*x[n,i])", name, parameters={"a_b": []}, incoming=["i"])
    check_source(source(cr.Model(2, [layer, cr.Dense(1)]), Update(cr.SGD(0.1))))


INSIDE = {  # a line in a function
    "import os": "statement", "from os import system": "statement", "open('/etc/passwd')": "call",
    "table = table.__class__": "attribute", "getattr(table, 0)": "call", "first = lambda: 0": "expression",
    "eval(table)": "call", "exec(table)": "call", "global real": "statement", "nonlocal task": "statement",
    "unknown(first)": "call", "while True: first = 1": "statement", "class A: pass": "statement",
    "def inner(): return": "statement", "async def inner(): return": "statement", "del table": "statement",
    "with table: return": "statement", "try: first = 1\nexcept: return": "statement", "raise first": "statement",
    "assert first": "statement", "return table": "statement", "yield": "statement", "first = (yield)": "expression",
    "first: real = 1": "statement", "first = last = 1": "statement", "first, last = 1, 2": "statement",
    "first = 'text'": "constant", "first = b'text'": "constant", "first = None": "constant", "first = 1j": "constant",
    "first = ...": "constant", "first = f'{task}'": "expression", "first = [1]": "expression",
    "first = {1: 2}": "expression", "first = [k for k in table]": "expression", "first = (k for k in table)":
    "expression", "first = table[0:1]": "expression", "first = max(*table)": "expression",
    "first = max(first, key=abs)": "call", "first = (last := 1)": "expression", "first = task | worker": "operation",
    "first @= worker": "statement", "first = task is worker": "operation", "first = task in table": "operation",
    "first = np.load": "attribute", "first = math.sys": "attribute", "np.save(first)": "call",
    "np.float32.__class__(first)": "call", "table[0](1)": "call", "(lambda: 0)()": "call", "first = njit": "name",
    "first = predict_phase_0": "name", "first = exp": "name", "predict_phase_0(1, 2, 3)": "call", "first": "statement",
    "real = 1": "name", "np = 1": "name", "exp = 1": "name", "KERNELS = 1": "name", "__builtins__ = 1": "name",
    "first = __builtins__": "name", "first = __import__": "name", "für = 1": "name", "range = 1": "name",
    "table.shape = 1": "statement", "for k in table: first = k": "statement",
    "for k in range(2): first = k\nelse: return": "statement", "for k[0] in range(2): return": "statement",
    "if task == 1: return\nelse: first = 1": "statement", "match task:\n    case 1: return": "statement",
    "pass": "statement", "first = 0 if open(1) else 1": "call", "first = real(open(1))": "call",
}  # fmt: skip


@pytest.mark.parametrize("line", INSIDE)
def test_a_line_in_a_function(line: str) -> None:
    before, head, after = golden().partition("        first = natural(rows*task)\n")
    indented = "".join(f"        {part}\n" for part in line.split("\n"))
    number = before.count("\n") + 2
    with pytest.raises(InternalError, match=rf"generated source, line {number}: .*\b{INSIDE[line]}"):
        check_source(f"{before}{head}{indented}{after}")


OUTSIDE = {  # what is replaced, by what, and the rule
    "another import": ("import math\n", "import math\nimport os\n", "head"),
    "another name": ("from math import ceil", "from math import pow, ceil", "head"),
    "a name for a name": ("import numpy as np", "import os as np", "head"),
    "another option": ('error_model="numpy")\nreal', 'error_model="python")\nreal', "head"),
    "another type": ("real = np.float", "real = np.double or np.float", "head"),
    "a line after the head": ("\n\n\ndef predict_phase_0", "\nopen('x')\n\n\ndef predict_phase_0", "function"),
    "another decorator": ("\n\n\ndef predict_phase_0", "\n\n\n@njit()\ndef predict_phase_0", "decorator"),
    "other arguments of the decorator": ("no_cpython_wrapper=True", "parallel=True", "decorator"),
    "no decorator": ("@njit(", "#", "decorator"),
    "another function": ("def predict_phase_0", "def system", "name of a function"),
    "an argument with a value": ("(task, worker, table)", "(task, worker=open, table=1)", "arguments"),
    "an argument with a type": ("(task, worker, table)", "(task, worker, table: open('x'))", "arguments"),
    "any arguments": ("(task, worker, table)", "(task, *worker)", "arguments"),
    "a result": ("(task, worker, table):", "(task, worker, table) -> open('x'):", "arguments"),
    "a dunder argument": ("(task, worker, table)", "(task, worker, __class__)", "name"),
    "a call in the description": ("KERNELS = {", "KERNELS = {'a': open('x'), ", "literal"),
    "a name in the description": ("KERNELS = {", "KERNELS = {'a': np, ", "literal"),
    "another description": ("KERNELS = {", "KERNELZ = {", "KERNELS"),
    "no docstring": ('"""Kernels', '1; """Kernels', "docstring"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_line_outside_of_functions(name: str) -> None:
    old, new, rule = OUTSIDE[name]
    assert old in golden()
    with pytest.raises(InternalError, match=rf"line \d+: .*{rule}"):
        check_source(golden().replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "x = ", "\x00", "(" * 5000, '"only this"', "\ufeff\udc00"])
def test_what_is_no_module(text: str) -> None:
    assert not is_emitted(text)


def test_a_line_at_the_end() -> None:
    with pytest.raises(InternalError, match="after the end"):
        check_source(f"{golden()}open('x')\n")


def test_two_functions_of_one_name() -> None:
    start = golden().index("\n\n\ndef predict_phase_0")
    end = golden().index("\n\n\n", start + 3)
    with pytest.raises(InternalError, match="name of a function"):
        check_source(golden()[:end] + golden()[start:end] + golden()[end:])

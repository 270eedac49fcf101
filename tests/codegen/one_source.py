"""From the number of a printed equation to the emitted lines that cite it, and what these compute by themselves.

An emitted function is cut down to the lines that make one array: stores into it, products whose result it is, and the
local names (`total`, `largest`, `position`) that lead up to a store. Cut down in this way it runs in plain Python on
numbers at random, of which none was made by the other lines.
"""

from __future__ import annotations

import ast
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.codegen.legal import legal
from chainrule.symbolic.derive import Derived
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.language import SAMPLES, Equation, Kind, Program
from chainrule.symbolic.prove import lookup_limits
from chainrule.symbolic.text import equation_text

from .plain_python import PythonMachine

COUNT, ROWS = 3, 2  # samples; of a block, so that there are two blocks
CITED = re.compile(r"# \((\d+)\)")
OUT = {"gemm": 11, "gemm_fetching": 11, "affine": 11, "sum_rows": 5}  # the place of the result among the arguments
CLOSE = 1e-9
INTERVALS = ((-0.9, 0.9), (0.2, 0.9))  # the second for roots and logarithms


def wrong_numbers(source: str, derived: Derived, folder: Path) -> list[str]:
    """What is wrong with the lines of `gradients`: the number of the equation, and how its lines differ from it."""
    machine = PythonMachine(source, folder)
    machine.rows = lambda routine, batch: ROWS  # type: ignore[method-assign,assignment]
    lines, tree = source.splitlines(), ast.parse(source)
    text = " ".join((ast.get_docstring(tree) or "").split())
    found = []
    for number, equation in enumerate(derived.program.equations, start=1):
        if equation.name not in machine.kernels["workspace"]["gradients"]:
            continue
        if f"({number}) {' '.join(equation_text(equation).split())}" not in text:
            found.append(f"({number}) is not printed as {equation_text(equation)}")
        found += [f"({number}) {said}" for said in _wrong(number, equation, derived.program, machine, tree, lines)]
    return found


def _wrong(
    number: int, equation: Equation, program: Program, machine: PythonMachine, tree: ast.Module, lines: list[str]
) -> Iterator[str]:
    names = {phase["function"] for phase in machine.kernels["routines"]["gradients"]}
    cut, cites = [], set()
    for function in (f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name in names):
        kept = ast.parse(ast.unparse(function)).body[0]  # a copy; its lines are others
        owners = _owners(function)
        kept.body = _only(function.body, {id(s) for s, made in owners if made == legal(equation.name)})  # type: ignore[attr-defined]
        cut.append(kept)
        cites |= {int(n) for s, made in owners if made == legal(equation.name) for n in _citations(s, lines)}
    if cites != {number}:
        yield f"{equation.name} is made by lines that cite {sorted(cites) or 'nothing'}"
        return
    module = ast.fix_missing_locations(ast.Module(body=cut, type_ignores=[]))
    saved = dict(machine.functions)
    exec(compile(module, "<lines>", "exec"), machine.functions)  # noqa: S102
    try:
        yield from _differences(equation, program, machine)
    finally:
        machine.functions.update(saved)


def _owners(function: ast.FunctionDef) -> list[tuple[ast.stmt, str]]:
    """Every leaf statement and the array that it makes; of local names, the array that they lead up to."""
    made: list[tuple[ast.stmt, str]] = []
    pending: list[ast.stmt] = []
    for statement in _leaves(function.body):
        name = _array_made(statement)
        if name is not None:
            made += [(s, name) for s in (*pending, statement)]
            pending = []
        elif isinstance(statement, ast.Return):
            pending = []
        elif _is_local(statement):
            pending.append(statement)
    return made


def _leaves(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        inner = getattr(statement, "body", None)
        if inner is None:
            yield statement
        else:
            yield from _leaves(inner)


LOCALS = ("total", "largest", "position", "value")


def _is_local(statement: ast.stmt) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return any(isinstance(t, ast.Name) and t.id in LOCALS for t in targets)


def _array_made(statement: ast.stmt) -> str | None:
    """The array that a statement stores into."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if isinstance(call.func, ast.Name) and call.func.id in OUT:
            return ast.unparse(call.args[OUT[call.func.id]])
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    for target in targets:
        if isinstance(target, ast.Subscript):
            name = ast.unparse(target.value)
            return name.removeprefix("_")
    return None


def _only(body: list[ast.stmt], wanted: set[int]) -> list[ast.stmt]:
    """The statements without those that make other arrays."""
    kept: list[ast.stmt] = []
    for statement in body:
        if hasattr(statement, "body"):
            inner = _only(statement.body, wanted)
            if inner:
                fields = {name: getattr(statement, name) for name in statement._fields}
                kept.append(type(statement)(**{**fields, "body": inner}))
        elif id(statement) in wanted or (_array_made(statement) is None and not _is_local(statement)):
            kept.append(statement)
    return kept


def _citations(statement: ast.stmt, lines: list[str]) -> set[int]:
    """Numbers at the lines of a statement, or at the loop just above it."""
    first = statement.lineno - 1
    text = lines[first : statement.end_lineno]
    above = first - 1
    while lines[above].strip().startswith("for "):
        text, above = [lines[above], *text], above - 1
    return {int(n) for line in text for n in CITED.findall(line)}


def _differences(equation: Equation, program: Program, machine: PythonMachine) -> Iterator[str]:
    """Where the lines and the equation differ at random numbers."""
    seen = 0
    for interval in INTERVALS:
        arrays = _random(program, machine, interval)
        target = arrays[equation.name]
        sizes = {**program.sizes, SAMPLES: COUNT}
        values = {n: _table(program, n, a) for n, a in arrays.items() if n in program.by_name}
        target.fill(np.nan if target.dtype.kind == "f" else 0)
        try:
            machine.run("gradients", machine.table("gradients", arrays), COUNT, COUNT)
            shape = tuple(program.size(i.extent, COUNT) for i in equation.indices)
            for position in np.ndindex(shape):
                at = {i.symbol: k for i, k in zip(equation.indices, position, strict=True)}
                right = evaluate(equation.expr, {**sizes, **at}, values, math)
                found = target[position] if position else target.reshape(-1)[0]
                if isinstance(right, complex) or not math.isfinite(right):
                    continue
                seen += 1
                if not abs(found - right) <= CLOSE * (1 + abs(right)):
                    where = f"[{','.join(map(str, position))}]" if position else ""
                    yield f"{equation.name}{where} is {found}; the printed equation gives {right}"
                    return
        except (ValueError, ZeroDivisionError, OverflowError, TypeError):
            continue
    if not seen:
        yield f"{equation.name} could not be computed at any point"


def _random(program: Program, machine: PythonMachine, interval: tuple[float, float]) -> dict[str, np.ndarray]:
    rng = random.Random(5)
    limits = lookup_limits(program)
    arrays: dict[str, Any] = dict(machine.workspace("gradients", COUNT))
    for tensor in (*program.tensors, *(e.tensor for e in program.equations)):
        shape = tuple(program.size(i.extent, COUNT) for i in tensor.indices) or (1,)
        integer = tensor.kind is Kind.INTEGER
        size = math.prod(shape)
        drawn = [rng.randrange(limits.get(tensor.name, 2)) if integer else rng.uniform(*interval) for _ in range(size)]
        arrays[tensor.name] = np.array(drawn, np.int64 if integer else np.float64).reshape(shape)
    return arrays


def _table(program: Program, name: str, array: np.ndarray) -> dict[tuple[int, ...], Any]:
    if not program.by_name[name].indices:
        return {(): array.reshape(-1)[0].item()}
    return {p: array[p].item() for p in np.ndindex(array.shape)}

"""Plants errors in derive, contract, the rows of optimisers and the reader of formulas; tests must notice them.

    python tests/mutate.py --mutants 60        of each file; prints those that no test noticed, exits 1 below 85 %

A mutant is the file with one operator, comparison, constant, condition, returned value or formula of a row exchanged.
It is never written: a process is forked for each, in which the import of that module makes the mutant, and the tests
of that file run there until the first of them fails. What takes far longer than it should counts as noticed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
WANTED: Final = 0.85
TESTS: Final = {  # the tests of a file, the fast ones first
    "symbolic/derive.py": ("test_derive.py", "test_derivation.py"),
    "symbolic/contract.py": ("test_contract.py", "test_derive.py"),
    "symbolic/optimisers.py": ("test_optimisers.py",),
    "symbolic/reader.py": ("test_formula.py",),
    "symbolic/syntax.py": ("test_syntax.py", "test_formula.py"),
}
SLOW: Final = "not linear and not names_of_indices and not derived_before"  # what derives all programs once more
EQUIVALENT: Final[dict[str, str]] = {}  # a mutant that means the same -> why
LIMIT: Final = 2  # times as long as the tests of the file take without a mutant
MEMORY: Final = 4 * 2**30  # bytes that a process may ask for

OPERATORS: Final = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: where, what stood there, what stands there now, and the whole file with it."""

    file: str
    place: str
    before: str
    after: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.before} -> {self.after}"


# --- what may be exchanged


def exchanged(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of one node."""
    match node:
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OPERATORS:
            yield changed(node, op=OPERATORS[type(node.op)]())
        case ast.Compare():
            for k, op in enumerate(node.ops):
                ops = [OPERATORS[type(op)]() if j == k else old for j, old in enumerate(node.ops)]
                yield changed(node, ops=ops)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1 if node.value + 1 != node.value else node.value / 2)
        case ast.Constant(value=str()):
            yield from (ast.Constant(text) for text in formulas(node.value))
        case ast.If() | ast.IfExp() | ast.While():
            yield changed(node, test=negated(node.test))
        case ast.comprehension(ifs=[_, *_]):
            yield changed(node, ifs=[negated(node.ifs[0]), *node.ifs[1:]])
            yield changed(node, ifs=node.ifs[1:])
        case ast.Return(value=ast.expr() as value) if not is_none(value):
            yield changed(node, value=ast.Constant(None))
        case ast.Continue():
            yield ast.Break()
        case ast.Raise():
            yield ast.Pass()


def formulas(text: str) -> Iterator[str]:
    """The line `name = formula` of a row with one thing in its formula exchanged."""
    name, equals, formula = text.partition(" = ")
    if not equals or not name.isidentifier():
        return
    tree = ast.parse(formula, mode="eval")
    for path, new in places(tree):
        yield f"{name} = {ast.unparse(put(tree, path, new))}"


def changed(node: Any, **fields: Any) -> Any:
    """A node with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


# --- where

Path_ = tuple[tuple[str, int | None], ...]
NOT_RUN: Final = ("annotation", "returns", "ctx", "type_comment")  # fields that say nothing about what is computed


def places(tree: ast.AST, path: Path_ = ()) -> Iterator[tuple[Path_, ast.AST]]:
    """Every exchange in a tree: where, and what is put there. Texts, messages and imports are left alone, and so is
    `strict` of a zip over what is equally long."""
    if isinstance(tree, ast.keyword) and tree.arg == "strict":
        return
    yield from ((path, new) for new in exchanged(tree))
    for name, value in ast.iter_fields(tree):
        if name in NOT_RUN:
            continue
        for k, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom):
                yield from places(child, (*path, (name, k if isinstance(value, list) else None)))


def put(tree: Any, path: Path_, new: Any) -> Any:
    """The tree with another node at a place; the old tree stays as it is."""
    if not path:
        return new
    (name, k), *rest = path
    old = getattr(tree, name)
    if k is None:
        return changed(tree, **{name: put(old, tuple(rest), new)})
    return changed(tree, **{name: [put(item, tuple(rest), new) if j == k else item for j, item in enumerate(old)]})


def at(tree: Any, path: Path_) -> tuple[Any, str]:
    """The node at a place, and the names of the functions and classes around it."""
    names = []
    for name, k in path:
        tree = getattr(tree, name) if k is None else getattr(tree, name)[k]
        if isinstance(tree, ast.FunctionDef | ast.ClassDef):
            names.append(tree.name)
    return tree, ".".join(names) or "table"


def mutants(file: str) -> list[Mutant]:
    """All of them, in the order of the file."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    made = []
    for path, new in places(tree):
        old, place = at(tree, path)
        made.append(Mutant(file, place, shown(old), shown(new), put(tree, path, new)))
    return made


def shown(node: ast.AST) -> str:
    """A node in a line."""
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())


# --- running


class Planted(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module, and makes the mutant of it."""

    def __init__(self, mutant: Mutant) -> None:
        self.tree = mutant.tree
        name = "chainrule." + mutant.file.removesuffix(".py").replace("/", ".")
        super().__init__(name, str(ROOT / "chainrule" / mutant.file))

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_code(self, fullname: str) -> CodeType:
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec")


def run(file: str, mutant: Mutant | None) -> int:
    """The tests of a file in this process; what pytest makes of them."""
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, Planted(mutant))
    tests = [str(ROOT / "tests" / "symbolic" / name) for name in TESTS[file]]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-k", SLOW, "-W", "ignore:Module already imported"]
    return int(pytest.main([*options, f"--rootdir={ROOT}", *tests]))


def forked(file: str, mutant: Mutant | None, seconds: int) -> bool:
    """Whether the tests of a file pass in a process of their own, within some seconds of the processor."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123  a device
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            code = 1
            try:
                code = run(file, mutant)
            finally:
                os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def preload() -> None:
    """What every fork needs and no mutant changes."""
    import hypothesis  # noqa: F401
    import mpmath  # noqa: F401
    import pytest  # noqa: F401
    import sympy  # noqa: F401


def survivors(file: str, count: int, seed: int) -> tuple[int, list[Mutant]]:
    """How many mutants of a file were tried, and those that no test noticed."""
    everything = [m for m in mutants(file) if str(m) not in EQUIVALENT]
    tried = random.Random(seed).sample(everything, min(count, len(everything)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    if not forked(file, None, 3600):
        raise SystemExit(f"{file}: its tests fail without a mutant")
    seconds = 3 + LIMIT * int(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    left = []
    for mutant in tried:
        if forked(file, mutant, seconds):
            left.append(mutant)
            print(f"not noticed: {mutant}", flush=True)
    print(f"{file}: {len(tried) - len(left)} of {len(tried)} noticed ({len(everything)} there are)", flush=True)
    return len(tried), left


def main(files: Sequence[str], count: int, seed: int) -> bool:
    """Whether enough of the mutants were noticed, in every file."""
    sys.path.insert(0, str(ROOT))
    preload()
    rates = {}
    for file in files:
        tried, left = survivors(file, count, seed)
        rates[file] = 1 - len(left) / max(1, tried)
    for file, rate in rates.items():
        print(f"{rate:6.1%}  {file}")
    return all(rate >= WANTED for rate in rates.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=60, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", action="append", choices=TESTS, help="one of the files, or several")
    given = parser.parse_args()
    sys.exit(not main(given.file or list(TESTS), given.mutants, given.seed))

"""Is a generated module what the emitter writes, and nothing else? Looked at before it is imported.

    module    ::= docstring  import*  real = np.float32 | np.float64  function*  SLOTS = int  KERNELS = literal
    function  ::= decorator?  def name(name*): docstring?  statement*
    statement ::= target = expr | target op= expr | call | for name in range(expr*): statement*
                | if expr: statement* | return expr?
    expr      ::= number | name | name[expr*] | call | expr op expr | op expr | expr if expr else expr | (expr*)
    call      ::= name(expr*)      of what is imported, of a few of Python's own, of functions above it in the module

A statement of Python that is not in these tables is refused, whatever it does. When the emitter learns to write
something, the tables learn it too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from ..symbolic.errors import InternalError

IMPORTS: Final[Mapping[str, frozenset[str]]] = {
    "math": frozenset((
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1",
        "floor", "log", "log1p", "sin", "sinh", "sqrt", "tan", "tanh",
    )),
    "numba": frozenset(("carray", "njit")),
    "chainrule.runtime.support": frozenset(("gemm", "power", "sigmoid", "sign", "softplus", "uniform", "view")),
}  # fmt: skip
MODULES: Final[Mapping[str, str]] = {"numpy": "np"}  # imported as a whole, under this name
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "np": frozenset(("float32", "float64", "inf", "int64", "nan")),
}
BUILTINS: Final = frozenset(("abs", "float", "int", "len", "max", "min", "range"))
DECORATOR: Final = "njit"
OPTIONS: Final[Mapping[str, Callable[[object], bool]]] = {  # of the decorator, and which values they may have
    "fastmath": lambda value: isinstance(value, set) and value <= {"reassoc", "contract", "nsz", "arcp", "afn"},
    "error_model": lambda value: value == "numpy",
    "nogil": lambda value: value is True,
    "inline": lambda value: value == "always",
}
LITERALS: Final = ("SLOTS", "KERNELS")  # assigned at the top, once, in this order
STATEMENTS: Final = (ast.Assign, ast.AugAssign, ast.Expr, ast.For, ast.If, ast.Return)
EXPRESSIONS: Final = (
    ast.Attribute, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.IfExp, ast.Name, ast.Subscript,
    ast.Tuple, ast.UnaryOp,
)  # fmt: skip
OPERATORS: Final = (
    ast.Add, ast.And, ast.Div, ast.Eq, ast.FloorDiv, ast.Gt, ast.GtE, ast.Load, ast.Lt, ast.LtE, ast.Mod, ast.Mult,
    ast.Not, ast.NotEq, ast.Or, ast.Pow, ast.Store, ast.Sub, ast.UAdd, ast.USub,
)  # fmt: skip
CELLS: Final = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Set, ast.UnaryOp, ast.USub, ast.Load)  # of literals

ALLOWED: Final = frozenset((*EXPRESSIONS, *OPERATORS))
PLAIN: Final = frozenset(
    (*OPERATORS, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Tuple, ast.UnaryOp)
)


def check_source(text: str) -> None:
    """Raise `InternalError` for the first construct in a generated module that the emitter does not write.

    >>> check_source("import os")
    Traceback (most recent call last):
    chainrule.symbolic.errors.InternalError: generated source, line 1: 'import os' is not what the emitter writes; report it
    """  # noqa: E501  an expected message stands on one line
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise wrong(getattr(error, "lineno", None) or 1, "Python that cannot be read") from None
    _Module(text).check(body)


def wrong(line: int, what: str) -> InternalError:
    return InternalError(f"generated source, line {line}: {what} is not what the emitter writes; report it")


class _Module:
    """One walk over a module, top to bottom: what stands in it may use what stands above it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.known = set(BUILTINS)  # what may be called
        self.callables: set[str] = set()  # functions of the module

    def check(self, body: list[ast.stmt]) -> None:
        rest = list(body)
        if rest and _is_docstring(rest[0]):
            rest.pop(0)
        while rest and isinstance(rest[0], ast.Import | ast.ImportFrom):
            self.imported(rest.pop(0))
        self.real(rest.pop(0) if rest else None)
        while rest and isinstance(rest[0], ast.FunctionDef):
            self.function(rest.pop(0))
        for name in LITERALS:
            self.literal(rest.pop(0) if rest else None, name)
        if rest:
            raise self.wrong(rest[0])

    def wrong(self, node: ast.AST, what: str = "") -> InternalError:
        shown = what or (ast.get_source_segment(self.text, node) or type(node).__name__)  # type: ignore[arg-type]
        first = shown.strip().split("\n")[0]
        return wrong(getattr(node, "lineno", 1), repr(first if len(first) <= 60 else f"{first[:57]}..."))

    # the head

    def imported(self, node: ast.stmt) -> None:
        """A line of imports: from the tables, under the names that they have there."""
        if isinstance(node, ast.Import):
            if [(a.name, a.asname) for a in node.names] != list(MODULES.items()):
                raise self.wrong(node)
            return
        assert isinstance(node, ast.ImportFrom)
        allowed = IMPORTS.get(node.module or "", frozenset())
        if node.level or any(a.name not in allowed or a.asname is not None for a in node.names):
            raise self.wrong(node)
        self.known |= {a.name for a in node.names}

    def real(self, node: ast.stmt | None) -> None:
        """real = np.float32 or np.float64."""
        if node is None or ast.unparse(node) not in ("real = np.float32", "real = np.float64"):
            raise wrong(getattr(node, "lineno", 1), "a module without 'real = np.float32' or 'real = np.float64'")
        self.known.add("real")

    def literal(self, node: ast.stmt | None, name: str) -> None:
        """name = literal."""
        match node:
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                for inner in ast.walk(node.value):
                    if not isinstance(inner, CELLS):
                        raise self.wrong(inner)
            case _:
                raise wrong(getattr(node, "lineno", 1), f"a module without '{name} = ...' at its end")

    # functions

    def function(self, node: ast.FunctionDef) -> None:
        """A function: its decorator, its arguments, its statements; then it may be called by those below."""
        arguments = node.args
        others = (arguments.posonlyargs, arguments.kwonlyargs, arguments.kw_defaults, arguments.defaults)
        if any(others) or arguments.vararg or arguments.kwarg or node.returns or not self.is_free(node.name):
            raise self.wrong(node)
        if any(a.annotation or not self.is_free(a.arg) for a in arguments.args):
            raise self.wrong(node)
        for decorator in node.decorator_list:
            self.decorator(decorator)
        body = node.body[1:] if _is_docstring(node.body[0]) else node.body
        local = {a.arg for a in arguments.args}
        local.update(n.id for n in ast.walk(node) if type(n) is ast.Name and type(n.ctx) is not ast.Load)
        for name in local:
            if not self.is_free(name):
                raise self.wrong(node, f"{name} = ...")
        self.statements(body, frozenset(local))
        self.callables.add(node.name)

    def is_free(self, name: str) -> bool:
        """Whether a name may be given: it is no dunder name, and means nothing else in the module."""
        taken = name in self.known or name in self.callables or name in ATTRIBUTES or name in LITERALS
        return name.isascii() and "__" not in name and not taken

    def decorator(self, node: ast.expr) -> None:
        match node:
            case ast.Call(func=ast.Name(id=found), args=[]) if found == DECORATOR and found in self.known:
                for option in node.keywords:
                    if option.arg not in OPTIONS or not OPTIONS[option.arg](_literal(option.value)):
                        raise self.wrong(option.value)
            case _:
                raise self.wrong(node)

    def statements(self, body: Iterable[ast.stmt], local: frozenset[str]) -> None:
        for node in body:
            match node:
                case ast.Assign():
                    self.targets(node.targets)
                    self.expressions((*node.targets, node.value), local)
                case ast.AugAssign():
                    self.targets([node.target])
                    self.expressions((node.target, node.value), local)
                case ast.Expr(value=ast.Call()):
                    self.expressions((node.value,), local)
                case ast.Return():
                    self.expressions(() if node.value is None else (node.value,), local)
                case ast.If():
                    self.expressions((node.test,), local)
                    self.statements((*node.body, *node.orelse), local)
                case ast.For(target=ast.Name(), iter=ast.Call(func=ast.Name(id="range")), orelse=[]):
                    self.expressions((node.iter,), local)
                    self.statements(node.body, local)
                case _:
                    raise self.wrong(node)

    def targets(self, targets: list[ast.expr]) -> None:
        """What is assigned: a name, an element of an array, or several names."""
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            if not all(isinstance(p, ast.Name | ast.Subscript) for p in parts):
                raise self.wrong(target)

    def expressions(self, nodes: Iterable[ast.expr], local: frozenset[str]) -> None:
        """Every node of some expressions, without recursion."""
        todo: list[ast.AST] = list(nodes)
        while todo:
            node = todo.pop()
            kind = type(node)
            if kind is ast.Name:
                if node.id not in local and node.id != "SLOTS" and node.id != "real":  # type: ignore[attr-defined]
                    raise self.wrong(node)
            elif kind is ast.Constant:
                if type(node.value) not in (int, float, bool):  # type: ignore[attr-defined]
                    raise self.wrong(node)
            elif kind is ast.Call:
                todo += self.call(node)  # type: ignore[arg-type]
            elif kind is ast.Attribute:
                self.attribute(node)  # type: ignore[arg-type]
            elif kind in PLAIN:
                todo += _children(node)
            else:
                raise self.wrong(node)

    def call(self, node: ast.Call) -> list[ast.expr]:
        """The arguments of a call, if it is of something known."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if node.keywords or not (name in self.known or name in self.callables) or name == DECORATOR:
            raise self.wrong(node)
        return node.args

    def attribute(self, node: ast.Attribute) -> None:
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if node.attr not in ATTRIBUTES.get(owner, ()) or not isinstance(node.ctx, ast.Load):
            raise self.wrong(node)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    return ast.iter_child_nodes(node)


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None

"""Is a module what the emitter writes, and nothing else? Looked at before it is imported.

    module    ::= docstring  head  function+  KERNELS = literal
    head      ::= the imports, OPTIONS and real = ... , exactly as `generate` and `emit` write them
    function  ::= decorator?  def name(name*): docstring?  statement*
    statement ::= target = expr | target op= expr | call | for name in range(expr*): statement*
                | if expr: statement* | return
    expr      ::= number | name | name[expr*] | call | expr op expr | op expr | expr if expr else expr
    call      ::= name(expr*)      of what the head imports, of a few of Python's own, of a function that stands above

A statement of Python that is not in these tables is refused, whatever it does. When the emitter learns to write
something, the tables learn it too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from ..symbolic.errors import InternalError
from .emit import HELPER, OPTIONS
from .expression import FUNCTIONS
from .generate import HEAD, import_source

ATTRIBUTES: Final = {
    "np": frozenset(("float32", "float64", "inf", "int64", "nan")),
    "math": frozenset((*FUNCTIONS.values(), "copysign", "sqrt")),  # where plain doubles are computed
}
BUILTINS: Final = frozenset(("abs", "float", "len", "max", "min", "range"))
LITERALS: Final = ("KERNELS",)  # assigned at the end, once, in this order
CONSTANTS: Final = frozenset(("real",))  # global names that a function may read
PHASE: Final = re.compile(r"(predict|evaluate|gradients|train)_(phase_\d+|gather|noise|norm|updates)\Z")
SHARED: Final = re.compile(r"(summed|update)(_\d+)?\Z")  # functions that others call
PLAIN: Final[Mapping[type, Callable[[Any], tuple[Sequence[ast.operator | Any], Sequence[ast.expr]]]]] = {
    ast.BinOp: lambda node: ((node.op,), (node.left, node.right)),  # operators, and what they stand between
    ast.BoolOp: lambda node: ((node.op,), node.values),
    ast.Compare: lambda node: (node.ops, (node.left, *node.comparators)),
    ast.IfExp: lambda node: ((), (node.test, node.body, node.orelse)),
    ast.Subscript: lambda node: ((), (node.value, node.slice)),
    ast.Tuple: lambda node: ((), node.elts),
    ast.UnaryOp: lambda node: ((node.op,), (node.operand,)),
}
OPERATORS: Final = frozenset((
    ast.Add, ast.And, ast.Div, ast.Eq, ast.FloorDiv, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Mod, ast.Mult,
    ast.Not, ast.NotEq, ast.Or, ast.Pow, ast.Sub, ast.UAdd, ast.USub,
))  # fmt: skip
CELLS: Final = frozenset((ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.Load))


def check_source(text: str) -> None:
    """Raise `InternalError` for the first construct in a generated module that the emitter does not write.

    >>> check_source('"kernels"\\nimport os')
    Traceback (most recent call last):
    chainrule.symbolic.errors.InternalError: generated source, line 2: 'import os' is not the emitter's head; report it
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _wrong(getattr(error, "lineno", None) or 1, "this", "not Python") from None
    _Module(text).check(body)


def is_emitted(text: str) -> bool:
    """Whether a text is a module as the emitter writes it."""
    try:
        check_source(text)
    except InternalError:
        return False
    return True


def _wrong(line: int, what: str, rule: str) -> InternalError:
    return InternalError(f"generated source, line {line}: {what} is {rule}; report it")


@lru_cache(maxsize=2)
def _head(real: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The statements before the functions, as dumps; and the names that they bring in."""
    body = ast.parse(f"{HEAD}\n{import_source(real)}\nOPTIONS = dict({OPTIONS})\nreal = np.{real}").body
    names = {a.asname or a.name for s in body if isinstance(s, ast.Import | ast.ImportFrom) for a in s.names}
    return tuple(map(ast.dump, body)), frozenset(names)


@lru_cache(maxsize=1)
def _decorator() -> str:
    (function,) = ast.parse(f"{HELPER}\ndef f(): return").body
    assert isinstance(function, ast.FunctionDef)
    return ast.dump(function.decorator_list[0])


class _Module:
    """One walk over a module, top to bottom: what stands in it may call what stands above it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.taken: frozenset[str] = frozenset((*BUILTINS, *CONSTANTS, *LITERALS))  # names that mean something
        self.callable: frozenset[str] = BUILTINS | {"real"}

    def check(self, body: list[ast.stmt]) -> None:
        rest = list(body)
        if not rest or not _is_docstring(rest[0]):
            raise _wrong(1, "the beginning", "not a docstring")
        rest = self.head(rest[1:])
        if not rest or not isinstance(rest[0], ast.FunctionDef):
            raise self.wrong(rest[0] if rest else None, "not a function of the emitter's")
        while rest and isinstance(rest[0], ast.FunctionDef):
            self.function(rest.pop(0))
        for name in LITERALS:
            self.literal(rest.pop(0) if rest else None, name)
        if rest:
            raise self.wrong(rest[0], "after the end")

    def wrong(self, node: ast.AST | None, rule: str) -> InternalError:
        if node is None:
            return _wrong(self.text.count("\n") + 1, "the end", rule)
        shown = ast.get_source_segment(self.text, node) or type(node).__name__
        first = shown.strip().split("\n")[0]
        return _wrong(getattr(node, "lineno", 1), repr(first if len(first) <= 60 else f"{first[:57]}..."), rule)

    # around the functions

    def head(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """What follows the head."""
        real = "float64" if "\nreal = np.float64\n" in self.text else "float32"
        wanted, names = _head(real)
        for k, statement in enumerate(wanted):
            if k >= len(body) or ast.dump(body[k]) != statement:
                raise self.wrong(body[k] if k < len(body) else None, "not the emitter's head")
        self.taken |= names
        self.callable |= names - {"np", "math", "njit"}
        return body[len(wanted) :]

    def literal(self, node: ast.stmt | None, name: str) -> None:
        """name = literal."""
        match node:
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                for inner in ast.walk(node.value):
                    if type(inner) not in CELLS:
                        raise self.wrong(inner, f"not a literal in {name}")
            case _:
                raise self.wrong(node, f"not the assignment of {name}")

    # functions

    def function(self, node: ast.stmt) -> None:
        """A function: its name and decorator, its arguments, its statements; a shared one may be called below."""
        assert isinstance(node, ast.FunctionDef)
        arguments, shared = node.args, bool(SHARED.match(node.name))
        if not (shared or PHASE.match(node.name)) or node.name in self.taken:
            raise self.wrong(node, "not the name of a function of the emitter's")
        if [ast.dump(d) for d in node.decorator_list] != ([_decorator()] if shared else []):
            raise self.wrong((*node.decorator_list, node)[0], "not its decorator")
        others = (arguments.posonlyargs, arguments.kwonlyargs, arguments.kw_defaults, arguments.defaults)
        typed = [node.returns, *(a.annotation for a in arguments.args), *getattr(node, "type_params", ())]
        if any(others) or arguments.vararg or arguments.kwarg or any(typed):
            raise self.wrong(node, "not a list of names as arguments")
        for argument in arguments.args:
            self.given_name(argument, argument.arg)
        local = {a.arg for a in arguments.args}
        for target in _targets(node.body):
            self.given_name(target, target.id)
            local.add(target.id)
        self.statements(node.body[1:] if _is_docstring(node.body[0]) else node.body, frozenset(local))
        self.taken |= {node.name}
        self.callable |= {node.name} if shared else set()

    def given_name(self, node: ast.AST, name: str) -> None:
        """A name that a function gives is plain, and means nothing else in the module."""
        if not name.isascii() or name.startswith("__") or name in self.taken or name in ATTRIBUTES:
            raise self.wrong(node, "not a name that a function may give")

    def statements(self, body: Iterable[ast.stmt], local: frozenset[str]) -> None:
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name() | ast.Subscript() as target], value=value, type_comment=None):
                    self.expressions((target, value), local)
                case ast.AugAssign(target=ast.Name() | ast.Subscript() as target, op=op) if type(op) in OPERATORS:
                    self.expressions((target, node.value), local)
                case ast.Expr(value=ast.Call() as call):
                    self.expressions((call,), local)
                case ast.Return(value=None):
                    pass
                case ast.If(test=test, body=then, orelse=[]):
                    self.expressions((test,), local)
                    self.statements(then, local)
                case ast.For(target=ast.Name(), iter=ast.Call(func=ast.Name(id="range")), orelse=[]):
                    self.expressions((node.iter,), local)
                    self.statements(node.body, local)
                case _:
                    raise self.wrong(node, "a statement that the emitter does not write")

    def expressions(self, nodes: Iterable[ast.expr], local: frozenset[str]) -> None:
        """Every node of some expressions, without recursion."""
        todo: list[Any] = list(nodes)
        while todo:
            node = todo.pop()
            kind = type(node)
            if kind is ast.Name:
                if node.id not in local and node.id not in CONSTANTS:
                    raise self.wrong(node, "a name that the emitter does not read")
            elif kind is ast.Constant:
                if type(node.value) not in (int, float, bool):
                    raise self.wrong(node, "a constant that is no number")
            elif kind is ast.Call:
                todo += self.call(node)
            elif kind is ast.Attribute:
                self.attribute(node)
            elif kind in PLAIN:
                operators, inner = PLAIN[kind](node)
                if any(type(operator) not in OPERATORS for operator in operators):
                    raise self.wrong(node, "an operation that the emitter does not write")
                todo += inner
            else:
                raise self.wrong(node, "an expression that the emitter does not write")

    def call(self, node: ast.Call) -> list[ast.expr]:
        """The arguments of a call, if it is of something known."""
        match node:
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in self.callable:
                return node.args
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math")), keywords=[]):
                self.attribute(node.func)
                return node.args
        raise self.wrong(node, "a call that the emitter does not write")

    def attribute(self, node: ast.expr) -> None:
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Load()):
                if name in ATTRIBUTES.get(owner, ()):
                    return
        raise self.wrong(node, "an attribute that the emitter does not read")


def _targets(body: Iterable[ast.stmt]) -> Iterator[ast.Name]:
    """The names that some statements give. No expression gives one: those that could are refused."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield from (t for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AugAssign | ast.For) and isinstance(node.target, ast.Name):
            yield node.target
        if isinstance(node, ast.If | ast.For):
            yield from _targets(node.body)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

"""Formulas and equations as text -> SymPy, through a whitelist. Nothing in a formula is ever evaluated as code.

    formula    ::= Python's arithmetic:  + - * / **  numbers  names  calls  a[i,j]  comparisons  and or not
    functions  ::= exp log log1p expm1 sqrt abs sign sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh
                   erf erfc floor ceil sigmoid softplus relu min max where heaviside clip
    contraction::= sum(j, expr)  mean(j, expr)  max(j, expr)  argmax(j, expr)         over one or several indices
                   sum(expr)  max(expr)        over all units, in the formula of an activation
    constants  ::= pi e
    equations  ::= (name[i,j] = formula) line by line;  # starts a comment

`max(a, b)` and `min(a, b)` become Piecewise; where both are equal the slope is that of the constant, or of `b`.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from .errors import SpecError, nearest
from .functions import ArgMaxOver, MaxOver, expm1, log1p, sigmoid, softplus, unit_max, unit_sum

LONGEST_FORMULA = 20_000
DEEPEST_FORMULA = 200
LARGEST_EXPONENT = 1_000
LARGEST_ARGUMENT = 1e15  # of floor and ceil of a constant, which SymPy computes to the last digit
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


def larger(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """max(a, b), with the slope of the constant (or of b) where they are equal; NaN stays NaN."""
    if a.is_number and not b.is_number:
        a, b = b, a
    return sp.Max(a, b) if a.is_number and b.is_number else where(a <= b, b, a)


def smaller(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """min(a, b), the mirror image of `larger`."""
    if a.is_number and not b.is_number:
        a, b = b, a
    return sp.Min(a, b) if a.is_number and b.is_number else where(a >= b, b, a)


def where(condition: sp.Basic, then: sp.Expr, otherwise: sp.Expr) -> sp.Expr:
    return plain_conditions(sp.Piecewise((then, condition), (otherwise, True)))


def clip(z: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    """z held between two bounds; the slope is 0 at both."""
    return plain_conditions(sp.Piecewise((low, z <= low), (high, z >= high), (z, True)))


def plain_conditions(expr: sp.Expr) -> sp.Expr:
    """Conditions on conditions (SymPy's ITE, from nested maxima) as and, or, not."""
    return expr.replace(sp.ITE, lambda c, a, b: sp.Or(sp.And(c, a), sp.And(sp.Not(c), b)))


FUNCTIONS: Mapping[str, tuple[int, Callable[..., sp.Expr]]] = {
    **{f.__name__: (1, f) for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.asin, sp.acos,
       sp.atan, sp.asinh, sp.acosh, sp.atanh, sp.erf, sp.erfc, sp.floor, sp.sign, expm1, log1p, sigmoid, softplus)},
    "sqrt": (1, sp.sqrt),
    "abs": (1, sp.Abs),
    "ceil": (1, sp.ceiling),
    "relu": (1, lambda z: larger(z, sp.Integer(0))),
    "heaviside": (1, lambda z: where(z <= 0, sp.Integer(0), sp.Integer(1))),
    "min": (2, smaller),
    "max": (2, larger),
    "clip": (3, clip),
    "where": (3, where),
}  # fmt: skip
CONSTANTS = {"pi": sp.pi, "e": sp.E}
OVER_UNITS = {"sum": unit_sum, "max": unit_max}
OVER = {"sum": sp.Sum, "mean": sp.Sum, "max": MaxOver, "argmax": ArgMaxOver}
OPERATORS: Mapping[type[ast.AST], Callable[..., sp.Basic]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
    ast.Not: sp.Not,
    ast.And: sp.And,
    ast.Or: sp.Or,
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
}


@dataclass(frozen=True)
class Names:
    """What the names in a formula stand for: plain symbols, readers of tensors, and extents of indices."""

    symbols: Mapping[str, sp.Expr]
    tensors: Mapping[str, Callable[[tuple[sp.Expr, ...]], sp.Expr]]
    extents: Mapping[str, sp.Expr]
    units: bool = False  # whether sum(expr) and max(expr) over all units make sense

    @property
    def all(self) -> set[str]:
        return {*self.symbols, *self.tensors, *self.extents, *CONSTANTS}


def parse_formula(text: str, symbols: Mapping[str, sp.Expr], place: str = "formula", *, units: bool = False) -> sp.Expr:
    """A formula in the given symbols.

    >>> z = sp.Symbol("z", real=True)
    >>> parse_formula("z/(1 + exp(-1.702*z))", {"z": z})
    z/(1 + exp(-851*z/500))
    >>> parse_formula("y + 1", {"z": z})
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: formula: 'y' in "y + 1" is not known. Known: e, pi, z.
    """
    return parse_expression(text, Names(dict(symbols), {}, {}, units), place)


def parse_expression(text: str, names: Names, place: str) -> sp.Expr:
    """A formula in the language of equations: tensors with indices, contractions."""
    result = _Reader(text, names, place).read(_tree(text, place))
    if not isinstance(result, sp.Expr):
        raise SpecError(f"{place}: {_shown(text)} is a condition, not a number; use where(condition, a, b)")
    if result.has(sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I):
        raise SpecError(f"{place}: {_shown(text)} has no finite real value; look for a division by zero")
    return result


def split_equations(text: str, place: str) -> list[tuple[str, tuple[str, ...], str, str]]:
    """Lines `name[i,j] = formula` as (name, indices, formula, place); a formula may go on inside brackets.

    >>> split_equations("h[n] = 2*x[n]  # twice", "layer 1")
    [('h', ('n',), '2*x[n]', 'layer 1, line 1')]
    """
    equations = []
    for number, line in _logical_lines(text):
        where = f"{place}, line {number}"
        left, equals, right = line.partition("=")
        head = re.fullmatch(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*(?:\[([^\]]*)\])?\s*", left)
        if not equals or not head or right.startswith("="):
            raise SpecError(f"{where}: {_shown(line)} is not an equation; write name[indices] = formula")
        indices = tuple(part.strip() for part in (head[2] or "").split(",") if part.strip())
        equations.append((checked_name(head[1], where), indices, right.strip(), where))
    if not equations:
        raise SpecError(f"{place}: there is no equation; write at least one line name[indices] = formula")
    return equations


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    depth = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].rstrip()
        if depth > 0 and lines:
            lines[-1] = (lines[-1][0], f"{lines[-1][1]} {line.strip()}")
        elif line.strip():
            lines.append((number, line.strip()))
        depth += line.count("(") + line.count("[") - line.count(")") - line.count("]")
    return lines


def checked_name(name: object, place: str) -> str:
    """A name that may become a symbol, or `SpecError`."""
    if not isinstance(name, str) or not NAME.match(name) or len(name) > 60:
        raise SpecError(f"{place}: {name!r} is not a name; begin with a letter, go on with letters, digits and _")
    return name


def _is_minus(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _double(constant: sp.Expr) -> float:
    """The value of a constant; infinite or NaN where it has none among the real numbers that a double can hold."""
    try:
        value = sp.N(constant, 15)
        return float(value) if value.is_real else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan


TITLE = re.compile(r"[A-Za-z_][A-Za-z0-9_ .+-]*\Z")


def checked_title(title: object, what: str) -> str:
    """The name of a table's row: it stands in comments of generated code, so it is letters and digits."""
    if not isinstance(title, str) or len(title) > 60 or not TITLE.match(title):
        raise SpecError(
            f"{what}: the name {title!r} is not allowed; begin with a letter, go on with letters, digits, _ and -"
        )
    return title


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def _tree(text: str, place: str) -> ast.AST:
    if not isinstance(text, str):
        raise SpecError(f"{place}: a formula is text, not {type(text).__name__}; put it in quotes")
    if len(text) > LONGEST_FORMULA:
        raise SpecError(f"{place}: the formula has {len(text)} characters; at most {LONGEST_FORMULA}; name its parts")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, SyntaxWarning, ValueError, MemoryError, RecursionError) as error:
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise SpecError(f"{place}: {_shown(text)} cannot be read{where}; write it as in Python") from None
    if _depth(tree) > DEEPEST_FORMULA:
        raise SpecError(f"{place}: {_shown(text)} is nested too deeply; name its parts in equations of their own")
    return tree


def _depth(tree: ast.AST) -> int:
    deepest, todo = 0, [(tree, 1)]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        todo += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return deepest


class _Reader:
    """One walk over one syntax tree."""

    def __init__(self, text: str, names: Names, place: str) -> None:
        self.text, self.names, self.place = text, names, place

    def wrong(self, problem: str, advice: str) -> SpecError:
        return SpecError(f"{self.place}: {problem} in {_shown(self.text)}{advice}")

    def read(self, node: ast.AST) -> Any:
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        if handler is None:
            raise self.wrong(f"{type(node).__name__} is not allowed", "; use arithmetic, comparisons and functions")
        return handler(node)

    def number(self, node: ast.AST) -> sp.Expr:
        result = self.read(node)
        if not isinstance(result, sp.Expr):
            raise self.wrong(f"'{result}' is a condition where a number is needed", "; use where(condition, a, b)")
        return result

    def condition(self, node: ast.AST) -> sp.Basic:
        result = self.read(node)
        if isinstance(result, sp.Expr):
            raise self.wrong(f"'{result}' is a number where a condition is needed", "; compare it with something")
        return result

    def _constant(self, node: ast.Constant) -> sp.Expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self.wrong(f"{node.value!r} is not a number", "; use numbers and names")
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise self.wrong("a number is too large", "; stay below 1e308")
        if isinstance(node.value, int) and abs(node.value) > 10**18:
            raise self.wrong("an integer is too large", "; write it as a decimal number")
        return sp.Rational(str(node.value))

    def _name(self, node: ast.Name) -> sp.Expr:
        if node.id in self.names.symbols:
            return self.names.symbols[node.id]
        if node.id in self.names.extents:
            return sp.Symbol(node.id, integer=True, nonnegative=True)
        if node.id in self.names.tensors:
            return self.names.tensors[node.id](())
        if node.id in CONSTANTS:  # last: a name that was declared means what was declared
            return CONSTANTS[node.id]
        raise self.wrong(f"'{node.id}'", f" is not known. {nearest(node.id, self.names.all)}")

    def _subscript(self, node: ast.Subscript) -> sp.Expr:
        if not isinstance(node.value, ast.Name) or node.value.id not in self.names.tensors:
            name = ast.unparse(node.value)
            raise self.wrong(f"'{name}'", f" is not a tensor. {nearest(name, self.names.tensors)}")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        where = tuple(self.number(part) for part in parts)
        for part in where:
            if part.is_integer is not True:
                raise self.wrong(f"the index '{part}' is not an integer", "; use indices, integers and + - *")
        return self.names.tensors[node.value.id](where)

    def _unaryop(self, node: ast.UnaryOp) -> sp.Basic:
        if type(node.op) not in OPERATORS:
            raise self.wrong(f"the operator {type(node.op).__name__} is not allowed", "")
        operand = self.condition(node.operand) if isinstance(node.op, ast.Not) else self.number(node.operand)
        return OPERATORS[type(node.op)](operand)

    def _binop(self, node: ast.BinOp) -> sp.Expr:
        if isinstance(node.op, ast.Mult | ast.Div) and _is_minus(node.left):
            # -(a + b)*c as -((a + b)*c): SymPy would carry the minus into the sum
            return -self._binop(ast.BinOp(node.left.operand, node.op, node.right))  # type: ignore[attr-defined]
        left, right = self.number(node.left), self.number(node.right)
        if isinstance(node.op, ast.Div):
            if right.is_zero:
                raise self.wrong("a division by zero", "; look at the denominator")
            return self.real(left / right)
        if isinstance(node.op, ast.Pow):
            return self._power(left, right)
        if isinstance(node.op, ast.BitXor):
            raise self.wrong("'^' is not a power", "; write **")
        if type(node.op) not in OPERATORS:
            raise self.wrong(f"the operator {type(node.op).__name__} is not allowed", "; use + - * / **")
        return self.real(OPERATORS[type(node.op)](left, right))

    def real(self, result: Any) -> sp.Expr:
        """A number that a double can hold."""
        if result.is_number and not abs(_double(result)) < math.inf:
            raise self.wrong(
                "a constant has no finite real value", "; stay below 1e308, and take roots of numbers above 0"
            )
        return result

    def _power(self, base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
        if exponent.is_number and abs(float(exponent)) > LARGEST_EXPONENT:
            raise self.wrong(f"the exponent {exponent} is too large", f"; at most {LARGEST_EXPONENT}")
        if base.is_number and exponent.is_number and base != 0:
            digits = abs(float(exponent)) * abs(math.log10(abs(float(base)) or 1.0))
            if digits > 300:
                raise self.wrong("a power of numbers is too large", "; stay below 1e300")
        return self.real(base**exponent)

    def _compare(self, node: ast.Compare) -> sp.Basic:
        terms = [self.number(t) for t in (node.left, *node.comparators)]
        links = []
        for op, left, right in zip(node.ops, terms, terms[1:], strict=False):
            if type(op) not in OPERATORS:
                raise self.wrong(f"the comparison {type(op).__name__} is not allowed", "; use < <= > >= == !=")
            links.append(OPERATORS[type(op)](left, right))
        return sp.And(*links)

    def _boolop(self, node: ast.BoolOp) -> sp.Basic:
        return OPERATORS[type(node.op)](*(self.condition(v) for v in node.values))

    def _ifexp(self, node: ast.IfExp) -> sp.Expr:
        return where(self.condition(node.test), self.number(node.body), self.number(node.orelse))

    def _call(self, node: ast.Call) -> sp.Expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.wrong(f"{name}() with named or starred arguments", "; give plain arguments")
        first = node.args[0] if node.args else None
        if name in OVER and isinstance(first, ast.Name) and first.id in self.names.extents:
            return self._contraction(name, node.args)
        if self.names.units and name in OVER_UNITS and len(node.args) == 1:
            return OVER_UNITS[name](self.number(node.args[0]))
        if name not in FUNCTIONS:
            known = {*FUNCTIONS, *OVER} if self.names.extents else set(FUNCTIONS)
            raise self.wrong(f"the function '{name}'", f" is not known. {nearest(name, known)}")
        count, function = FUNCTIONS[name]
        if name in ("min", "max") and len(node.args) > 2:
            result = self.number(node.args[0])
            for argument in node.args[1:]:
                result = function(result, self.number(argument))
            return result
        if len(node.args) != count:
            raise self.wrong(f"{name}() has {len(node.args)} arguments", f"; it takes {count}")
        if name == "where":
            return where(self.condition(node.args[0]), self.number(node.args[1]), self.number(node.args[2]))
        return self.checked(function, [self.number(a) for a in node.args])

    def checked(self, function: Callable[..., sp.Expr], arguments: list[sp.Expr]) -> sp.Expr:
        """A function of its arguments; of constants only where SymPy has its value at once."""
        for argument in arguments:
            if function in (sp.floor, sp.ceiling) and argument.is_number and abs(_double(argument)) > LARGEST_ARGUMENT:
                raise self.wrong("a number is too large", f"; floor and ceil take constants below {LARGEST_ARGUMENT:g}")
        return self.real(function(*arguments))

    def _contraction(self, name: str, arguments: list[ast.expr]) -> sp.Expr:
        *bound, body = arguments
        symbols = []
        for b in bound:
            if not isinstance(b, ast.Name) or b.id not in self.names.extents:
                raise self.wrong(f"'{ast.unparse(b)}' under {name}() is not an index", "; declare it in indices")
            symbols.append(sp.Symbol(b.id, integer=True, nonnegative=True))
        if not bound:
            raise self.wrong(f"{name}() lacks its expression", f"; write {name}(j, expression)")
        result = self.number(body)
        extents = [self.names.extents[s.name] for s in symbols]
        if name in ("max", "argmax"):
            if name == "argmax" and len(symbols) > 1:
                raise self.wrong("argmax() over several indices", "; take one index")
            for symbol, extent in zip(reversed(symbols), reversed(extents), strict=True):
                result = OVER[name](result, (symbol, 0, extent - 1))
            return result
        total = sp.Sum(result, *((s, 0, e - 1) for s, e in zip(symbols, extents, strict=True)))
        return total / sp.prod(extents) if name == "mean" else total

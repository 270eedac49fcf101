"""The syntax tree of a formula -> SymPy: one method for each kind of node that the whitelist lets through."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sympy as sp

from .bounds import applied, bounded, power
from .choices import clip, heaviside, larger, relation, smaller, where
from .errors import SpecError, nearest
from .functions import (
    CONTRACTIONS,
    ArgMaxOver,
    MaxOver,
    erfc,
    expm1,
    log1p,
    sigmoid,
    softplus,
    unit_max,
    unit_sum,
)  # fmt: skip
from .limits import MOST_CONTRACTIONS
from .syntax import in_quotes

FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., sp.Expr]]]] = {
    **{f.__name__: (1, f) for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.asin, sp.acos,
       sp.atan, sp.asinh, sp.acosh, sp.atanh, sp.erf, erfc, sp.floor, sp.sign, expm1, log1p, sigmoid, softplus)},
    "sqrt": (1, sp.sqrt),
    "abs": (1, sp.Abs),
    "ceil": (1, sp.ceiling),
    "relu": (1, lambda z: larger(z, sp.Integer(0))),
    "heaviside": (1, heaviside),
    "min": (2, smaller),
    "max": (2, larger),
    "clip": (3, clip),
    "where": (3, where),
}  # fmt: skip
CONSTANTS: Final = {"pi": sp.pi, "e": sp.E}
OVER_UNITS: Final = {"sum": unit_sum, "max": unit_max}
OVER: Final = {"sum": sp.Sum, "mean": sp.Sum, "max": MaxOver, "argmax": ArgMaxOver}
COUNTED: Final = (*CONTRACTIONS, unit_sum, unit_max)
COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[..., sp.Basic]]] = {
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


class Reader:
    """One walk over one syntax tree."""

    def __init__(self, text: str, names: Names, place: str) -> None:
        self.text, self.names, self.place = text, names, place
        self.contractions = 0

    def wrong(self, problem: str, advice: str) -> SpecError:
        return SpecError(f"{self.place}: {problem} in {in_quotes(self.text)}{advice}")

    def read(self, node: ast.AST) -> Any:
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        if handler is None:  # what the whitelist lets through in other places: a tuple of indices
            raise self.wrong(f"{type(node).__name__} is not allowed", "; use arithmetic, comparisons and functions")
        return handler(node)

    def number(self, node: ast.AST) -> sp.Expr:
        result = self.read(node)
        if not isinstance(result, sp.Expr):
            raise self.wrong("there is a condition where a number is needed", "; use where(condition, a, b)")
        return result

    def condition(self, node: ast.AST) -> sp.Basic:
        result = self.read(node)
        if isinstance(result, sp.Expr):
            raise self.wrong("there is a number where a condition is needed", "; compare it with something")
        return result

    def _constant(self, node: ast.Constant) -> sp.Expr:
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
            name = node.value.id if isinstance(node.value, ast.Name) else type(node.value).__name__
            raise self.wrong(f"'{name}'", f" is not a tensor. {nearest(name, self.names.tensors)}")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        where = tuple(self.number(part) for part in parts)
        for part in where:
            if part.is_integer is not True:
                raise self.wrong("an index is not an integer", "; use indices, integers and + - *")
        return self.names.tensors[node.value.id](where)

    def _unaryop(self, node: ast.UnaryOp) -> sp.Basic:
        match node.op:
            case ast.Not():
                return sp.Not(self.condition(node.operand))
            case ast.USub():
                return bounded(-self.number(node.operand))
        return self.number(node.operand)

    def _binop(self, node: ast.BinOp) -> sp.Expr:
        if isinstance(node.op, ast.Mult | ast.Div) and _is_minus(node.left):
            # -(a + b)*c as -((a + b)*c): SymPy would carry the minus into the sum
            return -self._binop(ast.BinOp(node.left.operand, node.op, node.right))  # type: ignore[attr-defined]
        left, right = self.number(node.left), self.number(node.right)
        match node.op:
            case ast.Add():
                return bounded(left + right)
            case ast.Sub():
                return bounded(left - right)
            case ast.Mult():
                return bounded(left * right)
            case ast.Div():
                if right.is_zero:
                    raise self.wrong("a division by zero", "; look at the denominator")
                return bounded(left / right)
        return power(left, right)

    def _compare(self, node: ast.Compare) -> sp.Basic:
        terms = [self.number(t) for t in (node.left, *node.comparators)]
        links = zip(node.ops, terms, terms[1:], strict=False)
        return sp.And(*(relation(COMPARISONS[type(op)], left, right) for op, left, right in links))

    def _boolop(self, node: ast.BoolOp) -> sp.Basic:
        join = sp.And if isinstance(node.op, ast.And) else sp.Or
        return join(*(self.condition(v) for v in node.values))

    def _ifexp(self, node: ast.IfExp) -> sp.Expr:
        return where(self.condition(node.test), self.number(node.body), self.number(node.orelse))

    def _call(self, node: ast.Call) -> sp.Expr:
        assert isinstance(node.func, ast.Name)  # as the whitelist has it
        name = node.func.id
        first = node.args[0] if node.args else None
        if name in OVER and isinstance(first, ast.Name) and first.id in self.names.extents:
            return self._contraction(name, node.args)
        if self.names.units and name in OVER_UNITS and len(node.args) == 1:
            return self.counted(OVER_UNITS[name](self.number(node.args[0])))
        if name not in FUNCTIONS:
            known = {*FUNCTIONS, *OVER} if self.names.extents else set(FUNCTIONS)
            raise self.wrong(f"the function '{name}'", f" is not known. {nearest(name, known)}")
        count, function = FUNCTIONS[name]
        if name in ("min", "max") and len(node.args) > 2:
            result = self.number(node.args[0])
            for argument in node.args[1:]:
                result = bounded(function(result, self.number(argument)))
            return result
        if len(node.args) != count:
            raise self.wrong(f"{name}() has {len(node.args)} arguments", f"; it takes {count}")
        if name == "where":
            condition, then, otherwise = node.args
            return bounded(where(self.condition(condition), self.number(then), self.number(otherwise)))
        return applied(function, tuple(self.number(a) for a in node.args))

    def _contraction(self, name: str, arguments: list[ast.expr]) -> sp.Expr:
        *bound, body = arguments
        symbols = []
        for b in bound:
            if not isinstance(b, ast.Name) or b.id not in self.names.extents:
                what = f"'{b.id}'" if isinstance(b, ast.Name) else "what stands"
                raise self.wrong(f"{what} under {name}() is not an index", "; declare it in indices")
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
            return self.counted(result)
        total = sp.Sum(result, *((s, 0, e - 1) for s, e in zip(symbols, extents, strict=True)))
        return self.counted(total / sp.prod(extents) if name == "mean" else total)

    def counted(self, result: sp.Expr) -> sp.Expr:
        """A sum or maximum, if there are not too many of them in one another and in the whole formula."""
        self.contractions += 1
        inside = sum(isinstance(e, COUNTED) for e in sp.preorder_traversal(bounded(result)))
        if max(inside, self.contractions) > MOST_CONTRACTIONS:
            problem = f"there are more than {MOST_CONTRACTIONS} sums and maxima"
            raise self.wrong(problem, "; give some of them equations of their own")
        return result


def _is_minus(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)

"""Bring a program into the form that deriving and generating rely on. Every step keeps every value.

Normal form: an equation is free of contractions, or is `rest + c*contraction` with c a number; what stands under a sum
is a product of elements, or something that depends on every index of the loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from .functions import CONTRACTIONS, ArgMaxOver, MaxOver
from .language import Equation, Index, Kind, Program, elements, is_index

SUFFIX = {sp.Sum: "sum", MaxOver: "max", ArgMaxOver: "argmax"}


def normalise(program: Program) -> Program:
    """Give every contraction, and every costly factor under one, an equation of its own.

    before   p[n,i] = exp(z[n,i])/Sum(exp(z[n,j]), j)
    after    p_sum[n] = Sum(exp(z[n,j]), j);   p[n,i] = exp(z[n,i])/p_sum[n]
    """
    taken = set(program.by_name)
    equations: list[Equation] = []
    for equation in program.equations:
        equations += _split(equation, taken)
    return program.with_equations(equations)


def unique(name: str, taken: set[str]) -> str:
    """A name not taken yet, which then is."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}{number}", number + 1
    taken.add(candidate)
    return candidate


def _split(equation: Equation, taken: set[str]) -> list[Equation]:
    extents = {i.symbol: i for i in equation.indices}
    before: list[Equation] = []

    def named(expr: sp.Expr, suffix: str, inside: dict[sp.Symbol, Index], kind: Kind = Kind.REAL) -> sp.Expr:
        """A new equation for an expression, read back at the same position."""
        free = free_indices(expr)
        indices = tuple(i for s, i in inside.items() if s in free)
        name = unique(f"{equation.name}_{suffix}", taken)
        before.append(Equation(name, indices, expr, equation.rule, kind))
        return before[-1].element

    def visit(expr: sp.Expr, inside: dict[sp.Symbol, Index], top: bool) -> sp.Expr:
        if not expr.has(*CONTRACTIONS):
            return expr
        if isinstance(expr, CONTRACTIONS):
            bound = {s: Index(s, high + 1) for s, _, high in expr.limits}
            within = inside | bound
            body = visit(expr.function, within, top=False)
            if isinstance(expr, MaxOver):
                for limit in expr.limits[:-1]:  # the innermost index first, each maximum with a name
                    within = {s: i for s, i in within.items() if s != limit[0]}
                    body = named(MaxOver(body, limit), "max", within)
                expr = MaxOver(body, expr.limits[-1])
            if isinstance(expr, sp.Sum):
                body = _factors_named(body, within, set(bound), named)
            result = expr.func(body, *expr.limits)
            kind = Kind.INTEGER if isinstance(expr, ArgMaxOver) else Kind.REAL
            return result if top else named(result, SUFFIX[type(expr)], inside, kind)
        if top and isinstance(expr, sp.Add):
            return _visit_sum(expr, inside, visit)
        if top and isinstance(expr, sp.Mul):
            numbers = [a for a in expr.args if not elements(a) and not free_indices(a)]
            others = [a for a in expr.args if a not in numbers]
            if len(others) == 1:
                return sp.Mul(*numbers, visit(others[0], inside, top=True), evaluate=not isinstance(others[0], sp.Add))
        return expr.func(*(visit(a, inside, top=False) for a in expr.args))

    expr = visit(_fresh_bounds(equation), extents, top=True)
    return [
        *before,
        Equation(equation.name, equation.indices, expr, equation.rule, equation.kind, equation.constant),
    ]


def _visit_sum(expr: sp.Add, inside: dict[sp.Symbol, Index], visit) -> sp.Expr:  # type: ignore[no-untyped-def]
    """Of several terms with contractions the last one keeps its place, the others get names."""
    holding = [a for a in expr.args if a.has(*CONTRACTIONS)]
    return sp.Add(*(visit(a, inside, top=a is holding[-1]) for a in expr.args))


def _factors_named(body: sp.Expr, within: dict[sp.Symbol, Index], bound: set[sp.Symbol], named) -> sp.Expr:  # type: ignore[no-untyped-def]
    """A factor under a sum that is not a plain element, and does not need every index of the loop, gets a name."""
    factors = list(sp.Mul.make_args(body))
    if len(factors) < 2:
        return body
    everything = free_indices(body)
    kept = []
    for factor in factors:
        free = free_indices(factor)
        plain = isinstance(factor, sp.Indexed) or not elements(factor) or factor.has(sp.KroneckerDelta)
        kept.append(factor if plain or free == everything or not free & bound else named(factor, "factor", within))
    return sp.Mul(*kept)


def _fresh_bounds(equation: Equation) -> sp.Expr:
    """Rename bound indices that two contractions share, so that nested names never meet."""
    seen = {i.symbol for i in equation.indices}
    everywhere = equation.expr.atoms(sp.Symbol)  # also those bound further inside

    def visit(expr: sp.Basic) -> sp.Basic:
        if not expr.has(*CONTRACTIONS):
            return expr
        if isinstance(expr, CONTRACTIONS):
            renaming = {}
            for symbol, _, _ in expr.limits:
                if symbol in seen:
                    renaming[symbol] = _other_name(symbol, seen | everywhere)
                seen.add(renaming.get(symbol, symbol))
            body = visit(expr.function.xreplace(renaming))
            limits = [(renaming.get(s, s), low, high) for s, low, high in expr.limits]
            return expr.func(body, *limits)
        return expr.func(*(visit(a) for a in expr.args))

    return visit(equation.expr)


def _other_name(symbol: sp.Symbol, taken: Iterable[sp.Symbol]) -> sp.Symbol:
    names = {s.name for s in taken}
    for name in index_names(symbol.name):
        if name not in names:
            return sp.Symbol(name, integer=True, nonnegative=True)
    raise AssertionError("index names never end")


def index_names(first: str) -> Iterable[str]:
    """Names for indices, the given one first, then the letters used for indices, then numbered ones."""
    yield first
    yield from (letter for letter in "ijklpqrstuv" if letter != first)
    number = 1
    while True:
        yield f"{first}{number}"
        number += 1


def free_indices(expr: sp.Basic) -> set[sp.Symbol]:
    """Index variables (not extents) that stand free in an expression."""
    return {s for s in expr.free_symbols if is_index(s) and not s.is_positive}  # labels of tensors are no indices

"""Kronecker deltas under sums: Sum_j delta(j, e) g(j) -> g(e).

SymPy's derivative of an element of a tensor by another is a product of Kronecker deltas. A derivative is linear in
them, so it is first taken apart into `Term`s (deltas, bound indices, coefficient); then each delta that holds an index
which is summed over fixes that index. Where the index is not fixed to another one of the same range, its range
becomes a guard: the sum over p of delta(r + p, s) g(p) is g(s - r), but only for 0 <= s - r < P.
A delta that fixes nothing (a look-up: delta(token[n], a)) stays as a factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

import sympy as sp

from .bounds import expanded
from .errors import InternalError
from .functions import CONTRACTIONS
from .language import Index

_fresh = count()


@dataclass(frozen=True)
class Term:
    """Sum over `bound` of coefficient * product of deltas; the coefficient holds no delta."""

    deltas: frozenset[sp.KroneckerDelta]
    bound: tuple[Index, ...]
    coefficient: sp.Expr


def fresh(symbol: sp.Symbol) -> sp.Symbol:
    """An index that occurs nowhere else."""
    return sp.Symbol(f"{symbol.name}__{next(_fresh)}", integer=True, nonnegative=True)


def terms(expr: sp.Expr) -> list[Term]:
    """Take a derivative apart by its deltas, expanding no more than stands around them.

    before   c*Sum(delta(i,a)*delta(j,b)*x[n,j], j)
    after    [Term({delta(i,a), delta(j',b)}, (j',), c*x[n,j'])]
    """
    if not expr.has(sp.KroneckerDelta, *CONTRACTIONS):
        return [Term(frozenset(), (), expr)] if expr != 0 else []
    if isinstance(expr, sp.KroneckerDelta):
        return [Term(frozenset({expr}), (), sp.Integer(1))]
    if isinstance(expr, sp.Add):
        return merged(t for a in expr.args for t in terms(a))
    if isinstance(expr, sp.Mul):
        return _product(expr)
    if isinstance(expr, sp.Sum):
        return _sum(expr)
    if isinstance(expr, sp.Piecewise):
        return _piecewise(expr)
    if not expr.has(sp.KroneckerDelta):
        return [Term(frozenset(), (), expr)]
    raise InternalError(f"a Kronecker delta inside {expr.func.__name__}: a derivative that is not linear in them")


def merged(parts: Iterable[Term]) -> list[Term]:
    """Add the coefficients of terms with the same deltas and no bound index."""
    plain: dict[frozenset[sp.KroneckerDelta], list[sp.Expr]] = {}
    others: list[Term] = []
    for term in parts:
        if term.bound:
            others.append(term)
        else:
            plain.setdefault(term.deltas, []).append(term.coefficient)
    together = [Term(d, (), sp.Add(*c)) for d, c in plain.items()]
    return [t for t in together if t.coefficient != 0] + others


def _product(expr: sp.Mul) -> list[Term]:
    plain = sp.Mul(*(a for a in expr.args if not a.has(sp.KroneckerDelta, *CONTRACTIONS)))
    result = [Term(frozenset(), (), plain)]
    for factor in (a for a in expr.args if a.has(sp.KroneckerDelta, *CONTRACTIONS)):
        result = [
            Term(s.deltas | t.deltas, s.bound + t.bound, s.coefficient * t.coefficient)
            for s in result
            for t in terms(factor)
        ]
    return result


def _sum(expr: sp.Sum) -> list[Term]:
    renaming = {symbol: fresh(symbol) for symbol, _, _ in expr.limits}
    bound = tuple(Index(renaming[symbol], high + 1) for symbol, _, high in expr.limits)
    body = expr.function.xreplace(renaming)
    return [Term(t.deltas, bound + t.bound, t.coefficient) for t in terms(body)]


def _piecewise(expr: sp.Piecewise) -> list[Term]:
    """Each set of deltas gets the branches' coefficients; a delta in no branch leaves a zero there."""
    branches = [(terms(e), condition) for e, condition in expr.args]
    if any(t.bound for ts, _ in branches for t in ts):
        return _indicators(branches)
    keys = dict.fromkeys(t.deltas for ts, _ in branches for t in ts)
    return [
        Term(
            key,
            (),
            sp.Piecewise(*((sp.Add(*(t.coefficient for t in ts if t.deltas == key)), c) for ts, c in branches)),
        )
        for key in keys
    ]


def _indicators(branches: list[tuple[list[Term], sp.Basic]]) -> list[Term]:
    """Branches with sums in them: each becomes a term times its own condition."""
    result: list[Term] = []
    before: sp.Basic = sp.true
    for ts, condition in branches:
        here = sp.And(before, condition)
        result += [Term(t.deltas, t.bound, sp.Piecewise((t.coefficient, here), (0, True))) for t in ts]
        before = sp.And(before, sp.Not(condition))
    return result


def contract(term: Term, extents: Mapping[sp.Symbol, sp.Expr], sizes: Mapping[sp.Symbol, int] | None = None) -> sp.Expr:
    """Sum over the bound indices of a term, with every delta resolved that fixes one of them.

    `extents` holds the extents of the free indices, by which it is known where a guard can be left out; `sizes` binds
    symbols of extents to numbers, so that two extents of the same size count as the same.
    """
    numbers = {k: sp.Integer(v) for k, v in (sizes or {}).items()}
    extents = {s: e.xreplace(numbers) for s, e in extents.items()}
    own = {i.symbol: i.extent for i in term.bound}
    bound = {s: e.xreplace(numbers) for s, e in own.items()}
    deltas = sorted(term.deltas, key=sp.default_sort_key)
    coefficient, guards = term.coefficient, []
    while True:
        found = _solvable(deltas, bound, extents)
        if found is None:
            break
        position, symbol, solution = found
        del deltas[position]
        limit, own_limit = bound.pop(symbol), own.pop(symbol)
        if not _same_range(solution, limit, {**extents, **bound}):
            guards += [sp.Ge(solution, 0), sp.Lt(solution, own_limit)]
        replacement = {symbol: solution}
        coefficient = coefficient.xreplace(replacement)
        deltas = [d.xreplace(replacement) for d in deltas]
        guards = [g.xreplace(replacement) for g in guards]
        if any(d == 0 for d in deltas):
            return sp.Integer(0)
        deltas = [d for d in deltas if d != 1]
    return _assembled(coefficient, deltas, guards, own)


def _solvable(
    deltas: list[sp.Expr], bound: Mapping[sp.Symbol, sp.Expr], extents: Mapping[sp.Symbol, sp.Expr]
) -> tuple[int, sp.Symbol, sp.Expr] | None:
    """The next delta to resolve, the index it fixes and to what; those that need no guard come first."""
    candidates = []
    for position, delta in enumerate(deltas):
        difference = delta.args[0] - delta.args[1]
        for symbol in sorted(difference.free_symbols & set(bound), key=lambda s: s.name):
            slope = difference.coeff(symbol, 1)
            rest = expanded(difference - slope * symbol)
            if slope in (1, -1) and not rest.has(symbol):
                solution = expanded(-rest / slope)
                plain = _same_range(solution, bound[symbol], {**extents, **bound})
                candidates.append((not plain, position, symbol.name, symbol, solution))
    if not candidates:
        return None
    _, position, _, symbol, solution = min(candidates, key=lambda c: c[:3])
    return position, symbol, solution


def _same_range(solution: sp.Expr, limit: sp.Expr, extents: Mapping[sp.Symbol, sp.Expr]) -> bool:
    """Whether an index is certain to stay in its range: another index of the same extent, or a looked-up one."""
    if isinstance(solution, sp.Symbol):
        return extents.get(solution) == limit
    return isinstance(solution, sp.Indexed)


def _assembled(
    coefficient: sp.Expr, deltas: list[sp.Expr], guards: list[sp.Basic], bound: Mapping[sp.Symbol, sp.Expr]
) -> sp.Expr:
    body = coefficient * sp.Mul(*deltas)
    condition = sp.And(*guards)
    if condition != sp.true:
        body = sp.Piecewise((body, condition), (0, True))
    if not bound or body == 0:
        return body
    inside: list[sp.Expr] = []
    outside: list[sp.Expr] = []
    factors = sp.Mul.make_args(body)
    for factor in factors:
        (inside if factor.free_symbols & set(bound) else outside).append(factor)
    limits = [(symbol, sp.Integer(0), limit - 1) for symbol, limit in bound.items()]
    unused = [lim for lim in limits if not any(f.free_symbols & {lim[0]} for f in inside)]
    used = [lim for lim in limits if lim not in unused]
    repeated = sp.Mul(*(high + 1 for _, _, high in unused))
    return sp.Mul(*outside, repeated) * (sp.Sum(sp.Mul(*inside), *used) if used else sp.Mul(*inside))

"""Rewrites of a derived program: nothing computed twice, nothing written longer than it must be. Values are kept.

Each pass is a pure function `Derived -> Derived`, stated by before and after. A test proves each one: the interpreter
finds the same values before and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import sympy as sp

from .bounds import terms_of
from .check import index_of
from .derive import Derived
from .functions import CONTRACTIONS, expm1, log1p, sigmoid, softplus
from .language import Equation, Index, Kind, elements, name_of, where_of
from .limits import MOST_TERMS
from .normalise import free_indices, unique
from .stability import stable_values

COSTLY = (
    sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.asin, sp.acos, sp.atan, sp.asinh, sp.acosh,
    sp.atanh, sp.erf, sp.erfc, expm1, log1p, sigmoid, softplus,
)  # fmt: skip


LIMITED = (sp.log, log1p, sp.asin, sp.acos, sp.acosh, sp.atanh)  # they have no value everywhere


def constants_inlined(derived: Derived) -> Derived:
    """An adjoint that reads nothing, or is a copy, is written where it is read.

    before   dl[n] = 1/N;   dz[n,i] = dl[n] (a[n,i] - y[n,i])
    after    dz[n,i] = (a[n,i] - y[n,i])/N
    """
    outputs = set(derived.program.outputs)

    def fits(e: Equation) -> bool:
        constant = not elements(e.expr) and not free_indices(e.expr)
        return e.name not in outputs and (constant or e.expr in elements(e.expr))

    return _inlined(derived, fits)


def single_uses_inlined(derived: Derived) -> Derived:
    """An adjoint that is read once, elementwise, and holds arithmetic only, is written where it is read.

    before   ds[n] = dl[n]/s[n];   dz[n,i] = ds[n] exp(z[n,i] - m[n]) + ...
    after    dz[n,i] = dl[n] exp(z[n,i] - m[n])/s[n] + ...             (so that `outputs_reused` finds the softmax)
    """
    outputs = set(derived.program.outputs)
    readers: dict[str, list[Equation]] = defaultdict(list)
    for equation in derived.backward:
        for name in equation.reads:
            readers[name].append(equation)

    def fits(e: Equation) -> bool:
        if e.name in outputs or e.contraction is not None or e.expr.has(*COSTLY) or len(readers[e.name]) != 1:
            return False
        (reader,) = readers[e.name]
        under = reader.contraction
        return under is None or e.name not in {name_of(r) for r in elements(under)}

    return _inlined(derived, fits)


def _inlined(derived: Derived, fits: Callable[[Equation], bool]) -> Derived:
    """Write the right sides of fitting backward equations where they are read; those equations go."""
    gone: dict[str, Equation] = {}
    backward: list[Equation] = []
    for equation in derived.backward:
        expr = equation.expr
        if any(name in gone for name in equation.reads):
            reads = {r: gone[name_of(r)] for r in elements(expr) if name_of(r) in gone}
            expr = expr.xreplace({r: _at(e, r) for r, e in reads.items()})
            equation = replace(equation, expr=expr)
        if fits(equation):
            gone[equation.name] = equation
        else:
            backward.append(equation)
    return derived.with_equations(derived.forward.equations, backward)


def _at(equation: Equation, read: sp.Expr) -> sp.Expr:
    """The right side of an equation at the position of a read."""
    return equation.expr.xreplace(dict(zip((i.symbol for i in equation.indices), where_of(read), strict=True)))


def logistic_complements(derived: Derived) -> Derived:
    """sigmoid(-u) beside sigmoid(u) is 1 - sigmoid(u), where that makes the equation shorter.

    before   sigmoid(z) (1 - y) - sigmoid(-z) y
    after    sigmoid(z) - y
    """

    def shorter(equation: Equation) -> Equation:
        logistics = equation.expr.atoms(sigmoid)
        mirrored = {s: 1 - sigmoid(-s.args[0]) for s in logistics if sigmoid(-s.args[0]) in logistics
                    and s.args[0].could_extract_minus_sign()}  # fmt: skip
        other = equation.expr.xreplace(mirrored)
        if not mirrored or terms_of(other) > MOST_TERMS:
            return equation
        expr = factored(sp.expand(other))
        linear = all(sp.degree(expr, s) <= 1 for s in expr.atoms(sigmoid)) if not expr.has(sp.Piecewise) else False
        return replace(equation, expr=expr) if linear and expr.count_ops() < equation.expr.count_ops() else equation

    return derived.with_equations(derived.forward.equations, map(shorter, derived.backward))


def outputs_reused(derived: Derived) -> Derived:
    """Read the stored result of the forward pass instead of computing it again.

    before   dz[n,i] = da[n,i] (1 - tanh(z[n,i])^2)
    after    dz[n,i] = da[n,i] (1 - a[n,i]^2)                       where a = tanh(z) is stored
    Where a is c f + d of one costly f, f is (a - d)/c: exp(z) is a + 1 where a = expm1(z), also in branches (elu).
    """
    by_read: dict[str, list[Equation]] = defaultdict(list)
    for equation in derived.forward.equations:
        if equation.contraction is None and equation.kind is Kind.REAL and equation.expr.has(*COSTLY):
            for name in equation.reads:
                by_read[name].append(equation)

    def reusing(equation: Equation) -> Equation:
        expr = equation.expr
        if not expr.has(*COSTLY):
            return equation
        for stored in dict.fromkeys(e for name in equation.reads for e in by_read.get(name, ())):
            if set(stored.reads) <= set(equation.reads):
                expr = _reused(expr, stored)
        return equation if expr == equation.expr else replace(equation, expr=expr)

    return derived.with_equations(derived.forward.equations, map(reusing, derived.backward))


def _reused(expr: sp.Expr, stored: Equation) -> sp.Expr:
    for renaming in _alignments(expr, stored):
        value = stored.element.xreplace(renaming)
        formula = stored.expr.xreplace(renaming)
        if isinstance(formula, sp.Piecewise):
            expr = _reused_in_branches(expr, formula, value)
            continue
        expr = _product_replaced(expr, formula, value)
        expr = expr.xreplace(_solved(formula, value))
    return expr


def _alignments(expr: sp.Expr, stored: Equation) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """How the indices of a stored equation can stand in an expression: by the reads that both have."""
    symbols = [i.symbol for i in stored.indices]
    anchors = [r for r in sorted(elements(stored.expr), key=str) if set(symbols) <= set(where_of(r))]
    if not anchors:
        return
    anchor = anchors[0]
    seen = []
    for read in sorted(elements(expr), key=str):
        if name_of(read) == name_of(anchor):
            at = dict(zip(where_of(anchor), where_of(read), strict=True))
            renaming = {s: at[s] for s in symbols}
            if renaming not in seen and all(isinstance(a, sp.Symbol) or a == at[a] for a in where_of(anchor)):
                seen.append(renaming)
                yield renaming


def _product_replaced(expr: sp.Expr, formula: sp.Expr, value: sp.Expr) -> sp.Expr:
    """Replace a formula, also where it is some of the factors of a product."""
    wanted = sp.Mul.make_args(formula)

    def visit(node: sp.Basic) -> sp.Basic:
        if node == formula:
            return value
        if isinstance(node, sp.Indexed) or not node.args:
            return node
        if isinstance(node, sp.Mul) and len(wanted) > 1 and set(wanted) <= set(node.args):
            return sp.Mul(value, *(visit(a) for a in node.args if a not in wanted))
        return node.func(*(visit(a) for a in node.args))

    return visit(expr) if expr.has(*wanted[-1:]) else expr


def _solved(formula: sp.Expr, value: sp.Expr) -> dict[sp.Basic, sp.Expr]:
    """A costly function in terms of the value c*f + d that it stands in; exp and expm1 stand for one another."""
    number, rest = formula.as_coeff_Add()
    c, function = rest.as_coeff_Mul()
    if not isinstance(function, COSTLY):
        return {}
    solution = (value - number) / c
    if isinstance(function, sp.exp):
        return {function: solution}
    if isinstance(function, expm1):
        return {function: solution, sp.exp(function.args[0]): solution + 1}
    return {function: solution}


def _reused_in_branches(expr: sp.Expr, formula: sp.Piecewise, value: sp.Expr) -> sp.Expr:
    """In a Piecewise with the same conditions each branch may reuse the value that its twin stored."""
    conditions = [c for _, c in formula.args]

    def visit(node: sp.Basic) -> sp.Basic:
        if isinstance(node, sp.Piecewise) and [c for _, c in node.args] == conditions:
            return sp.Piecewise(
                *((g.xreplace(_solved(f, value)), c) for (g, c), (f, _) in zip(node.args, formula.args, strict=True))
            )
        if isinstance(node, sp.Indexed) or not node.args:
            return node
        return node.func(*(visit(a) for a in node.args))

    return visit(expr)


def functions_shared(derived: Derived) -> Derived:
    """A costly function of the same elements that several equations need is computed once.

    before   a[n,i] = z[n,i] tanh(softplus(z[n,i]));   dz[n,i] = da[n,i] (tanh(softplus(z[n,i])) + ...)
    after    tanh_z[n,i] = tanh(softplus(z[n,i]))
             a[n,i] = z[n,i] tanh_z[n,i];              dz[n,i] = da[n,i] (tanh_z[n,i] + ...)
    """
    equations = list(derived.program.equations)
    users: dict[sp.Expr, dict[str, Equation]] = defaultdict(dict)
    for equation in equations:
        for call in _shareable(equation.expr):
            users[_canonical(call)][equation.name] = equation
    worth = [c for c, where in users.items() if len(where) > 1]
    # a function inside a shared one is shared only if it is needed elsewhere as well
    worth = [
        c
        for c in worth
        if not any(c != o and o.has(c.func) and _inside(c, o) and set(users[c]) <= set(users[o]) for o in worth)
    ]
    if not worth:
        return derived
    taken = set(derived.program.by_name)
    forward_names = {e.name for e in derived.forward.equations}
    made: dict[sp.Expr, Equation] = {}
    result: list[Equation] = []
    for equation in equations:
        calls = sorted(
            (c for c in _shareable(equation.expr) if _canonical(c) in worth),
            key=sp.count_ops,
            reverse=True,
        )
        for call in calls:
            key = _canonical(call)
            if not equation.expr.has(call):
                continue
            if key not in made:
                made[key] = _shared_equation(call, equation, taken)
                if equation.name in forward_names:
                    forward_names.add(made[key].name)
                result.append(made[key])
            stored = made[key]
            read = stored.element.xreplace(dict(zip(_order(stored.expr), _order(call), strict=True)))
            equation = replace(equation, expr=equation.expr.xreplace({call: read}))
        result.append(equation)
    forward = [e for e in result if e.name in forward_names]
    return derived.with_equations(forward, [e for e in result if e.name not in forward_names])


def _shareable(expr: sp.Expr) -> set[sp.Expr]:
    """Costly calls that may stand apart; with a limited domain they stay in their branch."""
    guarded = {c for p in expr.atoms(sp.Piecewise) for c in p.atoms(*LIMITED)}
    return {c for c in expr.atoms(*COSTLY) if elements(c) and not c.atoms(*LIMITED) & guarded}


def _inside(inner: sp.Expr, outer: sp.Expr) -> bool:
    return any(_canonical(c) == inner for c in outer.atoms(inner.func))


def _shared_equation(call: sp.Expr, user: Equation, taken: set[str]) -> Equation:
    free = free_indices(call)
    order = [s for s in (*(i.symbol for i in user.indices), *_order(call)) if s in free]
    indices: tuple[Index, ...] = tuple(index_of(s, user) for s in dict.fromkeys(order))
    largest = max(elements(call), key=lambda r: (len(where_of(r)), name_of(r)))
    name = unique(f"{call.func.__name__}_{name_of(largest)}", taken)
    return Equation(name, indices, call, f"shared with {user.name}")


def _order(call: sp.Expr) -> list[sp.Symbol]:
    """The free indices of an expression in an order that does not depend on their names."""
    found: dict[sp.Symbol, None] = {}
    for read in sorted(
        elements(call), key=lambda r: (name_of(r), len(where_of(r)), [str(_shape(w)) for w in where_of(r)])
    ):
        for where in where_of(read):
            for symbol in sorted(free_indices(where), key=str):
                found.setdefault(symbol)
    for symbol in sorted(free_indices(call), key=str):
        found.setdefault(symbol)
    return list(found)


def _shape(where: sp.Expr) -> sp.Expr:
    return where.xreplace({s: sp.Symbol("_", integer=True, nonnegative=True) for s in free_indices(where)})


def _canonical(call: sp.Expr) -> sp.Expr:
    """The expression with its free indices renamed to 0', 1', ... in their order."""
    renaming = {s: sp.Symbol(f"{k}'", integer=True, nonnegative=True) for k, s in enumerate(_order(call))}
    return call.xreplace(renaming)


def values_stabilised(derived: Derived) -> Derived:
    """The rules of `stability` on what deriving made, and those that would have been in its way (log cosh)."""
    return derived.with_equations(map(stable_values, derived.forward.equations), map(stable_values, derived.backward))


def common_factors_out(derived: Derived) -> Derived:
    """a/N - b/N is written (a - b)/N, and a sum's common factors stand in front."""
    return derived.with_equations(
        derived.forward.equations, (replace(e, expr=factored(e.expr)) for e in derived.backward)
    )


def factored(expr: sp.Expr) -> sp.Expr:
    """Common factors of the terms of every sum in front of it; numbers only where they are the same in all terms."""
    if not expr.has(sp.Add) or expr.has(*CONTRACTIONS):
        return expr

    def visit(node: sp.Basic) -> sp.Basic:
        if isinstance(node, sp.Indexed) or not node.args:
            return node
        node = node.func(*(visit(a) for a in node.args))
        return _common_out(node) if isinstance(node, sp.Add) else node

    return visit(expr)


def _common_out(total: sp.Add) -> sp.Expr:
    terms = [t.as_coeff_Mul() for t in total.args]
    numbers = [abs(c) for c, _ in terms]
    number = numbers[0] if len(set(numbers)) == 1 else sp.Integer(1)
    common = set(sp.Mul.make_args(terms[0][1]))
    for _, rest in terms[1:]:
        common &= set(sp.Mul.make_args(rest))
    common.discard(sp.Integer(1))
    if number == 1 and not common:
        return total
    inner = sp.Add(*(sp.Mul(c / number, *(f for f in sp.Mul.make_args(rest) if f not in common)) for c, rest in terms))
    return (
        sp.Mul(number, *common, inner, evaluate=False)
        if number != 1 and not common
        else sp.Mul(number, *common) * inner
    )


PASSES = (
    constants_inlined,  # first: dL/dl = 1/N would hide the loss's shape from all others
    single_uses_inlined,  # brings exp(z - m) and its sum together again
    logistic_complements,  # before sigmoid(z) gets the name that it has in the forward pass
    outputs_reused,  # before sharing, which would store a second time what is stored
    values_stabilised,  # after deriving, because log(cosh(u)) has the better derivative; before its parts get names
    functions_shared,
    common_factors_out,  # last: only looks
)


def tidied(derived: Derived, passes: Iterable[Callable[[Derived], Derived]] = PASSES) -> Derived:
    for each in passes:
        derived = each(derived)
    return derived

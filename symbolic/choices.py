"""Choices as Piecewise: maxima of two, where, clip, and the conditions under which they choose.

A condition never holds a choice: one that compares choices is written out, case by case, before SymPy sees it. SymPy
would solve inequalities to do so, which takes anything from a millisecond to for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import sympy as sp

from .errors import SpecError
from .functions import CONTRACTIONS
from .limits import MOST_CASES, MOST_CHOICES, MOST_PARTS

Case = tuple[sp.Expr, sp.Basic]  # a value, and the condition under which it is the value
CANCELLED: Final = sp.Float("1e-60")
ADVICE: Final = "name some of its parts in equations of their own"


def larger(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """max(a, b), with the slope of the constant (or of b) where they are equal; NaN stays NaN."""
    if a.is_number and not b.is_number:
        a, b = b, a
    return sp.Max(a, b) if a.is_number and b.is_number else where(relation(sp.Le, a, b), b, a)


def as_larger(expr: sp.Basic) -> tuple[sp.Expr, sp.Expr] | None:
    """(least, other) of what `larger` made of a number and another expression; None of anything else.

    >>> as_larger(larger(sp.Symbol("z", real=True), sp.Integer(0)))
    (0, z)
    """
    if not isinstance(expr, sp.Piecewise) or len(expr.args) != 2:
        return None
    (least, condition), (other, rest) = expr.args
    found = rest == sp.true and least.is_number and condition == sp.Le(other, least)
    return (least, other) if found else None


def smaller(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """min(a, b), the mirror image of `larger`."""
    if a.is_number and not b.is_number:
        a, b = b, a
    return sp.Min(a, b) if a.is_number and b.is_number else where(relation(sp.Ge, a, b), b, a)


def where(condition: sp.Basic, then: sp.Expr, otherwise: sp.Expr) -> sp.Expr:
    """The first value where the condition holds, else the second."""
    check_choices((then, otherwise))
    return sp.Piecewise((then, condition), (otherwise, True))


def clip(z: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    """z held between two bounds; the slope is 0 at both."""
    check_choices((low, high, z))
    return sp.Piecewise((low, relation(sp.Le, z, low)), (high, relation(sp.Ge, z, high)), (z, True))


def heaviside(z: sp.Expr) -> sp.Expr:
    """1 above 0, else 0."""
    return where(relation(sp.Le, z, sp.Integer(0)), sp.Integer(0), sp.Integer(1))


def relation(compare: Callable[..., sp.Basic], left: sp.Expr, right: sp.Expr) -> sp.Basic:
    """A comparison, with the choices on both sides written out.

    >>> z = sp.Symbol("z", real=True)
    >>> relation(sp.Gt, larger(z, sp.Integer(0)), sp.Integer(1))
    (z > 0) & (z > 1)
    """
    if left.is_number and right.is_number:
        return compare_numbers(compare, left, right)
    if not (left.has(sp.Piecewise) or right.has(sp.Piecewise)):
        return compare(left, right)
    if leaves(left) * leaves(right) > MOST_CASES:
        raise SpecError(f"a condition compares choices with more than {MOST_CASES} cases; {ADVICE}")
    if leaves(left) * leaves(right) * (parts(left) + parts(right)) > MOST_PARTS:
        raise SpecError(f"a condition on choices comes to more than {MOST_PARTS} parts; {ADVICE}")
    return sp.Or(
        *(sp.And(here, there, relation(compare, a, b)) for a, here in cases(left) for b, there in cases(right))
    )


def compare_numbers(compare: Callable[..., sp.Basic], left: sp.Expr, right: sp.Expr) -> sp.Basic:
    """A comparison of constants, by their first digits: SymPy would prove it, however long that takes."""
    difference = left - right
    if not difference.is_Rational:
        if vanishes(difference, (left, right)):
            raise SpecError("a condition compares two constants that agree to 60 digits; write what it comes to")
        difference = sp.N(difference, 15)
    return compare(difference, sp.Integer(0))


def vanishes(total: sp.Expr, terms: Iterable[sp.Expr]) -> bool:
    """Whether the terms of a constant cancel to 60 digits: to tell whether it is 0, SymPy would have to prove it."""
    size = sum(abs(sp.N(term, 15)) for term in terms)
    return bool(abs(sp.N(total, 15)) <= CANCELLED * size)


def cases(expr: sp.Expr) -> list[Case]:
    """The values of an expression without its choices, and when it has them.

    >>> z = sp.Symbol("z", real=True)
    >>> cases(1 + larger(z, sp.Integer(0)))
    [(1, z <= 0), (z + 1, z > 0)]
    """
    choices = outermost_choices(expr)
    if not choices:
        return [(expr, sp.true)]
    found: list[Case] = []
    before: sp.Basic = sp.true
    for value, condition in choices[0].args:
        here = sp.And(before, condition)
        found += [(v, sp.And(here, c)) for v, c in cases(expr.xreplace({choices[0]: value}))]
        before = sp.And(before, sp.Not(condition))
    return [(value, condition) for value, condition in found if condition != sp.false]


def outermost_choices(expr: sp.Basic) -> list[Any]:
    """The Piecewise in an expression that stand in no other one."""
    if isinstance(expr, sp.Piecewise):
        return [expr]
    if isinstance(expr, CONTRACTIONS) and expr.has(sp.Piecewise):
        raise SpecError(f"a condition on a {expr.func.__name__} of choices; give that an equation of its own")
    return [choice for a in expr.args if a.has(sp.Piecewise) for choice in outermost_choices(a)]


def leaves(expr: sp.Basic) -> int:
    """How many cases an expression has, if its choices are written out."""
    if not expr.has(sp.Piecewise):
        return 1
    if isinstance(expr, sp.Piecewise):
        return sum(leaves(value) for value, _ in expr.args)
    count = 1
    for a in expr.args:
        count *= leaves(a)
    return count


def branches(expr: sp.Basic) -> int:
    """How many branches the choices in an expression have in all."""
    return sum(len(p.args) for p in sp.preorder_traversal(expr) if isinstance(p, sp.Piecewise))


def check_choices(values: tuple[sp.Expr, ...]) -> None:
    """Refuse a choice whose values hold too many choices already."""
    if sum(map(branches, values)) + len(values) > MOST_CHOICES:
        raise SpecError(f"choices with more than {MOST_CHOICES} branches in one another; {ADVICE}")
    if 2 * sum(map(parts, values)) > MOST_PARTS:
        raise SpecError(f"a choice comes to more than {MOST_PARTS} parts; {ADVICE}")


def parts(expr: sp.Basic) -> int:
    """The size of an expression, with what stands in it twice counted twice."""
    return sum(1 for _ in sp.preorder_traversal(expr))

"""Do all reads stay inside their tensors? A kernel would read foreign memory where one does not.

For a position that is affine in indices the smallest and the largest value follow from the indices' ranges. Where they
leave the tensor, a condition around the read must keep it inside: `where(i + k >= 0 and i + k < 8, x[n,i+k], 0)`.
A position that is looked up in an integer input (`E[token[n]]`) is checked with the data; one that was found by a
maximum has that index's range; any other computed position needs a guard.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import sympy as sp

from .bounds import expanded
from .errors import SpecError
from .functions import CONTRACTIONS, ArgMaxOver
from .language import SAMPLES, Equation, Kind, Program, Tensor, is_index, name_of, where_of

MOST_CASES = 4_096

Range = tuple[sp.Expr, sp.Expr]


def check_positions(equation: Equation, known: Mapping[str, Tensor], program: Program, place: str) -> None:
    """Raise `SpecError` for the first read of an equation that may leave its tensor."""
    ranges = {i.symbol: i.extent for i in equation.indices}
    for read, bound, conditions in _reads(equation.expr, ranges, ()):
        tensor = known[name_of(read)]
        for position, index in zip(where_of(read), tensor.indices, strict=True):
            if not _inside(position, index.extent, bound, conditions, program):
                size = _number(index.extent, program)
                raise SpecError(
                    f"{place}: {read} may leave '{tensor.name}': the position {position} runs past 0..{size - 1}; "
                    f"change an extent, or guard it: where({position} >= 0 and {position} < {size}, ..., 0)"
                )


def _reads(
    node: sp.Basic, bound: Mapping[sp.Symbol, sp.Expr], conditions: tuple[sp.Basic, ...]
) -> Iterator[tuple[sp.Expr, Mapping[sp.Symbol, sp.Expr], tuple[sp.Basic, ...]]]:
    """Every read, with the indices that are bound there and the conditions under which it happens."""
    if isinstance(node, sp.Indexed):
        yield node, bound, conditions
        for position in node.indices:
            yield from _reads(position, bound, conditions)
    elif isinstance(node, CONTRACTIONS):
        inner = {**bound, **{symbol: high + 1 for symbol, _, high in node.limits}}
        yield from _reads(node.function, inner, conditions)
    elif isinstance(node, sp.Piecewise):
        before: tuple[sp.Basic, ...] = conditions
        for value, condition in node.args:
            yield from _reads(condition, bound, before)
            yield from _reads(value, bound, (*before, *sp.And.make_args(condition)))
            before = (*before, *sp.And.make_args(sp.Not(condition)))
    else:
        for argument in node.args:
            yield from _reads(argument, bound, conditions)


def _number(extent: sp.Expr, program: Program) -> sp.Expr:
    return expanded(extent.xreplace({k: sp.Integer(v) for k, v in program.sizes.items()}))


def _inside(
    position: sp.Expr, extent: sp.Expr, bound: Mapping[sp.Symbol, sp.Expr], conditions: tuple[sp.Basic, ...],
    program: Program,
) -> bool:  # fmt: skip
    if bound.get(position) == extent or _looked_up(position, program):
        return True
    numbers = {k: sp.Integer(v) for k, v in program.sizes.items()}
    ranges = {symbol: _number(e, program) for symbol, e in bound.items()}
    p, size = expanded(position.xreplace(numbers)), _number(extent, program)
    limits = _interval(p, ranges, program)
    known = [c.xreplace(numbers) for c in conditions]
    below = (limits is not None and limits[0].is_nonnegative is True) or _implied(p, known)
    above = (limits is not None and expanded(size - 1 - limits[1]).is_nonnegative is True) or _implied(
        expanded(size - 1 - p), known
    )
    if below and above:
        return True
    if limits is None:
        return False
    if not (limits[0].is_number and limits[1].is_number and size.is_number):
        return _undecided(position, extent, bound, program)
    return bool(known) and _by_cases(p, size, known, ranges)


def _undecided(position: sp.Expr, extent: sp.Expr, bound: Mapping[sp.Symbol, sp.Expr], program: Program) -> bool:
    """Where extents are not bound to numbers yet: a plain index of another extent is wrong, the rest is left open."""
    if position in bound:
        return False
    open_sizes = (
        (extent.free_symbols | {s for e in bound.values() for s in e.free_symbols}) - {SAMPLES} - set(program.sizes)
    )
    return bool(open_sizes)


def _looked_up(position: sp.Expr, program: Program) -> bool:
    """Whether a position is an integer that is given: it is checked with the data."""
    if not isinstance(position, sp.Indexed | sp.Symbol) or is_index(position):
        return False
    return any(t.name == name_of(position) and t.kind is Kind.INTEGER for t in program.tensors)


def _interval(p: sp.Expr, ranges: Mapping[sp.Symbol, sp.Expr], program: Program) -> Range | None:
    """Smallest and largest value of a position that is affine in indices and found positions."""
    low = high = sp.Integer(0)
    for term in sp.Add.make_args(p):
        factor, rest = term.as_coeff_Mul()
        if rest == 1:
            smallest = largest = sp.Integer(1)
        elif rest in ranges:
            smallest, largest = sp.Integer(0), ranges[rest] - 1
        elif rest == SAMPLES or (is_index(rest) and rest.is_positive):
            smallest = largest = rest
        else:
            found = _found_range(rest, program)
            if found is None:
                return None
            smallest, largest = found
        ends = (factor * smallest, factor * largest)
        low, high = low + ends[factor.is_negative is True], high + ends[factor.is_negative is not True]
    return expanded(low), expanded(high)


def _found_range(read: sp.Expr, program: Program) -> Range | None:
    """The range of a position that a maximum found."""
    equation = program.defined.get(name_of(read)) if isinstance(read, sp.Indexed | sp.Symbol) else None
    if equation is None or equation.kind is not Kind.INTEGER or not isinstance(equation.expr, ArgMaxOver):
        return None
    return sp.Integer(0), _number(equation.expr.limits[0][2], program)


def _implied(quantity: sp.Expr, conditions: list[sp.Basic]) -> bool:
    """Whether conditions say that an integer quantity is at least 0: one of them is f >= 0 with quantity - f >= 0."""
    for condition in conditions:
        if (
            isinstance(condition, sp.core.relational.Relational)
            and condition.lhs.is_integer
            and condition.rhs.is_integer
        ):
            f = {
                ">=": condition.lhs - condition.rhs,
                ">": condition.lhs - condition.rhs - 1,
                "<=": condition.rhs - condition.lhs,
                "<": condition.rhs - condition.lhs - 1,
            }.get(condition.rel_op)
            if f is not None and expanded(quantity - f).is_nonnegative:
                return True
    return False


def _by_cases(p: sp.Expr, size: sp.Expr, conditions: list[sp.Basic], ranges: Mapping[sp.Symbol, sp.Expr]) -> bool:
    """Try every value of the indices that conditions and position speak of, where there are few."""
    usable = [c for c in conditions if c.free_symbols <= set(ranges) and not c.has(sp.Indexed)]
    symbols = sorted(set(p.free_symbols).union(*(c.free_symbols for c in usable)), key=str)
    cases = 1
    for symbol in symbols:
        if symbol not in ranges or not ranges[symbol].is_number:
            return False
        cases *= int(ranges[symbol])
    if not usable or cases > MOST_CASES:
        return False
    for values in itertools.product(*(range(int(ranges[s])) for s in symbols)):
        at = dict(zip(symbols, map(sp.Integer, values), strict=True))
        if all(c.xreplace(at) == sp.true for c in usable) and not 0 <= p.xreplace(at) < size:
            return False
    return True

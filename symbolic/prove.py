"""Is every derived gradient right? Brute force, at tiny extents, entry by entry.

Every entry of every tensor becomes a symbol of its own. The loss of the program as the user wrote it (before any pass
touched it) is expanded into one scalar expression, SymPy differentiates that by every entry of every parameter, and
both are evaluated at a random point to many digits, as are the derived equations by the interpreter. Where the
expanded loss would be too long, it is not expanded: the same scalar equations are differentiated one by one, and the
derivatives are carried forward through them (forward mode), which shares nothing with the reverse sweep that is to be
proven.

Extents are made tiny where that changes no formula: an extent whose index only ever stands alone in a position. Extents
in sums of indices (convolutions), with literal positions or look-ups keep their size.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mpmath
import sympy as sp

from .derive import PIECEWISE_CONSTANT
from .errors import InternalError
from .interpret import evaluate, interpret, truth
from .language import SAMPLES, Equation, Kind, Program, Role, elements, name_of, where_of

if TYPE_CHECKING:
    from .derivation import Derivation

DIGITS = 40
LONGEST_EXPANSION = 1_000  # operations of an expanded loss; beyond it derivatives are carried forward
MOST_ENTRIES = 24  # of one parameter; more are sampled

Values = Mapping[str, Mapping[tuple[int, ...], Any]]


def prove(derivation: Derivation, *, samples: int = 2, seed: int = 0, tolerance: float = 1e-20) -> None:
    """Raise `InternalError` naming the first entry of a gradient that is not the derivative of the loss.

    samples     how many samples the batch has
    tolerance   relative; all numbers have 40 digits

    >>> from .layers import Dense
    >>> from .model import Model
    >>> Model(2, [Dense(3, "tanh"), Dense(1)], "squared_error").derivation().prove()
    """
    written = derivation.model.program(derivation.variant)
    prove_program(written, derivation.program, dict(derivation.derived.adjoint), samples=samples, seed=seed,
                  tolerance=tolerance)  # fmt: skip


def prove_program(
    written: Program, derived: Program, adjoint: Mapping[str, str], *, loss: str = "L", samples: int = 2, seed: int = 0,
    tolerance: float = 1e-20,
) -> None:  # fmt: skip
    """Prove the adjoint equations of a program against the program as it was written."""
    sizes = tiny_sizes(written)
    written, derived = replace(written, sizes=sizes), replace(derived, sizes=sizes)
    rng = random.Random(seed)
    with mpmath.workdps(DIGITS):
        given = random_point(written, samples, rng)
        values = interpret(derived, given, samples, mpmath)
        wanted = _Brute(written, given, samples, loss)
        for parameter in written.parameters:
            positions = sorted(given[parameter.name])
            for position in positions if len(positions) <= MOST_ENTRIES else rng.sample(positions, MOST_ENTRIES):
                found = values[adjoint[parameter.name]][position]
                right = wanted.derivative(parameter.name, position)
                if not abs(found - right) <= tolerance * max(1, abs(right)):
                    entry = f"{parameter.name}[{','.join(map(str, position))}]"
                    raise InternalError(
                        f"gradient of {entry}: the derived equation gives {mpmath.nstr(found, 12)}, brute force "
                        f"{mpmath.nstr(right, 12)}; please report the model"
                    )


def tiny_sizes(program: Program) -> dict[sp.Symbol, int]:
    """Sizes for the symbols of extents: 2 or 3, where every index of that size stands alone wherever it is used.

    Symbols of the same size stay of the same size: some formulas rely on it.
    """
    fixed: set[int] = set()
    for equation in program.equations:
        bound = {i.symbol: i.extent for i in equation.indices}
        for contraction in sp.preorder_traversal(equation.expr):
            if hasattr(contraction, "limits"):
                bound |= {symbol: high + 1 for symbol, _, high in contraction.limits}
        for node in sp.preorder_traversal(equation.expr):
            if isinstance(node, sp.Indexed):
                tensor = program.by_name[name_of(node)]
                for position, index in zip(node.indices, tensor.indices, strict=True):
                    if position not in bound:
                        fixed |= _sizes_in(
                            program,
                            index.extent,
                            *(bound.get(s, sp.Integer(1)) for s in position.free_symbols),
                        )
            elif isinstance(node, sp.core.relational.Relational | sp.KroneckerDelta):
                loose = {s for side in node.args for s in _outside_of_elements(side)}
                fixed |= _sizes_in(program, *(bound.get(s, sp.Integer(1)) for s in loose))
    distinct = sorted(set(program.sizes.values()))
    small = {size: size if size in fixed or size <= 2 else 2 + k % 2 for k, size in enumerate(distinct)}
    return {symbol: small[size] for symbol, size in program.sizes.items()}


def _outside_of_elements(expr: sp.Basic) -> set[sp.Basic]:
    """Symbols that stand in an expression itself, not in the position of an element."""
    if isinstance(expr, sp.Indexed):
        return set()
    return {expr} if isinstance(expr, sp.Symbol) else {s for a in expr.args for s in _outside_of_elements(a)}


def _sizes_in(program: Program, *extents: sp.Expr) -> set[int]:
    return {program.sizes[s] for e in extents for s in e.free_symbols if s in program.sizes}


def random_point(program: Program, samples: int, rng: random.Random) -> dict[str, dict[tuple[int, ...], Any]]:
    """Values for everything that is given: integers in the range that they look up, targets that any loss takes."""
    point: dict[str, dict[tuple[int, ...], Any]] = {}
    limits = lookup_limits(program)
    for tensor in program.tensors:
        ranges = [range(program.size(i.extent, samples)) for i in tensor.indices]
        table: dict[tuple[int, ...], Any] = {}
        for position in itertools.product(*ranges):
            if tensor.kind is Kind.INTEGER:
                table[position] = rng.randrange(limits.get(tensor.name, 2))
            elif tensor.role in (Role.TARGET, Role.NOISE, Role.WEIGHT):
                table[position] = mpmath.mpf(rng.randint(1, 10**6)) / (10**6 + 1)
            else:
                table[position] = mpmath.mpf(rng.randint(-(10**6), 10**6)) / 10**6
        point[tensor.name] = table
    return point


def lookup_limits(program: Program) -> dict[str, int]:
    """For integer tensors that stand inside an index: the smallest extent that they look up."""
    limits: dict[str, int] = {}
    for equation in program.equations:
        for read in equation.expr.atoms(sp.Indexed):
            for position, index in zip(read.indices, program.by_name[name_of(read)].indices, strict=True):
                for inner in elements(position):
                    size = program.size(index.extent)
                    limits[name_of(inner)] = min(size, limits.get(name_of(inner), size))
    return limits


class _Brute:
    """The derivatives of the loss by brute force."""

    def __init__(self, program: Program, given: Values, samples: int, loss: str) -> None:
        self.program, self.samples, self.loss = program, samples, loss
        self.sizes = {**program.sizes, SAMPLES: samples}
        self.values = interpret(program, given, samples, mpmath)
        self.entries: dict[sp.Symbol, tuple[str, tuple[int, ...]]] = {}
        self.slopes: dict[tuple[sp.Symbol, sp.Symbol], Any] = {}
        self.scalars = {key: expr for equation in program.equations for key, expr in self._entries(equation)}
        self.expanded = self._expanded()

    def entry(self, name: str, position: tuple[int, ...]) -> sp.Symbol:
        """The symbol of one entry of a tensor."""
        symbol = sp.Symbol(f"{name}({','.join(map(str, position))})", real=True)
        self.entries[symbol] = (name, position)
        return symbol

    def _entries(self, equation: Equation) -> Iterator[tuple[sp.Symbol, sp.Expr]]:
        """Every entry of an equation: its own symbol, and its right side in symbols of entries."""
        ranges = [range(int(i.extent.xreplace(_integers(self.sizes)))) for i in equation.indices]
        for position in itertools.product(*ranges):
            at = {i.symbol: sp.Integer(k) for i, k in zip(equation.indices, position, strict=True)}
            yield (
                self.entry(equation.name, position),
                self._scalar(equation.expr.xreplace({**_integers(self.sizes), **at})),
            )

    def _scalar(self, expr: sp.Basic) -> sp.Basic:
        """The expression with all contractions written out and every element as the symbol of its entry."""
        if isinstance(expr, sp.Indexed) or (isinstance(expr, sp.Symbol) and not expr.is_integer):
            where = tuple(self._position(w) for w in where_of(expr))
            return self.entry(name_of(expr), where)
        if hasattr(expr, "limits"):
            return self._written_out(expr)
        if isinstance(expr, sp.Piecewise):
            return self._branch(expr)
        if isinstance(expr, PIECEWISE_CONSTANT):  # constant around the point
            return sp.Integer(int(evaluate(expr, self.sizes, self.values, mpmath)))
        if not expr.args:
            return expr
        return expr.func(*(self._scalar(a) for a in expr.args))

    def _position(self, where: sp.Expr) -> int:
        return int(evaluate(where, self.sizes, self.values, mpmath))

    def _branch(self, expr: sp.Piecewise) -> sp.Basic:
        """The branch that is taken at the point: there the function is this branch, and so is its derivative."""
        for value, condition in expr.args:
            if truth(condition, lambda e: evaluate(e, self.sizes, self.values, mpmath)):
                return self._scalar(value)
        return sp.nan

    def _written_out(self, expr: sp.Expr) -> sp.Basic:
        (symbol, _, high), *rest = reversed(expr.limits)
        inner = expr.func(expr.function, *reversed(rest)) if rest else expr.function
        terms = [inner.xreplace({symbol: sp.Integer(k)}) for k in range(int(high) + 1)]
        if isinstance(expr, sp.Sum):
            return sp.Add(*(self._scalar(t) for t in terms))
        numbers = [evaluate(t, self.sizes, self.values, mpmath) for t in terms]
        first = numbers.index(max(numbers))  # the maximum is the term that is largest at the point
        return sp.Integer(first) if expr.is_integer else self._scalar(terms[first])

    def _expanded(self) -> sp.Expr | None:
        """The loss as one expression in given entries, or None where that is too long."""
        known: dict[sp.Symbol, sp.Expr] = {}
        lengths: dict[sp.Symbol, int] = {}
        for entry, expr in self.scalars.items():
            symbols = expr.free_symbols
            lengths[entry] = int(expr.count_ops()) + sum(lengths.get(s, 0) for s in symbols)
            if lengths[entry] > LONGEST_EXPANSION:
                return None
            known[entry] = expr.xreplace({s: known[s] for s in symbols if s in known})
        return known[self.entry(self.loss, ())]

    def derivative(self, name: str, position: tuple[int, ...]) -> Any:
        entry = self.entry(name, position)
        if self.expanded is not None:
            return self._number(sp.diff(self.expanded, entry))
        tangents: dict[sp.Symbol, Any] = {entry: mpmath.mpf(1)}
        for assigned, expr in self.scalars.items():
            moved = [s for s in sorted(expr.free_symbols, key=str) if s in tangents]
            if moved:
                tangents[assigned] = sum(self._slope(assigned, s) * tangents[s] for s in moved)
        return tangents.get(self.entry(self.loss, ()), mpmath.mpf(0))

    def _slope(self, assigned: sp.Symbol, entry: sp.Symbol) -> Any:
        """The derivative of one scalar equation by one entry, at the point."""
        key = (assigned, entry)
        if key not in self.slopes:
            self.slopes[key] = self._number(sp.diff(self.scalars[assigned], entry))
        return self.slopes[key]

    def _number(self, expr: sp.Expr) -> Any:
        """A scalar expression at the point."""
        at: dict[str, dict[tuple[int, ...], Any]] = {s.name: {(): self._value(s)} for s in expr.free_symbols}
        return evaluate(expr, {}, at, mpmath)

    def _value(self, entry: sp.Symbol) -> Any:
        name, position = self.entries[entry]
        return self.values[name][position]


def _integers(sizes: Mapping[sp.Symbol, int]) -> dict[sp.Basic, sp.Integer]:
    return {k: sp.Integer(v) for k, v in sizes.items()}

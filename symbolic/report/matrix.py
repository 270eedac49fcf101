"""Equations in index notation as equations between vectors and matrices, where they have that shape.

A tensor with the indices n, i is a column vector for every sample, one with i a column vector, one with i, j
that is not a sample's a matrix. What is recognised, at the position of the left side's indices:

    sum_j W[i,j] x[n,j]     W x                sum_n d[n,i] x[n,j]    sum_n d_n x_n^T
    sum_j W[j,i] d[n,j]     W^T d              sum_i u[n,i] v[n,i]    u^T v
    a[n,i] b[n,i]           a .* b             sum_i u[n,i]^2         ||u||^2
    f(z[n,i])               f(z)               [i = y[n]]             e_y

Nothing here knows a layer; what is not recognised has no matrix form, and prints in index notation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy as sp

from ..language import SAMPLE, Equation, is_index, where_of
from ..normalise import free_indices
from ..notation import (
    Call,
    Group,
    IndexNotation,
    Math,
    Name,
    Number,
    Over,
    Partial,
    Power,
    Product,
    Symbols,
    at,
    product,
    subscript,
    transposed,
)


class NotMatrixError(Exception):
    """Stops the recognition: there is something that is not of matrix shape."""


def matrix_form(equation: Equation, symbols: Symbols, folded: Mapping[str, Math] | None = None) -> Math | None:
    """The right side of an equation as vectors and matrices, or None.

    `folded` gives expressions that stand in the place of names: W^T delta for an adjoint that is read once.
    """
    free = tuple(i.symbol for i in equation.indices)
    return matrix_expression(equation.expr, free, symbols, folded)


def matrix_expression(
    expr: sp.Expr, free: tuple[sp.Symbol, ...], symbols: Symbols, folded: Mapping[str, Math] | None = None
) -> Math | None:
    """An expression at the position of the free indices as vectors and matrices, or None."""
    features = tuple(s for s in free if s != SAMPLE)
    if SAMPLE in free[1:] or len(features) > (1 if SAMPLE in free else 2):
        return None
    try:
        form: Math = MatrixNotation(symbols, features, folded=folded or {}).doprint(expr)
    except NotMatrixError:
        return None
    return form


class MatrixNotation(IndexNotation):
    """Prints what stands at the position of `features` as a vector (one index) or a matrix (two).

    `summed` says that samples are summed over outside, so that they are named: x_n.
    """

    def __init__(
        self,
        symbols: Symbols,
        features: tuple[sp.Symbol, ...],
        summed: bool = False,
        folded: Mapping[str, Math] | None = None,
    ) -> None:
        super().__init__(symbols)
        self.features = features
        self.summed = summed
        self.folded = folded or {}

    def inside(self, features: tuple[sp.Symbol, ...], summed: bool | None = None) -> MatrixNotation:
        return MatrixNotation(self.symbols, features, self.summed if summed is None else summed, self.folded)

    def is_whole(self, expr: sp.Basic) -> bool:
        """Whether an expression is a vector or matrix here, not a number."""
        return bool(free_indices(expr) & set(self.features))

    def is_not_adjoint(self, expr: sp.Expr) -> bool:
        """An adjoint stands first, before what the chain rule multiplies it by."""
        return not (isinstance(expr, sp.Indexed) and str(expr.base.label) in self.symbols.derived)

    def symbol(self, name: str, sampled: bool) -> Math:
        if name in self.folded:
            return self.folded[name]
        symbol = self.symbols[name]
        return at(symbol, Name("n")) if sampled and self.summed else symbol

    def _print_Symbol(self, expr: sp.Symbol) -> Math:
        if is_index(expr) and not expr.is_positive:
            raise NotMatrixError  # an index as a number
        if not is_index(expr) and expr.name in self.folded:
            return self.folded[expr.name]
        return super()._print_Symbol(expr)

    def _print_Indexed(self, expr: sp.Indexed) -> Math:
        name, where = str(expr.base.label), tuple(expr.indices)
        sampled = where[0] == SAMPLE
        rest = where[1:] if sampled else where
        if rest == self.features or not rest:
            return self.symbol(name, sampled)
        if any(free_indices(r) for r in rest if not isinstance(r, sp.Indexed)):
            raise NotMatrixError
        if any(r.free_symbols & set(self.features) for r in rest):
            raise NotMatrixError
        return at(self.symbol(name, sampled), subscript(self._print(r) for r in rest))  # one element of a vector

    def _print_KroneckerDelta(self, expr: sp.KroneckerDelta) -> Math:
        if len(self.features) != 1:
            raise NotMatrixError
        (own,) = self.features
        others = [a for a in expr.args if a != own]
        if len(others) != 1 or own in others[0].free_symbols:
            raise NotMatrixError
        return Name("e", sub=self._print(others[0]))

    def factors(self, factors: list[sp.Expr]) -> Math:
        """Numbers first, then vectors with the sign of the product element by element between them."""
        numbers = [self._print(f) for f in factors if not self.is_whole(f)]
        wholes = [self._print(f) for f in sorted(factors, key=self.is_not_adjoint) if self.is_whole(f)]
        if len(wholes) < 2:
            return product([*numbers, *wholes])
        return product([*numbers, Group(product(wholes, ".*"))]) if numbers else product(wholes, ".*")

    def _print_MaxOver(self, expr: sp.Expr) -> Math:
        raise NotMatrixError

    def _print_ArgMaxOver(self, expr: sp.Expr) -> Math:
        raise NotMatrixError

    def _print_Sum(self, expr: sp.Sum) -> Math:
        bound = tuple(s for s, _, _ in expr.limits)
        over_samples = SAMPLE in bound
        if over_samples and self.summed:
            raise NotMatrixError
        rest = tuple(b for b in bound if b != SAMPLE)
        inner = self.inside(self.features, self.summed or over_samples)
        if rest and self.is_whole(expr):
            body = inner.matrix_times_vector(expr.function, rest)
        elif rest:
            body = inner.inner_product(expr.function, rest)
        elif len(self.features) == 2:
            body = inner.outer_product(expr.function)
        else:
            body = inner._print(expr.function)
        if not over_samples:
            return body
        return Over("sum", Name("n"), Group(body) if not isinstance(body, _CLOSED) else body)

    def matrix_times_vector(self, body: sp.Expr, bound: tuple[sp.Symbol, ...]) -> Math:
        """sum_j W[i,j] v[j] as W v, sum_j W[j,i] v[j] as W^T v."""
        if len(bound) != 1 or len(self.features) != 1:
            raise NotMatrixError
        (i,), (j,) = self.features, bound
        outside: list[sp.Expr] = []
        matrices: list[sp.Expr] = []
        vectors: list[sp.Expr] = []
        for factor in sp.Mul.make_args(body):
            free = free_indices(factor)
            kind = matrices if i in free else vectors if j in free else outside
            kind.append(factor)
        if len(matrices) != 1 or not isinstance(matrices[0], sp.Indexed) or not vectors:
            raise NotMatrixError
        name, where = str(matrices[0].base.label), where_of(matrices[0])
        if where not in ((i, j), (j, i)) or name in self.folded:
            raise NotMatrixError
        matrix = self.symbols[name] if where == (i, j) else transposed(self.symbols[name])
        vector = self.inside(bound).factors(vectors)
        vector = Group(vector) if isinstance(vector, Product) else vector
        return product([*(self._print(o) for o in outside), matrix, vector])

    def outer_product(self, body: sp.Expr) -> Math:
        """u[i] v[j] as u v^T."""
        i, j = self.features
        outside: list[sp.Expr] = []
        rows: list[sp.Expr] = []
        columns: list[sp.Expr] = []
        for factor in sp.Mul.make_args(body):
            free = free_indices(factor) & {i, j}
            if len(free) == 2:
                raise NotMatrixError
            (rows if i in free else columns if j in free else outside).append(factor)
        if not rows or not columns:
            raise NotMatrixError
        left, right = self.inside((i,)).factors(rows), self.inside((j,)).factors(columns)
        return product([*(self._print(o) for o in outside), _grouped(left), _transposed(right)])

    def inner_product(self, body: sp.Expr, bound: tuple[sp.Symbol, ...]) -> Math:
        """sum_i u[i] v[i] as u^T v, sum_i u[i]^2 as the square of a norm."""
        if len(bound) > 2:
            raise NotMatrixError
        outside: list[sp.Expr] = []
        inside: list[sp.Expr] = []
        for factor in sp.Mul.make_args(body):
            (inside if free_indices(factor) & set(bound) else outside).append(factor)
        within = self.inside(bound)
        numbers = [self._print(o) for o in outside]
        if len(inside) == 1 and isinstance(inside[0], sp.Pow) and inside[0].exp == 2:
            return product([*numbers, Power(Group(within._print(inside[0].base), "||"), Number("2"))])
        if len(inside) == 2 and len(bound) == 1:
            first, second = (within._print(f) for f in inside)
            return product([*numbers, _transposed(first), _grouped(second)])
        raise NotMatrixError


_CLOSED = (Name, Partial, Product, Power, Group, Call)


def _grouped(math: Math) -> Math:
    return Group(math) if isinstance(math, Product) else math


def _transposed(math: Math) -> Math:
    """The transpose; of a symbol with a sample x_n it is x_n^T."""
    if isinstance(math, Name):
        return replace(math, transposed=True)
    return transposed(math)

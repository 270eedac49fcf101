"""The language of equations in index notation.

    program   ::= tensor*  equation*
    tensor    ::= name [ index* ]  role  kind
    index     ::= name, extent                  an extent is a positive integer, a symbol, or a sum of them
    equation  ::= name [ index* ] = expr        one assignment a name; at most one contraction an equation
    expr      ::= SymPy over elements of tensors: + * / **, elementary functions, Piecewise, KroneckerDelta,
                  Sum | MaxOver | ArgMaxOver over an index
    element   ::= tensor [ integer expr* ]      a tensor without indices is read as a plain symbol

A dense layer is `z[n,i] = Sum(W[i,j]*x[n,j], j) + b[i]` and then `a[n,i] = tanh(z[n,i])`. An integer tensor may
stand inside an index: `E[token[n],i]` looks a row up. The sample index is `n`, its extent `N`.

Everything here is immutable. `check.py` says which programs are well formed, `interpret.py` what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType

import sympy as sp

from .functions import CONTRACTIONS

SAMPLE = sp.Symbol("n", integer=True, nonnegative=True)
SAMPLES = sp.Symbol("N", integer=True, positive=True)


class Role(StrEnum):
    """What a tensor is to the model."""

    INPUT = "input"
    TARGET = "target"
    WEIGHT = "weight"  # of the samples, in the loss
    NOISE = "noise"  # uniform in [0, 1), drawn anew in every step: dropout
    PARAMETER = "parameter"
    STATE = "state"
    INTERMEDIATE = "intermediate"


class Kind(StrEnum):
    REAL = "real"
    INTEGER = "integer"


@dataclass(frozen=True)
class Index:
    """An index variable that runs from 0 to extent - 1."""

    symbol: sp.Symbol
    extent: sp.Expr

    @property
    def name(self) -> str:
        return self.symbol.name

    @property
    def limits(self) -> tuple[sp.Symbol, sp.Expr, sp.Expr]:
        """The limits of a SymPy sum over this index."""
        return (self.symbol, sp.Integer(0), self.extent - 1)


def index(name: str, extent: int | sp.Expr) -> Index:
    """An index by name.

    >>> index("i", 3).limits
    (i, 0, 2)
    """
    return Index(sp.Symbol(name, integer=True, nonnegative=True), sp.sympify(extent))


def extent(name: str) -> sp.Symbol:
    """A symbol for the extent of an index."""
    return sp.Symbol(name, integer=True, positive=True)


SAMPLE_INDEX = Index(SAMPLE, SAMPLES)


@dataclass(frozen=True)
class Tensor:
    """A named array of numbers, addressed by indices.

    >>> W = Tensor("W", (index("i", 3), index("j", 2)), Role.PARAMETER)
    >>> W[1, W.indices[1].symbol], W.element
    (W[1, j], W[i, j])
    """

    name: str
    indices: tuple[Index, ...]
    role: Role = Role.INTERMEDIATE
    kind: Kind = Kind.REAL

    def __getitem__(self, position: object) -> sp.Expr:
        where = position if isinstance(position, tuple) else (position,)
        return element(self.name, tuple(getattr(p, "symbol", p) for p in where), self.kind)

    @property
    def element(self) -> sp.Expr:
        """The tensor at its own indices."""
        return element(self.name, tuple(i.symbol for i in self.indices), self.kind)

    @property
    def shape(self) -> tuple[sp.Expr, ...]:
        return tuple(i.extent for i in self.indices)

    def over(self, *indices: Index) -> Tensor:
        return replace(self, indices=indices)


@lru_cache(maxsize=4096)
def _base(name: str, kind: Kind) -> sp.IndexedBase:
    return sp.IndexedBase(name, **({"integer": True} if kind is Kind.INTEGER else {"real": True}))


@lru_cache(maxsize=4096)
def element(name: str, where: tuple[object, ...], kind: Kind = Kind.REAL) -> sp.Expr:
    """The expression that reads a tensor at a position."""
    if where:
        return _base(name, kind)[where]
    return sp.Symbol(name, **({"integer": True} if kind is Kind.INTEGER else {"real": True}))


@dataclass(frozen=True)
class Equation:
    """name[indices] = expr, for every value of the indices.

    `rule` says where the equation comes from ("layer 1", "chain rule through z1", ...), `constant` that its value
    may be taken as constant when differentiating, because what reads it does not depend on it (a shift by a maximum).
    """

    name: str
    indices: tuple[Index, ...]
    expr: sp.Expr
    rule: str = ""
    kind: Kind = Kind.REAL
    constant: bool = False

    @property
    def tensor(self) -> Tensor:
        return Tensor(self.name, self.indices, Role.INTERMEDIATE, self.kind)

    @property
    def element(self) -> sp.Expr:
        return self.tensor.element

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Names of the tensors that are read, in a fixed order."""
        return tuple(sorted({name_of(e) for e in elements(self.expr)}))

    @cached_property
    def contraction(self) -> sp.Expr | None:
        """The sum or maximum in this equation, if there is one."""
        found = [e for e in sp.preorder_traversal(self.expr) if isinstance(e, CONTRACTIONS)]
        return found[0] if found else None

    def __str__(self) -> str:
        from .text import equation_text

        return equation_text(self)


def is_index(symbol: sp.Basic) -> bool:
    """Whether a node is an index or an extent: both are integers of at least 0 (an extent is positive).

    What stands for an integer tensor without indices is an integer whose sign is not known.
    """
    return isinstance(symbol, sp.Symbol) and symbol.is_integer is True and symbol.is_nonnegative is True


@lru_cache(maxsize=4096)
def elements(expr: sp.Basic) -> frozenset[sp.Expr]:
    """All reads of tensors in an expression: `Indexed`, and the symbols that stand for tensors without indices."""
    atoms = expr.atoms(sp.Indexed, sp.Symbol)
    reads = frozenset(a for a in atoms if isinstance(a, sp.Indexed))
    labels = {e.base.label for e in reads}
    return reads | {s for s in atoms - reads if not is_index(s) and s not in labels}


def name_of(read: sp.Expr) -> str:
    """The tensor that is read."""
    return str(read.base.label.name if isinstance(read, sp.Indexed) else read.name)


def where_of(read: sp.Expr) -> tuple[sp.Expr, ...]:
    return tuple(read.indices) if isinstance(read, sp.Indexed) else ()


@dataclass(frozen=True)
class Program:
    """Equations in an order in which they can be computed, and the tensors that they start from.

    `tensors` are those given from outside (inputs, targets, parameters ...); what equations assign is found in
    `equations`. `sizes` binds symbols for extents to integers; a program may be used without.
    """

    tensors: tuple[Tensor, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[str, ...]
    sizes: Mapping[sp.Symbol, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", MappingProxyType(dict(self.sizes)))

    @cached_property
    def by_name(self) -> Mapping[str, Tensor]:
        """Every tensor, given or assigned, by its name."""
        given = {t.name: t for t in self.tensors}
        return MappingProxyType(given | {e.name: e.tensor for e in self.equations})

    @cached_property
    def defined(self) -> Mapping[str, Equation]:
        """Every equation by the name that it assigns."""
        return MappingProxyType({e.name: e for e in self.equations})

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.role is Role.PARAMETER)

    def role(self, role: Role) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.role is role)

    def with_equations(self, equations: Iterable[Equation]) -> Program:
        return replace(self, equations=tuple(equations))

    def bind(self, sizes: Mapping[sp.Symbol, int]) -> Program:
        return replace(self, sizes={**self.sizes, **sizes})

    def size(self, extent: sp.Expr, samples: int | None = None) -> int:
        """The integer that an extent stands for."""
        bound = dict(self.sizes) if samples is None else {**self.sizes, SAMPLES: samples}
        return int(sp.sympify(extent).xreplace({k: sp.Integer(v) for k, v in bound.items()}))

    def restricted_to(self, names: Iterable[str]) -> Program:
        """The equations that the named results need, and no others."""
        wanted, kept = set(names), []
        for equation in reversed(self.equations):
            if equation.name in wanted:
                kept.append(equation)
                wanted |= set(equation.reads)
        given = tuple(t for t in self.tensors if t.name in wanted)
        return replace(self, tensors=given, equations=tuple(reversed(kept)), outputs=tuple(names))

    def __str__(self) -> str:
        from .text import program_text

        return program_text(self)

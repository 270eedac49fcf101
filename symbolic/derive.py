"""The reverse chain rule over a program.

For every equation `q[I] = f` from the last to the first, and every tensor t that f reads, the adjoint of t grows by

    Sum over I of  dq[I] * d f / d t[A]                 the chain rule through q

where SymPy differentiates f by the element t[A], which gives Kronecker deltas, and `contract` removes them. An adjoint
is written `dt`: the derivative of the loss with respect to t. A maximum over an index is differentiated at the position
where it is attained (the first one, if there are several): q = g(k) with k = ArgMax g (envelope theorem).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import sympy as sp

from .bounds import derived_parts
from .contract import Term, contract, fresh, terms
from .errors import SpecError
from .functions import CONTRACTIONS, ArgMaxOver, MaxOver
from .language import Equation, Index, Kind, Program, Tensor
from .limits import MOST_DERIVED_PARTS
from .normalise import free_indices, index_names, unique

PIECEWISE_CONSTANT = (sp.sign, sp.floor, sp.ceiling)


@dataclass(frozen=True)
class Derived:
    """A forward program, the adjoint equations behind it, and the name of every tensor's adjoint.

    `wanted` are the tensors whose adjoints were asked for: the parameters, if nothing else was said.
    """

    forward: Program
    backward: tuple[Equation, ...]
    adjoint: Mapping[str, str]
    wanted: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjoint", MappingProxyType(dict(self.adjoint)))

    @property
    def program(self) -> Program:
        """Forward and backward in one."""
        equations = (*self.forward.equations, *self.backward)
        outputs = (*self.forward.outputs, *(self.adjoint[name] for name in self.wanted))
        return replace(self.forward, equations=equations, outputs=outputs)

    def with_equations(self, forward: Iterable[Equation], backward: Iterable[Equation]) -> Derived:
        return replace(self, forward=self.forward.with_equations(forward), backward=tuple(backward))


def derive(program: Program, loss: str = "L", wrt: Iterable[str] | None = None) -> Derived:
    """Derive the adjoint of every tensor on the way from `wrt` (all parameters) to the loss.

    The program is in normal form (`normalise`); the loss has no index.

    >>> from .language import Role, index
    >>> n, i, j = index("n", 4), index("i", 3), index("j", 2)
    >>> W, x = Tensor("W", (i, j), Role.PARAMETER), Tensor("x", (n, j), Role.INPUT)
    >>> z = Equation("z", (n, i), sp.Sum(W.element*x.element, j.limits))
    >>> L = Equation("L", (), sp.Sum(z.element**2, n.limits, i.limits))
    >>> for equation in derive(Program((W, x), (z, L), ("L",))).backward: print(equation)
    dz[n,i] = 2 z[n,i]
    dW[i,j] = sum_n dz[n,i] x[n,j]
    """
    wanted = tuple(t.name for t in program.parameters) if wrt is None else tuple(wrt)
    program, positions = _with_positions(program, active(program, wanted))
    alive = active(program, wanted)
    taken = set(program.by_name)
    adjoint: dict[str, str] = {}
    parts: dict[str, list[tuple[sp.Expr, str]]] = {name: [] for name in alive}
    backward: list[Equation] = []

    def settle(tensor: Tensor) -> None:
        adjoint[tensor.name] = unique(f"d{tensor.name}", taken)
        backward.extend(_adjoint_equations(tensor, adjoint[tensor.name], parts.pop(tensor.name), taken))

    for equation in reversed(program.equations):
        if equation.name not in alive:
            continue
        if equation.name == loss:
            seed = sp.Integer(1)
        elif parts[equation.name]:
            settle(equation.tensor)
            seed = replace(equation.tensor, name=adjoint[equation.name]).element
        else:
            continue
        smooth = _smooth(equation, positions)
        _check_slope(smooth, equation)
        for name, contribution in _contributions(equation, smooth, seed, program, alive):
            parts[name].append((contribution, equation.name))
    for name in (w for w in wanted if w not in adjoint):
        settle(program.by_name[name])
    return Derived(program, tuple(backward), adjoint, wanted)


def active(program: Program, wanted: Iterable[str]) -> frozenset[str]:
    """Names of all tensors whose value depends on the wanted ones."""
    alive = set(wanted)
    for equation in program.equations:
        if equation.kind is Kind.REAL and not equation.constant and alive.intersection(equation.reads):
            alive.add(equation.name)
    return frozenset(alive)


def _with_positions(program: Program, alive: frozenset[str]) -> tuple[Program, Mapping[str, sp.Expr]]:
    """Give every maximum that is differentiated an equation for the position where it is attained."""
    taken = set(program.by_name)
    positions: dict[str, sp.Expr] = {}
    equations: list[Equation] = []
    for equation in program.equations:
        maximum = equation.contraction
        if isinstance(maximum, MaxOver) and equation.name in alive:
            free = free_indices(maximum)
            indices = tuple(i for i in equation.indices if i.symbol in free)
            name = unique(f"argmax_{equation.name}", taken)
            expr = ArgMaxOver(maximum.function, *maximum.limits)
            equations.append(Equation(name, indices, expr, f"position of the maximum in {equation.name}", Kind.INTEGER))
            positions[equation.name] = equations[-1].element
        equations.append(equation)
    return program.with_equations(equations), positions


def _contributions(
    equation: Equation, smooth: sp.Expr, seed: sp.Expr, program: Program, alive: frozenset[str]
) -> Iterable[tuple[str, sp.Expr]]:
    """For every live tensor that an equation reads: the tensor's name and what its adjoint grows by.

    The result is written in the tensor's own indices.
    """
    renaming = {i.symbol: fresh(i.symbol) for i in equation.indices}
    rows = tuple(Index(renaming[i.symbol], i.extent) for i in equation.indices)
    expr = smooth.xreplace(renaming)
    upstream = seed.xreplace(renaming)
    for name in sorted(alive.intersection(equation.reads)):
        tensor = program.by_name[name]
        column = {i.symbol: fresh(i.symbol) for i in tensor.indices}
        at = tensor.element.xreplace(column)
        slope = sp.diff(expr, at)
        extents = {column[i.symbol]: i.extent for i in tensor.indices}
        parts = [
            contract(Term(t.deltas, rows + t.bound, upstream * t.coefficient), extents, program.sizes)
            for t in terms(slope)
        ]
        back = {new: old for old, new in column.items()}
        for part in parts:
            if part != 0:
                yield name, readable(part.xreplace(back), tensor.indices)


def _check_slope(smooth: sp.Expr, equation: Equation) -> None:
    """Refuse what takes too long to differentiate: the derivative of a product of n factors has n times as many."""
    if derived_parts(smooth) > MOST_DERIVED_PARTS:
        problem = f"the derivative of '{equation.name}' comes to more than {MOST_DERIVED_PARTS} parts"
        raise SpecError(
            f"{equation.rule or equation.name}: {problem}; name some of its parts in equations of their own"
        )


def _smooth(equation: Equation, positions: Mapping[str, sp.Expr]) -> sp.Expr:
    """The right side with a maximum taken at its position, and piecewise constant functions held fixed."""
    expr = equation.expr
    maximum = equation.contraction
    if maximum is not None and equation.name in positions:
        expr = expr.xreplace({maximum: maximum.function.xreplace({maximum.limits[0][0]: positions[equation.name]})})
    return expr.replace(lambda e: isinstance(e, PIECEWISE_CONSTANT), _Held)


class _Held(sp.Function):
    """A factor whose derivative is zero wherever it has one."""

    nargs = 1
    is_real = True

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return sp.Integer(0)


def released(expr: sp.Expr) -> sp.Expr:
    return expr.replace(_Held, lambda e: e) if expr.has(_Held) else expr


def readable(expr: sp.Expr, indices: tuple[Index, ...]) -> sp.Expr:
    """Bound indices get short names again, none of them equal to a free one."""
    expr = released(expr)
    used = {i.symbol.name for i in indices}
    renaming: dict[sp.Basic, sp.Basic] = {}
    for contraction in sp.preorder_traversal(expr):
        if isinstance(contraction, CONTRACTIONS):
            for symbol, _, _ in contraction.limits:
                name = next(n for n in index_names(symbol.name.split("__")[0]) if n not in used)
                used.add(name)
                renaming[symbol] = sp.Symbol(name, integer=True, nonnegative=True)
    return expr.xreplace(renaming)


def _adjoint_equations(tensor: Tensor, name: str, parts: list[tuple[sp.Expr, str]], taken: set[str]) -> list[Equation]:
    """The sum of all contributions; where several hold a contraction, each gets an equation of its own."""
    if not parts:
        return [Equation(name, tensor.indices, sp.Integer(0), f"the loss does not depend on {tensor.name}")]
    through = ", ".join(dict.fromkeys(source for _, source in parts))
    contracted = [p for p in parts if p[0].has(*CONTRACTIONS)]
    if len(contracted) <= 1 and all(_affine(p) for p, _ in parts):
        return [Equation(name, tensor.indices, sp.Add(*(p for p, _ in parts)), f"chain rule through {through}")]
    equations, total = [], []
    for part, source in parts:
        if part.has(*CONTRACTIONS):
            piece = unique(f"{name}_{source}", taken)
            equations.append(Equation(piece, tensor.indices, part, f"chain rule through {source}"))
            total.append(equations[-1].element)
        else:
            total.append(part)
    return [
        *equations,
        Equation(name, tensor.indices, sp.Add(*total), f"sum of the chain rule through {through}"),
    ]


def _affine(expr: sp.Expr) -> bool:
    return sum(isinstance(e, CONTRACTIONS) for e in sp.preorder_traversal(expr)) <= 1

"""The derivative of a tensor by its neighbour on the spine, found by differentiating their equation."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import sympy as sp

from ..activations import Activation
from ..breaking import estimated_width
from ..contract import Term, contract, fresh, terms
from ..functions import CONTRACTIONS
from ..language import SAMPLE, Equation, Role, Tensor
from ..model import LOSS, OUTPUT
from ..normalise import index_names
from ..notation import (
    Call,
    Math,
    Name,
    Partial,
    Word,
    at,
    notation,
    plain_symbol,
    product,
    subscript,
    transposed,
)
from .document import Phrase, Step
from .facts import WIDEST_FORM, Facts, element_symbol
from .matrix import matrix_expression
from .spine import spine

if TYPE_CHECKING:
    pass


def local_derivative(facts: Facts, upper: str, lower: str, hidden: tuple[sp.Symbol, ...]) -> Step | None:
    """The derivative of a tensor by its neighbour below: a matrix, a diagonal, or by elements."""
    equation = facts.written.defined[upper]
    if not facts.is_single(lower, upper) or lower not in equation.reads or equation.constant:
        return None
    tensor = facts.tensor(lower)
    column = {i.symbol: fresh(i.symbol) for i in tensor.indices}
    slope = sp.diff(equation.expr, tensor.element.xreplace(column))
    extents = {i.symbol: i.extent for i in equation.indices} | {column[i.symbol]: i.extent for i in tensor.indices}
    parts = [contract(Term(t.deltas, t.bound, t.coefficient), extents) for t in terms(slope)]
    rule = derivative_rule(facts, equation, tensor)
    found = None
    if len(parts) == 1 and tensor.role is Role.PARAMETER:
        found = element_derivative(facts, equation, tensor, parts[0], column, rule, hidden)
    elif len(parts) == 1:
        found = matrix_derivative(facts, equation, tensor, parts[0], column, rule)
    return found or derivative_by_elements(facts, equation, tensor, sp.Add(*parts), column, rule, hidden)


def derivative_by_elements(
    facts: Facts,
    equation: Equation,
    lower: Tensor,
    slope: sp.Expr,
    column: dict[sp.Symbol, sp.Symbol],
    rule: Phrase,
    hidden: tuple[sp.Symbol, ...],
) -> Step | None:
    """The derivative of any element by any other, in index notation, where that is short."""
    bound = {s.name for c in slope.atoms(*CONTRACTIONS) for s, _, _ in c.limits}
    used = {i.name for i in equation.indices} | {s.name for s in slope.free_symbols} | bound
    back = {}
    for old, new in column.items():
        name = next(n for n in index_names(old.name) if n not in used)
        used.add(name)
        back[new] = sp.Symbol(name, integer=True, nonnegative=True)
    if SAMPLE in hidden and SAMPLE in column:
        slope = slope.xreplace({sp.KroneckerDelta(SAMPLE, column[SAMPLE]): sp.Integer(1), column[SAMPLE]: SAMPLE})
        back[column[SAMPLE]] = SAMPLE
    if slope == 0:
        return None
    shown = {i.symbol for i in equation.indices} - set(hidden)
    over = subscript(Name(i.name) for i in equation.indices if i.symbol in shown)
    under = subscript(plain_symbol(back[new].name) for old, new in column.items() if old not in hidden)
    left = Partial(at(facts.symbols[equation.name], over), at(facts.symbols[lower.name], under))
    right = notation(slope.xreplace(back), facts.symbols, hidden)
    return Step(left, right, rule) if estimated_width(right) < WIDEST_FORM else None


def loss_factors(facts: Facts, hidden: tuple[sp.Symbol, ...]) -> list[Step]:
    """The derivative of the loss by the output, in its factors."""
    if facts.data_loss is None or not hidden:
        return []
    found = list(reversed(spine(facts.written, OUTPUT, facts.data_loss)))
    if len(found) < 3:
        return []
    symbols = [facts.symbols[name] for name in found]
    rule: list[str | Math] = ["chain rule through "]
    rule += [p for s in symbols[1:-1] for p in (", ", s)][1:]
    factors = [Partial(a, b) for a, b in pairwise(symbols)]
    steps = [Step(Partial(symbols[0], symbols[-1]), product(factors, "*"), tuple(rule))]
    return steps + [step for upper, lower in pairwise(found) if (step := local_derivative(facts, upper, lower, hidden))]


def derivative_rule(facts: Facts, equation: Equation, lower: Tensor) -> Phrase:
    """What gives a local derivative."""
    if lower.role is Role.PARAMETER:
        return ("linearity: no other term depends on it",)
    is_linear = equation.name in facts.labels or equation.name in (LOSS, facts.data_loss)
    if isinstance(equation.contraction, sp.Sum) and is_linear:
        return ("linearity of the sum",)
    given = getattr(facts.layer_of(equation), "activation", None)
    name = given.name if isinstance(given, Activation) and given.name != "formula" else equation.rule.split(", ")[-1]
    return (f"derivative of {name}",)


def split_deltas(expr: sp.Expr) -> tuple[set[sp.Expr], sp.Expr]:
    factors = sp.Mul.make_args(expr)
    deltas = {f for f in factors if isinstance(f, sp.KroneckerDelta)}
    return deltas, sp.Mul(*(f for f in factors if f not in deltas))


def matrix_derivative(
    facts: Facts,
    equation: Equation,
    lower: Tensor,
    part: sp.Expr,
    column: dict[sp.Symbol, sp.Symbol],
    rule: Phrase,
) -> Step | None:
    """W where the derivative is a matrix, diag(f'(z)) where it is taken element by element."""
    deltas, rest = split_deltas(part)
    rows = [i.symbol for i in equation.indices if i.symbol != SAMPLE]
    columns = [i.symbol for i in lower.indices if i.symbol != SAMPLE]
    same_sample = sp.KroneckerDelta(SAMPLE, column.get(SAMPLE, SAMPLE))
    back = {new: old for old, new in column.items()}
    left = Partial(facts.symbols[equation.name], facts.symbols[lower.name])
    if not rows and not columns and not deltas:  # the loss of a batch by that of a sample
        return Step(left, notation(rest.xreplace(back), facts.symbols, (SAMPLE,)), rule)
    if not rows and len(columns) == 1 and deltas == {same_sample}:  # the loss of a sample by the output
        form = matrix_expression(rest.xreplace(back), (SAMPLE, columns[0]), facts.symbols)
        return Step(left, transposed(form), rule) if form is not None else None
    if len(rows) != 1 or len(columns) != 1 or rest.has(sp.KroneckerDelta, column.get(SAMPLE, sp.Dummy())):
        return None
    (i,), j = rows, column[columns[0]]
    if deltas == {same_sample}:
        form = matrix_expression(rest, (i, j), facts.symbols)
        return Step(left, form, rule) if form and isinstance(rest, sp.Indexed) else None
    if deltas == {same_sample, sp.KroneckerDelta(i, j)}:
        form = matrix_expression(rest.xreplace({j: i}), (SAMPLE, i), facts.symbols)
        return Step(left, Call(Word("diag"), (form,)), rule) if form else None
    return None


def element_derivative(
    facts: Facts,
    equation: Equation,
    lower: Tensor,
    part: sp.Expr,
    column: dict[sp.Symbol, sp.Symbol],
    rule: Phrase,
    hidden: tuple[sp.Symbol, ...],
) -> Step | None:
    """The derivative of z_i by an element w_ij: x_j; other elements of z do not depend on w_ij."""
    deltas, rest = split_deltas(part)
    back = {new: old for old, new in column.items()}
    fixed: list[Math] = []
    for i in equation.indices:
        partners = [d for d in deltas if i.symbol in d.free_symbols]
        if i.symbol != SAMPLE and len(partners) == 1:
            (other,) = partners[0].free_symbols - {i.symbol}
            if other not in back:
                return None
            fixed.append(Name(back[other].name))
            rest = rest.xreplace({i.symbol: other})
        elif i.symbol == SAMPLE:
            fixed += [] if SAMPLE in hidden else [Name("n")]
        else:
            return None
    if len(deltas) != len([i for i in equation.indices if i.symbol != SAMPLE]) or rest.has(sp.KroneckerDelta):
        return None
    left = Partial(at(facts.symbols[equation.name], subscript(fixed)), element_symbol(facts, lower))
    return Step(left, notation(rest.xreplace(back), facts.symbols, hidden), rule)

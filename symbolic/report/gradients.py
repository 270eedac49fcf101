"""The closed form of every gradient: the recursion of delta, products of matrices, the equations that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy as sp

from ..language import Equation
from ..notation import (
    Call,
    Group,
    Math,
    Partial,
    Product,
    product,
)
from .document import Block, Display, Phrase, Section, Step
from .facts import LOSS_NAME, Facts, function_of
from .local import derivative_rule

if TYPE_CHECKING:
    pass


def gradient_section(facts: Facts) -> Section:
    """The gradient of every tensor, from the output back: with matrices if it has that shape; as it runs."""
    blocks: list[Block] = []
    for equation in facts.derivation.backward:
        steps = gradient_steps(facts, equation)
        if steps:
            blocks.append(Display(tuple(steps)))
        blocks.append(facts.running(equation))
    return Section("The closed form of every gradient", tuple(blocks))


def gradient_steps(facts: Facts, equation: Equation) -> list[Step]:
    """The matrix form of an adjoint; delta^(k) in terms of the delta above it."""
    folded = products_read_once(facts, equation)
    rule = facts.phrase(equation.rule)
    steps = []
    with_prime = recursion(facts, equation, folded)
    if with_prime:
        steps.append(Step(facts.symbols[equation.name], with_prime, rule))
    form = facts.gradient_form(equation, folded)
    if form is not None:
        left = None if steps else facts.symbols[equation.name]
        steps.append(Step(left, form, derivative_words(facts, equation) if steps else rule))
    return steps


def products_read_once(facts: Facts, equation: Equation) -> dict[str, Math]:
    """Adjoints W^T delta that this equation alone reads: they are put in its formula."""
    found: dict[str, Math] = {}
    for name in equation.reads:
        read = facts.backward.get(name)
        if read is None or facts.symbols[name] != Partial(
            LOSS_NAME, facts.symbols[facts.symbols.derived.get(name, name)]
        ):
            continue
        tensor = facts.symbols.derived.get(name, "")
        alone = sum(name in e.reads for e in facts.derivation.backward) == 1
        form = facts.gradient_form(read) if alone and tensor in facts.written.defined else None
        if isinstance(read.contraction, sp.Sum) and isinstance(form, Product):
            found[name] = Group(form)
    return found


def recursion(facts: Facts, equation: Equation, folded: dict[str, Math]) -> Math | None:
    """delta = (W^T delta) .* a'(z), where the equation is an adjoint times an activation's derivative."""
    upper = activated_from(facts, equation)
    if upper is None:
        return None
    label = facts.activation_label(upper)
    assert label is not None
    adjoint = facts.derivation.derived.adjoint[upper]
    factors = sp.Mul.make_args(facts.inlined(equation).expr)
    rest = [f for f in factors if str(getattr(f, "base", f)) != adjoint]
    reads = [str(a.base.label) for f in rest for a in f.atoms(sp.Indexed)]
    if len(rest) != len(factors) - 1 or any(r in facts.backward for r in reads):
        return None
    below = facts.symbols[facts.symbols.derived[equation.name]]
    over = folded.get(adjoint, facts.symbols[adjoint])
    return product([over, Call(function_of(label, prime=True), (below,))], ".*")


def activated_from(facts: Facts, equation: Equation) -> str | None:
    """The activation's result above the tensor whose adjoint this is, if one equation leads to it."""
    tensor = facts.symbols.derived.get(equation.name)
    if tensor not in facts.spine[:-1] or tensor is None:
        return None
    upper = facts.spine[facts.spine.index(tensor) + 1]
    if not facts.activation_label(upper) or not facts.is_single(tensor, upper):
        return None
    return upper if upper in facts.derivation.derived.adjoint else None


def derivative_words(facts: Facts, equation: Equation) -> Phrase:
    upper = activated_from(facts, equation)
    assert upper is not None
    return derivative_rule(facts, facts.written.defined[upper], facts.tensor(facts.symbols.derived[equation.name]))

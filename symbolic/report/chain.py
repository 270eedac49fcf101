"""For a weight of every layer, the chain of partial derivatives from the loss to the weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import sympy as sp

from ..breaking import estimated_width
from ..language import SAMPLE, Tensor
from ..model import LOSS
from ..notation import (
    Call,
    Cases,
    Math,
    Name,
    Over,
    Partial,
    Sign,
    notation,
    product,
    total,
)
from .document import Block, Display, Paragraph, Phrase, Section, Step
from .facts import LOSS_NAME, Facts, element_symbol, function_of
from .local import local_derivative, loss_factors
from .spine import spine

if TYPE_CHECKING:
    pass


LONGEST_CHAIN = 8  # factors; beyond, an ellipsis stands for those in the middle, as in the note
WIDEST_DEFINITION = 25.0  # in letters, where an equation is put into a chain
CHAIN_WORDS = (
    "The factors are those of one sample, and the derivative is the sum over the samples n. The derivative "
    "of a vector by a vector is the matrix of its partial derivatives, that of the loss by a vector a row."
)


def chain_section(facts: Facts) -> Section:
    """For a weight of every layer, the chain rule from the loss to the weight, and what each factor is."""
    blocks: list[Block] = []
    chosen = [p for p in facts.written.parameters if len(p.indices) > 1] or list(facts.written.parameters)
    pairs: dict[tuple[str, str], None] = {}
    before: tuple[str, ...] = ()
    per_sample = is_per_sample(facts)
    if per_sample:
        blocks.append(Paragraph((CHAIN_WORDS,)))
    else:
        blocks.append(Paragraph(("Every product is a sum over all elements of the tensor between its factors.",)))
    for parameter in reversed(chosen):
        nodes = chain_nodes(facts, parameter.name)
        if not nodes:
            continue
        blocks.append(
            Paragraph(
                (
                    "For ",
                    element_symbol(facts, parameter),
                    ", an element of ",
                    facts.symbols[parameter.name],
                    ":",
                )
            )
        )
        blocks.append(Display(tuple(chain_steps(facts, parameter, nodes, before, per_sample))))
        pairs |= dict.fromkeys(zip(nodes, (*nodes[1:], parameter.name), strict=True))
        before = nodes
    hidden = (SAMPLE,) if per_sample else ()
    factors = loss_factors(facts, hidden) if pairs else []
    factors += [step for upper, lower in pairs if (step := local_derivative(facts, upper, lower, hidden))]
    if factors:
        blocks += [Paragraph(("The factors are",)), Display(tuple(factors))]
    return Section("The chain of partial derivatives", tuple(blocks))


def is_per_sample(facts: Facts) -> bool:
    """Whether the output for a sample depends on that sample alone: the chain can be read for one sample."""
    for equation in facts.written.equations:
        if equation.name not in facts.output_needs or equation.name not in facts.on_data:
            continue
        if not equation.indices or equation.indices[0].symbol != SAMPLE:
            return False
        reads = [r for r in equation.expr.atoms(sp.Indexed) if str(r.base.label) in facts.on_data]
        if any(
            r.indices[0] != SAMPLE or any(i.has(SAMPLE) for i in r.indices[1:] if not i.has(sp.Indexed)) for r in reads
        ):
            return False
    return True


def chain_nodes(facts: Facts, parameter: str) -> tuple[str, ...]:
    """The tensors between the loss and a parameter, from the output to the parameter."""
    if facts.data_loss is None:
        return ()
    penalties = [e.name for e in facts.written.equations if e.name not in facts.on_data]
    found = spine(facts.written, parameter, facts.data_loss, penalties)
    return tuple(reversed([name for name in found[1:] if name in facts.output_needs]))


def chain_steps(
    facts: Facts, parameter: Tensor, nodes: tuple[str, ...], before: tuple[str, ...], per_sample: bool
) -> list[Step]:
    """The chain rule, one tensor a line; what it shares with the layer before is not repeated."""
    element = element_symbol(facts, parameter)
    assert facts.data_loss is not None
    top = facts.symbols[facts.data_loss]
    left, steps = Partial(LOSS_NAME, element), []
    penalties = [e for e in facts.written.equations if e.name not in facts.on_data and parameter.name in e.reads]
    if facts.data_loss != LOSS:
        terms_ = [Partial(facts.symbols[n], element) for n in (facts.data_loss, *(p.name for p in penalties))]
        cited = facts.cited([LOSS])
        steps.append(Step(left, total(*terms_), (f"linearity of the sum {cited}",)))
        left = Partial(top, element)
    shared = len([1 for a, b in zip(nodes, before, strict=False) if a == b])
    start = max(1, min(shared, len(nodes) - 1))
    lead: Math | None = left
    for count in range(start, len(nodes) + 1):
        node = nodes[count - 1]
        passed = [facts.symbols[n] for n in nodes[:count]]
        rule: Phrase = ("chain rule through ", facts.symbols[node])
        if count == start and start > 1:
            rule = ("chain rule as above, to ", facts.symbols[node])
        steps.append(Step(lead, summed(chain(top, passed, element), per_sample), rule))
        lead = None
        definition = definition_of(facts, nodes, count)
        if definition is not None:
            last = chain(top, passed, element, definition)
            steps.append(Step(None, summed(last, per_sample), (f"equation {facts.cited([node])}",)))
    gradient = facts.derivation.gradients[parameter.name]
    steps.append(
        Step(
            None,
            notation(gradient.expr, facts.symbols),
            (f"each factor put in, see {facts.cited([gradient.name])}",),
        )
    )
    if facts.data_loss != LOSS:
        steps[-1] = Step(Partial(LOSS_NAME, element), *_rest(steps[-1]))
    return steps


def _rest(step: Step) -> tuple[Math, Phrase]:
    return step.right, step.rule


def summed(form: Math, per_sample: bool) -> Math:
    return Over("sum", Name("n"), form) if per_sample else form


def chain(top: Math, passed: Sequence[Math], element: Math, last: Math | None = None) -> Math:
    """dL/dy_hat dy_hat/dx^(K) ... dx^(k)/dw; `last` stands for the last tensor, its equation put in."""
    names = [top, *passed]
    factors: list[Math] = [Partial(a, b) for a, b in pairwise(names)]
    factors.append(Partial(last if last is not None else names[-1], element))
    if len(factors) > LONGEST_CHAIN:
        factors = [*factors[:3], Sign("..."), *factors[-3:]]
    return product(factors, "*")


def definition_of(facts: Facts, nodes: tuple[str, ...], count: int) -> Math | None:
    """The equation of a tensor in the chain, where one equation leads to it from the next."""
    node = nodes[count - 1]
    label = facts.activation_label(node)
    if label and count < len(nodes):
        return Call(function_of(label), (facts.symbols[nodes[count]],))
    if count < len(nodes) and not facts.is_single(nodes[count], node):
        return None
    form = facts.matrix_form(node)
    is_short = form is not None and estimated_width(form) < WIDEST_DEFINITION
    return form if is_short and not isinstance(form, Cases) else None

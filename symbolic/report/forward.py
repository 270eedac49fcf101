"""The model and its loss: in vectors and matrices where they have that shape, and as they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sympy as sp

from ..activations import Activation, Z
from ..breaking import estimated_width
from ..functions import MaxOver, unit_max, unit_sum
from ..language import SAMPLE, Equation, elements, index, name_of, where_of
from ..losses import LOSSES
from ..model import LOSS, OUTPUT
from ..notation import (
    Call,
    Group,
    Math,
    Name,
    Product,
    Total,
    at,
    notation,
    subscript,
)
from .document import Block, Display, Paragraph, Section, Step
from .facts import Facts, function_of

if TYPE_CHECKING:
    pass


LONGEST_NESTED = 4  # products; beyond, the nested form is no longer read
WIDEST_NESTED = 80.0


def model_section(facts: Facts) -> Section:
    """The layers, in the notation of vectors and matrices, nested, and as they run."""
    blocks: list[Block] = []
    steps = [step for name in facts.spine[1:] if (step := layer_step(facts, name))]
    if steps:
        blocks.append(Display(tuple(steps)))
    definitions = activation_definitions(facts)
    if definitions:
        blocks += [Paragraph(("with the activations",)), Display(tuple(definitions))]
    nested = nested_form(facts)
    if len(nested) > 1:
        blocks += [Paragraph(("One inside the other:",)), Display(tuple(nested))]
    blocks.append(Paragraph(("As it runs:",)))
    blocks += [facts.running(e) for e in running_parts(facts)[0]]
    return Section("The model", tuple(blocks))


def running_parts(facts: Facts) -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
    """The equations up to the output of the model, and those of the loss."""
    equations = facts.derivation.forward.equations
    cut = 1 + max((k for k, e in enumerate(equations) if e.name == OUTPUT), default=len(equations) - 1)
    return equations[:cut], equations[cut:]


def layer_step(facts: Facts, name: str) -> Step | None:
    """x^(k) = a^(k)(W^(k) x^(k-1) + b^(k)); a product that an activation follows is shown with it."""
    label = facts.activation_label(name)
    if label:
        below = facts.spine[facts.spine.index(name) - 1]
        inner = facts.matrix_form(below)
        rule = facts.phrase(facts.written.defined[name].rule)
        return Step(facts.symbols[name], Call(function_of(label), (inner or facts.symbols[below],)), rule)
    place = facts.spine.index(name)
    if place + 1 < len(facts.spine) and facts.activation_label(facts.spine[place + 1]) and facts.matrix_form(name):
        return None
    if not facts.is_single(facts.spine[place - 1], name):
        return None
    form = facts.matrix_form(name)
    return Step(facts.symbols[name], form, facts.phrase(facts.written.defined[name].rule)) if form else None


def activation_definitions(facts: Facts) -> list[Step]:
    """a^(k)(z) = ..., from the formulas that the user gave, else from the equations."""
    steps = []
    for name in facts.spine[1:]:
        label = facts.activation_label(name)
        if not label:
            continue
        equation = facts.written.defined[name]
        given = getattr(facts.layer_of(equation), "activation", None)
        if isinstance(given, Activation):
            steps.append(activation_step(facts, given, label))
            continue
        below = facts.spine[facts.spine.index(name) - 1]
        steps.append(formula_step(facts, equation, below, label))
    return steps


def formula_step(facts: Facts, equation: Equation, below: str, label: str) -> Step:
    """a^(k)(z) of an equation: of one number z, where it reads no other element, else element by element."""
    own = tuple(i.symbol for i in equation.indices)
    reads = [r for r in elements(equation.expr) if name_of(r) == below]
    rule = facts.phrase(equation.rule)
    if all(where_of(r) == own for r in reads):
        expr = equation.expr.xreplace(dict.fromkeys(reads, Z))
        return Step(Call(function_of(label), (Name("z"),)), notation(expr, facts.symbols, (SAMPLE,)), rule)
    z = sp.IndexedBase("z", real=True)
    expr = equation.expr.xreplace({r: z[where_of(r)[1:]] for r in reads})
    left = at(Call(function_of(label), (Name("z"),)), subscript(Name(s.name) for s in own if s != SAMPLE))
    return Step(left, notation(expr, facts.symbols, (SAMPLE,)), rule)


def activation_step(facts: Facts, given: Activation, label: str) -> Step:
    """The formula of an activation; one that looks at all units is written unit by unit."""
    own = {sp.Symbol(s, real=True): sp.Symbol(f"{s}{label}", real=True) for s in given.parameters}
    expr = given.expr.xreplace(own)
    if not expr.has(unit_sum, unit_max):
        return Step(Call(function_of(label), (Name("z"),)), notation(expr, facts.symbols), (given.name,))
    i, j = index("i", 1), index("j", 1)
    z = sp.IndexedBase("z", real=True)
    expr = expr.xreplace({Z: z[i.symbol]})
    for marker, contraction in ((unit_sum, sp.Sum), (unit_max, MaxOver)):
        expr = expr.replace(
            marker, lambda body, c=contraction: c(body.xreplace({i.symbol: j.symbol}), (j.symbol, 0, sp.oo))
        )
    left = at(Call(function_of(label), (Name("z"),)), Name("i"))
    return Step(left, notation(expr, facts.symbols), (given.name,))


def nested_form(facts: Facts) -> list[Step]:
    """y_hat = W^(o) a^(K)(W^(K) ... ), one substitution a line, from the output to the input."""
    names = facts.spine[1:]
    is_chain = all(name in facts.labels or facts.activation_label(name) for name in names)
    if not is_chain or len([n for n in names if n in facts.labels]) > LONGEST_NESTED:
        return []
    steps: list[Step] = []
    for cut in range(len(names) - 1, -1, -1):
        form = composed(facts, names[cut:])
        if form is None or estimated_width(form) > WIDEST_NESTED:
            return steps
        is_product_alone = facts.activation_label(names[cut]) is not None and cut > 0
        if not is_product_alone:  # z inside of a is shown at once
            steps.append(Step(facts.symbols[OUTPUT] if not steps else None, form, ()))
    return steps


def composed(facts: Facts, names: Sequence[str]) -> Math | None:
    """The last of the names in terms of what comes before the first."""
    form: Math | None = None
    for k, name in enumerate(names):
        below = facts.spine[facts.spine.index(name) - 1]
        inner = {below: bracketed(form)} if form is not None and k > 0 else {}
        label = facts.activation_label(name)
        if label:
            argument = form if k > 0 else facts.symbols[below]
            form = Call(function_of(label), (argument,)) if argument else None
        elif facts.is_single(below, name):
            form = facts.matrix_form(name, inner)
        else:
            return None
        if form is None:
            return None
    return form


def bracketed(form: Math) -> Math:
    return Group(form) if isinstance(form, Total | Product) else form


def loss_section(facts: Facts) -> Section:
    """The loss of a sample, of a batch, the penalties."""
    model, program = facts.derivation.model, facts.written
    loss = model.loss
    title = loss.name if loss.name in LOSSES else "a formula"
    values = ", ".join(f"{k} = {v:g}" for k, v in loss.hyperparameters.items())
    outputs = "mean over its outputs" if loss.over == "mean" else "sum over its outputs"
    batch = "the weighted mean over the samples" if facts.derivation.variant.weighted else "the mean over the samples"
    assert isinstance(loss.formula, sp.Expr)
    phrase: list[str | Math] = [
        f"{title}{f' with {values}' if values else ''}: the loss of a sample is the {outputs} of "
    ]
    phrase += [notation(loss.formula, facts.symbols), f", the loss of a batch {batch}."]
    if facts.derivation.variant.classes:
        phrase += [" The target is the number of a class: here y is 1 for that class and 0 for the others."]
    blocks: list[Block] = [Paragraph(tuple(phrase))]
    steps = [step for name in loss_names(facts) if (step := plain_step(facts, name))]
    if steps:
        blocks.append(Display(tuple(steps)))
    penalties = [e for e in program.equations if e.name not in facts.on_data]
    for penalty in model.penalties:
        assert isinstance(penalty.formula, sp.Expr)
        given = ", ".join(f"{k} = {v:g}" for k, v in penalty.hyperparameters.items())
        chosen = penalty.on if isinstance(penalty.on, str) else ", ".join(penalty.on)
        words = f"Penalty {penalty.name} on {chosen}, the sum over the elements w of "
        blocks.append(
            Paragraph((words, notation(penalty.formula, facts.symbols), f", with {given}." if given else "."))
        )
    steps = [step for e in penalties if (step := plain_step(facts, e.name))]
    if steps:
        blocks.append(Display(tuple(steps)))
    blocks.append(Paragraph(("As it runs:",)))
    blocks += [facts.running(e) for e in running_parts(facts)[1]]
    return Section("The loss", tuple(blocks))


def loss_names(facts: Facts) -> list[str]:
    """What is computed behind the output, on the way to the loss."""
    names = [e.name for e in facts.written.equations if e.name not in facts.output_needs and e.name in facts.on_data]
    return [LOSS, *(name for name in reversed(names) if name != LOSS)]


def plain_step(facts: Facts, name: str) -> Step | None:
    form = facts.matrix_form(name)
    return Step(facts.symbols[name], form, facts.phrase(facts.written.defined[name].rule)) if form else None

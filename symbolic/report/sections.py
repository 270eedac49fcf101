"""The sections of a report: the model, the loss, the chain of partial derivatives, the closed form, the update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sympy as sp

from ..activations import Activation, Z
from ..breaking import estimated_width
from ..contract import Term, contract, fresh, terms
from ..functions import CONTRACTIONS, MaxOver, unit_max, unit_sum
from ..language import SAMPLE, SAMPLES, Equation, Kind, Role, Tensor, index
from ..layers import Activate, Dense, Dropout, Equations
from ..losses import LOSSES
from ..model import LOSS, OUTPUT
from ..normalise import index_names
from ..notation import (
    Call,
    Group,
    Math,
    Name,
    Over,
    Partial,
    Product,
    Sign,
    Symbols,
    Total,
    Word,
    at,
    notation,
    plain_symbol,
    product,
    subscript,
    total,
    transposed,
)
from .document import Block, Display, Document, Paragraph, Phrase, Section, Step, Table
from .facts import WIDEST_FORM, Facts
from .matrix import matrix_expression
from .spine import depending_on, spine

if TYPE_CHECKING:
    from ..derivation import Derivation
    from ..model import Model
    from ..optimisers import Optimiser

LONGEST_NESTED = 4  # products; beyond, the nested form is no longer read
LONGEST_CHAIN = 8  # factors; beyond, an ellipsis stands for those in the middle, as in the note
WIDEST_NESTED = 80.0
WIDEST_DEFINITION = 25.0  # in letters, where an equation is put into a chain
LOSS_NAME = Name("L")
CHAIN_WORDS = (
    "The factors are those of one sample, and the derivative is the sum over the samples n. The derivative of a vector "
    "by a vector is the matrix of its partial derivatives, that of the loss by a vector a row."
)


def document(derivation: Derivation, optimiser: Optimiser | None = None) -> Document:
    """The report on a derivation; with an optimiser, its update too."""
    facts = Facts(derivation)
    sections = [
        symbols_section(facts),
        model_section(facts),
        loss_section(facts),
        chain_section(facts),
        gradient_section(facts),
    ]
    if optimiser is not None:
        sections.append(update_section(optimiser))
    return Document(f"{derivation.model.name}: {model_line(derivation.model)}", tuple(sections))


# Symbols


def model_line(model: Model) -> str:
    """A model in one line.

    >>> from ..model import Model
    >>> model_line(Model(2, [Dense(3, "tanh"), Dense(1)]))
    '2 inputs, dense 3 tanh, dense 1, squared_error'
    """
    size = " x ".join(map(str, model.inputs))
    layers = [layer_line(layer) for layer in model.layers]
    penalties = [p.name for p in model.penalties]
    return ", ".join([f"{size} input{'s' * (size != '1')}", *layers, model.loss.name, *penalties])


def layer_line(layer: object) -> str:
    if isinstance(layer, Dense):
        name = "" if layer.activation.name == "identity" else f" {layer.activation.name}"
        return f"dense {layer.units}{name}"
    if isinstance(layer, Activate):
        return str(layer.activation.name)
    if isinstance(layer, Dropout):
        return f"dropout {layer.rate:g}"
    if isinstance(layer, Equations):
        return f"equations for {layer.output}"
    return type(layer).__name__.lower()


def symbols_section(facts: Facts) -> Section:
    """What every symbol stands for."""
    program = facts.written
    shown = [*program.tensors, *(facts.tensor(name) for name in facts.spine[1:]), facts.tensor(LOSS)]
    rows = [((Name("N"),), (), ("number of samples",))]
    rows += [((facts.symbols[t.name],), shape(facts, t), meaning(facts, t)) for t in shown]
    rows += [((Name("delta", label=(label,)),), shape(facts, facts.tensor(name)),
              ("the derivative ", Partial(LOSS_NAME, facts.symbols[name])))
             for name, label in facts.labels.items() if name in facts.derivation.derived.adjoint]  # fmt: skip
    lines = [
        "Vectors are columns, one for every sample n; the subscript n is left out where it is the same throughout. "
        "Functions, powers and quotients of vectors are taken element by element, ",
        Sign(".*"),
        " is the product element by element. Numbers in brackets are those of the equations as they run; "
        "generated code cites them.",
    ]
    return Section("Symbols", (Table(("symbol", "shape", "meaning"), tuple(rows)), Paragraph(tuple(lines))))


def shape(facts: Facts, tensor: Tensor) -> Phrase:
    """The extents of a tensor, as symbols and as numbers."""
    if not tensor.indices:
        return ("one number",)
    parts: list[str | Math] = []
    for extent in tensor.shape:
        parts += [" x ", notation(extent, facts.symbols)]
    sizes = [str(e if e == SAMPLES else facts.written.size(e)) for e in tensor.shape]
    return (*parts[1:], f" ({' x '.join(sizes)})")


def meaning(facts: Facts, tensor: Tensor) -> Phrase:
    """What a tensor is to the model."""
    if tensor.role is Role.INTERMEDIATE:
        if tensor.name == OUTPUT:
            return ("the output of the model",)
        if tensor.name == LOSS:
            return ("the loss",)
        return facts.phrase(facts.written.defined[tensor.name].rule)
    if tensor.role is Role.PARAMETER:
        readers = [e for e in facts.written.equations if tensor.name in e.reads]
        kind = {0: "one number", 1: "vector"}.get(len(tensor.indices), "weights")
        return (f"{kind} to be trained, ", *facts.phrase(readers[0].rule if readers else "not used"))
    words = {
        Role.INPUT: "the input" if tensor.kind is Kind.REAL else "the input, integers",
        Role.TARGET: "the target" if tensor.kind is Kind.REAL else "the target, the number of a class",
        Role.WEIGHT: "the weights of the samples",
        Role.NOISE: "noise, drawn anew in every step",
    }
    return (words.get(tensor.role, str(tensor.role)),)


# 1. The model


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


def function_of(label: str, prime: bool = False) -> Name:
    return Name("a", label=(label,), prime=prime)


def layer_step(facts: Facts, name: str) -> Step | None:
    """x^(k) = a^(k)(W^(k) x^(k-1) + b^(k)); a product that an activation follows is shown with it."""
    label = facts.activation_label(name)
    if label:
        below = facts.spine[facts.spine.index(name) - 1]
        inner = facts.matrix_form(below)
        rule = facts.phrase(facts.written.defined[name].rule)
        return Step(facts.symbols[name], Call(function_of(label), (inner or facts.symbols[below],)), rule)
    place = facts.spine.index(name)
    if (
        place + 1 < len(facts.spine)
        and facts.activation_label(facts.spine[place + 1])
        and facts.matrix_form(name)
    ):
        return None
    if not is_single(facts, facts.spine[place - 1], name):
        return None
    form = facts.matrix_form(name)
    return Step(facts.symbols[name], form, facts.phrase(facts.written.defined[name].rule)) if form else None


def is_single(facts: Facts, lower: str, upper: str) -> bool:
    """Whether one equation leads from a tensor to its neighbour on the spine."""
    between = depending_on(facts.written, [lower]) - {lower}
    return all(read not in between for read in facts.written.defined[upper].reads)


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
        form = facts.matrix_form(name, {below: Name("z")}) if is_single(facts, below, name) else None
        if form:
            steps.append(Step(Call(function_of(label), (Name("z"),)), form, facts.phrase(equation.rule)))
    return steps


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
    if len([n for n in names if n in facts.labels]) > LONGEST_NESTED:
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
        elif is_single(facts, below, name):
            form = facts.matrix_form(name, inner)
        else:
            return None
        if form is None:
            return None
    return form


def bracketed(form: Math) -> Math:
    return Group(form) if isinstance(form, Total | Product) else form


# 2. The loss


def loss_section(facts: Facts) -> Section:
    """The loss of a sample, of a batch, the penalties."""
    model, program = facts.derivation.model, facts.written
    loss = model.loss
    title = loss.name if loss.name in LOSSES else "a formula"
    values = ", ".join(f"{k} = {v:g}" for k, v in loss.hyperparameters.items())
    outputs = "mean over its outputs" if loss.over == "mean" else "sum over its outputs"
    batch = (
        "the weighted mean over the samples"
        if facts.derivation.variant.weighted
        else "the mean over the samples"
    )
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
    names = [
        e.name
        for e in facts.written.equations
        if e.name not in facts.output_needs and e.name in facts.on_data
    ]
    return [LOSS, *(name for name in reversed(names) if name != LOSS)]


def plain_step(facts: Facts, name: str) -> Step | None:
    form = facts.matrix_form(name)
    return Step(facts.symbols[name], form, facts.phrase(facts.written.defined[name].rule)) if form else None


# 3. The chain of partial derivatives


def chain_section(facts: Facts) -> Section:
    """For a weight of every layer, the chain rule from the loss to the weight, and what each factor is."""
    blocks: list[Block] = []
    chosen = [p for p in facts.written.parameters if len(p.indices) > 1] or list(facts.written.parameters)
    pairs: dict[tuple[str, str], None] = {}
    before: tuple[str, ...] = ()
    per_sample = is_per_sample(facts)
    if per_sample:
        blocks.append(Paragraph((CHAIN_WORDS,)))
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
    """Whether the output for a sample depends on that sample alone, so that the chain can be read for one sample."""
    for equation in facts.written.equations:
        if equation.name not in facts.output_needs or equation.name not in facts.on_data:
            continue
        if not equation.indices or equation.indices[0].symbol != SAMPLE:
            return False
        reads = [r for r in equation.expr.atoms(sp.Indexed) if str(r.base.label) in facts.on_data]
        if any(
            r.indices[0] != SAMPLE or any(i.has(SAMPLE) for i in r.indices[1:] if not i.has(sp.Indexed))
            for r in reads
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


def element_symbol(facts: Facts, parameter: Tensor) -> Math:
    """w_ij^(k): an element is written with the small letter of its matrix."""
    symbol = facts.symbols[parameter.name]
    if isinstance(symbol, Name) and len(symbol.base) == 1:
        symbol = Name(symbol.base.lower(), symbol.hat, symbol.label)
    return at(symbol, subscript(Name(i.name) for i in parameter.indices))


def chain_steps(
    facts: Facts, parameter: Tensor, nodes: tuple[str, ...], before: tuple[str, ...], per_sample: bool
) -> list[Step]:
    """The chain rule, one tensor a line; what it shares with the layer before is not repeated."""
    element = element_symbol(facts, parameter)
    assert facts.data_loss is not None
    top = facts.symbols[facts.data_loss]
    left, steps = Partial(LOSS_NAME, element), []
    penalties = [
        e for e in facts.written.equations if e.name not in facts.on_data and parameter.name in e.reads
    ]
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
    """dL/dy_hat dy_hat/dx^(K) ... dx^(k)/dw; `last` stands for the last tensor where its equation is put in."""
    names = [top, *passed]
    factors: list[Math] = [Partial(a, b) for a, b in zip(names, names[1:], strict=False)]
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
    if count < len(nodes) and not is_single(facts, nodes[count], node):
        return None
    form = facts.matrix_form(node)
    return form if form is not None and estimated_width(form) < WIDEST_DEFINITION else None


def local_derivative(facts: Facts, upper: str, lower: str, hidden: tuple[sp.Symbol, ...]) -> Step | None:
    """The derivative of a tensor by its neighbour below, from their equation: a matrix, a diagonal, or by elements."""
    equation = facts.written.defined[upper]
    if not is_single(facts, lower, upper) or lower not in equation.reads or equation.constant:
        return None
    tensor = facts.tensor(lower)
    column = {i.symbol: fresh(i.symbol) for i in tensor.indices}
    slope = sp.diff(equation.expr, tensor.element.xreplace(column))
    extents = {i.symbol: i.extent for i in equation.indices} | {
        column[i.symbol]: i.extent for i in tensor.indices
    }
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
    factors = [Partial(a, b) for a, b in zip(symbols, symbols[1:], strict=False)]
    steps = [Step(Partial(symbols[0], symbols[-1]), product(factors, "*"), tuple(rule))]
    pairs = zip(found, found[1:], strict=False)
    return steps + [step for upper, lower in pairs if (step := local_derivative(facts, upper, lower, hidden))]


def derivative_rule(facts: Facts, equation: Equation, lower: Tensor) -> Phrase:
    """What gives a local derivative."""
    if lower.role is Role.PARAMETER:
        return ("linearity: no other term depends on it",)
    is_linear = equation.name in facts.labels or equation.name in (LOSS, facts.data_loss)
    if isinstance(equation.contraction, sp.Sum) and is_linear:
        return ("linearity of the sum",)
    given = getattr(facts.layer_of(equation), "activation", None)
    name = (
        given.name
        if isinstance(given, Activation) and given.name != "formula"
        else equation.rule.split(", ")[-1]
    )
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


# 4. The closed form


def gradient_section(facts: Facts) -> Section:
    """The gradient of every tensor from the output back: with matrices where it has that shape, and as it runs."""
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
    """delta = (W^T delta) .* a'(z), where an adjoint times the derivative of an activation is what the equation says."""
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
    if not facts.activation_label(upper) or not is_single(facts, tensor, upper):
        return None
    return upper if upper in facts.derivation.derived.adjoint else None


def derivative_words(facts: Facts, equation: Equation) -> Phrase:
    upper = activated_from(facts, equation)
    assert upper is not None
    return derivative_rule(
        facts, facts.written.defined[upper], facts.tensor(facts.symbols.derived[equation.name])
    )


# 5. The update


def update_section(optimiser: Optimiser) -> Section:
    """The optimiser's rule, with its symbols, and as it runs with the numbers put in."""
    words = "For every element w of every parameter, with g the derivative of the loss by w, in step t = 1, 2, ...:"
    values = ", ".join(f"{k} = {v:g}" for k, v in optimiser.hyperparameters.items())
    blocks: list[Block] = [
        Paragraph((f"{optimiser.name}. {words}",)),
        Display(tuple(update_steps((*optimiser.scalar_updates, *optimiser.updates)))),
    ]
    if values:
        blocks.append(Paragraph((f"with {values}. As it runs, with these numbers:",)))
        bound = optimiser.bound
        blocks.append(Display(tuple(update_steps((*bound.scalar_updates, *bound.updates)))))
    return Section("The update", tuple(blocks))


def update_steps(updates: Iterable[tuple[str, sp.Expr]]) -> list[Step]:
    symbols = Symbols((), {}, {})
    return [Step(plain_symbol(name), notation(expr, symbols), (), "<-") for name, expr in updates]

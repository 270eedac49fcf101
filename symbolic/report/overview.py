"""What the symbols of a report stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..language import SAMPLES, Kind, Role, Tensor
from ..layers import Activate, Dense, Dropout, Equations
from ..model import LOSS, OUTPUT
from ..notation import (
    Math,
    Name,
    Partial,
    Sign,
    notation,
)
from .document import Paragraph, Phrase, Section, Table
from .facts import LOSS_NAME, Facts

if TYPE_CHECKING:
    from ..model import Model


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
    rows: list[tuple[Phrase, ...]] = [((Name("N"),), (), ("number of samples",))]
    rows += [((facts.symbols[t.name],), shape(facts, t), meaning(facts, t)) for t in shown]
    rows += [delta_row(facts, name) for name in facts.labels if name in facts.derivation.derived.adjoint]
    return Section("Symbols", (Table(("symbol", "shape", "meaning"), tuple(rows)), Paragraph(CONVENTIONS)))


CONVENTIONS: Phrase = (
    (
        "Vectors are columns, one for every sample n; the subscript n is left out where it is the same "
        "throughout. Functions, powers and quotients of vectors are taken element by element, "
    ),
    Sign(".*"),
    (
        " is the product element by element. Numbers in brackets are those of the equations as they run; "
        "generated code cites them."
    ),
)


def delta_row(facts: Facts, name: str) -> tuple[Phrase, ...]:
    """delta^(k): the derivative of the loss by the result of layer k's product."""
    symbol = Name("delta", label=(facts.labels[name],))
    return (
        (symbol,),
        shape(facts, facts.tensor(name)),
        ("the derivative ", Partial(LOSS_NAME, facts.symbols[name])),
    )


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

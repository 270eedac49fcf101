"""The summary of a model: its layers, the shapes that come out of them, and how many parameters they have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sympy as sp

from ..symbolic.layers import Activate, Dense, Dropout, Equations, Layer, Piece
from ..symbolic.model import Model, Variant, expand, layer_pieces
from ..symbolic.text import expression_text

HEADINGS: Final = ("layer", "what", "output shape", "parameters", "count")
WIDEST: Final = 34


@dataclass(frozen=True)
class Row:
    """One layer: its number, what it is, the shape that comes out, its parameters and their count."""

    number: str
    what: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    count: int = 0


def rows(model: Model) -> list[Row]:
    """The input and every layer of a model.

    >>> from chainrule.symbolic.layers import Dense
    >>> [row.count for row in rows(Model(2, [Dense(3, "tanh"), Dense(1)]))]
    [0, 9, 4]
    """
    variant = Variant(classes=model.loss.classes, training=True)
    sizes = expand(model, variant).sizes

    def shape(extents: Sequence[sp.Expr]) -> tuple[int, ...]:
        return tuple(int(e.xreplace({k: sp.Integer(v) for k, v in sizes.items()})) for e in extents)

    def row(number: int, layer: Layer, piece: Piece) -> Row:
        own = [t for t in piece.tensors if t.role == "parameter"]
        names, count = tuple(t.name for t in own), sum(math.prod(shape(t.shape)) for t in own)
        return Row(str(number), described(layer), shape(piece.outgoing.shape[1:]), names, count)

    pieces = zip(model.layers, layer_pieces(model, variant), strict=True)
    body = [row(number, layer, piece) for number, (layer, piece) in enumerate(pieces, start=1)]
    return [Row("", "input", model.inputs), *body]


def described(layer: Layer) -> str:
    """A layer in a few words.

    >>> described(Dense(3, "z*tanh(z)"))
    'dense, z tanh(z)'
    """
    match layer:
        case Dense() | Activate():
            given = layer.activation
            name = expression_text(given.expr) if given.name == "formula" else given.name
            text = f"dense, {name}" if isinstance(layer, Dense) else name
        case Dropout():
            text = f"dropout, rate {layer.rate:g}"
        case Equations():
            text = f"equations -> {layer.output}"
        case _:
            text = type(layer).__name__.lower()
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def summary(model: Model) -> str:
    """The table as text.

    >>> from chainrule.symbolic.layers import Dense
    >>> print(summary(Model(2, [Dense(3, "tanh"), Dense(1)])))
    layer  what             output shape  parameters  count
    -----  ---------------  ------------  ----------  -----
           input            2
        1  dense, tanh      3             W1 b1           9
        2  dense, identity  1             Wo bo           4
    -----  ---------------  ------------  ----------  -----
                                             total          13
    loss squared_error
    """
    body = [
        (
            r.number,
            r.what,
            " x ".join(map(str, r.shape)),
            " ".join(r.names),
            f"{r.count:,}" if r.names else "",
        )
        for r in rows(model)
    ]
    end = ("", "", "", "total", f"{sum(r.count for r in rows(model)):,}")
    given = model.loss
    name = expression_text(given.expr) if given.name == "formula" else given.name
    penalties = "".join(f", penalty {p.name}" for p in model.penalties)
    return f"{table(HEADINGS, body, end)}\nloss {name}{penalties}"


def table(headings: Sequence[str], body: Sequence[Sequence[str]], end: Sequence[str]) -> str:
    """Columns as wide as what stands in them; the first and the last are set to the right."""
    lines = [headings, *body, end]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    rule = "  ".join("-" * width for width in widths)
    right = (0, len(headings) - 1)

    def set_line(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join([set_line(headings), rule, *map(set_line, body), rule, set_line(end)])

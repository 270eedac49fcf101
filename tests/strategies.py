"""Random models of the language: layers, equations of one's own, activations, losses, penalties, dropout, weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from chainrule.symbolic.activations import ACTIVATIONS, Activation
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations, Layer
from chainrule.symbolic.losses import LOSSES, Loss
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.penalties import L1, L2, ElasticNet, Penalty

LAST = {  # the last activation whose values a loss takes
    "real": ("identity", "tanh"),
    "probability": ("sigmoid",),
    "sign": ("identity", "tanh"),
    "count": ("exp", "softplus"),
}
BINARY = ("z + u", "z*u", "z - u/3", "where(z > u, z, u/2)", "max(z, u)", "tanh(u)*z")
UNARY = (
    "tanh(z)", "sigmoid(2*z)", "softplus(z)", "z**2/4", "sin(z)", "exp(-z**2)", "log(1 + z**2)", "abs(z) + z/3",
    "sqrt(1 + z**2)", "where(z <= 0, z/5, z)", "z/(1 + abs(z))", "log1p(z**2)", "atan(z)", "erf(z)",
)  # fmt: skip

small = st.integers(1, 3)
numbers = st.sampled_from((0.25, 0.5, 1.0, 1.5))


@st.composite
def formulas(draw: st.DrawFn, depth: int = 2) -> str:
    """A formula in z, of the unary ones within one another."""
    outer = draw(st.sampled_from(UNARY))
    return outer if depth < 2 or draw(st.booleans()) else f"({outer})*({draw(formulas(depth - 1))})"


@st.composite
def activations(draw: st.DrawFn) -> str | Activation:
    """A row of the table, a formula, or a formula with parameters and constants."""
    match draw(st.integers(0, 3)):
        case 0:
            return Activation("own", draw(formulas()))
        case 1:
            formula = f"alpha*({draw(formulas(1))}) + k*z"
            return Activation("bent", formula, {"alpha": draw(numbers)}, {"k": draw(numbers)}, draw(st.booleans()))
    return draw(st.sampled_from(sorted({*ACTIVATIONS} - {"hardsigmoid"})))


@st.composite
def equations(draw: st.DrawFn) -> Equations:
    """A layer of the user's own: a product, what is made of it, and perhaps a normalisation over its units."""
    units, norm, bias = draw(small), draw(st.booleans()), draw(st.booleans())
    lines = [f"z[n,i] = sum(j, V[i,j]*x[n,j]){' + c[i]' if bias else ''}"]
    lines.append(f"u[n,i] = {elementwise(draw(st.sampled_from(UNARY)))}")
    lines.append(f"h[n,i] = {elementwise(draw(st.sampled_from(BINARY)))}")
    if norm:
        kind = draw(
            st.sampled_from(("h[n,i] - mean(k, h[n,k])", "exp(h[n,i])/sum(k, exp(h[n,k]))", "s*max(k, h[n,k])"))
        )
        lines.append(f"o[n,i] = {kind} + h[n,i]/2")
    parameters: dict[str, Any] = {"V": ("i", "j")}
    parameters |= {"c": ("i",)} if bias else {}
    parameters |= {"s": ()} if "s*max" in lines[-1] else {}
    indices = {"i": units, **({"k": units} if norm else {})}
    return Equations("\n".join(lines), lines[-1][0], indices, parameters)


def elementwise(formula: str) -> str:
    """A formula in z and u as one of their elements.

    >>> elementwise("tanh(u)*z")
    'tanh(u[n,i])*z[n,i]'
    """
    return re.sub(r"\b([zu])\b", r"\1[n,i]", formula)


@st.composite
def hidden(draw: st.DrawFn) -> Layer:
    match draw(st.integers(0, 5)):
        case 0:
            return draw(equations())
        case 1:
            return Activate(Activation("alone", draw(formulas())))
        case 2:
            return Dropout(draw(st.sampled_from((0.25, 0.5))))
    initialiser = draw(st.sampled_from((None, "zeros", 0.5)))
    return Dense(draw(small), draw(activations()), draw(st.booleans()), initialiser)


@st.composite
def losses(draw: st.DrawFn) -> Loss:
    match draw(st.integers(0, 4)):
        case 0:
            formula = draw(
                st.sampled_from(("(y - y_hat)**2*k", "log(1 + k*(y - y_hat)**2)", "abs(y - y_hat)**3 + k*y_hat"))
            )
            return Loss("mine", formula, {"k": draw(numbers)}, over=draw(st.sampled_from(("mean", "sum"))))
    return Loss(draw(st.sampled_from(sorted(LOSSES))))


@st.composite
def penalties(draw: st.DrawFn) -> Penalty:
    on = draw(st.sampled_from(("weights", "all")))
    match draw(st.integers(0, 3)):
        case 0:
            return L1(draw(numbers), on)
        case 1:
            return ElasticNet(draw(numbers), 0.25, on)
        case 2:
            return Penalty("mine", "k*log(1 + w**2)", {"k": draw(numbers)}, on)
    return L2(draw(numbers), on)


@dataclass(frozen=True)
class Case:
    """A model and one form of its program."""

    model: Model
    variant: Variant


@st.composite
def models(draw: st.DrawFn, dropout: bool = True) -> Model:
    """A small model whose loss takes what its last layer gives."""
    layers = [draw(hidden()) for _ in range(draw(st.integers(0, 2)))]
    layers = [layer for layer in layers if dropout or not isinstance(layer, Dropout)]
    loss = draw(losses())
    units, heads = draw(small), len(loss.heads)
    last = "softmax" if loss.classes else draw(st.sampled_from(LAST[loss.targets]))
    layers.append(Dense(max(2, units) if loss.classes else units * heads, last))
    return Model(draw(small), layers, loss, draw(st.lists(penalties(), max_size=2)))


@st.composite
def cases(draw: st.DrawFn, dropout: bool = True) -> Case:
    model = draw(models(dropout))
    classes = model.loss.classes and draw(st.booleans())
    return Case(model, Variant(classes, draw(st.booleans()), dropout and draw(st.booleans())))

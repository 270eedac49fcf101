"""A model: what the user wrote. It becomes a program by `expand`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import sympy as sp

from .activations import Activation
from .check import check
from .errors import SpecError, nearest
from .language import SAMPLE_INDEX, SAMPLES, Equation, Index, Kind, Program, Role, Tensor, extent, index
from .layers import Activate, Dropout, Layer, Piece, Site, checked_size
from .limits import MOST_PENALTIES
from .losses import Loss
from .losses import loss as as_loss
from .memory import check_size
from .penalties import Penalty, W

if TYPE_CHECKING:
    from .derivation import Derivation

LOSS = "L"
OUTPUT = "y_hat"


@dataclass(frozen=True)
class Variant:
    """One form of a model's program.

    classes    targets are integers (the class), not numbers
    weighted   samples have weights
    training   dropout is there
    """

    classes: bool = False
    weighted: bool = False
    training: bool = False


@dataclass(frozen=True, init=False)
class Model:
    """Layers, a loss and penalties.

    inputs      number of features of a sample, or their shape
    layers      `Dense`, `Activation`, `Dropout`, `Equations`
    loss        a name, a formula in y and y_hat, a SymPy expression or a `Loss`
    penalties   `L1`, `L2`, `ElasticNet` or `Penalty`
    tokens      the inputs are integers below this number (for look-ups), not real numbers

    >>> from .layers import Dense
    >>> model = Model(2, [Dense(3, "tanh"), Dense(1)], loss="squared_error")
    >>> print(model.program())
    z1[n,i] = sum_j W1[i,j] x[n,j] + b1[i]
    x1[n,i] = tanh(z1[n,i])
    y_hat[n,i] = sum_j Wo[i,j] x1[n,j] + bo[i]
    l[n] = sum_i (y[n,i] - y_hat[n,i])^2/U_o
    L = sum_n l[n]/N

    Raises `SpecError` where the layers, the loss or the penalties do not fit one another.
    """

    inputs: tuple[int, ...]
    layers: tuple[Layer, ...]
    loss: Loss
    penalties: tuple[Penalty, ...]
    tokens: int | None
    name: str

    def __init__(
        self,
        inputs: int | Iterable[int],
        layers: Iterable[Layer | Activation],
        loss: str | sp.Expr | Loss = "squared_error",
        penalties: Iterable[Penalty] = (),
        tokens: int | None = None,
        name: str = "model",
    ) -> None:
        for what, given in (("inputs", inputs), ("layers", layers)):
            check_listed(given, what)
        shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        for size in shape:
            checked_size(size, "inputs", "model")
        if not shape:
            raise SpecError("model: inputs is empty; give the number of features of a sample")
        made = tuple(Activate(layer) if isinstance(layer, Activation) else layer for layer in layers)
        for number, layer in enumerate(made, start=1):
            if isinstance(layer, type) or not hasattr(layer, "equations"):
                raise SpecError(
                    f"layer {number}: {layer!r} is not a layer; use Dense, Activation, Dropout or Equations"
                )
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200:
            raise SpecError(f"model: name = {name!r}; give a line of text")
        if not made:
            raise SpecError("model: there is no layer; give at least one")
        penalties = tuple(Penalty(p) if isinstance(p, str) else p for p in penalties)
        check_number_of_penalties(len(penalties), "model")
        for penalty in penalties:
            if not isinstance(penalty, Penalty):
                raise SpecError(f"model: {penalty!r} is not a penalty; use L1, L2, ElasticNet, Penalty or a name")
        if tokens is not None:
            checked_size(tokens, "tokens", "model")
        values = (("inputs", shape), ("layers", made), ("loss", as_loss(loss)), ("penalties", tuple(penalties)),
                  ("tokens", tokens), ("name", name))  # fmt: skip
        for field, value in values:
            object.__setattr__(self, field, value)
        _check_output(self)
        check_size(self.program())

    def program(self, variant: Variant | None = None) -> Program:
        """The equations of the model and its loss, checked; see `expand`."""
        usual = self.default_variant
        return self._usual if variant is None or variant == usual else expand(self, variant)

    @cached_property
    def _usual(self) -> Program:
        return expand(self, self.default_variant)

    @property
    def default_variant(self) -> Variant:
        return Variant(classes=self.loss.classes)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The shape of what the model predicts for one sample."""
        program = self.program()
        return tuple(program.size(i.extent) for i in program.by_name[OUTPUT].indices[1:])

    @property
    def targets(self) -> tuple[int, ...]:
        """The shape of one sample's target, where it is not an integer."""
        *rest, last = self.outputs
        return (*rest, last // len(self.loss.heads))

    def derivation(self, variant: Variant | None = None) -> Derivation:
        """The model's equations and the gradient of its loss, derived; printable."""
        from .derivation import derivation

        return derivation(self, self.default_variant if variant is None else variant)


def expand(model: Model, variant: Variant) -> Program:
    """Model -> equations in index notation, in order."""
    body = layer_pieces(model, variant)
    tensors = [input_tensor(model), *(t for p in body for t in p.tensors)]
    equations = [e for p in body for e in p.equations]
    sizes = dict(zip(input_extents(model), model.inputs, strict=True))
    for piece in body:
        sizes.update(piece.sizes)
    y_hat = body[-1].outgoing
    extra, losses = loss_equations(model, y_hat, variant, sizes)
    tensors += extra
    penalties = penalty_equations(model, [t for t in tensors if t.role is Role.PARAMETER])
    equations += with_penalties(losses, penalties)
    return check(Program(tuple(tensors), tuple(equations), (LOSS, OUTPUT), sizes), normal=False)


def input_extents(model: Model) -> tuple[sp.Symbol, ...]:
    if len(model.inputs) == 1:
        return (extent("U_0"),)
    return tuple(extent(f"U_0{letter}") for letter in "abcdefgh"[: len(model.inputs)])


def input_tensor(model: Model) -> Tensor:
    indices = tuple(index(c, e) for c, e in zip("jklpqrst", input_extents(model), strict=False))
    return Tensor("x", (SAMPLE_INDEX, *indices), Role.INPUT, Kind.REAL if model.tokens is None else Kind.INTEGER)


def layer_pieces(model: Model, variant: Variant) -> list[Piece]:
    """What every layer adds; a name with its layer's number belongs to that layer."""
    layers = [layer for layer in model.layers if variant.training or not isinstance(layer, Dropout)]
    numbers = [number for number, layer in enumerate(model.layers, start=1) if layer in layers]
    weighted = [k for k, layer in enumerate(layers) if layer.weighted]
    incoming, pieces = input_tensor(model), []
    count, last_name = 0, "x"
    for k, (layer, number) in enumerate(zip(layers, numbers, strict=True)):
        count += layer.weighted
        label = "o" if weighted and k == weighted[-1] else str(count)
        last_name = OUTPUT if k == len(layers) - 1 else _outgoing_name(layer, label, number)
        site = Site(incoming, number, label, last_name, f"layer {number}")
        pieces.append(layer.equations(site))
        incoming = pieces[-1].outgoing
    if not pieces:
        raise SpecError("model: no layer is left but dropout; add one that computes something")
    return pieces


def check_number_of_penalties(number: int, place: str) -> None:
    """Each is an equation for every parameter that it is on."""
    if number > MOST_PENALTIES:
        raise SpecError(f"{place}: there are {number} penalties; at most {MOST_PENALTIES}; add their formulas up")


def _outgoing_name(layer: Layer, label: str, number: int) -> str:
    if layer.weighted:
        return f"x{label}"
    return f"layer{number}"  # an activation or a dropout of its own


def check_listed(given: object, what: str) -> None:
    """Inputs are a number or a list of them, layers a list."""
    if isinstance(given, str) or not (hasattr(given, "__iter__") or (what == "inputs" and isinstance(given, int))):
        wanted = "the number of features of a sample, or their shape" if what == "inputs" else "a list of layers"
        raise SpecError(f"model: {what} = {given!r}; give {wanted}")


def _check_output(model: Model) -> None:
    last = model.layers[-1]
    made = getattr(last, "activation", None)
    if model.loss.needs == "positive" and made is not None and made.name in ("identity", "log_softmax"):
        fitting = {"binary_cross_entropy": "sigmoid", "poisson": "exp"}.get(model.loss.name, "softmax")
        raise SpecError(
            f"model: loss '{model.loss.name}' takes the logarithm of the output, and the last layer's activation is "
            f"'{made.name}'; end with '{fitting}' (the two are computed together, without overflow)"
        )


def loss_equations(
    model: Model, y_hat: Tensor, variant: Variant, sizes: dict[sp.Symbol, int]
) -> tuple[list[Tensor], list[Equation]]:
    """The loss of a sample l[n], and the loss of the batch L."""
    loss = model.loss
    heads = len(loss.heads)
    *front, last = y_hat.indices
    outputs = int(last.extent.xreplace({k: sp.Integer(v) for k, v in sizes.items()}))
    if outputs % heads:
        raise SpecError(
            f"model: loss '{loss.name}' needs {heads} outputs a target; {outputs} is not a multiple of {heads}"
        )
    one = last.extent
    if heads > 1:
        one = extent("T")
        sizes[one] = outputs // heads
    target_index = Index(last.symbol, one)
    features = (*front[1:], target_index)
    if variant.classes and not loss.classes:
        raise SpecError(f"loss '{loss.name}': integer classes do not fit it; give targets as numbers")
    y = Tensor("y", (SAMPLE_INDEX, *front[1:]) if variant.classes else (SAMPLE_INDEX, *features), Role.TARGET,
               Kind.INTEGER if variant.classes else Kind.REAL)  # fmt: skip
    wanted = sp.KroneckerDelta(y.element, last.symbol) if variant.classes else y.element
    reads = {
        sp.Symbol(h, real=True): y_hat[(*(f.symbol for f in (SAMPLE_INDEX, *front[1:])), last.symbol + k * one)]
        for k, h in enumerate(loss.heads)
    }
    body = loss.expr.xreplace({sp.Symbol("y", real=True): wanted, **reads})
    total = _over_outputs(body, features, variant.classes)
    averaged = features if loss.over == "mean" else features[:-1]
    total = total / sp.prod([i.extent for i in averaged])
    sample = Equation("l", (SAMPLE_INDEX,), total, f"loss of a sample, {loss.name}")
    limits = SAMPLE_INDEX.limits
    if not variant.weighted:
        return [y], [
            sample,
            Equation(LOSS, (), sp.Sum(sample.element, limits) / SAMPLES, "mean over the samples"),
        ]
    w = Tensor("w", (SAMPLE_INDEX,), Role.WEIGHT)
    weight = Equation("w_sum", (), sp.Sum(w.element, limits), "total weight of the samples")
    scale = Equation("w_scale", (), sp.Piecewise((1 / weight.element, weight.element > 0), (0, True)), "weighted mean")
    share = Equation("w_share", (SAMPLE_INDEX,), w.element * scale.element, "share of a sample in the weighted mean")
    batch = Equation(LOSS, (), sp.Sum(share.element * sample.element, limits), "weighted mean over the samples")
    return [y, w], [weight, scale, share, sample, batch]


def _over_outputs(body: sp.Expr, features: tuple[Index, ...], classes: bool) -> sp.Expr:
    """The sum over a sample's outputs; for integer classes the delta [c = y[n]] picks one."""
    if not classes:
        return sp.Sum(body, *(i.limits for i in features))
    picked = sum_over_class(body, features[-1])
    return sp.Sum(picked, *(i.limits for i in features[:-1])) if len(features) > 1 else picked


def sum_over_class(body: sp.Expr, own: Index) -> sp.Expr:
    """sum_c of an expression in delta(y, c), where y is one of the classes.

    With d = delta(y, c) the expression is f(1) for c = y and f(0) elsewhere: sum_c f = sum_c f(0) + (f(1) - f(0))|c=y.
    """
    delta = next(iter(body.atoms(sp.KroneckerDelta)))
    others, one = body.xreplace({delta: sp.Integer(0)}), body.xreplace({delta: sp.Integer(1)})
    target = next(a for a in delta.args if a != own.symbol)
    difference = (one - others).xreplace({own.symbol: target})
    return difference if others == 0 else sp.Sum(others, own.limits) + difference


def penalty_equations(model: Model, parameters: list[Tensor]) -> list[Equation]:
    """The penalties; each is an equation of its own, and the loss becomes the sum of all."""
    if not model.penalties:
        return []
    made: list[Equation] = []
    for number, penalty in enumerate(model.penalties, start=1):
        for tensor in chosen(penalty, parameters):
            body = penalty.expr.xreplace({W: tensor.element})
            name = (
                f"{penalty.name}_{tensor.name}"
                if len(model.penalties) == 1
                else f"{penalty.name}{number}_{tensor.name}"
            )
            expr = sp.Sum(body, *(i.limits for i in tensor.indices)) if tensor.indices else body
            made.append(Equation(f"P_{name}", (), expr, f"penalty {penalty.name} on {tensor.name}"))
    return made


def chosen(penalty: Penalty, parameters: list[Tensor]) -> list[Tensor]:
    """The parameters that a penalty is on."""
    by_name = {t.name: t for t in parameters}
    if penalty.on == "all":
        return parameters
    if penalty.on == "weights":
        return [t for t in parameters if len(t.indices) > 1]
    names = (penalty.on,) if isinstance(penalty.on, str) else penalty.on
    for name in names:
        if name not in by_name:
            raise SpecError(f"penalty '{penalty.name}': '{name}' is not a parameter. {nearest(name, by_name)}")
    return [by_name[name] for name in names]


def with_penalties(equations: list[Equation], penalties: list[Equation]) -> list[Equation]:
    """The loss of the data is E, the loss that is minimised L = E + penalties."""
    if not penalties:
        return equations
    data = replace(equations[-1], name="E")
    total = Equation(LOSS, (), data.element + sp.Add(*(p.element for p in penalties)), "loss of the data and penalties")
    return [*equations[:-1], data, *penalties, total]

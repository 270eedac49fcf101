"""Layers say what they compute, as equations; nothing here knows a derivative.

Every layer is a frozen value with one method, `equations(site)`: `site` holds the tensor that comes in and the names
that the layer may use, the result the new parameters, equations and the tensor that goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import sympy as sp

from .activations import Activation, Z, activation
from .errors import SpecError, nearest
from .formula import Names, checked_name, parse_expression, split_equations
from .functions import MaxOver, unit_max, unit_sum
from .initialisers import initialiser
from .language import SAMPLE, SAMPLE_INDEX, Equation, Index, Kind, Role, Tensor, element, extent, index
from .limits import LARGEST_EXTENT, LARGEST_INTEGER
from .normalise import free_indices, index_names

__all__ = ["Activate", "Activation", "Dense", "Dropout", "Equations", "Layer", "Piece", "Site"]

INPUT_LETTERS = "jklpqr"
OF_A_DENSE_LAYER = ("W", "b", "x", "z")


@dataclass(frozen=True)
class Site:
    """Where a layer stands: what comes in, and how its own tensors are called.

    `number` counts all layers from 1 and stands in messages; `label` ("1", "2", ..., "o" for the output layer) counts
    those with weights and ends the names of their tensors; `name` is that of the tensor that goes out.
    """

    incoming: Tensor
    number: int
    label: str
    name: str
    place: str


@dataclass(frozen=True)
class Piece:
    """What a layer adds to the program."""

    outgoing: Tensor
    equations: tuple[Equation, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    sizes: Mapping[sp.Symbol, int] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)  # parameter -> initialiser (a name) or a number
    fans: Mapping[str, tuple[sp.Expr, sp.Expr]] = field(default_factory=dict)  # parameter -> inputs, units of a weight


class Layer(Protocol):
    """What every layer has."""

    @property
    def weighted(self) -> bool:
        """Whether the layer counts as one with weights of its own, and so has a number."""

    def equations(self, site: Site) -> Piece: ...


def labelled(name: str, label: str) -> str:
    """The name of a layer's tensor: V in layer 2 is V2; a name that ends in a digit keeps it apart: V1_2."""
    return f"{name}_{label}" if name[-1:].isdigit() else f"{name}{label}"


def activated(
    given: Activation, before: sp.Expr, indices: tuple[Index, ...], name: str, label: str, rule: str
) -> Piece:
    """The equation of an activation, applied to the expression `before`."""
    own = {
        s: Tensor(
            labelled(f"{s}_" if s in OF_A_DENSE_LAYER else s, label),
            indices[1:] if given.per_unit else (),
            Role.PARAMETER,
        )
        for s in given.parameters
    }
    symbols = {sp.Symbol(s, real=True): t.element for s, t in own.items()}
    expr = given.expr.xreplace({Z: before, **symbols})
    expr = over_units(expr, indices)
    made = Equation(name, indices, expr, rule)
    initial = {own[s].name: value for s, value in given.parameters.items()}
    return Piece(made.tensor, (made,), tuple(own.values()), {}, initial)


def over_units(expr: sp.Expr, indices: tuple[Index, ...]) -> sp.Expr:
    """The markers `unit_sum` and `unit_max` as contractions over the last index."""
    if not expr.has(unit_sum, unit_max):
        return expr
    own = indices[-1]
    kinds = {unit_sum: sp.Sum, unit_max: MaxOver}

    def visit(node: sp.Basic, symbol: sp.Symbol, taken: frozenset[str]) -> sp.Basic:
        """The node with its own unit called `symbol`; every contraction inside it gets an index of its own."""
        if type(node) in kinds:
            other = index(next(c for c in index_names("j") if c not in taken), own.extent)
            body = visit(node.args[0], other.symbol, taken | {other.name})
            return kinds[type(node)](body, other.limits)
        if not node.has(*kinds):
            return node.xreplace({own.symbol: symbol})
        return node.func(*(visit(a, symbol, taken) for a in node.args))

    return visit(expr, own.symbol, frozenset(i.name for i in indices))


@dataclass(frozen=True)
class Dense:
    """z[n,i] = sum_j W[i,j] x[n,j] + b[i],   a[n,i] = activation(z[n,i]).

    units         the number of outputs
    activation    a name, a formula in z, a SymPy expression or an `Activation`
    bias          whether b is there
    initialiser   of W: a name or an `Initialiser`; by default the one that fits the activation

    Where the input of a sample has several indices, the sum runs over all of them.

    >>> Dense(3, "tanh").units
    3
    """

    units: int
    activation: Any = "identity"
    bias: bool = True
    initialiser: Any = None

    def __post_init__(self) -> None:
        checked_size(self.units, "units", "dense layer")
        object.__setattr__(self, "activation", activation(self.activation))
        if isinstance(self.initialiser, str):
            initialiser(self.initialiser)  # raises where it is not known

    @property
    def weighted(self) -> bool:
        return True

    def equations(self, site: Site) -> Piece:
        x, label = site.incoming, site.label
        size = extent(f"U_{label}")
        unit = index("i", size)
        features = incoming_indices(x, INPUT_LETTERS)
        W = Tensor(f"W{label}", (unit, *features), Role.PARAMETER)
        b = Tensor(f"b{label}", (unit,), Role.PARAMETER)
        total = sp.Sum(W.element * x[(SAMPLE_INDEX, *features)], *(f.limits for f in features))
        tensors = (W, b) if self.bias else (W,)
        rule = f"layer {site.number}, dense"
        z = Equation(f"z{label}", (SAMPLE_INDEX, unit), total + (b.element if self.bias else 0), rule)
        a = activated(
            self.activation,
            z.element,
            z.indices,
            site.name,
            label,
            f"layer {site.number}, {self.activation.name}",
        )
        equations: tuple[Equation, ...] = (z, *a.equations)
        if self.activation.name == "identity":  # z is what goes out
            equations, a = (
                (replace(z, name=site.name),),
                replace(a, outgoing=replace(z, name=site.name).tensor),
            )
        return Piece(
            a.outgoing,
            equations,
            (*tensors, *a.tensors),
            {size: self.units},
            {W.name: self.initialiser, b.name: "zeros", **a.initial}
            if self.bias
            else {W.name: self.initialiser, **a.initial},
            {W.name: (sp.prod([f.extent for f in features]), size)},
        )


@dataclass(frozen=True)
class Activate:
    """An activation as a layer of its own, on whatever comes in."""

    activation: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation(self.activation))

    @property
    def weighted(self) -> bool:
        return False

    def equations(self, site: Site) -> Piece:
        x = site.incoming
        indices = (SAMPLE_INDEX, *incoming_indices(x, "i" + INPUT_LETTERS))
        rule = f"layer {site.number}, {self.activation.name}"
        return activated(self.activation, x[indices], indices, site.name, f"_{site.number}", rule)


@dataclass(frozen=True)
class Dropout:
    """Inverted dropout: a[n,i] = x[n,i]/(1 - rate) where u[n,i] >= rate, else 0; u is uniform in [0, 1).

    In training only; at prediction and evaluation the layer is not there (Srivastava et al. 2014, section 10).
    """

    rate: float

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 <= self.rate < 1:
            raise SpecError(f"dropout layer: rate = {self.rate!r}; give a number of at least 0 and less than 1")

    @property
    def weighted(self) -> bool:
        return False

    def equations(self, site: Site) -> Piece:
        x = site.incoming
        indices = (SAMPLE_INDEX, *incoming_indices(x, "i" + INPUT_LETTERS))
        noise = Tensor(f"u_{site.number}", indices, Role.NOISE)
        rate = sp.Rational(str(self.rate))
        expr = sp.Piecewise((x[indices] / (1 - rate), noise.element >= rate), (0, True))
        made = Equation(site.name, indices, expr, f"layer {site.number}, dropout")
        return Piece(made.tensor, (made,), (noise,))


@dataclass(frozen=True)
class Equations:
    """A layer of one's own, given as equations in index notation.

    equations    lines `name[n,...] = formula`; `x` is what comes in, with the indices n and `incoming`
    output       the name of the result; its first index is n
    indices      extents of the indices that are not the incoming ones
    parameters   the indices of every trainable tensor (an empty list: a single number)
    initialisers for some parameters: a name, an `Initialiser` or a number
    incoming     names of the incoming features' indices; j (then k, l, ...) if not given
    constants    symbols that are replaced by their values

    >>> layer = Equations("h[n,i] = tanh(sum(j, V[i,j]*x[n,j]))", "h", {"i": 32}, {"V": ["i", "j"]})
    >>> layer.output
    'h'
    """

    equations_text: str
    output: str
    indices_: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    initialisers: Mapping[str, Any] = field(default_factory=dict)
    incoming: tuple[str, ...] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)

    def __init__(
        self,
        equations: str,
        output: str,
        indices: Mapping[str, int] | None = None,
        parameters: Mapping[str, Sequence[str]] | None = None,
        initialisers: Mapping[str, Any] | None = None,
        incoming: Sequence[str] | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        place = "equations layer"
        values = {
            "equations_text": equations,
            "output": checked_name(output, place),
            "indices_": MappingProxyType(dict(indices or {})),
            "parameters": MappingProxyType({k: tuple(v) for k, v in (parameters or {}).items()}),
            "initialisers": MappingProxyType(dict(initialisers or {})),
            "incoming": None if incoming is None else tuple(incoming),
            "constants": MappingProxyType(dict(constants or {})),
        }
        for field_name, given in values.items():
            object.__setattr__(self, field_name, given)
        for name, size in self.indices_.items():
            checked_size(size, f"index '{checked_name(name, place)}'", place)
        for name in (*self.parameters, *self.constants):
            checked_name(name, place)
            if name in self.parameters and name in self.constants:
                raise SpecError(f"{place}: '{name}' is a parameter and a constant; give one of them another name")
        for name, value in self.constants.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise SpecError(f"{place}: the constant '{name}' is {value!r}; give a finite number")
        for name in self.initialisers:
            if name not in self.parameters:
                raise SpecError(f"{place}: initialiser of '{name}', not a parameter. {nearest(name, self.parameters)}")
        split_equations(equations, place)

    def __hash__(self) -> int:
        return hash((self.equations_text, self.output, tuple(self.indices_.items()), tuple(self.parameters.items())))

    @property
    def weighted(self) -> bool:
        return bool(self.parameters)

    def equations(self, site: Site) -> Piece:
        place = f"{site.place}, equations"
        indices, sizes = self._indices(site, place)
        own = {
            name: Tensor(labelled(name, site.label), tuple(_known(i, indices, place) for i in where), Role.PARAMETER)
            for name, where in self.parameters.items()
        }
        if "x" in own or "x" in indices:
            raise SpecError(f"{place}: 'x' is what comes in; give another name")
        for name in (*own, *self.constants):
            if name in indices:
                raise SpecError(f"{place}: '{name}' is an index; give the parameter or constant another name")
        tensors: dict[str, Tensor] = {"x": site.incoming, **own}
        constants = {k: sp.Rational(str(v)) for k, v in self.constants.items()}
        for name in own:
            if any(i.symbol == SAMPLE for i in own[name].indices):
                raise SpecError(f"{place}: parameter '{name}' has the index n; samples have no parameters of their own")
        made: list[Equation] = []
        label = site.label if self.weighted else f"_{site.number}"
        lines = split_equations(self.equations_text, place)
        for name, where, text, line in lines:
            if name in tensors or name in indices or name in constants:
                raise SpecError(f"{line}: '{name}' has a value already; assign a new name")
            readers = {k: _reader(t, k, line) for k, t in tensors.items()}
            names = Names(constants, readers, {k: i.extent for k, i in indices.items()})
            expr = parse_expression(text, names, line)
            target = site.name if name == self.output else labelled(name, label)
            kind = Kind.INTEGER if expr.is_integer and expr.has(sp.Indexed) else Kind.REAL
            rule = f"layer {site.number}, '{name}'"
            made.append(Equation(target, tuple(_known(i, indices, line) for i in where), expr, rule, kind))
            _check_bound(made[-1], line)
            tensors[name] = made[-1].tensor
        return Piece(
            self._result(tensors, place),
            tuple(made),
            tuple(own.values()),
            sizes,
            *self._initial(own, indices),
        )

    def _indices(self, site: Site, place: str) -> tuple[dict[str, Index], dict[sp.Symbol, int]]:
        features = site.incoming.indices[1:]
        letters = [c for c in INPUT_LETTERS if c not in self.indices_]
        names = self.incoming if self.incoming is not None else tuple(letters[: len(features)])
        if len(names) != len(features):
            raise SpecError(f"{place}: incoming = {list(names)}, but a sample has {len(features)} indices; name each")
        indices = {"n": SAMPLE_INDEX}
        for name, feature in zip(names, features, strict=True):
            indices[checked_name(name, place)] = index(name, feature.extent)
        sizes = {}
        for name, size in self.indices_.items():
            if name in indices:
                raise SpecError(f"{place}: the index '{name}' has an extent already; leave it out of indices")
            symbol = extent(f"N_{name}_{site.number}")
            indices[name], sizes[symbol] = index(name, symbol), size
        return indices, sizes

    def _result(self, tensors: Mapping[str, Tensor], place: str) -> Tensor:
        if self.output not in tensors or self.output in self.parameters or self.output == "x":
            raise SpecError(f"{place}: output '{self.output}' is not assigned. {nearest(self.output, tensors)}")
        result = tensors[self.output]
        if not result.indices or result.indices[0].symbol != SAMPLE or len(result.indices) < 2:
            raise SpecError(f"{place}: output '{self.output}' needs n as its first index and one more, as in h[n,i]")
        return result

    def _initial(
        self, own: Mapping[str, Tensor], indices: Mapping[str, Index]
    ) -> tuple[dict[str, Any], dict[str, tuple[sp.Expr, sp.Expr]]]:
        initial, fans = {}, {}
        for name, tensor in own.items():
            default = None if len(tensor.indices) > 1 else "zeros"
            initial[tensor.name] = self.initialisers.get(name, default)
            if tensor.indices:
                fans[tensor.name] = (sp.prod(tensor.shape[1:]), tensor.shape[0])
        return initial, fans


def _known(name: str, indices: Mapping[str, Index], place: str) -> Index:
    if name not in indices:
        raise SpecError(f"{place}: the index '{name}' is not declared. {nearest(str(name), indices)}")
    return indices[name]


def _reader(tensor: Tensor, name: str, place: str) -> Any:
    def read(where: tuple[sp.Expr, ...]) -> sp.Expr:
        if len(where) != len(tensor.indices):
            wanted = ",".join(i.name for i in tensor.indices)
            raise SpecError(
                f"{place}: '{name}' has {len(where)} indices here; it has {len(tensor.indices)}: {name}[{wanted}]"
            )
        return element(tensor.name, where, tensor.kind)

    return read


def _check_bound(equation: Equation, place: str) -> None:
    loose = free_indices(equation.expr) - {i.symbol for i in equation.indices}
    if loose:
        name = sorted(s.name for s in loose)[0]
        raise SpecError(f"{place}: the index '{name}' is not bound; put it on the left side or under sum({name}, ...)")


def incoming_indices(x: Tensor, letters: str) -> tuple[Index, ...]:
    """Indices for the features of a sample, with the extents of the tensor that comes in."""
    return tuple(index(c, f.extent) for c, f in zip(letters, x.indices[1:], strict=False))


def checked_size(size: object, what: str, place: str) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_EXTENT:
        value = repr(size) if not isinstance(size, int) or abs(size) <= LARGEST_INTEGER else "a very large number"
        raise SpecError(f"{place}: {what} = {value}; give a whole number of at least 1 and at most {LARGEST_EXTENT}")
    return size

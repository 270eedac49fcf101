"""The model part of a spec: tables of text and numbers, as TOML and JSON have them, <-> `Model`.

    model       ::= [model]  inputs  loss?  penalties?  tokens?  name?        [[layer]]+
    layer       ::= type = "dense"       units  activation?  bias?  initialiser?
                  | type = "activation"  activation
                  | type = "dropout"     rate
                  | type = "equations"   equations  output  indices?  parameters?  initialisers?  incoming?
                                         constants?
    activation  ::= name | formula | { name?, formula?, parameters?, constants?, per_unit? }
    loss        ::= name | formula | { name?, formula?, over?, heads?, targets?, classes?, needs?,
                                         a hyperparameter... }
    penalty     ::= name | formula | { name?, formula?, on?, a hyperparameter... }
    initialiser ::= name | formula | { name?, formula?, distribution?, a hyperparameter... }

A hyperparameter whose name is a key already goes into a table `hyperparameters` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .activations import ACTIVATIONS, Activation, activation
from .errors import SpecError, nearest
from .initialisers import INITIALISERS, Distribution, Initialiser, initialiser
from .layers import Activate, Dense, Dropout, Equations, Layer
from .losses import LOSSES, Loss, loss
from .model import Model, check_number_of_penalties
from .penalties import PENALTIES, Penalty
from .section import REQUIRED, Section, as_number, as_whole, at, shown
from .vetting import vetted
from .written import written

SECTIONS: Final = ("model", "layer", "training", "data", "run")
FORMULA: Final = "formula"  # the name of a row that has none
NAME_OR_FORMULA: Final = 'give a name, a formula in quotes, or a table such as {formula = "..."}'


def model_from_dict(given: Mapping[str, Any], place: str = "spec") -> Model:
    """The model that a spec describes; other sections are left alone.

    >>> model_from_dict({"model": {"inputs": 2}, "layer": [{"type": "dense", "units": 1}]}).outputs
    (1,)
    >>> model_from_dict({"model": {"inputs": 2}, "layer": [{"type": "dense", "unit": 1}]}, "net.toml")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: net.toml: layer 1: the key 'unit' is not known. Known: activation, bias, initialiser, type, units. Did you mean 'units'?
    """  # noqa: E501  an expected message stands on one line
    spec = Section(given, place).only(*SECTIONS)
    vetted(given, place)
    head = spec.section("model").only("inputs", "loss", "penalties", "tokens", "name")
    inputs, layers, loss, penalties = _inputs(head), _layers(spec), _loss(head), _penalties(head)
    tokens, name = head.whole("tokens", None), head.text("name", "model")
    with at(place):
        return Model(inputs, layers, loss, penalties, tokens, name)


def _inputs(head: Section) -> tuple[int, ...]:
    def read(value: object) -> tuple[int, ...] | None:
        given: list[Any] = value if isinstance(value, list) else [value]
        sizes = tuple(size for size in given if as_whole(size, 1) is not None)
        return sizes if given and len(sizes) == len(given) else None

    rule = "give the number of features of a sample, or a list such as [8, 8]"
    return head.read("inputs", REQUIRED, read, rule)


def _loss(head: Section) -> Loss:
    if "loss" not in head:
        return loss("squared_error")
    with at(head.place):
        return loss_from(head.any("loss"), "loss")


def _penalties(head: Section) -> tuple[Penalty, ...]:
    rule = 'give a list, such as ["l2"] or [{name = "l2", strength = 1e-4}]'
    given = head.read("penalties", [], lambda v: v if isinstance(v, list) else None, rule)
    check_number_of_penalties(len(given), head.place)
    with at(head.place):
        return tuple(penalty_from(value, f"penalty {number}") for number, value in enumerate(given, start=1))


def _layers(spec: Section) -> tuple[Layer, ...]:
    rule = "give at least one layer, under [[layer]] with two brackets"
    given = spec.read("layer", REQUIRED, lambda v: v if isinstance(v, list) and v else None, rule)
    return tuple(
        layer_from(Section(values, f"{spec.place}: layer {number}")) for number, values in enumerate(given, start=1)
    )


def layer_from(section: Section) -> Layer:
    """One layer, as its type reads it."""
    kind = section.text("type", rule=f"give one of {', '.join(LAYERS)}")
    if kind not in LAYERS:
        raise SpecError(f"{section.place}: type {kind!r} is not known. {nearest(kind, LAYERS)}")
    return LAYERS[kind](section)


def _dense(section: Section) -> Layer:
    section.only("type", "units", "activation", "bias", "initialiser")
    units, bias = section.whole("units"), section.flag("bias", True)
    with at(section.place):
        chosen = activation_from(section.values.get("activation", "identity"))
        return Dense(units, chosen, bias, initialiser_from(section.values.get("initialiser"), "initialiser"))


def _activate(section: Section) -> Layer:
    given = section.only("type", "activation").any("activation", NAME_OR_FORMULA)
    with at(section.place):
        return Activate(activation_from(given))


def _dropout(section: Section) -> Layer:
    rule = "give a number of at least 0 and less than 1"
    return Dropout(section.only("type", "rate").number("rate", REQUIRED, lambda rate: 0 <= rate < 1, rule))


def _equations(section: Section) -> Layer:
    tables = ("indices", "parameters", "initialisers", "constants")
    section.only("type", "equations", "output", "incoming", *tables)
    sizes, declared, first, constants = (section.section(key) for key in tables)
    text = section.text("equations", rule='give lines such as """h[n,j] = tanh(x[n,j])"""')
    output = section.text("output", rule="give the name of the equation whose result goes out")
    incoming = section.texts("incoming") if "incoming" in section else None
    indices = {name: sizes.whole(name) for name in sizes.values}
    rule = 'give its indices, such as ["i", "j"]'
    parameters = {name: declared.texts(name, rule=rule) for name in declared.values}
    numbers = {name: constants.number(name) for name in constants.values}
    with at(section.place):
        initial = {k: initialiser_from(v, f"initialiser of '{k}'") for k, v in first.values.items()}
        return Equations(text, output, indices, parameters, initial, incoming, numbers)


LAYERS: Final[Mapping[str, Callable[[Section], Layer]]] = {
    "dense": _dense,
    "activation": _activate,
    "dropout": _dropout,
    "equations": _equations,
}


def activation_from(given: Any) -> Activation:
    """An activation from a name, a formula or a table.

    >>> activation_from({"formula": "z/(1 + exp(-beta*z))", "parameters": {"beta": 1.0}}).parameters["beta"]
    1.0
    """
    if isinstance(given, str):
        return activation(given)
    row = _row(given, "activation").only("name", "formula", "parameters", "constants", "per_unit")
    return Activation(
        row.text("name", FORMULA),
        row.text("formula", ""),
        row.table("parameters"),
        row.table("constants"),
        row.flag("per_unit"),
    )


def loss_from(given: Any, place: str) -> Loss:
    """A loss from a name, a formula or a table."""
    if isinstance(given, str):
        return loss(given)
    row = _row(given, place)
    fields = ("over", "heads", "targets", "classes", "needs")
    numbers = _hyperparameters(row, fields)
    if FORMULA not in row:
        row.only("name", "hyperparameters", *numbers)
        return Loss(row.text("name"), hyperparameters=numbers)
    return Loss(
        row.text("name", FORMULA),
        row.text("formula"),
        numbers,
        over=row.choice("over", "mean", ("mean", "sum")),
        heads=row.texts("heads", ("y_hat",)),
        targets=row.choice("targets", "real", ("real", "probability", "sign", "count")),
        classes=row.flag("classes"),
        needs=row.choice("needs", "", ("", "positive")),
    )


def penalty_from(given: Any, place: str) -> Penalty:
    """A penalty from a name, a formula or a table."""
    if isinstance(given, str):
        return Penalty(given) if given.isidentifier() and given != "w" else Penalty(FORMULA, given)
    row = _row(given, place)
    numbers = _hyperparameters(row, ("on",))
    on = row.values.get("on", "weights")
    on = on if isinstance(on, str) else row.texts("on", rule='give "weights", "all" or a list of parameters')
    return Penalty(row.text("name", FORMULA), row.text("formula", ""), numbers, on=on)


def initialiser_from(given: Any, place: str) -> Any:
    """An initialiser from a name, a number, a formula or a table; None is the default of its layer."""
    if given is None or as_number(given) is not None:
        return given
    if isinstance(given, str):
        initialiser(given)  # raises where it cannot be read
        return given
    row = _row(given, place)
    numbers = _hyperparameters(row, ("distribution",))
    if FORMULA not in row:
        row.only("name", "hyperparameters", *numbers)
        return initialiser(row.text("name"), **numbers)  # type: ignore[arg-type]
    known = tuple(Distribution)
    distribution = row.choice("distribution", "uniform", known)
    formula = f"({row.text('formula')})"  # in brackets, a single symbol is not taken for a name
    return initialiser(formula, distribution, **numbers)


def _row(given: Any, place: str) -> Section:
    """A row of a table, or of the user's own, that is given as a table."""
    if not isinstance(given, Mapping):
        raise SpecError(f"{place} = {shown(given)}; {NAME_OR_FORMULA}")
    row = Section(given, place)
    if "name" not in row and FORMULA not in row:
        there = ", ".join(map(repr, given)) or "nothing"
        raise SpecError(f"{place}: neither name nor formula is there, but {there}; give one of them")
    return row


def _hyperparameters(row: Section, fields: tuple[str, ...]) -> dict[str, float]:
    """The numbers of a row: all keys that have no meaning of their own, and those under `hyperparameters`."""
    known = ("name", FORMULA, "hyperparameters", *fields)
    flat = row.without(*known)
    for key, value in flat.items():
        if as_number(value) is None:
            problem = f"the key {key!r} is not known, and {shown(value)} no number for a symbol of that name"
            raise SpecError(f"{row.place}: {problem}. {nearest(str(key), known)}")
    return {**flat, **row.table("hyperparameters")}


def model_to_dict(model: Model) -> dict[str, Any]:
    """The spec of a model, for TOML and JSON; `model_from_dict` makes an equal model from it.

    >>> spec = model_to_dict(Model(2, [Dense(3, "tanh"), Dense(1)]))
    >>> spec["layer"][0]
    {'type': 'dense', 'units': 3, 'activation': 'tanh'}
    >>> model_from_dict(spec) == Model(2, [Dense(3, "tanh"), Dense(1)])
    True
    """
    head: dict[str, Any] = {
        "name": model.name,
        "inputs": model.inputs[0] if len(model.inputs) == 1 else list(model.inputs),
        "loss": loss_to(model.loss),
    }
    if model.penalties:
        head["penalties"] = [penalty_to(p) for p in model.penalties]
    if model.tokens is not None:
        head["tokens"] = model.tokens
    return {"model": head, "layer": [layer_to(layer, n) for n, layer in enumerate(model.layers, start=1)]}


def layer_to(layer: Layer, number: int) -> dict[str, Any]:
    """One layer as a table."""
    match layer:
        case Dense():
            dense = {"type": "dense", "units": layer.units, "activation": activation_to(layer.activation)}
            dense |= {} if layer.bias else {"bias": False}
            first = initialiser_to(layer.initialiser, f"layer {number}")
            return dense if first is None else {**dense, "initialiser": first}
        case Activate():
            return {"type": "activation", "activation": activation_to(layer.activation)}
        case Dropout():
            return {"type": "dropout", "rate": layer.rate}
        case Equations():
            return _equations_to(layer, number)
    rule = f"use one of {', '.join(LAYERS)}"
    raise SpecError(f"layer {number}: a {type(layer).__name__} cannot be written to a spec; {rule}")


def _equations_to(layer: Equations, number: int) -> dict[str, Any]:
    optional = {
        "indices": dict(layer.indices_),
        "parameters": {name: list(indices) for name, indices in layer.parameters.items()},
        "initialisers": {name: initialiser_to(value, f"layer {number}") for name, value in layer.initialisers.items()},
        "constants": dict(layer.constants),
    }
    first = {"type": "equations", "equations": layer.equations_text, "output": layer.output}
    incoming = {} if layer.incoming is None else {"incoming": list(layer.incoming)}
    return {**first, **{key: value for key, value in optional.items() if value}, **incoming}


def activation_to(given: Activation) -> Any:
    """An activation as a name, a formula or a table, whatever is the shortest."""
    row = ACTIVATIONS.get(given.name)
    parameters = dict(given.parameters)
    ours = row is not None and row.formula == given.formula and not given.constants
    if row is not None and ours and set(row.parameters) == set(parameters):
        first = {"name": given.name}
        changed = {} if dict(row.parameters) == parameters else {"parameters": parameters}
    else:
        first = {"name": given.name, "formula": written(given.expr)}
        changed = {"parameters": parameters, "constants": dict(given.constants)}
    rest = {**{k: v for k, v in changed.items() if v}, **({"per_unit": True} if given.per_unit else {})}
    return _shortest({**first, **rest})


def loss_to(given: Loss) -> Any:
    """A loss as a name, a formula or a table, whatever is the shortest."""
    numbers = dict(given.hyperparameters)
    row = LOSSES.get(given.name)
    if row is not None and Loss(given.name, hyperparameters=_those_of(row, numbers)) == given:
        changed = {k: v for k, v in numbers.items() if row.hyperparameters[k] != v}
        return _shortest({"name": given.name, **changed})
    fields = {key: getattr(given, key) for key in ("over", "targets", "classes", "needs")}
    fields["heads"] = list(given.heads)
    plain = {"over": "mean", "heads": ["y_hat"], "targets": "real", "classes": False, "needs": ""}
    own = {key: value for key, value in fields.items() if value != plain[key]}
    named = {"hyperparameters": numbers} if numbers else {}
    return _shortest({"name": given.name, "formula": written(given.formula), **own, **named})


def penalty_to(given: Penalty) -> Any:
    """A penalty as a table."""
    numbers = dict(given.hyperparameters)
    row = PENALTIES.get(given.name)
    on = {} if given.on == "weights" else {"on": given.on if isinstance(given.on, str) else list(given.on)}
    if row is not None and row.formula == given.formula and set(row.hyperparameters) == set(numbers):
        return {"name": given.name, **numbers, **on}
    named = {"hyperparameters": numbers} if numbers else {}
    return {"name": given.name, "formula": written(given.formula), **named, **on}


def initialiser_to(given: Any, place: str) -> Any:
    """An initialiser as a name, a number or a table."""
    if given is None or isinstance(given, str) or as_number(given) is not None:
        return given
    if not isinstance(given, Initialiser):
        rule = "give a name, a number, a formula or an Initialiser"
        raise SpecError(f"{place}: the initialiser {shown(given)} cannot be written to a spec; {rule}")
    numbers = {"hyperparameters": dict(given.hyperparameters)} if given.hyperparameters else {}
    if given.name in INITIALISERS:
        return {"name": given.name, **numbers}
    return {"formula": written(given.scale), "distribution": given.distribution.value, **numbers}


def _those_of(row: Loss, numbers: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in numbers.items() if key in row.hyperparameters}


def _shortest(table: dict[str, Any]) -> Any:
    """A table with only a name is that name; one with only a formula is that formula, if it reads as one."""
    if set(table) == {"name"}:
        return table["name"]
    formula = table.get("formula", "")
    if set(table) == {"name", "formula"} and table["name"] == FORMULA and not formula.isidentifier():
        return formula
    return table

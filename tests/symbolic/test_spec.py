"""Specs of models: read as what Python builds, written as what is read again; what is wrong is said."""

import json
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS, Activation
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.initialisers import initialiser
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES, Loss
from chainrule.symbolic.model import Model
from chainrule.symbolic.penalties import L1, L2, ElasticNet, Penalty
from chainrule.symbolic.spec import model_from_dict, model_to_dict

z, beta = sp.symbols("z beta")
OWN_LAYER = """
v[n,i] = sum(j, V[i,j]*x[n,j]) + c[i]   # a line
h[n,i] = v[n,i]*tanh(log(1 + exp(k*v[n,i])))
"""


def again(model: Model) -> Model:
    return model_from_dict(json.loads(json.dumps(model_to_dict(model))))


def one(layer: Any, **more: Any) -> Model:
    return Model(4, [layer, Dense(2)], **more)


LAYERS = {
    "dense": Dense(3),
    "no bias": Dense(3, bias=False),
    "named": Dense(3, "tanh"),
    "initialiser": Dense(3, "relu", initialiser="he_uniform"),
    "made initialiser": Dense(3, "relu", initialiser=initialiser("normal", std=0.01)),
    "formula initialiser": Dense(3, initialiser=initialiser("sqrt(k/fan_in)", "normal", k=1.5)),
    "formula": Dense(3, "z/(1 + exp(-1.702*z))"),
    "only z": Dense(3, Activation("formula", "z")),
    "only e": Dense(3, Activation("formula", "e")),
    "expression": Dense(3, sp.Max(z, 0) + sp.tanh(z) / 3),
    "parameter": Dense(3, Activation("prelu", parameters={"alpha": 0.1})),
    "per unit": Dense(3, Activation("prelu", per_unit=True)),
    "own symbols": Dense(3, Activation("mine", z * sp.tanh(beta * z), parameters={"beta": 1.0}, per_unit=True)),
    "constants": Dense(3, Activation("formula", "where(z <= 0, a*z, z)", constants={"a": 0.3})),
    "name of another": Dense(3, Activation("relu", "z**2")),
    "activation": Activate("silu"),
    "softmax of one's own": Activate("exp(z)/sum(exp(z))"),
    "dropout": Dropout(0.25),
    "equations": Equations(OWN_LAYER, "h", {"i": 5}, {"V": ["i", "j"], "c": ["i"]}, {"c": 0.5}, None, {"k": 1.5}),
    "equations, incoming": Equations("h[n,f] = g*x[n,f]", "h", parameters={"g": []}, incoming=["f"]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_read_again(name: str) -> None:
    model = one(LAYERS[name])
    assert again(model) == model


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_written_by_name(name: str) -> None:
    model = one(Dense(3, name))
    assert model_to_dict(model)["layer"][0]["activation"] == name
    assert again(model) == model


MODELS = {
    "images": Model([8, 8], [Dense(3, "softmax")], "cross_entropy", name="images"),
    "tokens": Model(3, [Dense(2)], tokens=7),
    "penalties": one(Dense(3), penalties=[L1(1e-3), L2(0.1, "all"), ElasticNet(0.01, 0.25, ("W1", "Wo"))]),
    "own penalty": one(Dense(3), penalties=[Penalty("mine", "a*log(1 + w**2)", {"a": 0.01})]),
    "nameless penalty": one(Dense(3), penalties=[Penalty("formula", "w**4")]),
    "own loss": one(Dense(3), loss=Loss("cauchy", "log(1 + (y - y_hat)**2/scale**2)", {"scale": 3.0})),
    "formula as loss": one(Dense(3), loss="(y - y_hat)**4"),
    "summed loss": one(Dense(3), loss=Loss("own", "(y - y_hat)**2", over="sum")),
    "two heads": one(Dense(3), loss=Loss("own", "exp(s)*(y - m)**2", heads=("m", "s"))),
    "hyperparameter over": one(Dense(3), loss=Loss("own", "over*(y - y_hat)**2", {"over": 2.0})),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_read_again(name: str) -> None:
    assert again(MODELS[name]) == MODELS[name]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_written_by_name(name: str) -> None:
    last = "sigmoid" if LOSSES[name].needs else "identity"
    changed = Loss(name, hyperparameters=dict.fromkeys(LOSSES[name].hyperparameters, 0.25))
    for given in (name, changed):
        model = Model(4, [Dense(2, last)], given)
        assert again(model) == model
    assert model_to_dict(Model(4, [Dense(2, last)], name))["model"]["loss"] == name


def spec(layer: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    first = {"type": "dense", "units": 3} | (layer or {})
    return {"model": {"inputs": 4, **model}, "layer": [{k: v for k, v in first.items() if v is not None}]}


def test_what_is_read_is_what_python_builds() -> None:
    given = {
        "model": {
            "inputs": 4,
            "loss": {"name": "huber", "delta": 2},
            "penalties": ["l2", {"name": "l1", "strength": 1e-3, "on": ["W1"]}, "w**4"],
        },
        "layer": [
            {"type": "dense", "units": 3, "activation": {"formula": "z*tanh(s*z)", "parameters": {"s": 1}}},
            {"type": "dropout", "rate": 0},
            {"type": "activation", "activation": {"name": "prelu", "per_unit": True}},
            {"type": "equations", "equations": "h[n,j] = a*x[n,j]", "output": "h", "parameters": {"a": []}},
            {
                "type": "dense",
                "units": 2,
                "initialiser": {"formula": "k", "distribution": "normal", "k": 0.1},
            },
        ],
    }
    built = Model(
        4,
        [
            Dense(3, Activation("formula", "z*tanh(s*z)", {"s": 1.0})),
            Dropout(0.0),
            Activation("prelu", per_unit=True),
            Equations("h[n,j] = a*x[n,j]", "h", parameters={"a": []}),
            Dense(2, initialiser=initialiser("(k)", "normal", k=0.1)),
        ],
        Loss("huber", hyperparameters={"delta": 2}),
        [L2(), L1(1e-3, ("W1",)), Penalty("formula", "w**4")],
    )
    assert model_from_dict(given) == built


# (spec, what the message must hold)
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["model: inputs is missing"]),
    ({"model": {"inputs": 2}}, ["layer is missing", "[[layer]]"]),
    ({"layer": [{"type": "dense", "units": 1}]}, ["model: inputs is missing", "number of features"]),
    ({"layers": []}, ["'layers'", "Did you mean 'layer'?"]),
    ({"model": 3}, ["model = 3", "table"]),
    ({"model": {"inputs": 2}, "layer": {"type": "dense"}}, ["[[layer]]", "two brackets"]),
    ({"model": {"inputs": 2}, "layer": ["dense"]}, ["layer 1: 'dense' is not a table"]),
    (spec(inputs=0), ["model: inputs = 0", "number of features"]),
    (spec(inputs=2.5), ["model: inputs = 2.5"]),
    (spec(inputs=[8, "8"]), ["model: inputs = [8, '8']"]),
    (spec(inputs=[]), ["model: inputs = []"]),
    (spec(inptus=4), ["model: the key 'inptus'", "Did you mean 'inputs'?"]),
    (spec(loss="squared_eror"), ["model: loss 'squared_eror'", "Did you mean 'squared_error'?"]),
    (spec(loss={"name": "huber", "dleta": 1.0}), ["model: loss 'huber': 'dleta'", "Did you mean 'delta'?"]),
    (spec(loss={"formula": "(y - yhat)**2"}), ["model: loss 'formula'", "'yhat'", "Did you mean 'y_hat'?"]),
    (spec(loss={"formula": "y*y_hat", "over": "men"}), ["model: loss: over 'men'", "Did you mean 'mean'?"]),
    (spec(loss={"formula": "y*y_hat", "ovre": "sum"}), ["the key 'ovre'", "Did you mean 'over'?"]),
    (spec(loss={"delta": 1.0}), ["model: loss", "neither name nor formula", "'delta'"]),
    (spec(loss=3), ["model: loss = 3", "give a name, a formula"]),
    (spec(loss="cross_entropy"), ["loss 'cross_entropy'", "'identity'", "end with 'softmax'"]),
    (spec(penalties="l2"), ["model: penalties = 'l2'", '["l2"]']),
    (spec(penalties=["l2"] * 33), ["model: there are 33 penalties; at most 32"]),
    (spec(penalties=["l3"]), ["model: penalty 'l3'", "Known: elastic_net, l1, l2"]),
    (spec(penalties=[{"name": "l2", "strength": -1}]), ["penalty 'l2': 'strength'", "-1", "at least 0"]),
    (spec(penalties=[{"name": "l2", "on": ["W9"]}]), ["penalty 'l2': 'W9'", "Known: Wo, bo"]),
    (spec(tokens=0), ["model: tokens = 0", "at least 1"]),
    (spec(name=3), ["model: name = 3", "text"]),
    (spec({"type": "dens"}), ["layer 1: type 'dens'", "Did you mean 'dense'?"]),
    (spec({"type": None}), ["layer 1: type is missing", "dense, activation, dropout, equations"]),
    (spec({"units": None}), ["layer 1: units is missing", "whole number"]),
    (spec({"units": -3}), ["layer 1: units = -3", "whole number of at least 1"]),
    (spec({"units": "3"}), ["layer 1: units = '3'"]),
    (spec({"units": True}), ["layer 1: units = true"]),
    (spec({"units": 10**10}), ["layer 1", "units = 10000000000"]),
    (spec({"bias": 1}), ["layer 1: bias = 1", "true or false"]),
    (spec({"activation": "rleu"}), ["layer 1: activation 'rleu'", "Known: elu", "Did you mean 'relu'?"]),
    (spec({"activation": "z*tanhh(z)"}), ["layer 1", "the function 'tanhh'", "Did you mean 'tanh'?"]),
    (spec({"activation": "z + q"}), ["layer 1", "'q' in \"z + q\"", "Known: e, pi, z"]),
    (spec({"activation": "z +"}), ["layer 1", '"z +"', "cannot be read"]),
    (spec({"activation": "z.__class__"}), ["layer 1", "Attribute is not allowed"]),
    (spec({"activation": 3}), ["layer 1: activation = 3", "give a name, a formula"]),
    (spec({"activation": {"formula": "z*b"}}), ["layer 1", "'b'", "not known"]),
    (
        spec({"activation": {"formula": "z*b", "parameters": {"b": "1"}}}),
        ["layer 1", "'b' has the value '1'"],
    ),
    (
        spec({"activation": {"formula": "z", "parametres": {}}}),
        ["'parametres'", "Did you mean 'parameters'?"],
    ),
    (spec({"activation": {"name": "relu", "parameters": {"a": 1.0}}}), ["activation 'relu': 'a'"]),
    (spec({"initialiser": "he_uniorm"}), ["layer 1: initialiser 'he_uniorm'", "Did you mean 'he_uniform'?"]),
    (
        spec({"initialiser": {"name": "normal", "sdt": 1}}),
        ["layer 1: initialiser 'normal'", "'sdt'", "'std'"],
    ),
    (spec({"initializer": "zeros"}), ["layer 1: the key 'initializer'", "Did you mean 'initialiser'?"]),
    (spec({"type": "dropout", "units": None, "rate": 1}), ["layer 1: rate = 1", "less than 1"]),
    (spec({"type": "dropout", "units": None, "rate": "half"}), ["layer 1: rate = 'half'"]),
    (spec({"type": "activation", "units": None}), ["layer 1: activation is missing"]),
]


def own(text: str = "h[n,i] = sum(j, V[i,j]*x[n,j])", **changed: Any) -> dict[str, Any]:
    first = {"output": "h", "indices": {"i": 3}, "parameters": {"V": ["i", "j"]}}
    return spec({"type": "equations", "units": None, "equations": text, **first, **changed})


WRONG_EQUATIONS: list[tuple[dict[str, Any], list[str]]] = [
    (
        own("h[n,i] = sum(j, V[i,j]*u[n,j])"),
        ["layer 1, equations, line 1", "'u' in ", "is not a tensor. Known: V, x"],
    ),
    (own("h[n,i] = sum(j, V[i,j]*x[n,k])"), ["line 1", "'k'", "is not known"]),
    (own("h[n,i] = V[i,j]*x[n,j]"), ["line 1", "index 'j' is not bound", "sum(j, ...)"]),
    (own("h[n,i] = sum(j, V[i]*x[n,j])"), ["line 1", "'V' has 1 indices", "V[i,j]"]),
    (own("h[n,m] = sum(j, V[i,j]*x[n,j])"), ["'m'", "not"]),
    (own("g[n,i] = sum(j, V[i,j]*x[n,j])"), ["output 'h' is not assigned"]),
    (own("just text"), ["line 1", "is not an equation"]),
    (own(output=3), ["layer 1: output = 3"]),
    (own(equations=None), ["layer 1: equations is missing"]),
    (own(indices={"i": 0}), ["layer 1: indices: i = 0", "at least 1"]),
    (own(parameters={"V": "ij"}), ["layer 1: parameters: V = 'ij'", '["i", "j"]']),
    (own(parameters={"V": ["i", "q"]}), ["layer 1", "index 'q' is not declared"]),
    (own(initialisers={"U": "zeros"}), ["layer 1", "initialiser of 'U'", "Known: V"]),
    (own(initialisers={"V": "zero"}), ["layer 1", "initialiser 'zero'", "Did you mean 'zeros'?"]),
    (own(constants={"a": "1"}), ["layer 1: constants: a = '1'", "finite number"]),
    (own(incoming=["j", "k"]), ["layer 1", "incoming = ['j', 'k']"]),
    (own(indexes={}), ["layer 1: the key 'indexes'", "Did you mean 'indices'?"]),
]


@pytest.mark.parametrize(("given", "parts"), [*WRONG, *WRONG_EQUATIONS])
def test_what_is_wrong_is_said_in_a_line(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        model_from_dict(given, "net.toml")
    message = str(caught.value)
    assert message.startswith("net.toml: ")
    assert message.count("net.toml") == 1
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_layer_of_another_kind_cannot_be_written() -> None:
    class Own:
        weighted = False

        def equations(self, site: Any) -> Any:
            return Dropout(0.0).equations(site)

    with pytest.raises(SpecError, match="layer 1: a Own cannot be written"):
        model_to_dict(one(Own()))


@pytest.mark.parametrize("model", [*(one(layer) for layer in LAYERS.values()), *MODELS.values()])
def test_equal_models_have_equal_hashes(model: Model) -> None:
    assert hash(again(model)) == hash(model)

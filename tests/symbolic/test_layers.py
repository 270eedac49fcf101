"""What layers say: their equations, names and shapes, and which specifications are wrong."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS, Activation
from chainrule.symbolic.derive import derive
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import SAMPLE_INDEX, Kind, Program, Role, Tensor, extent, index
from chainrule.symbolic.layers import (
    Activate,
    Dense,
    Dropout,
    Equations,
    Site,
    checked_size,
    labelled,
    over_units,
)
from chainrule.symbolic.model import Model
from chainrule.symbolic.normalise import normalise

from .programs import random_values

INCOMING = Tensor("x", (SAMPLE_INDEX, index("j", extent("U_0"))), Role.INPUT)
SITE = Site(INCOMING, 3, "2", "x2", "layer 3")


def shapes(program: Program) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(program.size(e) for e in t.shape) for t in program.parameters}


def computed(model: Model, seed: int = 0) -> dict[str, Any]:
    program = model.program()
    return interpret(program, random_values(program, 2, seed), 2)


# Dense


def test_dense() -> None:
    piece = Dense(3, "tanh").equations(SITE)
    assert [str(e) for e in piece.equations] == [
        "z2[n,i] = sum_j W2[i,j] x[n,j] + b2[i]",
        "x2[n,i] = tanh(z2[n,i])",
    ]
    assert [t.name for t in piece.tensors] == ["W2", "b2"]
    assert piece.outgoing.name == "x2"
    assert piece.sizes == {extent("U_2"): 3}
    assert piece.fans["W2"] == (extent("U_0"), extent("U_2"))
    assert all(t.role is Role.PARAMETER for t in piece.tensors)


def test_dense_without_activation_or_bias() -> None:
    piece = Dense(3, bias=False).equations(SITE)
    assert [str(e) for e in piece.equations] == ["x2[n,i] = sum_j W2[i,j] x[n,j]"]
    assert [t.name for t in piece.tensors] == ["W2"]
    assert set(piece.initial) == {"W2"}


def test_dense_sums_over_all_indices_that_come_in() -> None:
    model = Model((2, 3), [Dense(4, "tanh"), Dense(1)])
    assert shapes(model.program())["W1"] == (4, 2, 3)
    table = computed(model)
    wanted = table["b1"][(1,)] + sum(table["W1"][1, a, b] * table["x"][0, a, b] for a in range(2) for b in range(3))
    assert table["z1"][0, 1] == pytest.approx(wanted)


def test_dense_with_a_parametric_activation() -> None:
    shared = Model(2, [Dense(3, "prelu"), Dense(1)]).program()
    assert shapes(shared)["alpha1"] == ()
    own = Activation("prelu_each", "where(z <= 0, alpha*z, z)", parameters={"alpha": 0.25}, per_unit=True)
    model = Model(2, [Dense(3, own), Dense(1)])
    assert shapes(model.program())["alpha1"] == (3,)
    table = computed(model)
    for (n, i), z in table["z1"].items():
        assert table["x1"][n, i] == pytest.approx(z if z > 0 else table["alpha1"][(i,)] * z)


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", None, True, 10**10])
def test_wrong_units(units: Any) -> None:
    with pytest.raises(SpecError, match=r"units = .*whole number"):
        Dense(units)


def test_dense_passes_on_what_is_wrong_with_its_activation() -> None:
    with pytest.raises(SpecError, match=r"activation 'rleu' is not known.*'relu'"):
        Dense(3, "rleu")


# Activations as layers


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_alone_is_the_same_as_inside_a_dense_layer(name: str) -> None:
    inside, alone = Model(2, [Dense(3, name), Dense(1)]), Model(2, [Dense(3), Activation(name), Dense(1)])
    first, second = inside.program(), alone.program()
    values = random_values(first, 2)
    given = dict(values)
    for parameter in ACTIVATIONS[name].parameters:
        other = next(t.name for t in second.parameters if t.name.startswith(parameter))
        given[other] = values[f"{parameter}1"]
    table = interpret(second, given, 2)
    assert table["y_hat"] == pytest.approx(interpret(first, values, 2)["y_hat"], rel=1e-14)


def test_softmax_goes_over_the_last_index() -> None:
    table = computed(Model((2, 3), [Activation("softmax"), Dense(1)]))
    name = next(n for n in table if n.startswith("layer"))
    for n in range(2):
        for a in range(2):
            assert sum(table[name][n, a, b] for b in range(3)) == pytest.approx(1.0)


def test_over_units_takes_a_free_letter() -> None:
    indices = (SAMPLE_INDEX, index("j", 2), index("k", 3))
    z = Tensor("z", indices)
    softmax = ACTIVATIONS["softmax"].expr.xreplace({sp.Symbol("z", real=True): z.element})
    (total,) = over_units(softmax, indices).atoms(sp.Sum)
    assert total.limits[0][0].name not in ("n", "j", "k")
    assert total.limits[0][2] == 2


def test_sums_over_units_inside_one_another() -> None:
    model = Model(2, [Dense(3, "sum(z*sum(z))"), Dense(1)])
    table = computed(model)
    units = [table["z1"][0, i] for i in range(3)]
    assert table["x1"][0, 0] == pytest.approx(sum(units) ** 2)
    derive(normalise(model.program()))


# Dropout


def test_dropout_keeps_what_the_noise_lets_through() -> None:
    """The noise is uniform in [0, 1): a share of `rate` is dropped, the rest grows by 1/(1 - rate)."""
    piece = Dropout(0.2).equations(SITE)
    (noise,), (equation,) = piece.tensors, piece.equations
    assert noise.role is Role.NOISE
    assert noise.indices == equation.indices
    x, u = {(0, 0): 2.0, (0, 1): 3.0}, {(0, 0): 0.19, (0, 1): 0.2}
    program = Program((INCOMING, noise), piece.equations, ("x2",), {extent("U_0"): 2})
    got = interpret(program, {"x": x, noise.name: u}, 1)["x2"]
    assert got == {(0, 0): 0, (0, 1): pytest.approx(3.0 / 0.8)}
    assert not Dropout(0.5).weighted


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 2, math.nan, "0.5", None, True])
def test_wrong_rates(rate: Any) -> None:
    with pytest.raises(SpecError, match="rate = "):
        Dropout(rate)


# Equations


def test_equations_as_in_the_design() -> None:
    layer = Equations(
        "z[n,i] = sum(j, V[i,j]*x[n,j]) + c[i]\nh[n,i] = z[n,i]*tanh(log(1 + exp(z[n,i])))",
        "h",
        {"i": 3},
        {"V": ["i", "j"], "c": ["i"]},
    )
    model, mish = Model(2, [layer, Dense(1)]), Model(2, [Dense(3, "mish"), Dense(1)])
    assert shapes(model.program()) == {"V1": (3, 2), "c1": (3,), "Wo": (1, 3), "bo": (1,)}
    values = random_values(mish.program(), 2)
    given = {k: v for k, v in values.items() if k not in ("W1", "b1")} | {
        "V1": values["W1"],
        "c1": values["b1"],
    }
    got, wanted = interpret(model.program(), given, 2), interpret(mish.program(), values, 2)
    assert got["y_hat"] == pytest.approx(wanted["y_hat"], rel=1e-14)


def test_parameters_without_indices_and_constants() -> None:
    layer = Equations("h[n,j] = g*x[n,j]*a", "h", {}, {"g": []}, constants={"a": 0.1})
    table = computed(Model(2, [layer, Dense(1)]))
    assert table["x1"][0, 1] == pytest.approx(table["g1"][()] * table["x"][0, 1] * 0.1)


def test_look_up_of_tokens() -> None:
    layer = Equations("h[n,j,i] = E[x[n,j],i] + P[j,i]", "h", {"i": 2, "v": 5}, {"E": ["v", "i"], "P": ["j", "i"]})
    model = Model(3, [layer, Dense(2, "softmax")], "cross_entropy", tokens=5)
    program = model.program()
    assert program.by_name["x"].kind is Kind.INTEGER
    assert shapes(program) == {"E1": (5, 2), "P1": (3, 2), "Wo": (2, 3, 2), "bo": (2,)}
    table = computed(model)
    token = table["x"][1, 2]
    assert table["x1"][1, 2, 0] == table["E1"][token, 0] + table["P1"][2, 0]
    assert "dE1" in {e.name for e in derive(normalise(program)).backward}


def test_position_of_the_largest() -> None:
    layer = Equations("b[n] = argmax(j, x[n,j])\nh[n,i] = E[b[n],i]*x[n,b[n]]", "h", {"i": 2}, {"E": ["j", "i"]})
    table = computed(Model(3, [layer, Dense(1)]))
    x = [table["x"][0, j] for j in range(3)]
    assert table["x1"][0, 1] == table["E1"][x.index(max(x)), 1] * max(x)


def test_convolution_with_literal_extents() -> None:
    layer = Equations(
        "z[n,o,r] = sum(j, p, K[o,j,p]*where(2*r + p >= 1 and 2*r + p <= 5, x[n,j,2*r+p-1], 0)) + c[o]\n"
        "h[n,o,r] = relu(z[n,o,r])",
        "h",
        {"o": 2, "r": 3, "p": 3},
        {"K": ["o", "j", "p"], "c": ["o"]},
    )
    model = Model((2, 5), [layer, Dense(3, "softmax")], "cross_entropy")
    assert shapes(model.program()) == {"K1": (2, 2, 3), "c1": (2,), "Wo": (3, 2, 3), "bo": (3,)}
    table = computed(model)
    padded = [0.0, *(table["x"][0, 1, s] for s in range(5)), 0.0]
    other = [0.0, *(table["x"][0, 0, s] for s in range(5)), 0.0]
    for r in range(3):
        wanted = table["c1"][(1,)] + sum(
            table["K1"][1, 0, p] * other[2 * r + p] + table["K1"][1, 1, p] * padded[2 * r + p] for p in range(3)
        )
        assert table["z1"][0, 1, r] == pytest.approx(wanted)


def test_several_sums_in_one_line() -> None:
    layer = Equations(
        "h[n,i] = sum(j, V[i,j]*x[n,j]) + sum(j, U[i,j]*x[n,j]**2)*max(j, x[n,j])", "h", {"i": 2},
        {"U": ["i", "j"], "V": ["i", "j"]},
    )  # fmt: skip
    table = computed(Model(2, [layer, Dense(1)]))
    x, U, V = ([table[k][0, j] for j in range(2)] for k in ("x", "U1", "V1"))
    wanted = x[0] * V[0] + x[1] * V[1] + (x[0] ** 2 * U[0] + x[1] ** 2 * U[1]) * max(x)
    assert table["x1"][0, 0] == pytest.approx(wanted)


def test_names_of_what_comes_in() -> None:
    layer = Equations("h[n,a] = sum(b, x[n,a,b])*s", "h", {}, {"s": []}, incoming=["a", "b"])
    table = computed(Model((2, 3), [layer, Dense(1)]))
    assert table["x1"][0, 1] == pytest.approx(table["s1"][()] * sum(table["x"][0, 1, b] for b in range(3)))


def test_statistics_of_the_batch() -> None:
    layer = Equations("m[j] = mean(n, x[n,j])\nh[n,j] = g[j]*(x[n,j] - m[j])", "h", {}, {"g": ["j"]})
    table = computed(Model(2, [layer, Dense(1)]))
    mean = (table["x"][0, 1] + table["x"][1, 1]) / 2
    assert table["x1"][0, 1] == pytest.approx(table["g1"][(1,)] * (table["x"][0, 1] - mean))


@pytest.mark.parametrize(
    "name", ["e", "pi", "exp", "sum", "l", "L", "E", "y", "y_hat", "z", "W", "b", "w_sum", "N", "alpha"]
)
def test_any_name_may_be_a_parameter(name: str) -> None:
    layer = Equations(f"q[n,i] = sum(j, {name}[i,j]*x[n,j])\nh[n,i] = 2*q[n,i]", "h", {"i": 2}, {name: ["i", "j"]})
    table = computed(Model(2, [layer, Dense(2, "tanh"), Dense(1)]))
    assert table["x1"][0, 0] == pytest.approx(2 * sum(table[f"{name}1"][0, j] * table["x"][0, j] for j in range(2)))


@pytest.mark.parametrize("name", ["e", "pi", "g"])
def test_any_name_may_be_a_number_of_ones_own(name: str) -> None:
    layer = Equations(f"h[n,j] = {name}*x[n,j]", "h", {}, {name: []})
    table = computed(Model(2, [layer, Dense(1)]))
    assert table["x1"][0, 0] == pytest.approx(table[f"{name}1"][()] * table["x"][0, 0])


@pytest.mark.parametrize("name", ["e", "pi", "u", "N", "m", "U_o"])
def test_any_name_may_be_an_index(name: str) -> None:
    layer = Equations(f"h[n,{name}] = V[{name}]*x[n,0] + sum(j, x[n,j])", "h", {name: 3}, {"V": [name]})
    assert shapes(Model(2, [layer, Dense(1)]).program()) == {"V1": (3,), "Wo": (1, 3), "bo": (1,)}


def test_indices_that_differ_in_case_have_their_own_extents() -> None:
    layer = Equations("h[n,i] = sum(I, V[i,I])*x[n,0]", "h", {"i": 2, "I": 3}, {"V": ["i", "I"]})
    try:
        program = Model(2, [layer, Dense(1)]).program()
    except SpecError:
        return
    assert shapes(program)["V1"] == (2, 3)


ONCE_MORE = Equations("z[n,j] = x[n,j]**2\nh[n,j] = z[n,j] + 1", "h")


@pytest.mark.parametrize(
    "layers",
    [
        [ONCE_MORE, ONCE_MORE, Dense(1)],
        [Dense(2, "tanh"), ONCE_MORE, Dense(1)],
        [Dense(2, "tanh"), ONCE_MORE, ONCE_MORE, Dense(2, "tanh"), ONCE_MORE, Dense(1)],
        [Dense(2), Activation("prelu"), Dense(2, "prelu"), Dense(1)],
        [Activation("prelu"), Activation("prelu"), Dense(2, "prelu")],
        [Dense(2, "prelu"), Activation("swish"), Activation("swish"), Dense(1, "swish")],
        [ONCE_MORE],
        [Dense(2), ONCE_MORE],
    ],
    ids=range(8),
)
def test_names_of_layers_never_meet(layers: list[Any]) -> None:
    program = Model(2, layers).program()
    derive(normalise(program))
    names = [t.name for t in program.tensors] + [e.name for e in program.equations]
    assert len(names) == len(set(names))


def one(text: str, parameters: dict[str, list[str]] | None = None, **more: Any) -> Callable[[], Model]:
    """A model with one such layer; i runs to 3, j to 2."""
    indices = more.pop("indices", {"i": 3})
    output = more.pop("output", "h")
    given = {"V": ["i", "j"]} if parameters is None else parameters
    return lambda: Model(2, [Equations(text, output, indices, given, **more), Dense(1)])


WRONG = {
    "index not bound": (one("h[n,i] = V[i,j]*x[n,j]"), "line 1.*'j' is not bound.*sum"),
    "index not declared": (one("h[n,k] = V[k,0]*x[n,0]"), "line 1.*'k'"),
    "index inside not declared": (one("h[n,i] = sum(k, V[i,k]*x[n,k])"), "'k'|sum"),
    "index of a parameter": (one("h[n,i] = V[i]*x[n,0]", {"V": ["q"]}), r"'q'.* Known: i, j, n"),
    "unknown tensor": (one("h[n,i] = Q[i,0]*x[n,0]"), r"line 1.*'Q'.*Known: V, x"),
    "unknown name": (one("h[n,i] = V[i,0]*x[n,0] + q"), "line 1.*'q'"),
    "unknown function": (one("h[n,i] = tahn(V[i,0]*x[n,0])"), "line 1.*'tahn'"),
    "too few indices": (one("h[n,i] = V[i]*x[n,0]"), r"'V' has 1 indices here; it has 2"),
    "too many indices": (one("h[n,i] = V[i,0,0]*x[n,0]"), "'V' has 3 indices here; it has 2"),
    "no indices": (one("h[n,i] = V[i,0]*x"), "'x' has 0 indices here; it has 2"),
    "read before assigned": (one("h[n,i] = z[n,i]\nz[n,i] = V[i,0]*x[n,0]"), "line 1.*'z'"),
    "assigned twice": (one("h[n,i] = V[i,0]*x[n,0]\nh[n,i] = V[i,1]*x[n,0]"), "2: 'h' has a value"),
    "assigns the input": (one("x[n,i] = V[i,0]\nh[n,i] = x[n,i]"), "line 1: 'x' has a value already"),
    "assigns a parameter": (one("V[i,j] = 1\nh[n,i] = V[i,0]*x[n,0]"), "line 1: 'V' has a value"),
    "assigns an index": (one("i[n] = x[n,0]\nh[n,i] = V[i,0]*x[n,0]"), "'i' has a value already"),
    "index twice on the left": (one("h[n,i,i] = V[i,0]*x[n,0]"), "twice"),
    "bound by both sides": (one("h[n,i] = sum(i, V[i,0]*x[n,0])"), "'i' is bound twice"),
    "bound twice by one sum": (one("h[n,i] = sum(j, j, V[i,j]*x[n,j])"), "'j'.*twice"),
    "output not assigned": (one("z[n,i] = V[i,0]*x[n,0]"), "output 'h' is not assigned"),
    "output is a parameter": (one("z[n,i] = V[i,0]*x[n,0]", output="V"), "output 'V' is not assigned"),
    "output is the input": (one("z[n,i] = V[i,0]*x[n,0]", output="x"), "output 'x' is not assigned"),
    "output without n": (one("h[i] = V[i,0]"), "output 'h' needs n"),
    "output with n last": (one("h[i,n] = V[i,0]*x[n,0]"), "output 'h' needs n"),
    "output with n only": (one("h[n] = V[0,0]*x[n,0]"), "output 'h' needs n"),
    "input as a parameter": (one("h[n,i] = x[i]", {"x": ["i"]}), "'x'"),
    "input as an index": (one("h[n,i] = V[i,0]*x[n,0]", indices={"i": 3, "x": 2}), "'x'"),
    "extent given twice": (one("h[n,i] = V[i,0]*x[n,0]", indices={"i": 3, "n": 4}), "'n' has an extent"),
    "extent is zero": (one("h[n,i] = V[i,0]*x[n,0]", indices={"i": 0}), "index 'i' = 0"),
    "extent is a float": (one("h[n,i] = V[i,0]*x[n,0]", indices={"i": 3.0}), "index 'i' = 3.0"),
    "incoming of wrong length": (one("h[n,i] = V[i,0]*x[n,0]", incoming=["a", "b"]), "incoming"),
    "initialiser of nothing": (one("h[n,i] = V[i,0]*x[n,0]", initialisers={"U": "zeros"}), "'U', not"),
    "parameter over samples": (one("h[n,i] = V[n,i]*x[n,0]", {"V": ["n", "i"]}), "'?V'?.*n|n.*'V'"),
    "constant is not finite": (one("h[n,i] = a*V[i,0]*x[n,0]", constants={"a": math.nan}), "'?a'?"),
    "constant is no number": (one("h[n,i] = a*V[i,0]*x[n,0]", constants={"a": "1"}), "'?a'?"),
    "constant is a parameter": (one("h[n,i] = V[i,0]*x[n,0]", constants={"V": 1.0}), "'V'"),
    "position too large": (one("h[n,i] = V[i,5]*x[n,0]"), "5"),
    "indices exchanged": (one("h[n,i] = sum(j, V[j,i]*x[n,j])"), "V"),
    "position below zero": (one("h[n,i] = V[i-1,0]*x[n,0]"), "V"),
    "sum of a condition": (one("h[n,i] = sum(j, x[n,j] > 0)*V[i,0]"), "condition"),
    "position is not an integer": (one("h[n,i] = V[i/2,0]*x[n,0]"), "not an integer"),
    "position is real": (one("h[n,i] = V[x[n,0],0]"), "not an integer"),
    "no equation": (one("# nothing"), "there is no equation"), "not an equation": (one("h[n,i]"), "line 1"),
    "parameter with a bad name": (one("h[n,i] = x[n,0]", {"__V": ["i"]}), "is not a name"),
    "output with a bad name": (one("h[n,i] = x[n,0]", output="h[n]"), "is not a name"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_equations(wrong: str) -> None:
    build, words = WRONG[wrong]
    with pytest.raises(SpecError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_layers_are_values() -> None:
    assert Dense(3, "tanh") == Dense(3, "tanh") != Dense(3, "relu")
    assert hash(Dense(3, "tanh")) == hash(Dense(3, "tanh"))
    assert Dropout(0.5) == Dropout(0.5)
    assert Activate("tanh") == Activate("tanh")
    first, second = (Equations("h[n,i] = V[i]*x[n,0]", "h", {"i": 2}, {"V": ["i"]}) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(AttributeError):
        Dense(3).units = 4  # type: ignore[misc]


def test_helpers() -> None:
    assert labelled("V", "2") == "V2"
    assert labelled("V1", "2") == "V1_2"
    assert checked_size(3, "units", "here") == 3

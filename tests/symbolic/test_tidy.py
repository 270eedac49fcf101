"""Every pass keeps every value; its example happens; what was stored is not computed again."""

from collections import Counter
from collections.abc import Callable

import pytest

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.check import check
from chainrule.symbolic.derivation import BEFORE_NORMAL_FORM, FORWARD_PASSES, derived_program
from chainrule.symbolic.derive import Derived, derive
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import Program, elements
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.tidy import (
    COSTLY,
    PASSES,
    common_factors_out,
    constants_inlined,
    functions_shared,
    logistic_complements,
    outputs_reused,
    single_uses_inlined,
    tidied,
    values_stabilised,
)

from .programs import PROGRAMS, random_values, written

USERS_OWN = ["z*tanh(z)", "z/(1 + exp(-1.702*z))", "z*erf(z) + exp(-z**2)", "sin(z)*exp(z)", "3*tanh(z) + 1"]


def raw(program: Program) -> Derived:
    """What deriving gives, before anything was tidied."""
    for forward_pass in FORWARD_PASSES:
        program = check(forward_pass(program), normal=forward_pass not in BEFORE_NORMAL_FORM)
    return derive(program)


def net(activation: str, loss: str = "squared_error", variant: Variant | None = None) -> Program:
    return Model(2, [Dense(3, activation)], loss).program(variant)


def lines(made: Derived) -> dict[str, str]:
    return {e.name: str(e) for e in made.program.equations}


def keeps(program: Program) -> None:
    """The loss, the outputs and every gradient, after every pass."""
    made = raw(program)
    values = random_values(program, 2)
    wanted = interpret(made.program, values, 2)
    for each in PASSES:
        before, made = made, each(made)
        if made == before:
            continue
        check(made.program)
        assert made.adjoint == before.adjoint
        assert made.program.outputs == before.program.outputs
        got = interpret(made.program, values, 2)
        for name in wanted.keys() & got.keys():
            assert got[name] == pytest.approx(wanted[name], rel=1e-9, abs=1e-12), f"{each.__name__}: {name}"
        assert set(made.program.outputs) <= got.keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_pass_keeps_every_value(name: str) -> None:
    keeps(PROGRAMS[name]())


@pytest.mark.parametrize("name", [*ACTIVATIONS, *USERS_OWN])
def test_every_pass_keeps_every_value_of_activations(name: str) -> None:
    keeps(net(name))


@pytest.mark.parametrize("name", ["log_cosh", "huber", "gaussian_nll", "quantile", "squared_hinge"])
def test_every_pass_keeps_every_value_of_losses(name: str) -> None:
    keeps(Model(2, [Dense(2 * len(LOSSES[name].heads))], name).program(Variant(weighted=True)))


@pytest.mark.parametrize("variant", [Variant(), Variant(classes=True), Variant(weighted=True)])
def test_every_pass_keeps_every_value_of_cross_entropy(variant: Variant) -> None:
    keeps(net("softmax", "cross_entropy", variant))


# Each pass by before and after


def test_constants_inlined() -> None:
    made = raw(net("identity"))
    assert lines(made)["dl"] == "dl[n] = 1/N"
    after = lines(constants_inlined(made))
    assert "dl" not in after
    assert "dl[" not in after["dy_hat"]
    assert "N" in after["dy_hat"]


def test_gradients_are_never_inlined() -> None:
    """An output stays, also where it is a copy of another adjoint."""
    program = written({"i": 2}, {"w": "parameter i", "v": "parameter i"}, "u[i] = w[i] + v[i]\nL = sum(i, u[i]**2)")
    made = derived_program(program)
    assert {"dw", "dv"} <= lines(made).keys()


def test_single_uses_inlined() -> None:
    program = written(
        {"i": 2}, {"x": "input n i", "w": "parameter i"},
        "u[n,i] = w[i]*x[n,i]\na[n,i] = u[n,i]**2\nb[n,i] = 3*a[n,i]**2\nL = sum(n, i, b[n,i]**2)",
    )  # fmt: skip
    before, after = lines(raw(program)), lines(single_uses_inlined(raw(program)))
    assert {"db", "da", "du"} <= before.keys()
    assert {"db", "da"}.isdisjoint(after)
    assert "du" in after, "what is read under a sum keeps its name"


def test_costly_adjoints_are_not_inlined_under_a_sum() -> None:
    made = lines(derived_program(net("sin")))
    assert "dzo" in made
    assert made["dWo"] == "dWo[i,j] = sum_n dzo[n,i] x[n,j]"


def test_logistic_complements() -> None:
    made = single_uses_inlined(constants_inlined(raw(net("sigmoid", "binary_cross_entropy"))))
    assert "sigmoid(-zo[n,i])" in lines(made)["dzo"]
    assert "sigmoid(-zo[n,i])" not in lines(logistic_complements(made))["dzo"]


def test_outputs_reused() -> None:
    made = single_uses_inlined(constants_inlined(raw(net("tanh"))))
    assert "tanh(zo[n,i])^2" in lines(made)["dzo"]
    after = lines(outputs_reused(made))["dzo"]
    assert "tanh" not in after
    assert "1 - y_hat[n,i]^2" in after


def test_values_stabilised() -> None:
    made = raw(net("identity", "log_cosh"))
    assert "cosh(" in lines(made)["l"]
    assert "cosh(" not in lines(values_stabilised(made))["l"]


def test_functions_shared() -> None:
    made = raw(net("mish"))
    after = functions_shared(made)
    assert lines(after)["tanh_zo"] == "tanh_zo[n,i] = tanh(softplus(zo[n,i]))"
    assert lines(after)["y_hat"] == "y_hat[n,i] = tanh_zo[n,i] zo[n,i]"
    assert "tanh_zo" in {e.name for e in after.forward.equations}, "the backward pass reads what the forward stored"
    assert "tanh(" not in "".join(str(e) for e in after.backward)


def test_common_factors_out() -> None:
    program = written(
        {"i": 2}, {"x": "input n i", "t": "target n i", "w": "parameter i"},
        "z[n,i] = w[i]*x[n,i]\nl[n] = sum(i, (z[n,i] - t[n,i])**2)\nL = mean(n, l[n])",
    )  # fmt: skip
    made = lines(derived_program(program))
    assert "(z[n,i] - t[n,i])" in made["dz"]
    assert made["dz"].endswith("/N")
    assert common_factors_out(derived_program(program)) == derived_program(program), "twice is once"


def test_no_passes_change_nothing() -> None:
    made = raw(PROGRAMS["dense"]())
    assert tidied(made, ()) is made


# The formulas that a reader expects


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        ("tanh", "(1 - y_hat[n,i]^2)"),
        ("sigmoid", "(1 - y_hat[n,i])"),
        ("exp", "y_hat[n,i]"),
        ("elu", "{y_hat[n,i] + 1 if zo[n,i] <= 0; 1 otherwise}"),
        ("silu", "y_hat[n,i] (1 - sigmoid_zo[n,i]) + sigmoid_zo[n,i]"),
    ],
)
def test_slopes(activation: str, slope: str) -> None:
    assert slope in lines(derived_program(net(activation)))["dzo"]


@pytest.mark.parametrize(
    ("ending", "loss", "variant", "wanted"),
    [
        ("softmax", "cross_entropy", Variant(classes=True), "(y_hat[n,i] - [i = y[n]])/N"),
        ("softmax", "cross_entropy", Variant(True, True), "w_share[n] (y_hat[n,i] - [i = y[n]])"),
        ("sigmoid", "binary_cross_entropy", Variant(), "(y_hat[n,i] - y[n,i])/(N U_o)"),
        ("sigmoid", "binary_cross_entropy", Variant(weighted=True), "w_share[n] (y_hat[n,i] - y[n,i])/U_o"),
        ("exp", "poisson", Variant(), "(y_hat[n,i] - y[n,i])/(N U_o)"),
    ],
)
def test_prediction_minus_target(ending: str, loss: str, variant: Variant, wanted: str) -> None:
    """No rule knows of these pairs."""
    assert lines(derived_program(net(ending, loss, variant)))["dzo"] == f"dzo[n,i] = {wanted}"


@pytest.mark.parametrize(
    ("activation", "shared"),
    [("gelu", "erfc_zo"), ("mish", "tanh_zo"), ("silu", "sigmoid_zo"), ("gelu_tanh", "sigmoid_zo")],
)
def test_forward_and_backward_share(activation: str, shared: str) -> None:
    made = derived_program(net(activation))
    assert shared in made.forward.defined
    assert any(shared in e.reads for e in made.backward)


def costly_calls(made: Derived) -> Counter[str]:
    """How many equations compute a function of the same elements."""
    return Counter(
        str(call)
        for equation in made.program.equations
        for call in equation.expr.atoms(*COSTLY)
        if elements(call)
    )  # fmt: skip


# selu's output times a number: exp(z) from it, a/(scale alpha) + 1, would lose its digits for z far below 0.
@pytest.mark.parametrize("name", [*(a for a in ACTIVATIONS if a != "selu"), *USERS_OWN])
def test_no_costly_function_twice(name: str) -> None:
    calls = costly_calls(derived_program(net(name)))
    assert {c: k for c, k in calls.items() if k > 1} == {}
    for call in calls:
        assert f"exp{call.removeprefix('expm1')}" not in calls or not call.startswith("expm1"), call


@pytest.mark.parametrize(
    ("name", "most"), [("tanh", 1), ("elu", 1), ("selu", 2), ("gelu", 2), ("mish", 3), ("silu", 1)]
)
def test_number_of_costly_functions(name: str, most: int) -> None:
    assert sum(costly_calls(derived_program(net(name))).values()) <= most


@pytest.mark.parametrize("each", PASSES)
def test_passes_do_nothing_where_there_is_nothing_to_do(each: Callable[[Derived], Derived]) -> None:
    made = derived_program(PROGRAMS["dense"]())
    assert [str(e) for e in each(made).program.equations] == [str(e) for e in made.program.equations]


def test_pipeline_holds_every_pass_once() -> None:
    assert (
        constants_inlined, single_uses_inlined, logistic_complements, outputs_reused, values_stabilised,
        functions_shared, common_factors_out,
    ) == PASSES  # fmt: skip

"""Derived gradients against central differences with sixty digits, and the laws of the reverse chain rule."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic import contract
from chainrule.symbolic.check import check
from chainrule.symbolic.derive import Derived, derive
from chainrule.symbolic.functions import CONTRACTIONS
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import SAMPLES, Equation, Index, Kind, Program, Role, Tensor, index
from chainrule.symbolic.normalise import normalise

from .programs import PROGRAMS, SAMPLE_COUNT, random_values, written

Values = Mapping[str, Mapping[tuple[int, ...], Any]]
every_program = pytest.mark.parametrize("name", PROGRAMS)
STEP = mpmath.mpf(10) ** -15  # the error of a central difference is of the order of its square


@pytest.fixture(autouse=True)
def _sixty_digits() -> Iterator[None]:
    with mpmath.workdps(60):
        yield


@lru_cache
def derived(name: str) -> Derived:
    result = derive(check(normalise(PROGRAMS[name]())))
    check(result.program)
    return result


def exact(values: Values) -> dict[str, dict[tuple[int, ...], Any]]:
    """The same numbers with sixty digits; integers stay integers."""
    return {
        name: {p: v if isinstance(v, int) else mpmath.mpf(v) for p, v in table.items()}
        for name, table in values.items()
    }


def central_difference(program: Program, values: Values, name: str, position: tuple[int, ...]) -> Any:
    def loss(shift: Any) -> Any:
        table = {**values[name], position: values[name][position] + shift}
        return interpret(program, {**values, name: table}, SAMPLE_COUNT, mpmath)["L"][()]

    return (loss(STEP) - loss(-STEP)) / (2 * STEP)


def assert_close(got: Any, wanted: Any, relative: float, what: str) -> None:
    assert abs(got - wanted) <= relative * max(abs(wanted), mpmath.mpf("1e-4")), f"{what}: {got}, not {wanted}"


def gradients(made: Derived, values: Values, **options: Any) -> dict[str, dict[tuple[int, ...], Any]]:
    table = interpret(made.program, values, SAMPLE_COUNT, **options)
    return {p.name: table[made.adjoint[p.name]] for p in made.forward.parameters}


# Values


@every_program
def test_gradient_equals_central_differences(name: str) -> None:
    program, made = PROGRAMS[name](), derived(name)
    floats = random_values(program)
    values = exact(floats)
    many_digits, few_digits = gradients(made, values, arithmetic=mpmath), gradients(made, floats)
    assert program.parameters
    for parameter in program.parameters:
        for position in values[parameter.name]:
            wanted = central_difference(program, values, parameter.name, position)
            where = f"d{parameter.name}{list(position)}"
            assert_close(many_digits[parameter.name][position], wanted, 1e-20, where)
            assert_close(few_digits[parameter.name][position], wanted, 1e-11, f"{where} in floats")


@every_program
def test_gradient_depends_on_every_parameter_that_is_used(name: str) -> None:
    """Without this the comparison above could be one of zeros with zeros."""
    program, made = PROGRAMS[name](), derived(name)
    for parameter, table in gradients(made, random_values(program)).items():
        idle = name == "unused_parameter" and parameter in ("idle", "aside")
        assert any(value != 0 for value in table.values()) is not idle, parameter


@pytest.mark.parametrize("name", ["dense", "attention", "conv1d", "lstm", "pairs_of_samples", "max_pool_1d"])
def test_gradient_with_respect_to_inputs(name: str) -> None:
    program = PROGRAMS[name]()
    made = derive(normalise(program), wrt=["x"])
    check(made.program.with_equations((*made.forward.equations, *made.backward)))
    values = exact(random_values(program, seed=1))
    got = interpret(
        replace(made.forward, equations=(*made.forward.equations, *made.backward)),
        values,
        SAMPLE_COUNT,
        mpmath,
    )
    for position in values["x"]:
        wanted = central_difference(program, values, "x", position)
        assert_close(got[made.adjoint["x"]][position], wanted, 1e-20, f"dx{list(position)}")


def test_gradient_with_respect_to_an_intermediate_tensor() -> None:
    made = derive(normalise(PROGRAMS["dense"]()), wrt=["z", "W"])
    assert str(made.backward[-1]) == "dW[i,j] = sum_n dz[n,i] x[n,j]"
    assert made.adjoint["z"] == "dz"


def test_first_of_equal_maxima_gets_the_slope() -> None:
    program = written({"i": 3, "k": 3}, {"w": "parameter i"}, "m = max(k, w[k])\nL = m**2 + sum(i, max(w[i], m))")
    made = derive(normalise(program))
    table = interpret(made.program, {"w": {(0,): 1.0, (1,): 2.0, (2,): 2.0}}, 1)
    # the first summand gives 4 to w[1]; max(w[i], m) has the slope of m where both are equal
    assert table["dw"] == {(0,): 0.0, (1,): 4.0 + 3.0, (2,): 0.0}


def test_constant_equations_are_not_differentiated() -> None:
    program = PROGRAMS["shifted_softmax"]()
    held = program.with_equations(replace(e, constant=e.name == "m") for e in program.equations)
    made, whole = derive(normalise(held)), derived("shifted_softmax")
    assert "m" in whole.adjoint
    assert "m" not in made.adjoint
    values = random_values(program)
    assert gradients(made, values)["W"] == pytest.approx(gradients(whole, values)["W"], rel=1e-12, abs=1e-14)


def test_another_loss() -> None:
    program = PROGRAMS["several_inputs_and_outputs"]()
    values = exact(random_values(program))
    got = gradients(derive(normalise(program), loss="one"), values, arithmetic=mpmath)
    named_l = program.with_equations(
        e if e.name != "L" else replace(e, expr=sp.Symbol("one", real=True)) for e in program.equations
    )
    for position in values["W"]:
        wanted = central_difference(named_l, values, "W", position)
        assert_close(got["W"][position], wanted, 1e-20, f"dW{list(position)}")


# Shape


@every_program
def test_adjoint_has_the_indices_of_its_tensor(name: str) -> None:
    made = derived(name)
    backward = {e.name: e for e in made.backward}
    for tensor, adjoint in made.adjoint.items():
        assert backward[adjoint].indices == made.forward.by_name[tensor].indices, tensor


@every_program
def test_every_parameter_has_one_adjoint(name: str) -> None:
    made = derived(name)
    assert {p.name for p in made.forward.parameters} <= set(made.adjoint)
    names = [e.name for e in made.program.equations]
    assert len(names) == len(set(names))
    assert made.program.outputs[len(made.forward.outputs) :] == tuple(
        made.adjoint[p.name] for p in made.forward.parameters
    )


@every_program
def test_one_contraction_an_equation_and_no_marks_left(name: str) -> None:
    for equation in derived(name).program.equations:
        found = [e for e in sp.preorder_traversal(equation.expr) if isinstance(e, CONTRACTIONS)]
        assert len(found) <= 1, equation
        assert "__" not in sp.srepr(equation.expr), f"an index kept its working name: {equation}"
        assert not equation.expr.atoms(sp.core.function.AppliedUndef, sp.Derivative, sp.Subs), equation
        assert "_Held" not in sp.srepr(equation.expr), equation


@every_program
def test_every_step_says_which_rule_gave_it(name: str) -> None:
    assert all(e.rule for e in derived(name).backward)


def test_unused_parameters_have_a_zero_gradient() -> None:
    made = derived("unused_parameter")
    zero = {e.name: e for e in made.backward if e.expr == 0}
    assert set(zero) == {"didle", "daside"}
    assert zero["didle"].rule == "the loss does not depend on idle"
    assert "dother" not in {e.name for e in made.backward}


def test_loss_without_parameters_in_it() -> None:
    program = written({"i": 2}, {"x": "input n i", "w": "parameter i"}, "L = sum(n, i, x[n,i])")
    assert [str(e) for e in derive(normalise(program)).backward] == ["dw[i] = 0"]


def test_contributions_are_added_up() -> None:
    """u is read by a, b, m, s and h; those that hold a sum get equations of their own."""
    made = derived("shared_by_branches")
    total = next(e for e in made.backward if e.name == made.adjoint["u"])
    for reader in "abmsh":
        assert reader in total.rule.replace(",", "").split(), reader
    assert {"du_a", "du_b"} <= {e.name for e in made.backward}
    assert {"du_a", "du_b"} <= set(total.reads)


def test_weights_shared_by_steps_get_a_sum_of_all_steps() -> None:
    made = derived("lstm")
    total = next(e for e in made.backward if e.name == made.adjoint["W"])
    assert {f"dW_gate{t}" for t in range(3)} == set(total.reads) or all(f"gate{t}" in total.rule for t in range(3))


def test_names_that_are_taken_are_left_alone() -> None:
    program = written(
        {"i": 2}, {"x": "input n i", "w": "parameter i", "dw": "parameter i", "ddw": "parameter i"},
        "L = sum(n, i, w[i]*x[n,i]*dw[i]**2*ddw[i])",
    )  # fmt: skip
    made = derive(normalise(program))
    check(made.program)
    assert not set(made.adjoint.values()) & {"w", "dw", "ddw"}
    values = random_values(program)
    wanted = central_difference(program, exact(values), "dw", (1,))
    assert_close(gradients(made, values)["dw"][(1,)], wanted, 1e-11, "ddw[1]")


@pytest.mark.parametrize(
    ("equations", "wanted"),
    [
        ("z[n,i] = sum(j, W[i,j]*x[n,j])", "dW[i,j] = sum_n dz[n,i] x[n,j]"),
        ("z[n,i] = sum(j, W[i,j]*x[n,j]) + b[i]", "db[i] = sum_n dz[n,i]"),
        ("z[n,i] = x[n,i]*b[i]", "db[i] = sum_n dz[n,i] x[n,i]"),
        ("z[n,i] = g*x[n,i]", "dg = sum_ni dz[n,i] x[n,i]"),
        ("z[n,i] = x[n,i]*tanh(b[i])", "db[i] = (1 - tanh(b[i])^2) sum_n dz[n,i] x[n,i]"),
    ],
)
def test_formula_reads_as_on_paper(equations: str, wanted: str) -> None:
    """Only what stands inside a sum is inside it, and nothing is expanded."""
    tensors = {"x": "input n i", "W": "parameter i j", "b": "parameter i", "g": "parameter"}
    program = written({"i": 2, "j": 2}, tensors, f"{equations}\nL = sum(n, i, exp(z[n,i]))")
    assert wanted in [str(e) for e in derive(normalise(program)).backward]


# Indices


def renamed(program: Program, seed: int) -> Program:
    """Every tensor and every equation with other names for its indices, each with its own."""
    draw = random.Random(seed)
    letters = list("nijkmpq")

    def mapping(symbols: set[sp.Symbol]) -> dict[sp.Symbol, sp.Symbol]:
        names = draw.sample(letters, len(symbols))
        ordered = sorted(symbols, key=lambda s: s.name)
        return {s: index(name, 1).symbol for s, name in zip(ordered, names, strict=True)}

    def indices(old: tuple[Index, ...], new: Mapping[sp.Symbol, sp.Symbol]) -> tuple[Index, ...]:
        return tuple(Index(new[i.symbol], i.extent) for i in old)

    tensors = []
    for tensor in program.tensors:
        new = mapping({i.symbol for i in tensor.indices})
        tensors.append(replace(tensor, indices=indices(tensor.indices, new)))
    equations = []
    for equation in program.equations:
        bound = {lim[0] for c in equation.expr.atoms(*CONTRACTIONS) for lim in c.limits}
        new = mapping(bound | {i.symbol for i in equation.indices})
        equations.append(replace(equation, indices=indices(equation.indices, new), expr=equation.expr.xreplace(new)))
    return replace(program, tensors=tuple(tensors), equations=tuple(equations))


@every_program
@pytest.mark.parametrize("seed", [1])
def test_names_of_indices_mean_nothing(name: str, seed: int) -> None:
    program = PROGRAMS[name]()
    other = renamed(program, seed)
    made = derive(check(normalise(other)))
    check(made.program)
    values = random_values(program)
    got, wanted = gradients(made, values), gradients(derived(name), values)
    for parameter in wanted:
        assert got[parameter] == pytest.approx(wanted[parameter], rel=1e-9, abs=1e-12), parameter


def test_renaming_renames() -> None:
    """The law above would be empty otherwise."""
    first, second = PROGRAMS["attention"](), renamed(PROGRAMS["attention"](), 1)
    assert all(a.expr != b.expr for a, b in zip(first.equations[:-1], second.equations, strict=False))


def test_bound_index_does_not_capture_a_free_one() -> None:
    """dz's own i meets the i that z's sum binds."""
    program = written(
        {"i": 2, "j": 2},
        {"x": "input n i", "W": "parameter i j"},
        "z[n,j] = sum(i, W[j,i]*x[n,i])\nq[n,i] = sum(j, W[i,j]*z[n,j])\nL = sum(n, i, q[n,i]**2)",
    )
    made = derive(normalise(program))
    values = exact(random_values(program))
    got = gradients(made, values, arithmetic=mpmath)["W"]
    for position in got:
        assert_close(got[position], central_difference(program, values, "W", position), 1e-20, f"dW{list(position)}")


@every_program
def test_text_does_not_depend_on_what_was_derived_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [str(e) for e in derived(name).backward]
    for start in (95,):  # the names of fresh indices get one digit more
        monkeypatch.setattr(contract, "_fresh", count(start))
        assert [str(e) for e in derive(normalise(PROGRAMS[name]())).backward] == first


# Size


def deep_dense(layers: int) -> Program:
    text = "a0[n,i] = x[n,i]\n"
    for k in range(1, layers + 1):
        text += f"z{k}[n,i] = sum(j, W{k}[i,j]*a{k - 1}[n,j]) + b{k}[i]\na{k}[n,i] = tanh(z{k}[n,i])\n"
    text += f"L = sum(n, i, (a{layers}[n,i] - y[n,i])**2)"
    tensors = {"x": "input n i", "y": "target n i"}
    for k in range(1, layers + 1):
        tensors |= {f"W{k}": "parameter i j", f"b{k}": "parameter i"}
    return written({"i": 3, "j": 3}, tensors, text)


def deep_branching(layers: int) -> Program:
    """Every tensor is read three times by the next: 3**layers paths from the loss to the weights."""
    text = "u0[n,i] = w[i]*x[n,i]\n"
    for k in range(1, layers + 1):
        text += f"u{k}[n,i] = sin(u{k - 1}[n,i])*u{k - 1}[n,i] + sum(j, u{k - 1}[n,j]*v[j])\n"
    text += f"L = sum(n, i, u{layers}[n,i])"
    return written({"i": 3, "j": 3}, {"x": "input n i", "w": "parameter i", "v": "parameter i"}, text)


def cost(program: Program) -> tuple[int, int]:
    """Number of equations and number of operations, forward and backward."""
    equations = derive(normalise(program)).program.equations
    return len(equations), sum(int(sp.count_ops(e.expr)) for e in equations)


@pytest.mark.parametrize("deep", [deep_dense, deep_branching])
def test_size_is_linear_in_the_number_of_layers(deep: Callable[[int], Program]) -> None:
    (e1, o1), (e2, o2), (e3, o3) = cost(deep(4)), cost(deep(8)), cost(deep(16))
    assert e1 < e2 < e3
    assert o1 < o2 < o3
    assert e3 - e2 == 2 * (e2 - e1)
    # the weights' sum over all layers is one equation with a term for each layer
    assert o3 - o2 == pytest.approx(2 * (o2 - o1), abs=4)


def test_differentiations_are_linear_in_the_number_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts work instead of measuring time: one differentiation for each tensor read by an equation."""
    calls = [0]
    original = sp.diff

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(sp, "diff", counted)

    def work(layers: int) -> int:
        calls[0] = 0
        derive(normalise(deep_dense(layers)))
        return calls[0]

    few, more, many = work(4), work(8), work(16)
    assert few > 0
    assert many - more == 2 * (more - few)


def test_programs_that_share_a_tensor_name_do_not_meet() -> None:
    """Elements are cached by name and kind; a name may be an integer here and a real number there."""
    i = index("i", 2)
    real, whole = Tensor("t", (i,), Role.INPUT), Tensor("t", (i,), Role.INPUT, Kind.INTEGER)
    assert real.element != whole.element
    w = Tensor("w", (i,), Role.PARAMETER)
    loss = Equation(
        "L",
        (),
        sp.Sum(w[whole.element] ** 2, i.limits, (sp.Symbol("n", integer=True, nonnegative=True), 0, SAMPLES - 1)),
    )
    made = derive(check(normalise(Program((whole, w), (loss,), ("L",)))))
    table = interpret(made.program, {"t": {(0,): 1, (1,): 1}, "w": {(0,): 2.0, (1,): 3.0}}, SAMPLE_COUNT)
    assert table["dw"] == {(0,): 0, (1,): 2 * SAMPLE_COUNT * 2 * 3.0}

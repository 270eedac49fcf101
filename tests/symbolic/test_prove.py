"""The proof runs over every row of every table and every program, and finds what is wrong."""

import random
from collections.abc import Callable
from dataclasses import replace

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic import derivation as pipeline
from chainrule.symbolic import prove as prover
from chainrule.symbolic.activations import ACTIVATIONS, Activation, Z
from chainrule.symbolic.derivation import Derivation, derived_program
from chainrule.symbolic.derive import Derived
from chainrule.symbolic.errors import InternalError
from chainrule.symbolic.functions import CONTRACTIONS
from chainrule.symbolic.language import Equation, Kind, Program, Role, elements
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.penalties import PENALTIES, ElasticNet, Penalty
from chainrule.symbolic.prove import lookup_limits, prove, prove_program, random_point, tiny_sizes

from .programs import PROGRAMS, derived_example, written

ENDING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "poisson": "exp",
    "binary_cross_entropy": "sigmoid",
}


@pytest.fixture(autouse=True)
def _short_expansions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small nets are expanded, larger ones carried forward: that is faster, and both ways are used."""
    monkeypatch.setattr(prover, "LONGEST_EXPANSION", 150)


def proven(program: Program, **options: float) -> Derived:
    made = derived_program(program)
    prove_program(program, made.program, made.adjoint, **options)
    return made


# Every row of every table


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_inside_a_net(name: str) -> None:
    Model(2, [Dense(3, name), Dense(1)]).derivation().prove()


@pytest.mark.parametrize("name", ["prelu", "tanh"])
def test_activations_as_layers_and_at_the_end(name: str) -> None:
    Model(2, [Dense(2), Activate(Activation(name)), Dense(2, name)]).derivation().prove(seed=1)


@pytest.mark.parametrize("name", [n for n, row in ACTIVATIONS.items() if row.expr.has(sp.Piecewise)])
def test_activations_in_all_their_branches(name: str) -> None:
    """With arguments of up to +-30, so that relu6 saturates as well."""
    row = ACTIVATIONS[name]
    wide = Activation("wide", row.expr.xreplace({Z: 10 * Z}), row.parameters)
    made = Model(2, [Dense(3, wide)]).derivation()
    for seed in range(2):
        made.prove(seed=seed)


def test_activation_with_parameters_of_each_unit() -> None:
    own = Activation("own", "where(z <= 0, alpha*z, beta*tanh(z))", {"alpha": 0.25, "beta": 1.0}, per_unit=True)
    Model(2, [Dense(3, own), Dense(1)]).derivation().prove()


@pytest.mark.parametrize("formula", ["z*floor(3*z)", "abs(z)*ceil(z)", "z**2*sign(z)", "z*heaviside(z)"])
def test_piecewise_constant_activation(formula: str) -> None:
    Model(2, [Dense(3, formula), Dense(1)]).derivation().prove()


def variants(name: str) -> list[Variant]:
    """Weighted and training, each on and off, with each kind of target: in turn, not all of them with all."""
    odd = list(LOSSES).index(name) % 2 == 1
    kinds = (False, True) if LOSSES[name].classes else (False,)
    return [
        *(Variant(classes, weighted=True, training=odd != classes) for classes in kinds),
        *(Variant(classes, training=odd) for classes in kinds[1:] or (False,) * odd),
    ]


@pytest.mark.parametrize(("name", "variant"), [(name, v) for name in LOSSES for v in variants(name)])
def test_losses_in_all_variants(name: str, variant: Variant) -> None:
    outputs = len(LOSSES[name].heads) * 2
    layers = [Dense(2), Dropout(0.3), Dense(outputs, ENDING.get(name, "identity"))]
    Model(2, layers, name).derivation(variant).prove()


@pytest.mark.parametrize("on", ["weights", "all", ("W1", "bo")])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name: str, on: str | tuple[str, ...]) -> None:
    layers = [Dense(2), Dense(1)]
    penalties = [Penalty(name, hyperparameters={"strength": 0.3}, on=on), Penalty("own", "log(1 + w**2)/7", on="Wo")]
    Model(2, layers, penalties=penalties).derivation().prove()


# Layers of one's own


def convolution() -> Model:
    kernel = Equations(
        "h[n,o,r] = tanh(sum(p, K[o,p]*where(2*r + p >= 1 and 2*r + p - 1 < 6, x[n,2*r+p-1], 0)) + c[o])",
        "h", {"o": 2, "r": 3, "p": 3}, {"K": ["o", "p"], "c": ["o"]},
    )  # fmt: skip
    return Model(6, [kernel, Dense(3, "softmax")], "cross_entropy")


def layer_norm() -> Model:
    norm = Equations(
        """
        m[n] = mean(j, x[n,j])
        v[n] = mean(j, (x[n,j] - m[n])**2)
        h[n,j] = g[j]*(x[n,j] - m[n])/sqrt(v[n] + eps) + c[j]
        """,
        "h", parameters={"g": ["j"], "c": ["j"]}, initialisers={"g": 1.0}, constants={"eps": 1e-5},
    )  # fmt: skip
    return Model(2, [Dense(3), norm, Dense(1)])


def batch_norm() -> Model:
    norm = Equations(
        """
        m[j] = mean(n, x[n,j])
        v[j] = mean(n, (x[n,j] - m[j])**2)
        h[n,j] = g[j]*(x[n,j] - m[j])/sqrt(v[j] + 1/1000) + c[j]
        """,
        "h", parameters={"g": ["j"], "c": ["j"]},
    )  # fmt: skip
    return Model(2, [Dense(3), norm, Dense(1)])


def attention() -> Model:
    head = Equations(
        """
        q[n,s,d] = sum(j, Q[d,j]*x[n,s,j])
        key[n,s,d] = sum(j, K[d,j]*x[n,s,j])
        score[n,s,k] = sum(d, q[n,s,d]*key[n,k,d])/sqrt(2)
        p[n,s,k] = exp(score[n,s,k])/sum(m, exp(score[n,s,m]))
        h[n,s,j] = sum(k, p[n,s,k]*x[n,k,j])
        """,
        "h", {"d": 2, "k": 2, "m": 2}, {"Q": ["d", "j"], "K": ["d", "j"]}, incoming=["s", "j"],
    )  # fmt: skip
    return Model((2, 2), [head, Dense(1)])


def embedding() -> Model:
    table = Equations(
        "e[n,s,i] = E[x[n,s],i] + P[s,i]\nh[n,i] = mean(s, e[n,s,i]**2)",
        "h", {"v": 5, "i": 2}, {"E": ["v", "i"], "P": ["s", "i"]}, incoming=["s"],
    )  # fmt: skip
    return Model(3, [table, Dense(2, "softmax")], "cross_entropy", tokens=5)


def max_pool() -> Model:
    pool = Equations("h[n,r] = max(p, x[n,2*r+p])", "h", {"r": 2, "p": 2}, incoming=["s"])
    return Model(2, [Dense(4, "sin"), pool, Dense(1)])


def residual() -> Model:
    block = Equations("h[n,j] = x[n,j] + tanh(sum(k, V[j,k]*x[n,k]))", "h", {"k": 3}, {"V": ["j", "k"]})
    return Model(2, [Dense(3, "tanh"), block, block, Dense(1)], penalties=[ElasticNet(0.1)])


@pytest.mark.parametrize("build", [convolution, layer_norm, batch_norm, attention, embedding, max_pool, residual])
def test_layers_of_equations(build: Callable[[], Model]) -> None:
    prove(build().derivation())


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prover, "MOST_ENTRIES", 5)
    made = derived_example(name)
    prove_program(PROGRAMS[name](), made.program, made.adjoint)


# What is wrong is found


def small() -> Derivation:
    return Model(2, [Dense(3, "tanh"), Dense(2, "softmax")], "cross_entropy").derivation()


def with_backward(made: Derivation, name: str, change: Callable[[sp.Expr], sp.Expr]) -> Derivation:
    """The derivation with another right side for one adjoint; the change must be one."""
    backward = [replace(e, expr=change(e.expr)) if e.name == name else e for e in made.backward]
    assert [e.expr for e in backward] != [e.expr for e in made.backward]
    return replace(made, derived=made.derived.with_equations(made.forward.equations, backward))


BACKWARD = {e.name: e for e in small().backward}


@pytest.mark.parametrize("name", BACKWARD)
def test_a_wrong_sign_is_found(name: str) -> None:
    with pytest.raises(InternalError, match=r"gradient of \w+\[\d+(,\d+)*\]: .* brute force .*report"):
        with_backward(small(), name, lambda e: -e).prove()


@pytest.mark.parametrize("name", BACKWARD)
def test_a_small_factor_is_found(name: str) -> None:
    with pytest.raises(InternalError):
        with_backward(small(), name, lambda e: e * (1 + sp.Rational(1, 10**15))).prove()


@pytest.mark.parametrize(
    ("parameter", "first"), [("W1", "W1[0,0]"), ("b1", "b1[0]"), ("Wo", "Wo[0,0]"), ("bo", "bo[0]")]
)
def test_the_entry_is_named(parameter: str, first: str) -> None:
    with pytest.raises(InternalError) as caught:
        with_backward(small(), f"d{parameter}", lambda e: 2 * e).prove()
    assert str(caught.value).startswith(f"gradient of {first}: the derived equation gives ")


def test_only_the_wrong_entry_is_named() -> None:
    """An error in one row of the weights' gradient."""
    row = BACKWARD["dWo"].indices[0].symbol
    with pytest.raises(InternalError, match=r"^gradient of Wo\[1,0\]: "):
        with_backward(small(), "dWo", lambda e: sp.Piecewise((e, row < 1), (2 * e, True))).prove()


def without_a_term(expr: sp.Expr) -> sp.Expr:
    """Without the last term of the first sum in it."""
    total = next(e for e in sp.preorder_traversal(expr) if isinstance(e, sp.Add) and elements(e))
    return expr.xreplace({total: sp.Add(*total.args[:-1])})


def droppable(name: str) -> list[str]:
    made = derived_program(PROGRAMS[name]())
    return [e.name for e in made.backward if any(elements(t) for t in e.expr.atoms(sp.Add))]


@pytest.mark.parametrize("program", ["dense", "layer_norm", "residual", "outer_product", "shared_by_branches"])
def test_a_dropped_term_is_found(program: str) -> None:
    written_program, names = PROGRAMS[program](), droppable(program)
    assert names
    for name in names:
        made = derived_program(written_program)
        backward = [replace(e, expr=without_a_term(e.expr)) if e.name == name else e for e in made.backward]
        wrong = made.with_equations(made.forward.equations, backward)
        with pytest.raises(InternalError, match="gradient of"):
            prove_program(written_program, wrong.program, wrong.adjoint)


def transposed(equation: Equation, program: Program) -> sp.Expr | None:
    """The right side with one element read at another position: its last index one further, around the end."""
    for read in sorted(equation.expr.atoms(sp.Indexed), key=str):
        shape = program.by_name[str(read.base.label)].shape
        size = program.size(shape[-1], 2)
        last = read.indices[-1]
        if last.is_Symbol and size > 1:
            where = sp.Piecewise(
                (read.base[(*read.indices[:-1], last + 1)], last + 1 < size), (read.base[(*read.indices[:-1], 0)], True)
            )
            return equation.expr.xreplace({read: where})
    return None


@pytest.mark.parametrize("program", ["dense", "conv1d_valid", "residual", "mean_pool", "running_sum"])
def test_a_wrong_index_is_found(program: str) -> None:
    written_program = PROGRAMS[program]()
    written_program = replace(written_program, sizes=tiny_sizes(written_program))
    made = derived_program(written_program)
    tried = 0
    for at, equation in enumerate(made.backward):
        expr = transposed(equation, made.program)
        if expr is None:
            continue
        backward = [*made.backward[:at], replace(equation, expr=expr), *made.backward[at + 1 :]]
        wrong = made.with_equations(made.forward.equations, backward)
        with pytest.raises(InternalError, match="gradient of"):
            prove_program(written_program, wrong.program, wrong.adjoint)
        tried += 1
    assert tried >= 2


def test_the_gradient_of_another_parameter_is_found() -> None:
    """Q and K of an attention have the same indices."""
    program = PROGRAMS["attention"]()
    made = derived_program(program)
    wrong = {**made.adjoint, "Q": made.adjoint["K"]}
    with pytest.raises(InternalError, match=r"gradient of Q\[0,0\]"):
        prove_program(program, made.program, wrong)


def test_a_wrong_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is with the program as it was written, not with what the passes made of it."""

    def careless(program: Program) -> Program:
        return program.with_equations(replace(e, expr=e.expr.replace(sp.tanh, sp.sin)) for e in program.equations)

    monkeypatch.setattr(pipeline, "FORWARD_PASSES", (careless, *pipeline.FORWARD_PASSES))
    monkeypatch.setattr(pipeline, "BEFORE_NORMAL_FORM", (careless, *pipeline.BEFORE_NORMAL_FORM))
    with pytest.raises(InternalError, match=r"gradient of W1\[0,0\]"):
        Model(2, [Dense(3, "tanh"), Dense(1)]).derivation().prove()


def test_not_a_number_is_found() -> None:
    nan = sp.Piecewise((sp.Integer(1), sp.Symbol("i", integer=True, nonnegative=True) < 0))
    with pytest.raises(InternalError, match=r"gradient of bo\[0\]: the derived equation gives nan"):
        with_backward(small(), "dbo", lambda e: e * nan).prove()


# How it is done


@pytest.mark.parametrize("name", ["softmax", "gru", "conv1d", "max_pool_2d", "batch_norm", "embedding"])
def test_both_ways_of_brute_force_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prover, "LONGEST_EXPANSION", 4_000)
    program = PROGRAMS[name]()
    program = replace(program, sizes=tiny_sizes(program))
    with mpmath.workdps(prover.DIGITS):
        given = random_point(program, 2, random.Random(3))
        expanded, forward = (prover._Brute(program, given, 2, "L") for _ in range(2))
        assert expanded.expanded is not None
        forward.expanded = None
        for parameter in program.parameters:
            position = max(given[parameter.name])
            one, other = (way.derivative(parameter.name, position) for way in (expanded, forward))
            assert abs(one - other) <= 1e-30 * max(1, abs(one)), parameter.name


def test_brute_force_against_a_derivative_known_from_school() -> None:
    program = written({"i": 2}, {"w": "parameter i", "v": "parameter"}, "L = sum(i, w[i]**3)*sin(v)")
    with mpmath.workdps(prover.DIGITS):
        given = {"w": {(0,): mpmath.mpf(2), (1,): mpmath.mpf(-1)}, "v": {(): mpmath.mpf(1) / 3}}
        brute = prover._Brute(program, given, 1, "L")
        assert abs(brute.derivative("w", (0,)) - 12 * mpmath.sin(given["v"][()])) < 1e-35
        assert abs(brute.derivative("v", ()) - 7 * mpmath.cos(given["v"][()])) < 1e-35


def test_long_losses_are_not_expanded() -> None:
    program = PROGRAMS["lstm"]()
    with mpmath.workdps(prover.DIGITS):
        brute = prover._Brute(program, random_point(program, 2, random.Random(0)), 2, "L")
    assert brute.expanded is None
    assert max(int(e.count_ops()) for e in brute.scalars.values()) < 200
    assert not any(e.has(*CONTRACTIONS, sp.Piecewise, sp.Indexed) for e in brute.scalars.values())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("symbolic_extents", {"F": 2, "U": 2}),
        ("arithmetic_of_extents", {"P": 2, "T": 4}),  # r + p, s - T: the sizes are part of the formula
    ],
)
def test_tiny_sizes(name: str, wanted: dict[str, int]) -> None:
    sizes = tiny_sizes(PROGRAMS[name]())
    assert {str(k): v for k, v in sizes.items()} == pytest.approx(wanted, abs=1 if name == "symbolic_extents" else 0)


def test_models_are_made_tiny_where_that_changes_no_formula() -> None:
    dense = Model(784, [Dense(100, "relu"), Dense(100, "relu"), Dense(10, "softmax")], "cross_entropy").program()
    sizes = {str(k): v for k, v in tiny_sizes(dense).items()}
    assert set(sizes.values()) <= {2, 3, 10}
    assert sizes["U_1"] == sizes["U_2"], "what has the same size keeps it"
    fixed = {str(k): v for k, v in tiny_sizes(convolution().program()).items()}
    assert fixed["U_0"] == 6, "the positions 2 r + p - 1 < 6 name it"
    assert (fixed["N_r_1"], fixed["N_p_1"]) == (3, 3)
    Model(784, [Dense(100, "relu"), Dense(10, "softmax")], "cross_entropy").derivation().prove()


def test_random_points_fit_their_tensors() -> None:
    program = embedding().program(Variant(classes=True, weighted=True))
    with mpmath.workdps(prover.DIGITS):
        point = random_point(program, 3, random.Random(0))
        assert point == random_point(program, 3, random.Random(0))
        assert point != random_point(program, 3, random.Random(1))
    limits = lookup_limits(program)
    assert limits == {"x": 5, "y": 2}
    assert any(v < 0 for tensor in program.parameters for v in point[tensor.name].values())
    for tensor in program.tensors:
        values = point[tensor.name].values()
        if tensor.kind is Kind.INTEGER:
            assert all(isinstance(v, int) and 0 <= v < limits[tensor.name] for v in values), tensor.name
        elif tensor.role is Role.WEIGHT:
            assert all(0 < v < 1 for v in values)
        else:
            assert all(abs(v) <= 1 for v in values)


def test_more_samples_and_other_seeds() -> None:
    made = small()
    for samples, seed in ((1, 0), (3, 7)):
        prove(made, samples=samples, seed=seed)


def test_tolerance_is_what_is_said() -> None:
    off = with_backward(small(), "dbo", lambda e: e * (1 + sp.Rational(1, 10**9)))
    prove(off, tolerance=1e-6)
    with pytest.raises(InternalError):
        prove(off)

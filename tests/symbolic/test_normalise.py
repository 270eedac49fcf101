"""Normal form: every value is kept, and what the later passes rely on holds."""

from collections.abc import Callable
from functools import lru_cache

import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS, Activation
from chainrule.symbolic.check import check
from chainrule.symbolic.functions import CONTRACTIONS, ArgMaxOver, MaxOver
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import Kind, Program, elements
from chainrule.symbolic.layers import Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.normalise import free_indices, index_names, normalise, unique
from chainrule.symbolic.penalties import L1, L2

from .programs import PROGRAMS, SAMPLE_COUNT, random_values, written

ENDING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "poisson": "exp",
    "binary_cross_entropy": "sigmoid",
}
MODELS: dict[str, Callable[[], Program]] = {
    **{f"activation {a}": lambda a=a: Model(2, [Dense(3, a), Dense(2)]).program() for a in ACTIVATIONS},
    **{f"loss {k}": lambda k=k: Model(2, [Dense(4, ENDING.get(k, "identity"))], k).program() for k in LOSSES},
    "classes": lambda: Model(2, [Dense(3, "softmax")], "cross_entropy").program(Variant(True, True)),
    "dropout": lambda: Model(2, [Dense(3, "relu"), Dropout(0.5), Dense(1)]).program(Variant(training=True)),
    "penalties": lambda: Model(2, [Dense(2, "tanh"), Dense(1)], penalties=[L1(1), L2(2, "all")]).program(),
    "two sums": lambda: Model(2, [Dense(3, "(z - sum(z)/3)/sqrt(sum(z**2) + 1)"), Dense(1)]).program(),
    "matrix": lambda: Model((2, 3), [Activation("softmax"), Dense(2)]).program(),
    "equations": lambda: Model(
        2,
        [
            Equations(
                "s[n,i] = sum(j, V[i,j]*x[n,j]) + sum(j, U[i,j]*tanh(x[n,j]))\n"
                "h[n,i] = s[n,i]/(2 + max(k, s[n,k]))",
                "h",
                {"i": 3, "k": 3},
                {"U": ["i", "j"], "V": ["i", "j"]},
            ),
            Dense(1),
        ],
    ).program(),
}  # fmt: skip
ALL = {name: lru_cache(build) for name, build in {**PROGRAMS, **MODELS}.items()}
every_program = pytest.mark.parametrize("name", ALL)


@lru_cache
def normalised(name: str) -> Program:
    return normalise(ALL[name]())


def contractions(expr: sp.Expr) -> list[sp.Expr]:
    return [e for e in sp.preorder_traversal(expr) if isinstance(e, CONTRACTIONS)]


@every_program
def test_values_are_kept(name: str) -> None:
    program, made = ALL[name](), normalised(name)
    for seed in (1,):
        values = random_values(program, seed=seed)
        before, after = (interpret(p, values, SAMPLE_COUNT) for p in (program, made))
        for equation in program.equations:
            wanted = before[equation.name]
            assert after[equation.name] == pytest.approx(wanted, rel=1e-12, abs=1e-14), equation.name


@every_program
def test_is_well_formed_and_says_the_same_names(name: str) -> None:
    program, made = ALL[name](), check(normalised(name))
    assert made.tensors == program.tensors
    assert made.outputs == program.outputs
    own = [e.name for e in program.equations]
    assert [e.name for e in made.equations if e.name in set(own)] == own
    for equation in program.equations:
        same = made.defined[equation.name]
        assert (same.indices, same.rule, same.kind) == (equation.indices, equation.rule, equation.kind)


@every_program
def test_form(name: str) -> None:
    """A contraction is a term of its own, times a number at most; a maximum is over one index."""
    for equation in normalised(name).equations:
        found = contractions(equation.expr)
        assert len(found) <= 1, equation
        for contraction in found:
            term = next(t for t in sp.Add.make_args(equation.expr) if t.has(contraction))
            factor = term / contraction
            assert not elements(factor), equation
            assert not free_indices(factor), equation
            if isinstance(contraction, MaxOver | ArgMaxOver):
                assert len(contraction.limits) == 1, equation


@every_program
def test_normal_form_stays_as_it_is(name: str) -> None:
    once = normalised(name)
    assert [(e.name, e.expr) for e in normalise(once).equations] == [(e.name, e.expr) for e in once.equations]


def test_costly_factors_get_names() -> None:
    """tanh is taken once for each j, not once for each i and j."""
    program = written(
        {"i": 3, "j": 2},
        {"x": "input n j", "W": "parameter i j"},
        "z[n,i] = sum(j, W[i,j]*tanh(x[n,j]))",
        outputs=("z",),
    )
    first, second = normalise(program).equations
    assert str(first) == "z_factor[n,j] = tanh(x[n,j])"
    assert str(second) == "z[n,i] = sum_j W[i,j] z_factor[n,j]"


def test_softmax_as_in_the_docstring() -> None:
    program = written({"i": 3, "j": 3}, {"z": "input n i"}, "p[n,i] = exp(z[n,i])/sum(j, exp(z[n,j]))", outputs=("p",))
    first, second = normalise(program).equations
    assert str(first) == "p_sum[n] = sum_j exp(z[n,j])"
    assert (
        second.expr
        == sp.exp(sp.IndexedBase("z", real=True)[second.indices[0].symbol, second.indices[1].symbol]) / first.element
    )


def test_position_of_a_maximum_is_an_integer() -> None:
    program = written(
        {"i": 3, "j": 3},
        {"x": "input n i", "E": "parameter i"},
        "h[n] = 2*E[argmax(j, x[n,j])]",
        outputs=("h",),
    )
    first, _ = normalise(program).equations
    assert first.kind is Kind.INTEGER
    check(normalise(program))


def test_new_names_are_new() -> None:
    program = written(
        {"j": 2},
        {"x": "input n j", "h_sum": "parameter"},
        "h[n] = exp(sum(j, x[n,j]))*h_sum\nh_sum2[n] = exp(sum(j, x[n,j])) + h[n]",
        outputs=("h_sum2",),
    )
    check(normalise(program))


def test_unique() -> None:
    taken = {"a", "a2"}
    assert unique("a", taken) == "a3"
    assert unique("b", taken) == "b"
    assert taken == {"a", "a2", "a3", "b"}


def test_index_names_never_repeat() -> None:
    names = index_names("k")
    first = [next(names) for _ in range(40)]
    assert first[0] == "k"
    assert len(set(first)) == 40


def test_free_indices_are_neither_bound_ones_nor_names_of_integer_tensors() -> None:
    program = PROGRAMS["embedding"]()
    reading = program.equations[0]
    assert free_indices(reading.expr) == {i.symbol for i in reading.indices}
    assert free_indices(program.equations[-1].expr) == set()

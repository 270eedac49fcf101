"""What is computed when, in which blocks, and which sums are matrix products."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

import chainrule as cr
from chainrule.codegen import plan as codegen_plan
from chainrule.codegen.legal import legalised
from chainrule.codegen.plan import (
    FEW_PARTS,
    FEWEST_ELEMENTS,
    FEWEST_LINES,
    LARGE,
    MANY_LINES,
    PARTS,
    Plan,
    Product,
    by_rows,
    operations_of,
    plan,
    product_of,
)
from chainrule.symbolic.derivation import derived_program
from chainrule.symbolic.derive import Derived
from chainrule.symbolic.language import SAMPLES, Program

from ..symbolic.programs import PROGRAMS, derived_example, written


def products(text: str, extents: dict[str, int], tensors: dict[str, str]) -> list[Product | None]:
    program = written(extents, tensors, text)
    return [product_of(e, program) for e in program.equations]


def names(indices: tuple[object, ...]) -> str:
    return "".join(i.name for i in indices)  # type: ignore[attr-defined]


def shape(product: Product | None) -> tuple[str, str, str, str, bool, bool]:
    assert product is not None
    p = product
    return names(p.batch), names(p.rows), names(p.columns), names(p.depth), p.left_transposed, p.right_transposed


SIZES = {"i": 3, "j": 2, "k": 4, "s": 5, "t": 5, "d": 2}


@pytest.mark.parametrize(
    ("text", "tensors", "wanted"),
    [
        ("z[n,i] = sum(j, W[i,j]*x[n,j])", {"W": "i j", "x": "n j"}, ("", "n", "i", "j", False, True)),
        ("z[n,i] = sum(j, W[j,i]*x[n,j]) + x[n,0]", {"W": "j i", "x": "n j"}, ("", "n", "i", "j", False, False)),
        ("W[i,j] = sum(n, z[n,i]*x[n,j])", {"z": "n i", "x": "n j"}, ("", "i", "j", "n", True, False)),
        ("W[i,j,k] = sum(n, z[n,i]*x[n,j,k])", {"z": "n i", "x": "n j k"}, ("", "i", "jk", "n", True, False)),
        ("z[n,i] = sum(j, k, W[i,j,k]*x[n,j,k])", {"W": "i j k", "x": "n j k"}, ("", "n", "i", "jk", False, True)),
        ("z[n,s,d] = sum(j, W[d,j]*x[n,s,j])", {"W": "d j", "x": "n s j"}, ("", "ns", "d", "j", False, True)),
        ("e[n,s,t] = sum(d, q[n,s,d]*h[n,t,d])", {"q": "n s d", "h": "n t d"}, ("n", "s", "t", "d", False, True)),
        ("v[n,s,d] = sum(t, e[n,s,t]*h[n,t,d])", {"e": "n s t", "h": "n t d"}, ("n", "s", "d", "t", False, False)),
        ("h[n,t,d] = sum(s, e[n,s,t]*q[n,s,d])", {"e": "n s t", "q": "n s d"}, ("n", "t", "d", "s", True, False)),
        ("z[i,k] = 2*sum(j, W[i,j]*V[j,k]) + V[0,k]", {"W": "i j", "V": "j k"}, ("", "i", "k", "j", False, False)),
    ],
)
def test_products_are_found(text: str, tensors: dict[str, str], wanted: tuple[str, str, str, str, bool, bool]) -> None:
    (found,) = products(text, SIZES, {k: f"input {v}" for k, v in tensors.items()})
    assert shape(found) == wanted


@pytest.mark.parametrize(
    ("text", "tensors"),
    [
        ("z[n] = sum(j, x[n,j]*y[n,j])", {"x": "n j", "y": "n j"}),  # no columns
        ("z[n] = sum(j, x[n,j]*w[j])", {"x": "n j", "w": "j"}),
        ("z[i] = sum(n, x[n,i])", {"x": "n i"}),  # one factor
        ("z[n,i] = sum(j, W[i,j]*x[n,j]*v[j])", {"W": "i j", "x": "n j", "v": "j"}),  # three
        ("z[n,i] = sum(j, W[i,j]*tanh(x[n,j]))", {"W": "i j", "x": "n j"}),  # not an element
        ("z[n,i] = sum(j, W[i,j]*x[n,j]**2)", {"W": "i j", "x": "n j"}),
        ("z[i,n] = sum(j, W[j,i]*x[j,n] + W[j,i])", {"W": "j i", "x": "j n"}),
        ("z[n,s] = sum(t, W[t]*x[n,s+t])", {"W": "t", "x": "n i"}),  # a window
        ("z[n,i] = sum(j, W[i,j]*x[n,1-j])", {"W": "i j", "x": "n j"}),
        ("z[s,n] = sum(j, W[s,j]*x[n,j])", {"W": "s j", "x": "n j"}),  # fine: rows are s; see below
        ("z[n,s,t] = sum(d, q[n,d,s]*h[d,n,t])", {"q": "n d s", "h": "d n t"}),  # the batch is not first
        ("z[i,n,k] = sum(j, x[n,j]*W[i,j,k])", {"x": "n j", "W": "i j k"}),  # columns on both sides of rows
        ("z[n,i] = sum(j, k, W[i,k,j]*x[n,j,k])", {"W": "i k j", "x": "n j k"}),  # sums in another order
        ("z[n,i] = max(j, W[i,j]*x[n,j])", {"W": "i j", "x": "n j"}),  # no sum
        ("z[n,i] = sum(j, W[i,j]*x[n,y[n]])", {"W": "i j", "x": "n j", "y": "integer n"}),  # looked up
        ("z[n,i] = sum(j, W[i,j]*y[n,j])", {"W": "i j", "y": "integer n j"}),  # integers
        ("z[i,k] = sum(j, W[i,j]*W[j,k])", {"W": "i j"}),  # rows are longer than the loop, see `_stays_inside`
    ],
)
def test_what_does_not_fit_is_no_product(text: str, tensors: dict[str, str]) -> None:
    sizes = {**SIZES, "s": 2, "t": 2} if "s+t" in text else SIZES
    sizes = {**sizes, "k": 2} if "W[j,k]" in text else sizes
    (found,) = products(text, sizes, {k: f"input {v}" for k, v in tensors.items()})
    if text.startswith("z[s,n]"):
        assert shape(found) == ("", "s", "n", "j", False, True)
    else:
        assert found is None


def test_part_of_a_tensor_is_no_product() -> None:
    """The loop is shorter than the tensor: its rows do not lie one after the other."""
    sizes = {"i": 3, "j": 4, "k": 2}
    (found,) = products("z[n,i] = sum(k, W[i,k]*x[n,k])", sizes, {"W": "input i j", "x": "input n j"})
    assert found is None


# Phases


def made(program: Program, derived: Derived | None = None) -> Plan:
    derived = derived_program(program) if derived is None else derived
    gradients = {derived.adjoint[p.name]: p.name for p in derived.forward.parameters}
    chosen, original = legalised(derived.program)
    renamed = {old: new for new, old in original.items()}
    numbers = {e.name: k for k, e in enumerate(chosen.equations, start=1)}
    return plan(chosen, numbers, {renamed[q]: renamed[p] for q, p in gradients.items()})


@cache
def planned_example(name: str) -> Plan:
    return made(PROGRAMS[name](), derived_example(name))


def places(planned: Plan) -> Iterator[tuple[int, str, object]]:
    """Phase, name and unit (the rows, or a task) of every equation."""
    for number, phase in enumerate(planned.phases):
        for step in phase.rows:
            yield number, step.equation.name, "rows"
        for task in phase.tasks:
            for step in task.steps:
                yield number, step.equation.name, task.name


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_read_before_a_barrier_unless_the_same_unit_made_it(name: str) -> None:
    planned = planned_example(name)
    where = {equation: (phase, unit) for phase, equation, unit in places(planned)}
    order = [equation for _, equation, _ in places(planned)]
    assert sorted(order) == sorted(e.name for e in planned.program.equations)  # each once
    for equation in planned.program.equations:
        phase, unit = where[equation.name]
        for read in equation.reads:
            if read in where:
                earlier = where[read][0] < phase
                beside = where[read] == (phase, unit) and order.index(read) < order.index(equation.name)
                assert earlier or beside, f"{equation.name} reads {read}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_rows_need_their_own_sample_only(name: str) -> None:
    planned = planned_example(name)
    for phase in planned.phases:
        for step in phase.rows:
            assert by_rows(step.equation, planned.program)
            assert step.equation.indices[0].extent == SAMPLES
        for task in phase.tasks:
            assert not any(by_rows(s.equation, planned.program) for s in task.steps)
            assert task.block >= 1


@pytest.mark.parametrize(
    ("name", "equation", "wanted"),
    [
        ("dense", "z", True), ("dense", "L", False), ("batch_norm", "m", False), ("batch_norm", "h", True),
        ("pairs_of_samples", "h", True), ("pairs_of_samples", "G", False), ("weights_only", "V", False),
    ],
)  # fmt: skip
def test_by_rows(name: str, equation: str, wanted: bool) -> None:
    program = PROGRAMS[name]()
    (found,) = (e for e in program.equations if e.name == equation)
    assert by_rows(found, program) is wanted


def test_dense_net_is_one_row_phase_and_its_gradients() -> None:
    planned = made(cr.Model(4, [cr.Dense(3, "tanh"), cr.Dense(2)]).program())
    first, second = planned.phases
    assert [s.equation.name for s in first.rows][:3] == ["z1", "x1", "y_hat"]
    assert not first.tasks
    assert not second.rows
    assert {task.gradient_of for task in second.tasks} == {"W1", "b1", "Wo", "bo", None}
    assert planned.separate == frozenset()


def late(planned: Plan) -> set[str]:
    """Parameters that something else than their gradient reads, in the gradient's phase or after it."""
    phase = {equation: number for number, equation, _ in places(planned)}
    tasks = [task for p in planned.phases for task in p.tasks if task.gradient_of]
    known = {task.gradient_of: task.name for task in tasks}
    return {
        p for p, gradient in known.items() for e in planned.program.equations
        if p in e.reads and e.name != gradient and phase[e.name] >= phase[gradient]
    }  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_parameters_that_are_still_read_are_updated_later(name: str) -> None:
    planned = planned_example(name)
    assert planned.separate == late(planned)


def test_some_parameters_are_still_read() -> None:
    text = "z[n,j] = W[j]*x[n,j]\nL = sum(n, j, z[n,j]**2) + V[0]*sum(j, W[j]**2)"
    tensors = {"x": "input n j", "W": "parameter j", "V": "parameter j"}
    assert made(written({"j": 3}, tensors, text)).separate == {"V"}  # dW reads V when dV may be there
    assert made(PROGRAMS["two_dense_layers"]()).separate == frozenset()


# Blocks


def test_gradients_are_cut_into_parts_that_are_not_too_small() -> None:
    planned = made(cr.Model(1000, [cr.Dense(100, "relu"), cr.Dense(3)]).program())
    tasks = {t.gradient_of: t for phase in planned.phases for t in phase.tasks}
    assert tasks["W1"].block == 100 // FEW_PARTS
    assert tasks["Wo"].block == 3
    assert tasks["bo"].block == 3
    for inputs, block in ((LARGE // 100, -(-100 // PARTS)), (64, FEWEST_ELEMENTS // 64)):
        small = made(cr.Model(inputs, [cr.Dense(100, "relu"), cr.Dense(3)]).program())
        tasks = {t.gradient_of: t for phase in small.phases for t in phase.tasks}
        assert tasks["W1"].block == block
    for units, block in ((10, 10), (12, 8), (17, 9)):
        planned = made(cr.Model(128, [cr.Dense(units)]).program())
        (cut,) = (t.block for phase in planned.phases for t in phase.tasks if t.gradient_of == "Wo")
        assert cut == block, "two lines are no part of their own"


def test_parts_of_products_have_lines_enough_and_stay_in_a_cache() -> None:
    program = written(
        {"i": 10, "j": 5000},
        {"x": "input n j", "W": "parameter i j"},
        "z[n,i] = sum(j, W[i,j]*x[n,j])\nL = sum(n, i, z[n,i]**2)",
    )
    (few,) = (t.block for phase in made(program).phases for t in phase.tasks if t.gradient_of == "W")
    assert few == FEWEST_LINES, "a quarter would be fewer"
    planned = made(cr.Model(1000, [cr.Dense(1000, "relu"), cr.Dense(10_000)]).program())
    tasks = {t.gradient_of: t for phase in planned.phases for t in phase.tasks}
    assert tasks["W1"].block == tasks["Wo"].block == MANY_LINES, "fewer would not be worth a part"
    assert tasks["bo"].block == 10_000, "a vector is cut only where it is very long"


def test_a_wide_layer_is_cut_into_blocks_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product and what is computed of it number by number; what reads whole rows comes in the next phase."""
    monkeypatch.setattr(codegen_plan, "WIDE", 100)
    model = cr.Model(20, [cr.Dense(30, "tanh"), cr.Dense(3, "softmax")], loss="cross_entropy")
    derived = derived_program(model.program())
    program, _ = legalised(derived.program)
    numbers = {e.name: k for k, e in enumerate(program.equations)}
    first, second, *_ = plan(program, numbers, {}).phases
    assert ([s.equation.name for s in first.tasks[0].steps], first.rows) == (["z1", "x1"], ())
    assert first.tasks[0].leading == program.by_name["z1"].indices[1]
    assert [s.equation.name for s in second.rows][:1] == ["zo"]
    assert len(plan(program, numbers, {}, passing=True).phases[0].rows) > 2, "a prediction has long blocks anyway"


def test_what_takes_the_place_of_what_is_not_read_again() -> None:
    program = written(
        {"i": 4, "j": 4},
        {"x": "input n i", "M": "parameter i j"},
        """u[n,i] = x[n,i] + 1
a[n,i] = tanh(u[n,i])
b[n,i] = max(a[n,i], 0)
c[n,i] = where(b[n,i] > 0, b[n,i], 0.1*b[n,i])
d[n,i] = sum(j, M[i,j]*c[n,j])
e[n,i] = exp(d[n,i])
f[n,i] = e[n,i] + e[n,3-i]
g[n,i] = f[n,i]**2
h[n,i] = f[n,i]*g[n,i]
k[n,i] = h[n,i] - 1""",
        outputs=("k",),
    )
    numbers = {e.name: k for k, e in enumerate(program.equations)}
    assert plan(program, numbers, {}, in_place=True).in_place == {"u": "b", "a": "b", "d": "e", "g": "k", "h": "k"}, (
        "not where what is there may be kept (b), nor where another number or another equation reads it (c, e, f)"
    )
    outputs = replace(program, outputs=("h", "k"))
    assert plan(outputs, numbers, {}, in_place=True).in_place == {"u": "b", "a": "b", "d": "e", "g": "h"}
    assert plan(program, numbers, {}).in_place == {}, "all is kept for who wants to look at it"


def test_largest_product_of_one_sample() -> None:
    assert made(cr.Model(20, [cr.Dense(30, "relu"), cr.Dense(3)]).program()).largest_product == 20 * 30


def test_operations_of_one_sample() -> None:
    program = written(
        {"i": 3, "j": 5},
        {"x": "input n j", "W": "parameter i j"},
        "z[n,i] = sum(j, W[i,j]*x[n,j])\na[n,i] = z[n,i]**2\nL = sum(n, i, a[n,i])",
    )
    z, a, _ = program.equations
    assert operations_of(z, program) == 2 * 3 * 5
    assert operations_of(a, program) == 3


def test_plan_does_not_depend_on_the_order_of_sets() -> None:
    names_of = [[(n, e, str(u)) for n, e, u in places(made(PROGRAMS["gru"]()))] for _ in range(2)]
    assert names_of[0] == names_of[1]
    assert len(names_of[0]) > 20

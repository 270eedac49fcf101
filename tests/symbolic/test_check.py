"""Each rule of the checker, broken once."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sympy as sp

from chainrule.symbolic.check import ELEMENTARY, check, index_of
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.functions import MaxOver
from chainrule.symbolic.interpret import NAMES
from chainrule.symbolic.language import Equation, Program, Role, Tensor, element, extent, index
from chainrule.symbolic.normalise import normalise

from .programs import PROGRAMS

N, I, J = index("n", 4), index("i", 3), index("j", 2)
X = Tensor("x", (N, J), Role.INPUT)
W = Tensor("W", (I, J), Role.PARAMETER)
Z = Equation("z", (N, I), sp.Sum(W.element * X.element, J.limits), "layer 1")
A = Equation("a", (N, I), sp.tanh(Z.element))
L = Equation("L", (), sp.Sum(A.element**2, N.limits, I.limits))
GOOD = Program((X, W), (Z, A, L), ("L",))
a, j, i = A.element, J.symbol, I.symbol


def with_last(expr: sp.Expr, indices: tuple = (N, I)) -> Program:  # type: ignore[type-arg]
    return GOOD.with_equations([Z, A, Equation("q", indices, expr), L])


def test_a_good_program_is_returned_as_it_is() -> None:
    assert check(GOOD) is GOOD


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_example_is_well_formed(name: str) -> None:
    check(normalise(PROGRAMS[name]()))


BROKEN: dict[str, tuple[Callable[[], Program], str, str, str]] = {
    # rule: program, where the message points, what stands there, what the rule or the advice says
    "given twice": (lambda: replace(GOOD, tensors=(X, W, X)), "x:", "'x'", "declared twice"),
    "assigned twice": (
        lambda: GOOD.with_equations([Z, A, A, L]),
        "equation of 'a'",
        "'a'",
        "has a value already",
    ),
    "given and assigned": (
        lambda: GOOD.with_equations([replace(Z, name="x"), L]),
        "equation of 'x'",
        "'x'",
        "has a value already",
    ),
    "read before assigned": (
        lambda: GOOD.with_equations([A, Z, L]),
        "equation of 'a'",
        "'z'",
        "no value yet",
    ),
    "reads itself": (
        lambda: with_last(element("q", (N.symbol, i))),
        "equation of 'q'",
        "'q'",
        "no value yet",
    ),
    "read but nowhere": (
        lambda: with_last(element("wW", (i, 0))),
        "equation of 'q'",
        "'wW'",
        "Did you mean 'W'?",
    ),
    "scalar but nowhere": (lambda: with_last(a * element("g", ())), "equation of 'q'", "'g'", "no value yet"),
    "too few indices": (lambda: with_last(W[i] * a), "equation of 'q'", "W[i]", "'W' has 2"),
    "too many indices": (lambda: with_last(W[i, 0, 0] * a), "equation of 'q'", "W[i, 0, 0]", "'W' has 2"),
    "no indices": (lambda: with_last(element("W", ()) * a), "equation of 'q'", "W", "'W' has 2"),
    "free index": (lambda: with_last(W[i, j] * a), "equation of 'q'", "'j'", "not bound"),
    "free index in a condition": (
        lambda: with_last(sp.Piecewise((a, j > 1), (0, True))),
        "equation of 'q'",
        "'j'",
        "not bound",
    ),
    "index bound elsewhere only": (
        lambda: with_last(W[i, j] * sp.Sum(X[N.symbol, j], J.limits)),
        "equation of 'q'",
        "'j'",
        "not bound",
    ),
    "bound by both sides": (
        lambda: with_last(sp.Sum(W[i, 0], I.limits)),
        "equation of 'q'",
        "'i'",
        "bound twice",
    ),
    "index twice on the left": (
        lambda: with_last(sp.Integer(1), (I, I)),
        "equation of 'q'",
        "[i,i]",
        "twice",
    ),
    "two sums": (
        lambda: with_last(sp.Sum(W[i, j], J.limits) + sp.Sum(X[N.symbol, index("k", 2).symbol], index("k", 2).limits)),
        "equation of 'q'",
        "2 sums",
        "its own",
    ),
    "a maximum over two indices": (
        lambda: with_last(MaxOver(W[I.symbol, j], J.limits, I.limits), (N,)),
        "equation of 'q'",
        "maximum",
        "one",
    ),
    "a sum that starts at 1": (
        lambda: with_last(sp.Sum(W[i, j], (j, 1, 1))),
        "equation of 'q'",
        "'j' starts at 1",
        "start at 0",
    ),
    "unknown function": (lambda: with_last(sp.gamma(a)), "equation of 'q'", "gamma", "not in the language"),
    "undefined function": (
        lambda: with_last(sp.Function("f")(a)),
        "equation of 'q'",
        "f(",
        "not in the language",
    ),
    "derivative": (
        lambda: with_last(sp.Derivative(sp.Function("f")(element("a", (0, 0))), element("a", (0, 0)))),
        "equation of 'q'",
        "erivative",
        "not in the language",
    ),
    "maximum of SymPy": (lambda: with_last(sp.Max(a, 0)), "equation of 'q'", "Max", "not in the language"),
    "integral": (
        lambda: with_last(sp.Integral(sp.exp(-(sp.Dummy("t", real=True) ** 2)))),
        "equation of 'q'",
        "",
        "",
    ),
    "infinite": (lambda: with_last(a + sp.oo), "equation of 'q'", "oo", "finite"),
    "complex infinite": (lambda: with_last(sp.zoo * a), "equation of 'q'", "zoo", "finite"),
    "not a number": (lambda: with_last(sp.nan), "equation of 'q'", "nan", "finite"),
    "imaginary": (lambda: with_last(sp.I * a), "equation of 'q'", "I", "not in the language"),
    "no such output": (lambda: replace(GOOD, outputs=("L", "y_hat")), "outputs", "'y_hat'", "not computed"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_rule(rule: str) -> None:
    build, place, value, words = BROKEN[rule]
    with pytest.raises(SpecError) as caught:
        check(build())
    message = str(caught.value)
    assert message.startswith(place), message
    assert value in message
    assert words in message


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (W[i, 2], "a literal position beyond the extent 2"),
        (W[i + 1, 0], "i + 1 is 3 at most, the extent is 3"),
        (W[i, i], "i runs to 2, the second extent is 2"),
        (W[i - 1, 0], "i - 1 begins at -1"),
    ],
)
def test_position_out_of_range(read: sp.Expr, reason: str) -> None:
    """A kernel would read foreign memory."""
    with pytest.raises(SpecError, match="W"):
        check(with_last(read * a))


@pytest.mark.parametrize(
    "expr",
    [
        sp.Piecewise((W[i - 1, 0], i >= 1), (0, True)),
        sp.Piecewise((W[i + 1, 0], i + 1 < 3), (W[0, 0], True)),
        W[2 - i, 1],
    ],
)
def test_position_in_range(expr: sp.Expr) -> None:
    check(with_last(expr * a))


def test_one_index_has_one_extent() -> None:
    """Also where the sizes are not bound yet."""
    U, V = extent("U"), extent("V")
    x, w = Tensor("x", (index("i", U),), Role.INPUT), Tensor("w", (index("i", V),), Role.PARAMETER)
    other = Equation("L", (), sp.Sum(x.element * w.element, index("i", U).limits))
    with pytest.raises(SpecError, match="w"):
        check(Program((x, w), (other,), ("L",)))


def test_extents_may_stand_in_an_expression() -> None:
    size = extent("U")
    check(with_last(a / size))


def test_language_and_interpreter_know_the_same_functions() -> None:
    assert set(NAMES) <= set(ELEMENTARY)


def test_index_of() -> None:
    assert index_of(i, Z) == I
    assert index_of(j, Z) == J
    with pytest.raises(SpecError, match="index 'k' is not bound"):
        index_of(index("k", 2).symbol, Z)

"""Reads that may leave their tensors are refused, those that cannot are not."""

import itertools
import random

import pytest
import sympy as sp

from chainrule.symbolic.check import check
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.language import Program, extent

from .programs import written


def reading(formula: str, **extents: int) -> Program:
    """w has 5 elements and V 3x4; E is looked up by token, which runs to whatever it is used for."""
    sizes: dict[str, int | sp.Expr] = {"i": 5, "a": 3, "b": 4, "r": 3, "p": 2, **extents}
    tensors = {"token": "input integer n", "w": "parameter i", "V": "parameter a b", "k": "input integer"}
    return written(sizes, tensors, f"h[n,r] = {formula}\nL = sum(n, r, h[n,r])")


@pytest.mark.parametrize(
    "formula",
    [
        "w[r]", "w[r + 2]", "w[2*r]", "w[4 - r]", "w[4 - 2*r]", "w[0]", "w[4]", "w[k]",
        "sum(p, w[r + 2*p])", "sum(p, w[3*p + r - p])", "sum(p, V[r,2*p + 1])", "max(p, w[2*r - p*0])",
        "w[token[n]]", "V[r,token[n]]",
        "where(r >= 1, w[r - 1], 0)", "where(r < 1, 0, w[r - 1])", "where(r > 0, w[r - 1], 0)",
        "where(r <= 1, w[3*r], 0)", "where(2*r + 1 < 5 and r >= 1, w[2*r + 1], 0)",
        "where(r < 1, 0, where(r < 2, w[r - 1], w[r - 2]))",
        "sum(p, where(2*r + p - 1 >= 0 and 2*r + p - 1 < 5, w[2*r + p - 1], 0))",
        "sum(p, where(r + p >= 2, w[r + p - 2], 0))",
        "where(r == 2, w[r + 2], w[r + 1])",
        "where(token[n] - 2 >= 0 and token[n] - 2 < 5, w[token[n] - 2], 0)",
    ],
)  # fmt: skip
def test_reads_that_stay_inside(formula: str) -> None:
    check(reading(formula), normal=False)


@pytest.mark.parametrize(
    ("formula", "position"),
    [
        ("w[r + 3]", "r + 3"),
        ("w[r - 1]", "r - 1"),
        ("w[3*r]", "3*r"),
        ("w[3 - 2*r]", "3 - 2*r"),
        ("w[5]", "5"),
        ("V[2,r + 2]", "r + 2"),
        ("sum(p, w[r + 3*p])", "3*p + r"),
        ("w[token[n] + 1]", "token[n] + 1"),
        ("where(r >= 1, w[r], w[r - 1])", "r - 1"),
        ("where(r < 1, w[r - 1], 0)", "r - 1"),
        ("where(r - 1 >= 0, w[r - 2], 0)", "r - 2"),
        ("where(token[n] >= 1, w[token[n] - 1], 0)", "token[n] - 1"),
        ("where(w[r] > 0, w[r + 3], 0)", "r + 3"),
        ("where(w[r + 3] > 0, 1, 0)", "r + 3"),
        ("sum(p, where(2*r + p - 1 >= 0, w[2*r + p], 0))", "p + 2*r"),
    ],
)
def test_reads_that_may_leave(formula: str, position: str) -> None:
    tensor, last = formula[formula.index("[") - 1], 4 if "w[" in formula else 3
    message = rf"^equation of 'h': .* may leave '{tensor}|'w': the position .* runs past 0\.\.{last}; .* guard it"
    with pytest.raises(SpecError, match=message) as caught:
        check(reading(formula), normal=False)
    assert f"the position {position} runs past" in str(caught.value)


def test_message_says_what_to_write() -> None:
    with pytest.raises(SpecError) as caught:
        check(reading("w[r + 3]"), normal=False)
    assert str(caught.value) == (
        "equation of 'h': w[r + 3] may leave 'w': the position r + 3 runs past 0..4; change an extent, or guard it: "
        "where(r + 3 >= 0 and r + 3 < 5, ..., 0)"
    )
    check(reading("where(r + 3 >= 0 and r + 3 < 5, w[r + 3], 0)"), normal=False)


@pytest.mark.parametrize("seed", range(60))
def test_affine_positions_against_trying_all(seed: int) -> None:
    """Accepted exactly if no index leaves; with a guard, exactly if none leaves that the guard lets pass."""
    draw = random.Random(seed)
    c, d, e = draw.randint(-2, 2), draw.randint(-2, 2), draw.randint(-1, 4)
    position = f"{c}*r + {d}*p + {e}"
    low, high = draw.choice([(None, None), (-e, None), (None, 3), (draw.randint(-2, 1), draw.randint(1, 4))])
    guards = [f"r - p >= {low}"] * (low is not None) + [f"r + p < {high}"] * (high is not None)
    read = f"where({' and '.join(guards)}, w[{position}], 0)" if guards else f"w[{position}]"
    fits = all(
        0 <= c * r + d * p + e < 5
        for r, p in itertools.product(range(3), range(2))
        if (low is None or r - p >= low) and (high is None or r + p < high)
    )
    program = reading(f"sum(p, {read})")
    if fits:
        check(program, normal=False)
    else:
        with pytest.raises(SpecError, match="may leave 'w'"):
            check(program, normal=False)


def test_position_of_a_maximum_has_the_range_of_its_index() -> None:
    def program(size: int, position: str) -> Program:
        return written(
            {"i": 5, "j": size}, {"w": "parameter i", "v": "parameter j"},
            f"best = argmax(j, v[j])\nL = sum(n, w[{position}])*v[0]",
        )  # fmt: skip

    check(program(5, "best"), normal=False)
    check(program(3, "best + 2"), normal=False)
    for size, position in ((6, "best"), (3, "best + 3"), (3, "best - 1")):
        with pytest.raises(SpecError, match="may leave 'w'"):
            check(program(size, position), normal=False)


def test_samples_are_as_many_as_there_are() -> None:
    with pytest.raises(SpecError, match="may leave 'x'"):
        check(written({"i": 2}, {"x": "input n i", "w": "parameter i"}, "L = sum(n, i, x[n+1,i]*w[i])"), normal=False)


def test_extents_without_numbers() -> None:
    """A plain index of another extent is wrong at once; what depends on the numbers waits for them."""
    T, P = extent("T"), extent("P")
    tensors = {"x": "input n t", "K": "parameter p"}
    extents = {"t": T, "p": P, "r": T - P + 1}
    valid = "L = sum(n, r, sum(p, K[p]*x[n,r+p]))"
    check(written(extents, tensors, valid), normal=False)
    check(written(extents, tensors, valid, {T: 4, P: 2}), normal=False)
    with pytest.raises(SpecError, match="may leave 'x'"):
        check(written(extents, tensors, "L = sum(n, r, sum(p, K[p]*x[n,r+p+1]))", {T: 4, P: 2}), normal=False)
    with pytest.raises(SpecError, match="may leave 'K'"):
        check(written(extents, tensors, "L = sum(n, t, K[t]*x[n,t])"), normal=False)

"""Kronecker deltas under sums: every rule by itself, and random sums against adding up all their terms."""

import itertools
import math
import random

import pytest
import sympy as sp

from chainrule.symbolic.contract import Term, contract, fresh, merged, terms
from chainrule.symbolic.errors import InternalError
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.language import Index, Kind, Role, Tensor, extent, index

i, j, k, a, b = (index(name, 3) for name in "ijkab")
x = Tensor("x", (i, j), Role.INPUT)
v = Tensor("v", (i,), Role.INPUT)
delta = sp.KroneckerDelta


def term(coefficient: sp.Expr, *deltas: sp.Expr, over: tuple[Index, ...] = ()) -> Term:
    return Term(frozenset(deltas), over, coefficient)


# Taking apart


def test_terms_of_an_expression_without_deltas() -> None:
    assert terms(v.element) == [term(v.element)]
    assert terms(sp.Integer(0)) == []


def test_terms_of_a_sum_get_indices_of_their_own() -> None:
    c = sp.Symbol("c", real=True)
    expr = c * sp.Sum(delta(i.symbol, a.symbol) * delta(j.symbol, b.symbol) * x.element, j.limits)
    (made,) = terms(expr)
    (own,) = made.bound
    assert own.symbol != j.symbol
    assert own.extent == 3
    assert made.deltas == {delta(i.symbol, a.symbol), delta(own.symbol, b.symbol)}
    assert made.coefficient == c * x[i, own]


def test_terms_with_the_same_deltas_are_added() -> None:
    d = delta(i.symbol, a.symbol)
    assert terms(2 * d + v.element * d) == [term(v.element + 2, d)]
    assert merged([term(v.element, d), term(-v.element, d)]) == []


def test_terms_with_sums_are_kept_apart() -> None:
    d = delta(i.symbol, a.symbol)
    one, other = term(v.element, d, over=(j,)), term(v.element, d, over=(j,))
    assert merged([one, term(v.element, d), other]) == [term(v.element, d), one, other]


def test_terms_of_a_product_of_sums_of_deltas() -> None:
    da, db = delta(i.symbol, a.symbol), delta(i.symbol, b.symbol)
    made = merged(terms((da + db) * (2 + v.element * db)))
    assert set(made) == {term(sp.Integer(2), da), term(v.element, da, db), term(2 + v.element, db)}


def test_terms_of_branches() -> None:
    da, db = delta(i.symbol, a.symbol), delta(i.symbol, b.symbol)
    positive = v.element > 0
    made = terms(sp.Piecewise((2 * da, positive), (db, True)))
    assert made == [
        term(sp.Piecewise((2, positive), (0, True)), da),
        term(sp.Piecewise((0, positive), (1, True)), db),
    ]


def test_terms_of_branches_with_sums_carry_their_conditions() -> None:
    inner = sp.Sum(delta(j.symbol, a.symbol) * x.element, j.limits)
    positive = v.element > 0
    first, second = terms(sp.Piecewise((inner, positive), (delta(i.symbol, a.symbol), True)))
    assert first.coefficient.args[0][1] == positive
    assert second.coefficient == sp.Piecewise((1, sp.Not(positive)), (0, True))


def test_what_is_not_linear_in_deltas_is_an_error() -> None:
    with pytest.raises(InternalError, match="inside exp: a derivative that is not linear"):
        terms(sp.exp(delta(i.symbol, a.symbol)))


def test_fresh() -> None:
    one, other = fresh(i.symbol), fresh(i.symbol)
    assert len({i.symbol, one, other}) == 3
    assert one.is_integer
    assert one.is_nonnegative


# Contracting


def test_a_delta_fixes_an_index_of_the_same_range() -> None:
    made = contract(term(x.element, delta(j.symbol, a.symbol), over=(j,)), {a.symbol: a.extent})
    assert made == x[i, a]


def test_a_shift_becomes_a_guard() -> None:
    """The sum over p of delta(r + p, s) g(p) is g(s - r), for 0 <= s - r < P."""
    p, r, s = index("p", 2), index("r", 3), index("s", 4)
    kernel = Tensor("K", (p,), Role.PARAMETER)
    made = contract(
        term(kernel.element, delta(r.symbol + p.symbol, s.symbol), over=(p,)),
        {r.symbol: r.extent, s.symbol: s.extent},
    )
    (value, condition), (zero, _) = made.args
    assert value == kernel[s.symbol - r.symbol]
    assert zero == 0
    for at_r, at_s in itertools.product(range(3), range(4)):
        inside = condition.xreplace({r.symbol: sp.Integer(at_r), s.symbol: sp.Integer(at_s)})
        assert bool(inside) is (0 <= at_s - at_r < 2)


def test_extents_of_the_same_size_are_the_same_where_sizes_say_so() -> None:
    U, F = extent("U"), extent("F")
    p, q = Index(sp.Symbol("p", integer=True, nonnegative=True), U), index("q", F)
    made = term(Tensor("w", (p,))[p], delta(p.symbol, q.symbol), over=(p,))
    assert isinstance(contract(made, {q.symbol: F}), sp.Piecewise)
    assert contract(made, {q.symbol: F}, {U: 5, F: 5}) == Tensor("w", (p,))[q]
    assert isinstance(contract(made, {q.symbol: F}, {U: 4, F: 5}), sp.Piecewise)


def test_the_extent_of_a_sum_that_stays_keeps_its_symbol() -> None:
    U = extent("U")
    p = index("p", U)
    made = contract(term(Tensor("w", (p,))[p], over=(p,)), {}, {U: 5})
    assert made == sp.Sum(Tensor("w", (p,))[p], (p.symbol, 0, U - 1))


def test_a_look_up_stays_as_a_factor() -> None:
    token = Tensor("token", (i,), Role.INPUT, Kind.INTEGER)
    made = contract(term(v.element, delta(token.element, a.symbol), over=(i,)), {a.symbol: a.extent})
    assert made == sp.Sum(v.element * delta(token.element, a.symbol), i.limits)


def test_a_looked_up_index_needs_no_guard() -> None:
    """Sum over j of delta(j, token) x[i,j] is x[i,token]: the data are checked."""
    token = Tensor("token", (i,), Role.INPUT, Kind.INTEGER)
    made = contract(term(x.element, delta(j.symbol, token.element), over=(j,)), {i.symbol: i.extent})
    assert made == x[i.symbol, token.element]


def test_deltas_that_contradict_one_another() -> None:
    made = term(x.element, delta(j.symbol, 0), delta(j.symbol, 1), over=(j,))
    assert contract(made, {i.symbol: i.extent}) == 0


def test_a_sum_over_an_index_that_is_not_there_is_a_multiple() -> None:
    assert contract(term(v.element, over=(j,)), {i.symbol: i.extent}) == 3 * v.element


def test_what_does_not_depend_on_the_sum_stands_before_it() -> None:
    made = contract(term(v.element * x.element, over=(j,)), {i.symbol: i.extent})
    assert made == v.element * sp.Sum(x.element, j.limits)


# The law: a contracted sum has the value of the sum

SIZES = {"i": 3, "j": 2, "k": 4, "a": 3, "b": 4}
ALL = {name: index(name, size) for name, size in SIZES.items()}


def random_delta(draw: random.Random, summed: list[Index]) -> sp.Expr:
    one = draw.choice(summed).symbol
    other = draw.choice(list(ALL.values())).symbol
    forms = [other, other + 1, draw.randrange(3), 2 * other, 2 - other, ALL["a"].symbol + other]
    return delta(draw.choice([1, 1, 1, -1, 2]) * one, draw.choice(forms))


@pytest.mark.parametrize("seed", range(40))
def test_contracting_keeps_the_value(seed: int) -> None:
    draw = random.Random(seed)
    summed = draw.sample([ALL["i"], ALL["j"], ALL["k"]], draw.randrange(1, 4))
    free = [n for n in ALL.values() if n not in summed]
    # A tensor that is large enough for any position within the sums' ranges.
    g = Tensor("g", tuple(ALL.values()))
    parts = [d for d in (random_delta(draw, summed) for _ in range(draw.randrange(1, 4))) if d not in (0, 1)]
    made = contract(term(g.element, *parts, over=tuple(summed)), {n.symbol: n.extent for n in free})
    table = {p: draw.uniform(-1, 1) for p in itertools.product(*(range(int(n.extent)) for n in ALL.values()))}
    for where in itertools.product(*(range(int(n.extent)) for n in free)):
        at = dict(zip((n.symbol for n in free), where, strict=True))
        wanted = 0.0
        for values in itertools.product(*(range(int(n.extent)) for n in summed)):
            here = {**at, **dict(zip((n.symbol for n in summed), values, strict=True))}
            factor = math.prod(int(d.xreplace({s: sp.Integer(q) for s, q in here.items()})) for d in parts)
            wanted += factor * table[tuple(here[n.symbol] for n in ALL.values())]
        assert evaluate(made, at, {"g": table}, math) == pytest.approx(wanted), (parts, summed, where)

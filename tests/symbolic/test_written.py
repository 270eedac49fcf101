"""What `written` writes, the formula language reads as the same expression."""

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from chainrule.symbolic.activations import ACTIVATIONS, Z
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.formula import parse_formula
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.optimisers import OPTIMISERS
from chainrule.symbolic.penalties import PENALTIES
from chainrule.symbolic.schedules import SCHEDULES
from chainrule.symbolic.written import written

ROWS = {
    **{f"activation {a.name}": a.expr for a in ACTIVATIONS.values()},
    **{f"loss {row.name}": row.formula for row in LOSSES.values()},
    **{f"bound loss {row.name}": row.expr for row in LOSSES.values()},
    **{f"penalty {p.name}": p.formula for p in PENALTIES.values()},
    **{f"schedule {s.name}": s.formula for s in SCHEDULES.values()},
    **{f"{o.name} {k}": e for o in OPTIMISERS.values() for k, (_, e) in enumerate((*o.scalar_updates, *o.updates))},
}

FORMULAS = """
-z**2 | (-z)**2 | -(z + 1)/3 | 2**z | z**-z | z**(1/3) | 1/z/3 | -1/(3*z) | z/1e-30 | 3e20*z | 1e300*z
1.5e-9 | 0.1234567890123456*1.234567890123456*z | where(z < 0 and z > -3 or z > 5, z, -z)
where(not (z < 0), z, 1) | where(z == -3, 1, z) | where(z != 2, 1, z) | abs(-z) | max(z, -z, 3)
min(z, 1)**2 | e | pi*z | exp(1)*z | e**(2*z) | sqrt(z)/sqrt(2) | 1/sqrt(z + 1) | sum(z**2)/max(z)
log1p(z) + expm1(z) | softplus(z)*sigmoid(-z) | z | ceil(z) + floor(z) + sign(z) | erf(z) - erfc(z)
clip(z/6 + 1/2, 0, 1) | -z*clip(2*z, -1, 1) | where(0 >= z, 1, 2) | (z + 1)**-2/7 | (z/3)**(z/5)
heaviside(z) | relu(relu(z) - 1) | 10**z | z*7/3*sin(z) | -z/4 | z*(-z/4 - 1/4)
log(where(z <= 0, 1, 2))*-1.702/(z + 1) | exp(-z/2)*exp(-(z + 1)) | max(z, 2*z, 3*z) | 0 | -1/3
atan(z)*asinh(z)
"""


def again(expr: sp.Expr) -> sp.Expr:
    return parse_formula(written(expr), {s.name: s for s in expr.free_symbols}, units=True)


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_the_tables(name: str) -> None:
    assert again(ROWS[name]) == ROWS[name]


@pytest.mark.parametrize("text", [f.strip() for line in FORMULAS.split("\n") for f in line.split("|") if f.strip()])
def test_formulas(text: str) -> None:
    expr = parse_formula(text, {"z": Z}, units=True)
    assert again(expr) == expr


numbers = st.one_of(
    st.fractions(max_denominator=10**6),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=9),
).map(lambda q: sp.Rational(str(q)))
expressions = st.recursive(
    st.one_of(st.just(Z), numbers),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.sampled_from([-3, -1, 2, sp.Rational(1, 2)])).map(lambda p: (p[0] ** 2 + 1) ** p[1]),
        inner.map(sp.tanh),
        inner.map(lambda e: sp.exp(-e)),
        inner.map(lambda e: sp.Piecewise((0, Z <= 0), (e, True))),
    ),
    max_leaves=6,
)


def in_range(expr: sp.Expr) -> bool:
    """Whether every constant in it is a number that a double can hold: others are refused in formulas."""
    return all(abs(sp.N(e)) < 1e300 for e in sp.preorder_traversal(expr) if e.is_number)


@given(expressions.filter(in_range))
def test_any_expression(expr: sp.Expr) -> None:
    assert again(expr) == expr


def test_a_choice_among_three_means_the_same() -> None:
    expr = sp.Piecewise((1, Z < -1), (Z**2, Z < 1), (3 * Z, True))
    read = again(expr)
    assert all(read.subs(Z, z) == expr.subs(Z, z) for z in (-2, -1, sp.Rational(1, 3), 1, 5))


def test_a_choice_without_an_end_cannot_be_written() -> None:
    with pytest.raises(SpecError, match=r"end with \(value, True\)"):
        written(sp.Piecewise((1, Z < 0)))

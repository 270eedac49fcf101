"""The printer of expressions as text, and lines of text."""

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.language import index
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.notation import (
    Fraction,
    Name,
    Number,
    Partial,
    Power,
    Product,
    Symbols,
    Total,
    notation,
)
from chainrule.symbolic.penalties import PENALTIES
from chainrule.symbolic.plain import notation_text, wrapped
from chainrule.symbolic.text import expression_text

x, y = sp.symbols("x y", real=True)
i = index("i", 3)
a = sp.IndexedBase("a", real=True)[i.symbol]
TOTAL = sp.Sum(a, i.limits)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (x * y, "x y"),
        (x / y, "x/y"),
        (x / (2 * y), "x/(2 y)"),
        (-x + y, "y - x"),
        (x - (y - 1), "x - y + 1"),
        (x * (x + y), "x (x + y)"),
        ((x + y) ** 2, "(x + y)^2"),
        (sp.sqrt(x + 1), "sqrt(x + 1)"),
        (x**y, "x^y"),
        (x ** (-2), "1/x^2"),
        (sp.Rational(851, 500) * x, "1.702 x"),
        (sp.Rational(1, 3) * x, "x/3"),
        (TOTAL, "sum_i a[i]"),
        (TOTAL**2, "(sum_i a[i])^2"),
        (x / TOTAL, "x/(sum_i a[i])"),
        (x * TOTAL, "x sum_i a[i]"),
        (x * sp.Piecewise((1, x > 0), (0, True)), "x {1 if x > 0; 0 otherwise}"),
    ],
)
def test_expression(expr: sp.Expr, text: str) -> None:
    assert expression_text(expr) == text


@pytest.mark.parametrize("expr", [row.expr for table in (ACTIVATIONS, LOSSES, PENALTIES) for row in table.values()])
def test_formulas_of_the_tables_read_the_same_in_both_printers(expr: sp.Expr) -> None:
    """`expression_text` and the notation are two printers with one order and one rule for brackets."""
    names = Symbols([], {}, {})
    in_both = notation_text(notation(expr, names))
    assert strip(in_both) == strip(expression_text(expr))


def strip(text: str) -> str:
    return "".join(c for c in text if c not in "() ")


@pytest.mark.parametrize(
    ("math", "text"),
    [
        (Name("w", label=("1",), sub=Name("i")), "w_i^(1)"),
        (Name("W", label=("o",), transposed=True), "W^(o)T"),
        (Name("x", transposed=True), "x^T"),
        (Name("a", label=("1",), prime=True), "a'^(1)"),
        (Name("y", hat=True), "y_hat"),
        (Name("ell"), "l"),
        (Partial(Name("L"), Name("y", hat=True)), "dL/dy_hat"),
        (Partial(Total(((False, Name("a")), (True, Name("b")))), Name("w")), "d(a - b)/dw"),
        (
            Fraction(Total(((False, Name("a")), (False, Name("b")))), Product((Name("c"), Name("d")))),
            "(a + b)/(c d)",
        ),
        (Power(Name("a"), Number("2")), "a^2"),
        (Product((Name("a"), Name("b")), ".*"), "a .* b"),
    ],
)
def test_notation(math: object, text: str) -> None:
    assert notation_text(math) == text  # type: ignore[arg-type]


@given(st.lists(st.text("ab[],()", min_size=1, max_size=30), min_size=1, max_size=40), st.integers(12, 60))
def test_wrapped_lines_fit_and_lose_nothing(words: list[str], width: int) -> None:
    text = " ".join(words)
    lines = wrapped(text, width, width - 4)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")

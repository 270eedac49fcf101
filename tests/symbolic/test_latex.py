"""Notation as LaTeX; the report compiles where LaTeX is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chainrule.symbolic.breaking import broken, estimated_width
from chainrule.symbolic.latex import escaped, notation_latex
from chainrule.symbolic.layers import Dense, Dropout, Equations
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.notation import (
    Call,
    Cases,
    Fraction,
    Group,
    Math,
    Name,
    Number,
    Over,
    Partial,
    Power,
    Product,
    Row,
    Sign,
    Total,
    Word,
)  # fmt: skip
from chainrule.symbolic.optimisers import Adam
from chainrule.symbolic.penalties import L1, L2

x1 = Name("x", label=("1",))


@pytest.mark.parametrize(
    ("math", "latex"),
    [
        (Name("alpha", label=("1",)), r"\alpha^{(1)}"),
        (Name("y", hat=True), r"\hat y"),
        (Name("W", label=("o",), transposed=True), r"W^{(o)\mathsf{T}}"),
        (Name("delta", label=("1",), sub=Name("n")), r"\delta_{n}^{(1)}"),
        (Name("my_param"), r"\mathrm{my\_param}"),
        (Name("a", label=("1",), prime=True), r"{a}^{\prime (1)}"),
        (Number("1e-05"), "10^{-5}"),
        (Number("2.5e-05"), r"2.5 \cdot 10^{-5}"),
        (Call(Word("tanh"), (x1,)), r"\tanh(x^{(1)})"),
        (Call(Word("erf"), (x1,)), r"\mathrm{erf}(x^{(1)})"),
        (Group(Fraction(x1, Number("2"))), r"\left( \frac{x^{(1)}}{2} \right)"),
        (Partial(Name("L"), x1), r"\frac{\partial L}{\partial x^{(1)}}"),
        (Product((x1, Name("b")), ".*"), r"x^{(1)} \odot b"),
        (Over("sum", Name("n"), x1), r"\sum_{n} x^{(1)}"),
        (Power(Group(x1, "||"), Number("2")), r"{\|x^{(1)}\|}^{2}"),
        (
            Cases(((Name("a"), Row((Name("z"), Sign("<="), Number("0")))), (Name("z"), None))),
            r"\begin{cases} a & \text{if } z \le 0 \\ z & \text{otherwise} \end{cases}",
        ),
    ],
)
def test_notation(math: Math, latex: str) -> None:
    assert notation_latex(math) == latex


def test_every_character_of_a_name_is_escaped() -> None:
    text = escaped(r"\~^&%$#_{}<>|")
    assert not re.search(r"(?<!\\)[&%$#_]", text)
    assert text.count("{") - text.count("}") == 0


def test_wide_formulas_break_into_lines_that_fit() -> None:
    term = Product((Name("W", label=("1",)), Call(Word("tanh"), (Total(((False, x1), (True, Name("y")))),))))
    wide: list[Math] = [
        Total(tuple((k % 2 == 1, term) for k in range(20))),
        Call(Word("exp"), (Total(tuple((False, term) for k in range(12))),)),
        Fraction(Total(tuple((False, term) for k in range(12))), Total(tuple((False, term) for k in range(12)))),
        Cases(tuple((Total(tuple((False, term) for k in range(9))), Name("c")) for k in range(3))),
        Over("sum", Name("n"), Product(tuple(term for k in range(20)))),
    ]
    for math in wide:
        lines = broken(math, 60, 56)
        assert len(lines) > 1
        assert max(map(estimated_width, lines)) <= 66


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_report_compiles_and_stays_inside_the_margins(tmp_path: Path) -> None:
    text = """
        some_name[n,i] = sum(j, V[i,j]*x[n,j])
        h[n,i] = (exp(-some_name[n,i]**2/(1 + some_name[n,i]**2))*where(some_name[n,i] > 0, some_name[n,i]**3/
            (1 + exp(-1.7*some_name[n,i])), sin(some_name[n,i])*p_q)*
            sqrt(1 + exp(some_name[n,i])*some_name[n,i]**2))
    """
    own = Equations(text, "h", {"i": 3}, {"V": ["i", "j"], "p_q": []})
    layers = [Dense(4, "gelu_tanh"), own, Dropout(0.5), Dense(3, "softmax")]
    model = Model(3, layers, "cross_entropy", [L1(), L2(on="all")], name="50 % & more_")
    source = model.derivation(Variant(True, True, True)).latex(optimiser=Adam())
    (tmp_path / "report.tex").write_text(source, "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout

"""Notation as MathML."""

from xml.etree import ElementTree

import pytest

from chainrule.symbolic.mathml import notation_mathml
from chainrule.symbolic.notation import (
    GREEK,
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
    Root,
    Row,
    Sign,
    Total,
    Word,
)  # fmt: skip

a, b = Name("a", label=("1",)), Name("b<&>", sub=Name("i"))


@pytest.mark.parametrize(
    "math",
    [
        *(Name(letter) for letter in GREEK), a, b, Number("1e-05"), Word("erf"), Sign("<="),
        Row((a, Sign("<"), b)), Call(Word("tanh"), (a, b)), Group(Fraction(a, b)), Power(a, Number("2")),
        Root(a), Partial(Name("L"), a), Product((a, b), ".*"), Total(((True, a), (False, b))),
        Over("argmax", Name("j"), a), Cases(((a, Row((a, Sign(">="), b))), (b, None))),
        Name("y", hat=True, label=("o", "max"), transposed=True),
    ],
)  # fmt: skip
def test_it_is_well_formed(math: Math) -> None:
    element = ElementTree.fromstring(notation_mathml(math))
    assert element.tag.startswith("m")
    assert all(e.tag[0] == "m" for e in element.iter())


def test_text_is_escaped() -> None:
    assert "b&lt;&amp;&gt;" in notation_mathml(b)


def test_a_derivative_is_a_fraction() -> None:
    assert notation_mathml(Partial(Name("L"), Name("w"))) == (
        "<mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><mrow><mi>∂</mi><mi>w</mi></mrow></mfrac>"
    )

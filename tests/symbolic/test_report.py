"""The report: laws over all tables in the three formats, and golden files for the note's network."""

import re
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import pytest

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES, Loss
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.optimisers import OPTIMISERS, SGD, Optimiser
from chainrule.symbolic.penalties import L1, L2, PENALTIES, Penalty
from chainrule.symbolic.report import numbered

FITTING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "binary_cross_entropy": "sigmoid",
    "poisson": "exp",
}
CONVOLUTION = Equations(
    "c[n,r,o] = sum(p, i, K[o,i,p]*x[n,r+p,i]) + b[o]\nh[n,r,o] = max(c[n,r,o], 0)",
    "h",
    {"r": 4, "p": 3, "o": 2},
    {"K": ["o", "i", "p"], "b": ["o"]},
    incoming=["s", "i"],
)
PER_SAMPLE = """
    m[n] = mean(j, x[n,j])
    v[n] = mean(j, (x[n,j] - m[n])**2)
    h[n,j] = g[j]*(x[n,j] - m[n])/sqrt(v[n] + 1e-5)
"""
PER_BATCH = """
    m[j] = mean(n, x[n,j])
    v[j] = mean(n, (x[n,j] - m[j])**2)
    h[n,j] = g[j]*(x[n,j] - m[j])/sqrt(v[j] + 1e-5)
"""
LONG = "a_rather_long_name_with_underscores_and_then_some_more_of_it"


def notes_network(hidden: int) -> Model:
    """The network of the note: tanh in the hidden layers, a linear output, squared error."""
    return Model(2, [*(Dense(3, "tanh") for _ in range(hidden)), Dense(2)], "squared_error", name="the note's network")


def models() -> Iterator[tuple[str, Model, Variant | None]]:
    """Every activation in a hidden layer and, where a loss takes any, at the end; every loss in two variants."""
    losses = [(name, weighted) for name in LOSSES for weighted in (False, True)]
    names = list(ACTIVATIONS)
    for k in range(max(len(losses), len(names))):
        (name, weighted), hidden = losses[k % len(losses)], names[k % len(names)]
        last = FITTING.get(name, names[(k + 5) % len(names)] if name == "squared_error" or k % 3 else "identity")
        model = Model(3, [Dense(4, hidden), Dense(2, last)], name)
        variant = Variant(not weighted and LOSSES[name].classes, weighted, False)
        yield f"{hidden}, {last}, {name}{', weighted' if weighted else ''}", model, variant
    for name in PENALTIES:
        yield (
            f"penalty {name}",
            Model(3, [Dense(4, "tanh"), Dense(2)], penalties=[Penalty(name, on="all")]),
            None,
        )
    dropped = [Dense(3, "prelu"), Dropout(0.2), Activate("gelu"), Dense(5, "softmax")]
    yield "dropout", Model(4, dropped, "cross_entropy", [L2(1e-3), L1(1e-2)]), Variant(True, True, True)
    yield "convolution", Model((6, 3), [CONVOLUTION, Dense(2, "softmax")], "cross_entropy"), None
    for text in (PER_SAMPLE, PER_BATCH):
        norm = Equations(text, "h", {}, {"g": ["j"]})
        yield "norm", Model(6, [Dense(4, "tanh"), norm, Dense(2, "softmax")], "cross_entropy"), None
    text = f"{LONG}[n,i] = sum(j, my_W_12[i,j]*x[n,j])\nh[n,i] = tanh({LONG}[n,i]*beta3 + o) + halo[i]"
    own = Equations(text, "h", {"i": 3}, {"my_W_12": ["i", "j"], "beta3": [], "o": [], "halo": ["i"]})
    loss = Loss("cau_chy", "log(1 + (y - y_hat)**2/sc_ale**2)", {"sc_ale": 3.0})
    yield "names", Model(2, [own, Dense(1)], loss, name="50 % of <a> & {b} \\ $c$ #1 ~ ^"), None


CASES = list(models())
OPTIMISER = list(OPTIMISERS.values())


@pytest.fixture(params=range(len(CASES)), ids=[name for name, _, _ in CASES])
def case(request: pytest.FixtureRequest) -> tuple[Model, Variant | None, Optimiser]:
    _, model, variant = CASES[request.param]
    return model, variant, OPTIMISER[request.param % len(OPTIMISER)]


def test_every_model_prints_in_every_format(case: tuple[Model, Variant | None, Optimiser]) -> None:
    model, variant, optimiser = case
    derivation = model.derivation(variant)
    text = derivation.text(optimiser=optimiser)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    for number, equation in numbered(derivation):
        assert f"({number})" in text
        first = str(equation).split(" = ")[0]
        assert first in re.sub(r"\s+", "", text) or first in text
    check_latex(derivation.latex(optimiser=optimiser))
    check_html(derivation.html(optimiser=optimiser))


def check_latex(source: str) -> None:
    assert source.isascii()
    assert source.startswith(r"\documentclass")
    assert re.findall(r"\\usepackage\{(.*?)\}", source) == ["amsmath"]
    bare = re.sub(r"\\[\\{}&%$#_]", "", source)  # without escaped characters
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    open_environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(.*?)\}", source):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    for line in source.split("\\\\\n"):  # \left and \right stand in one line of a formula
        assert len(re.findall(r"\\left\b", line)) == len(re.findall(r"\\right\b", line))


def check_html(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    body = re.sub(r"<meta[^>]*>", "", page.removeprefix("<!DOCTYPE html>"))
    tree = ElementTree.fromstring(body)
    counts = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2}
    for element in tree.iter():
        assert element.tag not in counts or len(element) == counts[element.tag], element.tag


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_golden(hidden: int, golden: Callable[[str, str], None]) -> None:
    derivation = notes_network(hidden).derivation()
    golden(f"note_{hidden}.txt", derivation.text(optimiser=SGD(0.1)))
    golden(f"note_{hidden}.tex", derivation.latex(optimiser=SGD(0.1)))
    golden(f"note_{hidden}.html", derivation.html(optimiser=SGD(0.1)))


def test_it_reads_as_the_note() -> None:
    text = notes_network(2).derivation().text()
    for formula in (
        "x^(2) = a^(2)(W^(2) x^(1) + b^(2))",
        "= W^(o) a^(2)(W^(2) a^(1)(W^(1) x + b^(1)) + b^(2)) + b^(o)",
        "dL/dw_ij^(2) = sum_n dL/dy_hat * dy_hat/dw_ij^(2)",
        "delta^(1) = (W^(2)T delta^(2)) .* a'^(1)(z^(1))",
        "= (W^(2)T delta^(2)) .* (1 - (x^(1))^2)",
        "dL/dW^(2) = sum_n delta_n^(2) x_n^(1)T",
        "dL/db^(2) = sum_n delta_n^(2)",
    ):
        assert formula in text


def test_numbers_count_forward_then_backward() -> None:
    derivation = notes_network(1).derivation()
    pairs = numbered(derivation)
    assert [number for number, _ in pairs] == list(range(1, len(pairs) + 1))
    assert [equation for _, equation in pairs] == [*derivation.forward.equations, *derivation.backward]


def test_every_optimiser_prints() -> None:
    derivation = notes_network(1).derivation()
    for optimiser in OPTIMISERS.values():
        text = derivation.text(optimiser=optimiser)
        assert "w <- " in text
        assert max(map(len, text.splitlines())) <= 80


def test_a_long_chain_has_an_ellipsis() -> None:
    text = Model(2, [*(Dense(2, "tanh") for _ in range(8)), Dense(1)]).derivation().text()
    assert " * ... * " in re.sub(r"\s+", " ", text)

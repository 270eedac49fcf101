"""Formulas as text: what they mean, and what is refused."""

import math
import re
from typing import Any

import mpmath
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.formula import (
    FUNCTIONS,
    Names,
    checked_name,
    parse_expression,
    parse_formula,
    split_equations,
)
from chainrule.symbolic.functions import ArgMaxOver, MaxOver, unit_max, unit_sum
from chainrule.symbolic.interpret import evaluate
from chainrule.symbolic.language import Kind, Tensor, index
from chainrule.symbolic.limits import DEEPEST_FORMULA, LONGEST_FORMULA, MOST_CONTRACTIONS

Z, U = sp.Symbol("z", real=True), sp.Symbol("u", real=True)
SYMBOLS = {"z": Z, "u": U}


def read(text: str) -> sp.Expr:
    return parse_formula(text, SYMBOLS, "here")


def value(text: str, z: float = 0.0, u: float = 0.0) -> Any:
    return evaluate(read(text), {}, {"z": {(): z}, "u": {(): u}}, math)


# What is refused

HOSTILE = [
    "__import__('os').system('x')", "().__class__", "().__class__.__bases__[0]", "z.__class__", "z.real",
    "z.diff(z)", "lambda: z", "(lambda: z)()", "(y := z)", "f'{z}'", "f'{().__class__}'", "'z'", "b'z'",
    "'a'*9", "eval('z')", "exec('z')", "open('x')", "print(z)", "compile", "globals()", "getattr(z, 'x')",
    "Symbol('q')", "sympify('z')", "sp.exp(z)", "exp.__self__", "[z]", "{z}", "{z: z}", "(z, z)",
    "[z for z in z]", "(z for z in z)", "z[0]", "z[z:z]", "*z", "**z", "z; z", "z\nz", "z = 1", "z += 1",
    "del z", "import os", "yield z", "await z", "assert z", "...", "None", "True", "exp(True)", "_", "__z__",
    "_z", "z__class__", "I", "E", "S", "N", "Q", "oo", "zoo", "nan", "inf", "Infinity", "NaN", "1j",
    "z + 2j", "", "   ", "#", "z +", "(z", "z)", "exp(", "1..2", "z z", "2z", "z\x00", "z\u200b", "ζ",
    "١ + z", "∞", "z ? 1 : 2", "z^2", "z // 2", "z % 2", "z @ z", "z << 1", "z >> 1", "z | z", "z & z", "~z",
    "z is z", "z in z",
]  # fmt: skip
TOO_LARGE = [
    "9**9**8", "10**10**10", "2**2**2**2**2**2", "2**1000000", "z**9999", "z**(-9999)", "(2**900)**900",
    "1e400", "-1e999", "1" * 400, "1" + "0" * 30, "**".join(["9"] * 60), "((((9**99)**9)**9)**9)**9",
    "1e308*10", "1e300*1e300*z", "0.5**(-5000)", "exp(9**99)**999", "floor(exp(10**18))",
    "ceil(exp(exp(99)))*z",
]  # fmt: skip
TOO_LONG = [
    "+".join(["z"] * LONGEST_FORMULA), "(" * 5000 + "z" + ")" * 5000, "-" * 5000 + "z",
    "exp(" * 500 + "z" + ")" * 500, "+".join(["z"] * (DEEPEST_FORMULA + 5)), "z if z > 0 else " * 300 + "z",
    "not " * 300 + "z", "z" * 100_000,
]  # fmt: skip
NOT_REAL = [
    "1/0", "z/0", "0/0", "0**-1", "z/(u - u)", "log(0)", "log(-1)", "sqrt(-1)", "(-1)**0.5", "(-8)**(1/3)",
    "acosh(0)", "atanh(1)", "atanh(2)", "asin(2)", "tan(pi/2)", "where(z > 0, log(0), 1)",
]  # fmt: skip
WRONG_TYPE = [
    "z > 0", "0 < z < 1", "not z", "z and u", "where(z, 1, 0)", "where(z > 0 and u, 1, 0)", "(z > 0) + 1",
    "exp(z > 0)", "z if u else 1", "(z > 0) if z > 0 else (z < 0)", "-(z > 0)", "(z > 0) < 1", "not (z > 0)",
]  # fmt: skip
WRONG_CALL = [
    "exp()", "exp(z, z)", "exp(z=1)", "exp(*z)", "exp(**z)", "where(z > 0, 1)", "clip(z)", "max()", "max(z)",
    "min(z)", "sum(z)", "mean(z)", "argmax(z)", "sum()", "exp", "max", "exp + 1", "foo(z)", "exp(z)(z)",
    "(exp)(z)(u)",
]  # fmt: skip


@pytest.mark.parametrize(
    "text", HOSTILE + TOO_LARGE + TOO_LONG + NOT_REAL + WRONG_TYPE + WRONG_CALL, ids=lambda t: t[:40]
)
def test_refused(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("here: ")
    assert len(message) < 600
    assert "\n" not in message


@pytest.mark.parametrize("given_value", [None, 3, 2.5, b"z", ["z"], Z])
def test_a_formula_is_text(given_value: object) -> None:
    with pytest.raises(SpecError, match="a formula is text"):
        parse_formula(given_value, SYMBOLS, "here")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["ｅxp(z)", "𝐳 + 1", "ｚ", "ℯ*z"])
def test_lookalikes_are_refused_or_the_plain_letter(text: str) -> None:
    """Python itself folds these to the plain letters; nothing else may come of them."""
    plain = text.replace("ｅ", "e").replace("𝐳", "z").replace("ｚ", "z").replace("ℯ", "e")
    try:
        got = read(text)
    except SpecError:
        return
    assert got == read(plain)


def test_nearest_name_is_offered() -> None:
    with pytest.raises(SpecError, match=r"the function 'tanhh'.*Did you mean 'tanh'\?"):
        read("tanhh(z)")
    with pytest.raises(SpecError, match=r"'zz' in \"zz \+ 1\" is not known\. Known: e, pi, u, z\."):
        read("zz + 1")


# What is meant

MEANING = {
    "exp(z)": math.exp, "log(z)": math.log, "log1p(z)": math.log1p, "expm1(z)": math.expm1,
    "sqrt(z)": math.sqrt, "abs(z)": abs, "sign(z)": lambda z: (z > 0) - (z < 0), "sin(z)": math.sin,
    "cos(z)": math.cos, "tan(z)": math.tan, "sinh(z)": math.sinh, "cosh(z)": math.cosh, "tanh(z)": math.tanh,
    "asin(z)": math.asin, "acos(z)": math.acos, "atan(z)": math.atan, "asinh(z)": math.asinh,
    "acosh(z)": math.acosh, "atanh(z)": math.atanh, "erf(z)": math.erf, "erfc(z)": math.erfc,
    "floor(z)": math.floor, "ceil(z)": math.ceil, "sigmoid(z)": lambda z: 1/(1 + math.exp(-z)),
    "softplus(z)": lambda z: math.log(1 + math.exp(z)), "relu(z)": lambda z: max(z, 0),
    "min(z, 1)": lambda z: min(z, 1), "max(z, 1)": lambda z: max(z, 1),
    "where(z > 1, 2, 3)": lambda z: 2 if z > 1 else 3, "heaviside(z)": lambda z: float(z > 0),
    "clip(z, 0, 1)": lambda z: min(max(z, 0), 1),
}  # fmt: skip


def test_every_function_has_its_meaning_here() -> None:
    assert {text.split("(")[0] for text in MEANING} == set(FUNCTIONS)


@pytest.mark.parametrize("text", MEANING)
@pytest.mark.parametrize("z", [-1.5, -0.25, 0.0, 0.75, 1.0, 1.5, 3.0])
def test_meaning_of_functions(text: str, z: float) -> None:
    try:
        wanted = MEANING[text](z)
    except ValueError:
        with pytest.raises(ValueError, match=r"math|expected"):
            value(text, z)
        return
    assert value(text, z) == pytest.approx(wanted, rel=1e-15, abs=1e-300)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pi", math.pi), ("e", math.e), ("1e-3", 1e-3), ("0.1 + 0.2", 0.3), ("1_000", 1000), ("0x10", 16),
        ("-2**2", -4), ("2**-1", 0.5), ("2**3**2", 512), ("1 - 2 - 3", -4), ("8/4/2", 1), ("-z**2", -9.0),
        ("+z", 3.0), ("--z", 3.0), ("max(z, u, 4)", 4), ("min(z, u, 4)", -2), ("max(u, z)", 3),
        ("max(1, 2)", 2), ("min(1, 2)", 1), ("z if z > u else u", 3.0), ("where(0 < z < 4, 1, 2)", 1),
        ("where(0 < z < 3, 1, 2)", 2), ("where(u < z > 2 >= u, 1, 2)", 1),
        ("where(z > 0 and not u > 0, 1, 2)", 1), ("where(z < 0 or u < 0, 1, 2)", 1),
        ("where(z == 3, 1, 2)", 1), ("where(z != 3, 1, 2)", 2),
        ("where(True_ if 1 > 2 else 2 > 1, 1, 2)", None), ("where(1 > 0, z, u)", 3.0),
        ("where(max(z, u) > 2, 1, 2)", 1), ("z # a comment", 3.0), ("  z  ", 3.0),
        ("relu(max(z, u) - 4)", 0), ("max(max(z, 0), max(u, 0))", 3.0), ("clip(10*u, -5, 5)", -5),
    ],
)  # fmt: skip
def test_meaning(text: str, wanted: float | None) -> None:
    if wanted is None:
        with pytest.raises(SpecError):
            read(text)
    else:
        assert value(text, 3.0, -2.0) == pytest.approx(wanted, rel=1e-15)


def test_decimals_are_exact() -> None:
    assert read("0.1") == sp.Rational(1, 10)
    assert read("0.044715*z").coeff(Z) == sp.Rational(44715, 10**6)
    assert float(read("1.6732632423543772848170429916717")) == 1.6732632423543772848170429916717


@pytest.mark.parametrize(
    ("text", "at", "slope"),
    [
        ("relu(z)", 0, 0), ("max(z, 0)", 0, 0), ("max(0, z)", 0, 0), ("min(z, 0)", 0, 0),
        ("min(0, z)", 0, 0), ("clip(z, -1, 1)", 1, 0), ("clip(z, -1, 1)", -1, 0), ("clip(z, -1, 1)", 0, 1),
        ("abs(z)", 0, 0), ("max(z, 2*z)", 0, 2), ("max(2*z, z)", 0, 1), ("min(z, 2*z)", 0, 2),
        ("heaviside(z)", 0, 0), ("where(z <= 0, 5*z, z)", 0, 5), ("where(z < 0, 5*z, z)", 0, 1),
        ("max(z, 0, 1)", 1, 0), ("sqrt(z**2)", 0, 0),
    ],
)  # fmt: skip
def test_slope_at_a_kink(text: str, at: float, slope: float) -> None:
    assert evaluate(sp.diff(read(text), Z), {}, {"z": {(): float(at)}}, math) == slope


LEAVES = st.sampled_from(["z", "u", "1", "2", "0.5", "3.25", "7", "1e-2"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.builds(lambda ab, op: f"({ab[0]} {op} {ab[1]})", pair, st.sampled_from("+-*/")),
        st.builds(lambda a: f"-{a}", inner),
        st.builds(lambda a, k: f"({a})**{k}", inner, st.sampled_from(["2", "3", "(-1)", "0"])),
        st.builds(lambda a, f: f"{f}({a})", inner, st.sampled_from(["sin", "tanh", "abs", "atan"])),
        st.builds(lambda ab, f: f"{f}({ab[0]}, {ab[1]})", pair, st.sampled_from(["max", "min"])),
        st.builds(
            lambda ab, cd, op: f"({ab[0]} if {cd[0]} {op} {cd[1]} else {ab[1]})",
            pair,
            pair,
            st.sampled_from(["<", "<=", ">", ">="]),
        ),
        st.builds(lambda ab, op: f"{ab[0]} {op} {ab[1]}", pair, st.sampled_from(["+", "-", "*"])),
    )


PYTHON = {f: getattr(mpmath, f) for f in ("sin", "tanh", "atan")} | {"abs": abs, "max": max, "min": min}


@settings(max_examples=150)
@given(st.recursive(LEAVES, _grown, max_leaves=8), st.integers(-9, 9), st.integers(-9, 9))
def test_means_what_python_means(text: str, z: int, u: int) -> None:
    """The same text, by Python's own evaluation (of text made here, not given by anybody)."""
    values = {"z": mpmath.mpf(z) / 7 + mpmath.mpf(1) / 97, "u": mpmath.mpf(u) / 5 - mpmath.mpf(1) / 89}
    with mpmath.workdps(40):
        try:
            decimal = "".join(_as_mpf(part) for part in _numbers(text))
            wanted = eval(decimal, {"__builtins__": {}, "mpf": mpmath.mpf, **PYTHON}, values)  # noqa: S307
        except (ZeroDivisionError, OverflowError):
            return
        try:
            expr = read(text)
        except SpecError as error:  # a division by zero that can be seen without values
            assert "division by zero" in str(error) or "too large" in str(error)  # noqa: PT017
            return
        got = evaluate(expr, {}, {k: {(): v} for k, v in values.items()}, mpmath)
        assert abs(got - wanted) <= mpmath.mpf(10) ** -25 * (1 + abs(wanted))


def _numbers(text: str) -> list[str]:
    return re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text)


def _as_mpf(part: str) -> str:
    return f"mpf('{part}')" if part[:1].isdigit() else part


# The language of equations

I, J = index("i", 3), index("j", 2)
W, T = Tensor("W", (I, J)), Tensor("t", (I,), kind=Kind.INTEGER)
NAMES = Names(
    {},
    {
        "W": lambda where: W[where],
        "t": lambda where: T[where],
        "e": lambda where: sp.Symbol("e_tensor", real=True),
    },
    {"i": I.extent, "j": J.extent, "n": sp.Symbol("N", integer=True, positive=True)},
)


def equation(text: str) -> sp.Expr:
    return parse_expression(text, NAMES, "here")


def test_contractions() -> None:
    w = W.element
    assert equation("sum(j, W[i,j])") == sp.Sum(w, J.limits)
    assert equation("sum(i, j, W[i,j])") == sp.Sum(w, I.limits, J.limits)
    assert equation("mean(j, W[i,j])") == sp.Sum(w, J.limits) / 2
    assert equation("mean(i, j, W[i,j])") == sp.Sum(w, I.limits, J.limits) / 6
    assert equation("max(j, W[i,j])") == MaxOver(w, J.limits)
    assert equation("argmax(j, W[i,j])") == ArgMaxOver(w, J.limits)
    assert equation("max(W[i,0], W[i,1])").has(sp.Piecewise)


def test_maximum_over_two_indices_is_the_largest_of_all() -> None:
    table = {"W": {(a, b): float((5 * a + 3 * b) % 7) for a in range(3) for b in range(2)}}
    assert evaluate(equation("max(i, j, W[i,j])"), {}, table, math) == max(table["W"].values())


def test_positions() -> None:
    assert equation("W[2-i, j+1]") == W[2 - I.symbol, J.symbol + 1]
    assert equation("W[t[i], 0]") == W[T.element, 0]
    assert equation("W[argmax(i, W[i,j]), 0]") == W[ArgMaxOver(W.element, I.limits), 0]


def test_a_declared_name_wins_over_a_constant() -> None:
    assert equation("e") == sp.Symbol("e_tensor", real=True)
    named_pi = Names({}, {}, {"pi": sp.Integer(3)})
    assert parse_expression("pi", named_pi, "here") == index("pi", 3).symbol


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("W[i/2, j]", "not an integer"), ("W[0.5, j]", "not an integer"), ("W[W[i,j], 0]", "not an integer"),
        ("V[i, j]", "'V'"), ("sum(k, W[i,0])", "sum"), ("sum(j)", "sum"), ("sum(j, i)", None),
        ("sum(i)", "sum"), ("sum(j, i > 0)", "condition"), ("argmax(i, j, W[i,j])", "one index"),
        ("sum(2, W[i,j])", "sum"), ("sum(j, 3, W[i,j])", "not an index"), ("W[i > 0, j]", "condition"),
        ("W[:, j]", "Slice"), ("min(j, W[i,j])", None),
    ],
)  # fmt: skip
def test_wrong_equations(text: str, words: str | None) -> None:
    if words is None:  # these have a meaning: sum_j i, and the smaller of an index and an element
        assert equation(text).free_symbols
        return
    with pytest.raises(SpecError, match=words):
        equation(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum(j)", r"sum\(\) lacks its expression in \"sum\(j\)\"; write sum\(j, expression\)"),
        ("(i, j)", "Tuple is not allowed"),
        ("sum(j, 3, W[i,j])", r"what stands under sum\(\) is not an index"),
        ("sum(j, W, W[i,j])", r"'W' under sum\(\) is not an index"),
        ("argmax(i, j, W[i,j])", r"argmax\(\) over several indices"),
        ("W[i,j] + +(i > 0)", "there is a condition where a number is needed"),
        ("where(W[i,j], 1, 2)", "there is a number where a condition is needed"),
        ("W.x[i]", "Attribute is not allowed"),
        ("(W)(i)[j]", "'Call' in .* is not a tensor"),
        ("clip(i, 0)", r"clip\(\) has 2 arguments.*it takes 3"),
        ("1/(i - i)", "a division by zero"),
        ("summ(j, W[i,j])", r"Did you mean 'sum'\?"),
    ],
)
def test_what_is_wrong_with_an_equation_is_said(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        equation(text)


def test_sums_are_counted_beside_and_in_one_another() -> None:
    assert equation("+".join(["sum(j, W[i,j])"] * MOST_CONTRACTIONS)).has(sp.Sum)
    assert equation("+".join(["sum(j, sum(i, W[i,j]))"] * (MOST_CONTRACTIONS // 2))).has(sp.Sum)
    for text in ("+".join(["sum(j, W[i,j])"] * (MOST_CONTRACTIONS + 1)), "+".join(["max(j, sum(i, W[i,j]))"] * 13)):
        with pytest.raises(SpecError, match=r"there are more than 24 sums and maxima.*give some of them equations"):
            equation(text)


def test_units_only_where_they_make_sense() -> None:
    assert parse_formula("exp(z)/sum(exp(z))", {"z": Z}, units=True) == sp.exp(Z) / unit_sum(sp.exp(Z))
    assert parse_formula("max(z)", {"z": Z}, units=True) == unit_max(Z)
    assert parse_formula("max(z, 0)", {"z": Z}, units=True) == read("relu(z)")
    with pytest.raises(SpecError, match="the function 'sum'"):
        parse_formula("sum(z)", {"z": Z})


# Lines of equations


def test_lines() -> None:
    text = """
    # a comment
    z[n,i] = sum(j,
        W[i,j]*x[n,j])   # over two lines
    L = 2*(z[0,0]
           + 1)
    """
    first, second = split_equations(text, "layer 1")
    assert first[:2] == ("z", ("n", "i"))
    assert "".join(first[2].split()) == "sum(j,W[i,j]*x[n,j])"
    assert first[3] == "layer 1, line 3"
    assert second[:2] == ("L", ())
    assert second[3] == "layer 1, line 5"


@pytest.mark.parametrize(
    "text",
    ["", "  \n# nothing\n", "z", "z[n] 2", "2 = z", "z[n = 2", "__z = 2", "z.y = 2", "z == 2", "z[n] += 2"],
)
def test_wrong_lines(text: str) -> None:
    def read_all() -> None:
        for _, _, formula, place in split_equations(text, "layer 1"):
            parse_formula(formula, {}, place)  # what is left of a line must at least fail as a formula

    with pytest.raises(SpecError, match="layer 1"):
        read_all()


@pytest.mark.parametrize("name", ["", "_a", "1a", "a b", "a.b", "a-b", "ä", "a\n", "__class__", 3, None, "a" * 61])
def test_wrong_names(name: object) -> None:
    with pytest.raises(SpecError, match="is not a name"):
        checked_name(name, "here")


@pytest.mark.parametrize("name", ["a", "W1", "y_hat", "alpha_2", "Z"])
def test_names(name: str) -> None:
    assert checked_name(name, "here") == name

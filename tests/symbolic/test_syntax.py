"""What the whitelist lets through and what it refuses, at the edges of its limits."""

import ast
import math

import pytest

from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.limits import (
    DEEPEST_BRACKETS,
    DEEPEST_FORMULA,
    LARGEST_EXPONENT,
    LARGEST_LITERAL,
    LONGEST_FORMULA,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_EQUATIONS,
    MOST_NODES,
)
from chainrule.symbolic.syntax import (
    checked_name,
    checked_title,
    deepest_bracket,
    in_quotes,
    rough_value,
    split_equations,
    syntax_tree,
)


def balanced(leaves: int) -> str:
    """A sum of so many names, as flat a tree as can be: 2*leaves - 1 names and sums, as many operators and contexts."""
    if leaves == 1:
        return "z"
    return f"({balanced(leaves // 2)}+{balanced(leaves - leaves // 2)})"


def nodes(text: str) -> int:
    return sum(1 for _ in ast.walk(ast.parse(text, mode="eval").body))


def chain(levels: int) -> str:
    """A formula whose tree has so many levels: signs, a name, and what Python says of the name's use."""
    return "-" * (levels - 2) + "z"


def test_the_limit_of_parts_is_met() -> None:
    assert (nodes(f"-{balanced(500)}"), nodes(balanced(501))) == (MOST_NODES, MOST_NODES + 2)


@pytest.mark.parametrize(
    ("fits", "does_not", "message"),
    [
        (f"z**{LARGEST_EXPONENT}", f"z**{LARGEST_EXPONENT + 1}", f"the exponent {LARGEST_EXPONENT + 1} is too large"),
        (f"z**-{LARGEST_EXPONENT}", f"z**-{LARGEST_EXPONENT + 1}", "the exponent -1001 is too large"),
        (f"z + {LARGEST_LITERAL}", f"z + {LARGEST_LITERAL + 1}", "an integer is too large"),
        ("z + 1e308", "z + 1e309", "a number is too large"),
        (chain(DEEPEST_FORMULA), chain(DEEPEST_FORMULA + 1), "nested too deeply"),
        (
            "(" * DEEPEST_BRACKETS + "z" + ")" * DEEPEST_BRACKETS,
            "(" * (DEEPEST_BRACKETS + 1) + "z",
            "more than 100 brac",
        ),
        ("z" * LONGEST_NAME, "z" * (LONGEST_NAME + 1), "a name has 61 letters"),
        ("z" + " " * (LONGEST_FORMULA - 1), "z" + " " * LONGEST_FORMULA, "has 20001 characters; at most 20000"),
        (f"-{balanced(500)}", balanced(501), "has more than 2000 parts"),
        ("z # \u03b1", "\u03b1", "the character GREEK SMALL LETTER ALPHA"),
        ("z if z < 1 else 2", "z if z is 1 else 2", "cannot be read|the comparison Is is not allowed"),
        ("not z < 1", "~z", "the operator Invert is not allowed"),
        ("+z", "z if z in y else 2", "the comparison In is not allowed"),
        ("z/2", "z//2", "the operator FloorDiv is not allowed"),
        ("z**2", "z^2", r"'\^' is not a power"),
        ("f(z)", "f(a=z)", r"f\(\) with named or starred arguments"),
        ("f(z, z)", "f(*z)", r"f\(\) with named or starred arguments"),
        ("f(z)", "f(z)(z)", "a call of Call is not allowed"),
        ("a[i, j]", "a[i:j]", "Slice is not allowed"),
        ("z", "[z]", "List is not allowed"),
        ("z", "lambda: z", "Lambda is not allowed"),
        ("z", "z.real", "Attribute is not allowed"),
        ("1", "True", "True is not a number"),
        ("1", "'a'", "'a' is not a number"),
        ("1", f"'{'a' * 38}'", f"'{'a' * 38}' is not a number"),
        ("1", f"'{'a' * 39}'", f"'{'a' * 35}... is not a number"),
        ("1", "1j", "1j is not a number"),
        ("1", "1 + )", "cannot be read at column 5; write it as in Python"),
        ("1", "", "cannot be read"),
        ("1", "\0", "cannot be read"),
    ],
)
def test_up_to_the_limit_and_not_beyond(fits: str, does_not: str, message: str) -> None:
    assert isinstance(syntax_tree(fits, "here"), ast.expr)
    with pytest.raises(SpecError, match=f"^here: .*({message})"):
        syntax_tree(does_not, "here")


def test_a_formula_is_text() -> None:
    with pytest.raises(SpecError, match="a formula is text, not int; put it in quotes"):
        syntax_tree(3, "here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3", 5.0), ("2 - 3", -1.0), ("2*3", 6.0), ("3/2", 1.5), ("2**3", 8.0), ("-2", -2.0), ("-(2*3)", -6.0),
        ("2.5", 2.5), ("1e308", 1e308), ("9**9**9", math.inf), ("1e200*1e200", math.inf), ("10.0**400", math.inf),
        ("1" + "0" * 309, math.inf), ("-(10.0**400)", -math.inf),
        ("z", None), ("z + 1", None), ("1 + z", None), ("-z", None), ("1/0", None), ("(-8)**0.5", None), ("5//2", None),
        ("+2", None), ("~2", None), ("f(2)", None), ("'a'", None), ("0**-1", None),
    ],
)  # fmt: skip
def test_rough_values(text: str, value: float | None) -> None:
    assert rough_value(ast.parse(text, mode="eval").body) == value


def test_brackets_are_counted_as_they_are_open() -> None:
    assert [deepest_bracket(t) for t in ("", "z", "(z)", "[(z)]", "(z)(z)", "{[()]}", "))((", ")(")] == [
        0, 0, 1, 2, 1, 3, 0, 0,
    ]  # fmt: skip


def test_quotes_are_short_and_plain() -> None:
    assert in_quotes("a  b\n c") == '"a b c"'
    assert in_quotes("a\x1b[2J\u202e") == '"a?[2J?"'
    assert in_quotes("z" * 60) == f'"{"z" * 60}"'
    assert in_quotes("z" * 61) == f'"{"z" * 57}..."'
    assert in_quotes(" " * 200 + "z") == '""'


@pytest.mark.parametrize("name", ["a", "W1", "my_name", "z" * LONGEST_NAME])
def test_names_that_may_be_symbols(name: str) -> None:
    assert checked_name(name, "here") == name


@pytest.mark.parametrize(
    "name", ["", "1a", "_a", "a b", "a\n", "\u03b1", "a.b", "z" * (LONGEST_NAME + 1), 3, None, "é"]
)
def test_names_that_may_not(name: object) -> None:
    with pytest.raises(SpecError, match=r"here: .* is not a name; begin with a letter"):
        checked_name(name, "here")


@pytest.mark.parametrize("title", ["a", "_a", "leaky_relu", "GELU 2.0 + x-y", "z" * LONGEST_NAME])
def test_titles(title: str) -> None:
    assert checked_title(title, "loss") == title


@pytest.mark.parametrize("title", ["", "1a", "a\n", '"""', "a#", "z" * (LONGEST_NAME + 1), 3, ["a"]])
def test_titles_that_may_not_stand_in_a_comment(title: object) -> None:
    with pytest.raises(SpecError, match=r"loss: the name .* is not allowed"):
        checked_title(title, "loss")


def test_equations_line_by_line() -> None:
    text = "\n# first\nm = 1  # one\n\nh[n, j] = sum(j,\n   W[i,\n j])  # goes on\n z[n,] = 2*(x[n] == 1)\n"
    assert split_equations(text, "layer 2") == [
        ("m", (), "1", "layer 2, line 3"),
        ("h", ("n", "j"), "sum(j, W[i, j])", "layer 2, line 5"),
        ("z", ("n",), "2*(x[n] == 1)", "layer 2, line 8"),
    ]


def test_a_bracket_too_many_does_not_join_lines() -> None:
    assert [line[3] for line in split_equations("a = 1)\nb = 2", "e")] == ["e, line 1", "e, line 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (3, "layer: equations are text, not int; put them in quotes"),
        ("", "layer: there is no equation"),
        ("# a = 1", "there is no equation"),
        ("a", 'layer, line 1: "a" is not an equation'),
        ("\na == 1", 'layer, line 2: "a == 1" is not an equation'),
        ("a.b = 1", "is not an equation"),
        ("1a = 1", "is not an equation"),
        ("a[n = 1", "is not an equation"),
        ("a[n] b = 1", "is not an equation"),
        (f"{'z' * 61} = 1", "is not a name"),
        ("a=1\n" * (MOST_EQUATIONS + 1), "there are 2001 equations; at most 2000"),
        ("#" * (LONGEST_TEXT + 1), "have 100001 characters; at most 100000"),
    ],
)
def test_what_is_no_equation(text: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        split_equations(text, "layer")  # type: ignore[arg-type]


def test_as_many_equations_as_there_may_be() -> None:
    assert len(split_equations("a=1\n" * MOST_EQUATIONS, "layer")) == MOST_EQUATIONS
    assert len(split_equations("a = 1" + " " * (LONGEST_TEXT - 5), "layer")) == 1

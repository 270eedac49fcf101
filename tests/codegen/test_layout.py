"""Long lines are broken where Python allows it, and mean the same."""

import ast

import pytest

from chainrule.codegen.layout import LINE_LENGTH, wrapped

TERM = "abs(first_long_name[n, i] - second_long_name[n, i])"
LONG = [
    f"total += {TERM} + softplus(real(-2)*{TERM}) - real(0.6931471805599453)",
    f"dz_of_layer[n, i] = ({TERM} if {TERM} >= real(0.5) else real(0))*({TERM} + {TERM})",
    f"z[n - first, i] = {TERM}*{TERM}/({TERM} + real(1))  # (12)",
    "gemm(False, True, last - first, 128, 64, " + ", ".join(f"a_rather_long_name_{k}" for k in range(6)) + ")",
    "gemm(False, True, last - first, 128, 64, " + ", ".join(f"a_rather_long_name_{k}" for k in range(6)) + ")  # (3)",
    f"x = sigmoid({TERM} + {TERM}) + f({TERM})",
    f"x = -{TERM} - ({TERM} - {TERM})",
]


@pytest.mark.parametrize("line", LONG)
@pytest.mark.parametrize("indent", ["", "        "])
def test_long_lines_mean_the_same(line: str, indent: str) -> None:
    lines = wrapped(indent + line)
    assert len(lines) > 1
    assert all(len(each) <= LINE_LENGTH + 4 for each in lines)
    assert all(each.startswith(indent) for each in lines)
    joined = "\n".join(each[len(indent) :] for each in lines)
    assert ast.dump(ast.parse(joined)) == ast.dump(ast.parse(line))
    comment = line.partition("  # ")[2]
    assert joined.count("#") == (1 if comment else 0)
    assert joined.endswith(comment)


def test_short_lines_stay() -> None:
    for line in ("x = 1", "    gemm(a, b)", "for n in range(first, last):", "", "x = 1  # (3)"):
        assert wrapped(line) == [line]


def test_what_cannot_be_broken_stays_whole() -> None:
    line = "if " + " and ".join([TERM + " > 0"] * 4) + ":"
    assert len(line) > LINE_LENGTH
    assert wrapped(line) == [line]

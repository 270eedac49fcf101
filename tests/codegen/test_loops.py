"""Which loops an equation becomes; that they compute the right numbers is shown in test_generate.py."""

import re
import textwrap

import pytest

import chainrule as cr
from chainrule.codegen.expression import Names
from chainrule.codegen.loops import Scope, after_product, arrays_of, block_lines, scalar_names
from chainrule.codegen.plan import Step, product_of
from chainrule.symbolic.language import SAMPLE_INDEX, SAMPLES, Index

from ..symbolic.programs import written
from .plain_python import program_source

SIZES = {"i": 3, "j": 2, "k": 4, "s": 5, "p": 2}


def lines(text: str, tensors: dict[str, str], leading: str | None = "n", offsets: dict[str, str] | None = None) -> str:
    program = written(SIZES, {k: f"input {v}" for k, v in tensors.items()}, textwrap.dedent(text))
    steps = [Step(k, e, product_of(e, program)) for k, e in enumerate(program.equations, start=1)]
    index: Index | None = SAMPLE_INDEX if leading == "n" else None
    if leading not in (None, "n"):
        index = next(i for t in program.by_name.values() for i in t.indices if i.name == leading)
    names = Names(offsets or {}, {}, {SAMPLES: "samples"})
    return "\n".join(block_lines(steps, Scope(program, names, index)))


def expect(got: str, wanted: str) -> None:
    assert got == textwrap.dedent(wanted).strip()


def test_elementwise_equations_share_their_loops() -> None:
    expect(
        lines("a[n,i] = z[n,i]*c[i]\nb[n,i] = a[n,i] + c[i]\nd[n] = b[n,0]", {"z": "n i", "c": "i"}),
        """
        for n in range(first, last):
            for i in range(3):
                a[n, i] = c[i]*z[n, i]  # (1)
                b[n, i] = a[n, i] + c[i]  # (2)
            d[n] = b[n, 0]  # (3)
        """,
    )


def test_what_reads_another_element_gets_loops_of_its_own() -> None:
    expect(
        lines("a[n,i] = tanh(z[n,i])\nb[n,k] = a[n,0]", {"z": "n i"}),
        """
        _z = flat(z, first*3)
        _a = flat(a, first*3)
        for _k in range((last - first)*3):
            _a[_k] = tanh(_z[_k])  # (1)
        for n in range(first, last):
            for k in range(4):
                b[n, k] = a[n, 0]  # (2)
        """,
    )


def test_transposed_read_is_not_fused() -> None:
    got = lines("a[n,i,k] = z[n,i,k]*c[i]\nb[n,i,k] = a[n,i,i]", {"z": "n i k", "c": "i"})
    assert got.count("for i in range(3)") == 2


def test_sum_accumulates_where_its_own_index_is_innermost() -> None:
    expect(
        lines("s[n] = 2*sum(j, x[n,j]**2) + c[0]", {"x": "n j", "c": "i"}),
        """
        for n in range(first, last):
            total = real(0)
            for j in range(2):
                total += x[n, j]*x[n, j]
            s[n] = real(2)*total + c[0]  # (1)
        """,
    )


def test_sum_spreads_where_a_free_index_is_innermost() -> None:
    expect(
        lines("z[n,i] = sum(j, W[j,i]**2) + b[i]", {"W": "j i", "x": "n j", "b": "i"}),
        """
        for n in range(first, last):
            for i in range(3):
                z[n, i] = real(0)
            for j in range(2):
                for i in range(3):
                    z[n, i] += W[j, i]*W[j, i]
            for i in range(3):
                z[n, i] = b[i] + z[n, i]  # (1)
        """,
    )


def test_sum_to_a_single_number_is_a_double() -> None:
    got = lines("L = sum(n, l[n])", {"l": "n"}, leading=None)
    expect(
        got,
        """
        total = 0.0
        for n in range(samples):
            total += l[n]
        L[0] = real(total)  # (1)
        """,
    )


def test_condition_around_a_term_is_a_condition_around_the_statement() -> None:
    got = lines("z[n,i] = sum(p, where(i + p < 3, w[p]*x[n,i+p], 0))", {"w": "p", "x": "n i"})
    assert "if i + p < 3:" in got
    assert "else" not in got
    got = lines("z[n,i] = sum(p, where(i + p < 3, w[p]*x[n,i+p], 1))", {"w": "p", "x": "n i"})
    assert "w[p]*x[n, i + p] if" in got.replace("x[n, i + p]*w[p]", "w[p]*x[n, i + p]")


def test_maximum_keeps_nan_and_says_where() -> None:
    got = lines("m[n] = max(i, x[n,i])\np[n] = argmax(i, x[n,i])", {"x": "n i"})
    assert "largest = real(-np.inf)" in got
    assert "value != value" in got
    assert "p[n] = position  # (2)" in got
    assert "m[n] = largest  # (1)" in got


def test_product_is_one_call_and_what_follows_it() -> None:
    expect(
        lines("z[n,i] = sum(j, W[i,j]*x[n,j]) + b[i]\na[n,i] = tanh(z[n,i])", {"W": "i j", "x": "n j", "b": "i"}),
        """
        affine(False, True, last - first, 3, 2, x, first*2, 2, W, 0, 2, z, first*3, 3, b)  # (1)
        _z = flat(z, first*3)
        _a = flat(a, first*3)
        for _k in range((last - first)*3):
            _a[_k] = tanh(_z[_k])  # (2)
        """,
    )


def test_product_and_more_than_a_row() -> None:
    expect(
        lines("z[n,i] = sum(j, W[i,j]*x[n,j]) + 2*b[i]", {"W": "i j", "x": "n j", "b": "i"}),
        """
        gemm(False, True, last - first, 3, 2, x, first*2, 2, W, 0, 2, z, first*3, 3)  # (1)
        for n in range(first, last):
            for i in range(3):
                z[n, i] = real(2)*b[i] + z[n, i]  # (1)
        """,
    )


def test_function_of_short_rows_runs_over_the_block() -> None:
    expect(
        lines("m[n] = max(i, x[n,i])\ne[n,i] = exp(x[n,i] - m[n])", {"x": "n i"}),
        """
        for n in range(first, last):
            largest = real(-np.inf)
            for i in range(3):
                largest = maximum(largest, x[n, i])
            m[n] = largest  # (1)
            _m = m[n]
            for i in range(3):
                e[n, i] = x[n, i] - _m  # (2)
        _e = flat(e, first*3)
        for _k in range((last - first)*3):
            _e[_k] = exp(_e[_k])  # (2)
        """,
    )


def test_product_of_each_sample() -> None:
    got = lines("e[n,s,k] = sum(j, q[n,s,j]*h[n,k,j])", {"q": "n s j", "h": "n k j"})
    expect(
        got,
        """
        for n in range(first, last):
            gemm(False, True, 5, 4, 2, q, n*10, 2, h, n*8, 2, e, n*20, 4)  # (1)
        """,
    )


def test_gradient_block_begins_at_first() -> None:
    """The result holds the rows first..last-1 only, so it begins at 0; what is read begins at `first`."""
    got = lines("dW[i,j] = sum(n, dz[n,i]*x[n,j])", {"dz": "n i", "x": "n j"}, "i", {"dW": "first"})
    expect(got, "gemm(True, False, last - first, 2, samples, dz, first, 3, x, 0, 2, dW, 0, 2)  # (1)")
    got = lines("dW[i,j] = sum(n, dz[n,i]*x[n,j])", {"dz": "n i", "x": "n j"}, "i")
    expect(got, "gemm(True, False, last - first, 2, samples, dz, first, 3, x, 0, 2, dW, first*2, 2)  # (1)")
    got = lines("db[i] = sum(n, dz[n,i])", {"dz": "n i"}, "i", {"db": "first"})
    assert "db[i - first]" in got
    assert "range(first, last)" in got


def test_look_up_is_a_statement() -> None:
    """The delta of a look-up is no loop over the table."""
    program = written(
        {"v": 4, "i": 3, "s": 5},
        {"token": "input integer n s", "E": "parameter v i", "t": "target n i"},
        "h[n,s,i] = E[token[n,s],i]\nL = sum(n, s, i, h[n,s,i]*t[n,i])**2",
    )
    text = program_source(program)
    body = text[text.index("dE = view(") :].split("return\n")[0]
    assert "v = token[n, s]" in body
    assert "if first <= v < last:" in body
    assert "dE[v - first, i] += " in body
    assert "==" not in body


def test_positions_and_extents_are_integers() -> None:
    got = lines("z[n,i] = sum(p, w[p]*x[n,2-i]) + i", {"w": "p", "x": "n i"})
    assert re.search(r"x\[n, (2 - i|-i \+ 2|-1\*i \+ 2)\]", got)
    assert "real(i)" in got


def test_after_product() -> None:
    program = written(
        SIZES, {"W": "input i j", "x": "input n j"}, "z[n,i] = 2*sum(j, W[i,j]*x[n,j])\na[n,i] = sum(j, W[i,j]*x[n,j])"
    )
    first, second = program.equations
    finished = after_product(first)
    assert finished is not None
    assert str(finished) == "z[n,i] = 2 z[n,i]"
    assert after_product(second) is None


def test_arrays_and_single_numbers() -> None:
    program = written(SIZES, {"x": "input n j", "c": "input", "d": "input"}, "s = d*2\nz[n,j] = x[n,j]*c + s")
    steps = [Step(k, e, None) for k, e in enumerate(program.equations)]
    assert arrays_of(steps) == ["d", "s", "c", "x", "z"]
    assert dict(scalar_names(program, arrays_of(steps), ["s", "z"])) == {"d": "d_value", "c": "c_value"}


@pytest.mark.parametrize("units", [1, 7])
def test_loops_are_over_numbers(units: int) -> None:
    source = cr.compile(cr.Model(2, [cr.Dense(units, "tanh"), cr.Dense(1)])).source
    count = "last - first" if units == 1 else f"(last - first)*{units}"
    assert f"for _k in range({count}):" in source
    assert "U_1" not in source.split('"""\n', 1)[1]

"""One source of truth: the lines that cite a printed equation compute it, and no other lines do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.codegen.generate import model_source
from chainrule.codegen.request import Request
from chainrule.symbolic.derive import Derived

from ..symbolic.programs import PROGRAMS, derived_example
from .one_source import wrong_numbers
from .plain_python import program_source

MODELS = {
    "classifier": cr.Model(3, [cr.Dense(3, "relu"), cr.Dense(2, "softmax")], "cross_entropy", [cr.L2(0.005)]),
    "gelu": cr.Model(3, [cr.Dense(2, "gelu"), cr.Dense(2)], "huber"),
}
EXAMPLES = (
    "attention", "causal_attention", "fixed_position", "largest_of_all", "matrix_square", "outer_product",
    "picked_classes", "position_of_the_largest", "reversed_and_shifted", "several_contractions", "shared_by_branches",
    "weights_only",
)  # fmt: skip


@cache
def source_of(name: str) -> tuple[str, Derived]:
    if name in PROGRAMS:
        derived = derived_example(name)
        return program_source(PROGRAMS[name](), ("gradients",), derived=derived), derived
    model = MODELS[name]
    source = model_source(model, Request(model.default_variant, None, "float64", ("gradients",)), "")
    return source, model.derivation().derived


@pytest.mark.parametrize("name", [*MODELS, *EXAMPLES])
def test_cited_lines_compute_the_printed_equation(name: str, tmp_path: Path) -> None:
    source, derived = source_of(name)
    assert wrong_numbers(source, derived, tmp_path) == []


WRONG_LINES = {
    2: ("maximum(real(0), _z1[_k])", "maximum(real(1), _z1[_k])"),
    3: ("zo, first*2, 2, bo)", "zo, first*2, 2, b1)"),
    6: ("total += exp_zo[n, j]", "total += exp_zo[n, 0]"),
    7: ("exp_zo[n, i]/_y_hat_sum", "-exp_zo[n, i]/_y_hat_sum"),
    14: ("dx1, first*3, 3)", "dx1, 0, 3)"),
    16: ("*W1[i, j] + dW1", "*W1[j, i] + dW1"),
    19: ("dbo[i - first] += dzo[n, i]", "dbo[i - first] += dzo[0, i]"),
}


def test_a_wrong_line_is_found_by_its_number(tmp_path: Path) -> None:
    source, derived = source_of("classifier")
    for right, wrong in WRONG_LINES.values():
        assert right in source
        source = source.replace(right, wrong)
    found = wrong_numbers(source, derived, tmp_path)
    assert [said.split()[0] for said in found] == [f"({number})" for number in WRONG_LINES]


def test_a_line_that_cites_another_equation_is_found(tmp_path: Path) -> None:
    source, derived = source_of("classifier")
    found = wrong_numbers(source.replace("_x1[_k])*_dx1[_k]  # (15)", "").replace("# (6)", "# (7)"), derived, tmp_path)
    assert "y_hat_sum is made by lines that cite [7]" in found[0]

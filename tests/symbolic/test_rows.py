"""Frozen mappings and checked hyperparameters."""

import copy
import pickle
import re
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.rows import (
    ANY,
    COUNT,
    FLAG,
    FRACTION,
    POSITIVE,
    SHARE,
    WHOLE,
    FrozenMapping,
    Range,
    checked_number,
    exact,
    read_formula,
    real_symbols,
)


def test_a_frozen_mapping_is_a_value() -> None:
    given = {"b": 1.0, "a": 2.0}
    frozen = FrozenMapping(given)
    given["c"] = 3.0
    assert frozen == {"b": 1.0, "a": 2.0} == FrozenMapping({"a": 2.0, "b": 1.0})
    assert list(frozen) == ["b", "a"]
    assert hash(frozen) == hash(FrozenMapping({"a": 2.0, "b": 1.0}))
    assert pickle.loads(pickle.dumps(frozen)) == copy.deepcopy(frozen) == frozen
    with pytest.raises(TypeError):
        frozen["a"] = 1.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "within"),
    [
        (1, ANY),
        (-2.5, ANY),
        (Fraction(1, 2), FRACTION),
        (0.0, FRACTION),
        (1.0, SHARE),
        (3, COUNT),
        (0, WHOLE),
    ],
)
def test_numbers_inside(value: Any, within: Range) -> None:
    checked = checked_number(value, within, "here")
    assert type(checked) is float
    assert checked == value


@pytest.mark.parametrize(
    ("value", "within"),
    [
        ("1", ANY),
        (None, ANY),
        (1j, ANY),
        (True, ANY),
        (0.0, POSITIVE),
        (1.0, FRACTION),
        (0.5, COUNT),
        (2, FLAG),
    ],
)
def test_numbers_outside(value: Any, within: Range) -> None:
    with pytest.raises(SpecError, match=f"here: .* is not {re.escape(within.words)}"):
        checked_number(value, within, "here")


def test_flags() -> None:
    assert checked_number(1, FLAG, "here") is True
    assert checked_number(False, FLAG, "here") is False


@pytest.mark.parametrize(("value", "rational"), [(0.1, (1, 10)), (1e-8, (1, 10**8)), (True, (1, 1)), (0.0, (0, 1))])
def test_what_was_written_becomes_exact(value: float, rational: tuple[int, int]) -> None:
    assert exact(value) == sp.Rational(*rational)


@pytest.mark.parametrize("formula", [[1], None, sp.true, float("nan"), True, "x < 1", sp.Symbol("y")])
def test_what_is_no_formula(formula: Any) -> None:
    with pytest.raises(SpecError):
        read_formula(formula, real_symbols(("x",)), "here")

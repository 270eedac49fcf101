"""Laws over the table of initialisers."""

import copy
import math
import pickle
from typing import Any

import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.initialisers import (
    INITIALISERS,
    RANGES,
    RELU_FAMILY,
    Distribution,
    default_for,
    initialiser,
)

# The variance of a weight, times the fan that it is divided by.
VARIANCES = {
    "glorot_uniform": (2.0, 7), "glorot_normal": (2.0, 7), "he_uniform": (2.0, 4), "he_normal": (2.0, 4),
    "lecun_uniform": (1.0, 4), "lecun_normal": (1.0, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_follows_the_paper(name: str) -> None:
    row, (factor, fan) = INITIALISERS[name], VARIANCES[name]
    scale = row.scale_of(fan_in=4, fan_out=3)
    variance = scale**2 / 3 if row.distribution is Distribution.UNIFORM else scale**2
    assert variance == pytest.approx(factor / fan, rel=1e-14)


@pytest.mark.parametrize("name", INITIALISERS)
def test_an_initialiser_is_a_value(name: str) -> None:
    row = initialiser(name)
    assert row.scale_of(3, 5) >= 0
    assert pickle.loads(pickle.dumps(row)) == copy.deepcopy(row) == row == initialiser(row)
    assert hash(row) == hash(initialiser(name))
    assert str(row.distribution) in str(row)


def test_every_hyperparameter_has_a_range() -> None:
    assert {h for row in INITIALISERS.values() for h in row.hyperparameters} == {*RANGES}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_default_fits_the_activation(name: str) -> None:
    expected = "he_normal" if name in RELU_FAMILY else "glorot_uniform"
    assert default_for(name).name == ("lecun_normal" if name == "selu" else expected)


def test_the_relu_family_is_in_the_table() -> None:
    assert {*ACTIVATIONS} >= RELU_FAMILY


def test_own_formula_by_text_and_by_sympy() -> None:
    fan_in, k = sp.symbols("fan_in k", positive=True)
    assert initialiser("sqrt(k/fan_in)", "normal", k=2.0).scale_of(8, 1) == 0.5
    assert initialiser(sp.sqrt(k / fan_in), "normal", k=2.0).scale_of(8, 1) == pytest.approx(0.5)
    assert initialiser(0.25, "constant").scale_of(8, 1) == 0.25


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("glorot", {}, "Did you mean 'glorot_"),
        ("normal", {"sd": 0.1}, "Did you mean 'std'"),
        ("normal", {"std": -0.1}, "std: -0.1 is not a number of at least 0"),
        ("constant", {"value": math.nan}, "value: nan"),
        ("1/fan_inn", {}, "Did you mean 'fan_in'"),
        ("1/fan_in", {"distribution": "cauchy"}, "'cauchy' is not known"),
        ("1/fan_in", {"fan_out": 2.0}, "'fan_out' has a meaning"),
    ],
)
def test_wrong_values_are_refused(name: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        initialiser(name, **given)


@pytest.mark.parametrize("formula", ["-fan_in", "1/(fan_in - 3)", "sqrt(2 - fan_in)"])
def test_a_scale_that_is_none_is_refused(formula: str) -> None:
    with pytest.raises(SpecError, match="the scale is"):
        initialiser(formula).scale_of(3, 3)

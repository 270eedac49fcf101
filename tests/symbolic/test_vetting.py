"""What no spec may hold is refused before anything is made of it."""

import math
from typing import Any

import pytest

from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.limits import (
    DEEPEST_TABLE,
    LARGEST_EXTENT,
    LARGEST_INTEGER,
    LONGEST_KEY,
    LONGEST_TEXT,
    MOST_LAYERS,
    MOST_VALUES,
)
from chainrule.symbolic.vetting import vetted


def nested(levels: int) -> Any:
    """Lists in one another, so many."""
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("fits", "does_not", "message"),
    [
        ({"run": LARGEST_INTEGER}, {"run": LARGEST_INTEGER + 1}, "run = an integer of 64 bits; at most 92233720"),
        ({"run": -LARGEST_INTEGER}, {"run": -LARGEST_INTEGER - 1}, "an integer of 64 bits"),
        ({"model": {"inputs": LARGEST_EXTENT}}, {"model": {"inputs": LARGEST_EXTENT + 1}}, "model: inputs = 100000001"),
        ({"training": {"units": 10**9}}, {"layer": [{"units": 10**9}]}, "layer 1: units = 1000000000; at most"),
        ({"run": 1e308}, {"run": math.inf}, "run = inf; give a finite number"),
        ({"run": 0.0}, {"run": {"a": math.nan}}, "run: a = nan; give a finite number"),
        ({"run": "a" * LONGEST_TEXT}, {"run": "a" * (LONGEST_TEXT + 1)}, "it has 100001 characters; at most 100000"),
        ({"run": "a\nb\tc"}, {"run": "a\x1b[2J"}, "holds a character that cannot be printed"),
        ({"run": [None, True]}, {"run": [b"a"]}, "give text in quotes, a number, true or false"),
        ({"a" * LONGEST_KEY: 1}, {"a" * (LONGEST_KEY + 1): 1}, "keys are short words"),
        ({"a": 1}, {1: 1}, "the key 1 is not known"),
        ({"a": 1}, {"a": {"b\n": 1}}, ": a: the key .* is not known"),
        ({"a": nested(DEEPEST_TABLE)}, {"a": nested(DEEPEST_TABLE + 1)}, "nested too deeply; at most 16"),
        ({"layer": [{}] * MOST_LAYERS}, {"layer": [{}] * (MOST_LAYERS + 1)}, "there are 501 layers; at most 500"),
        ({"a": [1] * (MOST_VALUES - 1)}, {"a": [1] * MOST_VALUES}, "there are more than 100000 values"),
        ({"a": 1}, {"a": [1] * (MOST_VALUES + 1)}, "a has 100001 values; at most 100000"),
        ({"model": {"loss": "y"}}, {"model": {"loss": "9**9**9 + y"}}, "the exponent 387420489 is too large"),
    ],
)
def test_up_to_the_limit_and_not_beyond(fits: dict[str, Any], does_not: dict[str, Any], message: str) -> None:
    vetted(fits, "net.toml")
    with pytest.raises(SpecError, match=f"^net.toml.*{message}"):
        vetted(does_not, "net.toml")


def test_more_weights_than_there_may_be() -> None:
    layers = [{"type": "dense", "units": LARGEST_EXTENT}, {"type": "dense", "units": LARGEST_EXTENT}]
    with pytest.raises(SpecError, match=r"net.toml: the dense layers have \d+ weights; at most"):
        vetted({"model": {"inputs": 2}, "layer": layers}, "net.toml")

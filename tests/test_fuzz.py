"""A short run of fuzz.py, and that it finds what it looks for."""

import random
import time
from typing import Any

import pytest

from chainrule.symbolic.errors import InternalError, SpecError

from . import fuzz


@pytest.mark.parametrize(("what", "inputs"), [("formula", 150), ("spec", 60), ("checkpoint", 40), ("data", 150)])
def test_nothing_but_errors_of_ours(what: str, inputs: int) -> None:
    seen, findings = fuzz.fuzz(what, inputs, seed=1)
    assert findings == []
    assert seen["read"] > 0, "an input that nobody reads proves nothing"
    assert seen["SpecError"] + seen["DataError"] > 0


def bug(_: Any) -> None:
    raise KeyError("x")


def ours(_: Any) -> None:
    raise SpecError("the value is wrong")


def not_ours_to_say(_: Any) -> None:
    raise InternalError("please report")


def endless(_: Any) -> None:
    until = time.process_time() + 60
    while time.process_time() < until:
        try:
            sum(range(1000))
        except Exception:  # noqa: BLE001  what reads may do so
            continue


@pytest.mark.parametrize(
    ("read", "wanted"),
    [(bug, "KeyError"), (not_ours_to_say, "InternalError"), (endless, "too long"), (ours, "SpecError")],
)
def test_a_finding_is_found(read: fuzz.Read, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    result, where = fuzz.outcome(read, "input")
    assert result == wanted
    assert bool(where) is (read is not ours)


def test_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "MEMORY", -1)
    assert fuzz.outcome(lambda _: None, "input")[0] == "too much memory"


def test_an_input_can_be_made_again() -> None:
    made = [fuzz.make_formula(random.Random(f"formula 0 {k}")) for k in range(50)]
    assert made == [fuzz.make_formula(random.Random(f"formula 0 {k}")) for k in range(50)]
    assert len(set(made)) > 40

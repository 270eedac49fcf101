"""Whole kernels are compared with differences and with 50 digits; what is wrong is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import chainrule as cr
from chainrule.codegen import loops, rule
from chainrule.runtime import kernels
from chainrule.runtime.differences import at_point, point_of
from chainrule.runtime.stepped import noise_at
from chainrule.runtime.support import uniform
from chainrule.runtime.whole import wholes

NET = cr.Model(2, [cr.Dense(3, "relu"), cr.Dropout(0.3), cr.Dense(2, "softmax")], "cross_entropy")


def test_a_sound_model_holds_as_a_whole() -> None:
    found = wholes(NET, cr.Adam(1e-3))
    assert len(found) == 5
    assert not [w.fault for w in found if w.fault]
    assert all(0 < w.error < w.bound / 10 for w in found)


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("real(0.001)", "real(0.002)", "(u6) v = "),
        ("alpha*m", "-alpha*m", "(u7) w = "),
        ("0.999", "0.998", "(u2) c2 = "),
    ],
)
def test_a_wrong_line_of_the_update_is_named(
    monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, named: str
) -> None:
    source = rule.source
    monkeypatch.setattr(rule, "source", lambda *arguments: source(*arguments).replace(right, wrong))
    model = cr.Model(1, [cr.Dense(1)])
    faults = [w.fault for w in wholes(model, cr.Adam(1e-3)) if w.fault]
    assert len(faults) == 2
    assert all(fault.startswith(named) for fault in faults), faults


def test_a_block_that_begins_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets are 0 in the first block, so that there have to be more."""
    monkeypatch.setattr(kernels, "key_of", lambda *_: None)  # no source is remembered
    offset = loops._offset
    monkeypatch.setattr(loops, "_offset", lambda *arguments: offset(*arguments).replace("first*", "0*first*"))
    faults = [w.fault for w in wholes(cr.Model(2, [cr.Dense(2)]), None)]
    assert all(faults), faults


def test_a_wrong_entry_of_a_gradient_is_named() -> None:
    rng = np.random.default_rng(0)
    point = point_of(NET, rng)
    wrong = point.gradients["W1"].copy()
    wrong[2, 1] = 1.01 * wrong[2, 1] + 1e-3
    assert not at_point(point, rng).fault
    assert at_point(replace(point, gradients={**point.gradients, "W1": wrong}), rng).fault.startswith("dW1[2,1] is ")


def test_noise_is_the_number_of_its_key_and_position() -> None:
    plain = getattr(uniform, "py_func", uniform)
    with np.errstate(over="ignore"):
        for key, position in ((0, 0), (7, 3), (2**40 + 1, 10**6)):
            assert noise_at(key, position) == plain(key, position)

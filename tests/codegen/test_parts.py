"""Sums over samples that are made in parts, by blocks of samples, are what they are when made at once."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import chainrule as cr
from chainrule.codegen.generate import model_source
from chainrule.codegen.grammar import check_source
from chainrule.codegen.request import Request, Update
from chainrule.runtime.machine import rows_of_part
from chainrule.runtime.training import Training
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.optimisers import optimiser
from chainrule.symbolic.prove import random_point

from ..strategies import Case, cases
from .plain_python import PythonMachine

SAMPLES, ROWS = 5, 2  # three blocks, the last one smaller
MOMENTUM = optimiser("momentum")  # its steps are as far from one another as the gradients are
CLOSE = 1e-12
Arrays = dict[str, np.ndarray]


def machine(model: Model, folder: Path, variant: Variant, update: Update, in_parts: bool) -> PythonMachine:
    source = model_source(model, Request(variant, update, "float64", ("train",), in_parts), "")
    made = PythonMachine(source, folder)
    made.rows = lambda routine, batch: ROWS  # type: ignore[method-assign,assignment]
    return made


def point(model: Model, variant: Variant) -> tuple[Arrays, Arrays]:
    """Parameters and data at random."""
    program = model.program(variant)
    values = random_point(program, SAMPLES, random.Random(1))
    arrays = {
        t.name: np.array([v if isinstance(v, int) else float(v) for _, v in sorted(values[t.name].items())]).reshape(
            [program.size(e, SAMPLES) for e in t.shape]
        )
        for t in program.tensors
    }
    return {p.name: arrays.pop(p.name) for p in program.parameters}, arrays


def after_a_step(made: PythonMachine, parameters: Arrays, data: Arrays, backwards: bool = False) -> Arrays:
    """Parameters, states and loss."""
    made.backwards = backwards
    training = Training(made, parameters, SAMPLES)
    loss = training.run(data, np.arange(SAMPLES)[::-1].copy(), np.full(1, 0.1), np.zeros(1, np.int64))
    return {**training.parameters, **training.states, "": loss}


def assert_same_step(model: Model, variant: Variant, update: Update, folder: Path) -> bool:
    """The same step at once, in parts, and with the tasks of each phase in the other order; whether it had parts."""
    parameters, data = point(model, variant)
    at_once, parted = (machine(model, folder, variant, update, in_parts) for in_parts in (False, True))
    wanted = after_a_step(at_once, parameters, data)
    got, other = (after_a_step(parted, parameters, data, backwards) for backwards in (False, True))
    for name, array in wanted.items():
        largest = max(1.0, float(np.abs(array).max()))
        assert np.abs(got[name] - array).max() <= CLOSE * largest, name
        assert got[name].tobytes() == other[name].tobytes(), f"{name} depends on the order of tasks"
    return "in_parts" in parted.kernels["work"]["train"]


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(cases(dropout=False))
def test_a_step_in_parts_is_the_step(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    assert_same_step(case.model, case.variant, Update(MOMENTUM), tmp_path_factory.mktemp("parts"))


ACROSS = cr.Equations("m[j] = mean(n, x[n,j])\nh[n,j] = g[j]*(x[n,j] - m[j])", "h", {}, {"g": ["j"]}, {"g": 1.0})
SEQUENCE = cr.Equations(  # the same weights at every place
    "h[n,s,i] = tanh(sum(j, V[i,j]*x[n,s,j]) + c)\nm[n,i] = mean(s, h[n,s,i])", "m", {"i": 3},
    {"V": ["i", "j"], "c": []}, {"c": 0.1}, incoming=["s", "j"],
)  # fmt: skip
LOOK_UP = cr.Equations("h[n,i] = sum(j, E[x[n,j],i])", "h", {"i": 2, "v": 5}, {"E": ["v", "i"]})
HIDDEN, OUT = cr.Dense(3, "tanh"), cr.Dense(2)


@pytest.mark.parametrize(
    ("model", "update", "in_parts"),
    [
        (cr.Model(2, [HIDDEN, OUT]), Update(MOMENTUM), True),
        (cr.Model(2, [HIDDEN, cr.Dropout(0.5), OUT]), Update(MOMENTUM), True),
        (cr.Model(2, [HIDDEN, OUT], penalties=[cr.L2(0.1), cr.L1(0.1)]), Update(MOMENTUM), True),
        (cr.Model(2, [HIDDEN, OUT]), Update(MOMENTUM, clip_norm=0.01), True),
        (cr.Model(2, [HIDDEN, OUT]), Update(MOMENTUM, clip_value=0.01), True),
        (cr.Model((4, 2), [SEQUENCE, OUT]), Update(MOMENTUM), True),
        (cr.Model(3, [LOOK_UP, OUT], tokens=5), Update(MOMENTUM), True),
        (cr.Model(2, [HIDDEN, cr.Dense(3, "softmax")], "cross_entropy"), Update(MOMENTUM), True),
        (cr.Model(2, [ACROSS, OUT]), Update(MOMENTUM), False),  # samples meet before the end
    ],
)
def test_which_steps_are_made_in_parts(model: Model, update: Update, in_parts: bool, tmp_path: Path) -> None:
    assert assert_same_step(model, model.default_variant, update, tmp_path) == in_parts


def test_weighted_samples_meet_in_the_sum_of_their_weights(tmp_path: Path) -> None:
    model = cr.Model(2, [OUT])
    assert not assert_same_step(model, Variant(False, True), Update(MOMENTUM), tmp_path)


def test_so_many_parameters_that_parts_of_them_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.codegen import plan

    model = cr.Model(2, [OUT])
    request = Request(model.default_variant, Update(MOMENTUM), "float64", ("train",), True)
    monkeypatch.setattr(plan, "MOST_IN_PARTS", 7)  # 4 weights, 2 biases, the loss
    assert "def summed" in model_source(model, request, "")
    monkeypatch.setattr(plan, "MOST_IN_PARTS", 6)
    text = model_source(model, request, "")
    assert text == model_source(model, replace(request, in_parts=False), "")


def test_they_are_what_the_emitter_writes() -> None:
    from chainrule.codegen.generate import import_source

    model = cr.Model(2, [HIDDEN, OUT], penalties=[cr.L2(0.1)])
    request = Request(model.default_variant, Update(MOMENTUM, clip_norm=1.0), "float64", in_parts=True)
    check_source(model_source(model, request, import_source("float64")))


@pytest.mark.parametrize(
    ("samples", "rows"), [(256, 128), (257, 72), (512, 128), (1000, 256), (1024, 256), (4096, 256), (5000, 160)]
)
def test_rows_of_a_part(samples: int, rows: int) -> None:
    assert rows_of_part(samples) == rows

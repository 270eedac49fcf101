"""Blocks of samples that only rows use lie apart, so that no core fetches what another one is writing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.codegen.arrays import GAP
from chainrule.codegen.request import Update
from chainrule.runtime.given import initial_parameters, parameter_arrays
from chainrule.runtime.kernels import Kernels
from chainrule.runtime.training import Training

RNG = np.random.default_rng(3)
MODEL = cr.Model(3, [cr.Dense(24, "tanh"), cr.Dense(20, "softplus"), cr.Dense(3, "softmax")], "cross_entropy")
WITHIN = {"z1", "z2", "dx1", "dx2", "zo", "y_hat"}  # what no other phase reads


def trained(samples: int) -> tuple[Training, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A step of a training, the parameters before it, and its samples."""
    machine = Kernels(MODEL, "float64", Update(cr.SGD(0.1)), keeps=True).machine()
    parameters = {k: np.asarray(a) for k, a in initial_parameters(machine, 1).items()}
    given = {"x": RNG.normal(size=(samples, 3)), "y": RNG.integers(0, 3, samples)}
    training = Training(machine, parameters, samples)
    training.run(given, np.arange(samples), np.full(1, 0.1), np.zeros(1, np.int64))
    return training, parameters, given


@pytest.mark.parametrize("samples", [1, 16, 40, 128, 250])
def test_a_step_leaves_what_gradients_compute(samples: int) -> None:
    """In the order of the samples, whatever lies between their blocks."""
    training, parameters, given = trained(samples)
    machine, found = training.machine, training.of_batch()
    workspace = machine.workspace("gradients", samples)
    table = machine.table("gradients", {**workspace, **parameter_arrays(machine, parameters), **given})
    machine.run("gradients", table, samples, samples)
    shapes = machine.kernels["workspace"]["train"]
    assert {name for name, (_, shape) in shapes.items() if shape[0] == "apart"} >= WITHIN
    for name in (n for n, (_, shape) in shapes.items() if shape[0] in ("N", "apart")):
        assert found[name].shape == workspace[name].shape
        assert found[name] == pytest.approx(workspace[name], rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("rule", [cr.SGD(0.1), cr.Adam(0.01)], ids=["sgd", "adam"])
def test_what_is_written_over_is_not_missed(rule: Any) -> None:
    """Kernels that train write over what they do not read again; others keep it, to be looked at.

    Bits may differ: a product that is not written may become part of a fused multiply-add.
    """
    layers = [cr.Dense(6, "tanh"), cr.Dropout(0.2), cr.Dense(5, "relu"), cr.Dense(5, "gelu"), cr.Dense(4, "sin")]
    model = cr.Model(3, [*layers, cr.Dense(3, "softmax")], loss="cross_entropy", penalties=[cr.L2(0.1)])
    given = {"x": RNG.normal(size=(70, 3)), "y": RNG.integers(0, 3, 70)}
    found = []
    for keeps in (False, True):
        machine = Kernels(model, "float64", Update(rule, clip_norm=1.0), keeps=keeps).machine()
        training = Training(machine, initial_parameters(machine, 1), 32)
        losses = [training.run(given, np.arange(70), np.full(3, 0.1), np.array([key])) for key in range(3)]
        assert training.forgets is not keeps
        found.append([*losses, *training.parameters.values()])
    for over, kept in zip(*found, strict=True):
        np.testing.assert_allclose(over, kept, rtol=1e-11, atol=1e-13)


def test_no_two_blocks_lie_side_by_side() -> None:
    training, _, _ = trained(250)
    rows, shapes = training.machine.rows("train", 250), training.machine.kernels["workspace"]["train"]
    assert rows < 250
    spans = []
    for name in (n for n, (_, shape) in shapes.items() if shape[0] == "apart"):
        array = training.batch_arrays[name]
        end, row = array.ctypes.data + array.nbytes, array[:1].nbytes
        for k, first in enumerate(range(0, 250, rows)):
            begin = array.ctypes.data + first * row + k * GAP
            spans.append((begin, begin + min(rows, 250 - first) * row))
            assert spans[-1][1] + GAP <= end
    assert all(begin - end >= GAP for (_, end), (begin, _) in pairwise(sorted(spans)))


def test_what_a_task_reads_lies_together() -> None:
    shapes = Kernels(MODEL, "float64", Update(cr.SGD(0.1))).machine().kernels["workspace"]["train"]
    assert {shapes[name][1][0] for name in ("x1", "x2", "dz1", "dz2", "dzo", "l")} == {"N"}

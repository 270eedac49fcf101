"""Blocks of samples that only rows use lie apart, so that no core fetches what another one is writing."""

from __future__ import annotations

from itertools import pairwise

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
    machine = Kernels(MODEL, "float64", Update(cr.SGD(0.1))).machine()
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

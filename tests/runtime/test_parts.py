"""Training with large batches: blocks of samples make parts of the gradients, and forget what they computed."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.codegen import parts
from chainrule.codegen.arrays import GAP
from chainrule.runtime import kernels, machine, training
from chainrule.runtime.orders import order_of
from chainrule.runtime.trainer import Trainer
from chainrule.runtime.whole import small, wholes

from .bits import bits, use

RNG = np.random.default_rng(3)
X = RNG.normal(size=(1100, 6))
Y = np.tanh(X[:, :1] - X[:, 1:2])
MODEL = cr.Model(6, [cr.Dense(9, "tanh"), cr.Dropout(0.2), cr.Dense(1)], penalties=[cr.L2(0.01)])
WIDE = cr.Model(600, [cr.Dense(512, "relu"), cr.Dense(1)])  # more weights than parts are made of
BATCH = 600  # the last batch has 500 samples


def trainer(threads: int = 1, **more: object) -> Trainer:
    made = Trainer(MODEL, cr.Adam(0.01), BATCH, "float64", seed=4, threads=threads, **more)  # type: ignore[arg-type]
    use(made, threads)
    return made


@pytest.fixture(scope="module")
def alone() -> Trainer:
    made = trainer()
    made.fit(X, Y, epochs=3, verbose=0)
    return made


def test_any_number_of_threads_trains_to_the_same_bits(alone: Trainer) -> None:
    assert "def summed" in alone.kernels.source
    training = alone._training
    assert training is not None
    assert training.machine.phases("train", BATCH).most_blocks > 2
    for threads in (2, 3, 8):
        other = trainer(threads)
        other.fit(X, Y, epochs=3, verbose=0)
        assert bits(other) == bits(alone), threads
    turns = trainer(8)
    use(turns, 1, 5, 2, 8, 3)
    turns.fit(X, Y, epochs=3, verbose=0)
    assert bits(turns) == bits(alone)


def test_it_is_the_training_without_parts(alone: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LARGE_BATCH", BATCH + 1)
    at_once = trainer()
    at_once.fit(X, Y, epochs=3, verbose=0)
    assert "def summed" not in at_once.kernels.source
    assert at_once.history["loss"] == pytest.approx(alone.history["loss"], rel=1e-9)
    for name, array in at_once.parameters.items():
        assert array == pytest.approx(alone.parameters[name], rel=1e-6, abs=1e-9)


def test_of_a_batch_only_blocks_are_kept(alone: Trainer) -> None:
    training = alone._training
    assert training is not None
    rows = training.machine.rows("train", BATCH)
    assert rows < BATCH / 3
    for array in (training.batch_arrays[name] for name in ("x1", "dz1", "l")):
        row = array[:1].nbytes
        assert rows * row + GAP <= array.nbytes < (rows + 1) * row + GAP
    assert len(training.batch_arrays["@parts"]) == -(-BATCH // rows)


def test_where_arrays_lie_changes_no_bit(alone: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also side by side, line by line: what is written beyond the end of an array is in the next one."""
    space, end = np.empty(2**23, np.uint8), 0

    def beside(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        nonlocal end
        begin = end + -(space.ctypes.data + end) % 64
        end = begin + int(np.prod(shape)) * np.dtype(dtype).itemsize
        return space[begin:end].view(dtype).reshape(shape)

    for module in (machine, training):
        monkeypatch.setattr(module, "aligned", beside)
    for threads in (1, 2):
        other = trainer(threads)
        other.fit(X, Y, epochs=3, verbose=0)
        assert end > 0
        assert bits(other) == bits(alone), threads


@pytest.mark.parametrize("threads", [1, 2])
def test_the_step_that_fails_names_its_tensor(threads: int) -> None:
    """Which the kernels that fail have forgotten: in the first block of the second batch."""
    model, x = cr.Model(6, [cr.Dense(3, "sqrt(z**2)"), cr.Dense(1)]), X.copy()
    made = Trainer(model, cr.SGD(1e-3), BATCH, "float64", seed=4, threads=threads)
    use(made, threads)
    order, _ = order_of(4, 0, len(x))
    x[order[BATCH + 3]] = 1e200
    stopped = made.fit(x, Y, epochs=1, verbose=0).stopped
    assert stopped.startswith("the loss is not finite: epoch 1, step 2 of 2: ")
    assert " is inf at [3" in stopped or " is nan at [3" in stopped
    assert "x reaches 1e+200" in stopped


def test_a_step_in_parts_is_held_against_50_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cr.Model(2, [cr.Dense(2, "tanh"), cr.Dense(1)])
    found = wholes(model, cr.Adam(1e-3), batch_size=kernels.LARGE_BATCH)
    assert [w.fault for w in found] == [""] * 5
    assert small(model, cr.Adam(1e-3), kernels.LARGE_BATCH).in_parts
    assert not small(WIDE, cr.Adam(1e-3), kernels.LARGE_BATCH).in_parts  # at its own extents it makes none
    place = parts.Parts.sum_of_an_array
    monkeypatch.setattr(
        parts.Parts, "sum_of_an_array", lambda *given: place(*given).replace("(table, ", "(table, 1 + ")
    )
    faults = [w.fault for w in wholes(model, cr.Adam(1e-3), batch_size=kernels.LARGE_BATCH)]
    assert sum(map(bool, faults)) == 2, faults

"""What is drawn has the distribution that the row states."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.runtime import given
from chainrule.symbolic.initialisers import INITIALISERS, Distribution, initialiser


def drawn(name: str, shape: tuple[int, ...], seed: int, real: type = np.float64, **values: float) -> NDArray[Any]:
    row = initialiser(name, **values)
    scale = row.scale_of(math.prod(shape[1:]), shape[0])
    made: NDArray[Any] = given.draw(str(row.distribution.value), scale, shape, np.random.default_rng(seed), real)
    return made


@pytest.mark.parametrize("name", INITIALISERS)
def test_drawn_values_have_the_stated_distribution(name: str) -> None:
    row = INITIALISERS[name]
    values = drawn(name, (80, 120), 7)
    scale = row.scale_of(120, 80)
    assert values.shape == (80, 120)
    assert values.dtype == np.float64
    assert values.flags.c_contiguous
    if row.distribution is Distribution.CONSTANT:
        assert (values == scale).all()
        return
    spread = {"normal": scale, "uniform": scale / np.sqrt(3), "orthogonal": scale / np.sqrt(120)}[row.distribution]
    assert abs(values.mean()) < 0.05 * spread
    assert values.std() == pytest.approx(spread, rel=0.02)
    if row.distribution is Distribution.UNIFORM:
        assert 0.99 * scale < np.abs(values).max() <= scale
    if row.distribution is Distribution.NORMAL:
        assert np.abs(values).max() > 3 * scale, "the normal distribution is not truncated"


@pytest.mark.parametrize("name", INITIALISERS)
def test_the_seed_decides(name: str) -> None:
    assert (drawn(name, (3, 4), 1) == drawn(name, (3, 4), 1)).all()


@pytest.mark.parametrize("name", ["normal", "uniform"])
@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 50])
def test_drawn_in_pieces_as_at_once(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(name, (size, 3), 2)
    monkeypatch.setattr(given, "DRAWN_AT_ONCE", 7)
    assert (drawn(name, (size, 3), 2) == whole).all()
    single = drawn(name, (size, 3), 2, np.float32)
    assert single.dtype == np.float32
    assert (single == whole.astype(np.float32)).all()


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3), (1, 6), (6,)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    W = drawn("orthogonal", shape, 3, gain=2.0)
    assert W.shape == shape
    W = W.reshape(shape[0], -1)
    small = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-13)

"""What is drawn has the distribution that the row states."""

import numpy as np
import pytest

from chainrule.runtime.initialise import draw
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.initialisers import INITIALISERS, Distribution, initialiser


@pytest.mark.parametrize("name", INITIALISERS)
def test_drawn_values_have_the_stated_distribution(name: str) -> None:
    row = INITIALISERS[name]
    values = draw(row, (80, 120), 120, 80, np.random.default_rng(7))
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
    first, again = (draw(INITIALISERS[name], (3, 4), 4, 3, np.random.default_rng(1)) for _ in range(2))
    assert (first == again).all()


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3), (1, 6)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    W = draw(initialiser("orthogonal", gain=2.0), shape, 1, 1, np.random.default_rng(3))
    assert W.shape == shape
    W = W.reshape(shape[0], -1)
    small = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-13)


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(SpecError, match="not a matrix"):
        draw(initialiser("orthogonal"), (5,), 1, 5, np.random.default_rng(0))

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime.samples import divided, inputs, samples, share_or_arrays

MODEL = cr.Model(2, [cr.Dense(1)])
X, Y = np.arange(20.0).reshape(10, 2), np.arange(10.0)[:, None]


def test_arrays_in_the_type_that_computes() -> None:
    data = samples(MODEL, "float32", X.tolist(), Y[:, 0].astype(int), [1] * 10)
    assert (data.x.dtype, data.y.dtype, data.y.shape, len(data)) == (np.float32, np.float32, (10, 1), 10)
    assert data.weight is not None
    assert data.weight.dtype == np.float64
    assert np.shares_memory(inputs(MODEL, "float64", X), X)  # what fits is not copied


def test_parts_are_disjoint_complete_and_in_order() -> None:
    data = samples(MODEL, "float64", X, Y)
    rest, aside = divided(data, 0.25, seed=1)
    assert aside is not None
    assert (len(rest), len(aside)) == (8, 2)
    assert sorted([*rest.y[:, 0], *aside.y[:, 0]]) == list(range(10))
    assert (np.diff(rest.y[:, 0]) > 0).all()
    assert (rest.x[:, 0] == 2 * rest.y[:, 0]).all()
    again = divided(data, 0.25, seed=1)[1]
    assert again is not None
    assert (again.y == aside.y).all()
    others = [divided(data, 0.25, seed=s)[1] for s in range(2, 8)]
    assert any(o is not None and (o.y != aside.y).any() for o in others)


def test_a_small_share_is_none() -> None:
    data = samples(MODEL, "float64", X, Y)
    assert divided(data, 0.0, 0) == (data, None)
    assert divided(data, 0.04, 0) == (data, None)
    with pytest.raises(cr.DataError, match=r"validation = 0\.99 of 10 samples leaves none to train with"):
        divided(data, 0.99, 0)


def test_weights_follow_their_samples() -> None:
    weight = np.arange(10.0)
    for part in divided(samples(MODEL, "float64", X, Y, weight), 0.3, 0):
        assert part is not None
        assert part.weight is not None
        assert (part.weight == part.y[:, 0]).all()


def test_a_share_or_arrays() -> None:
    assert share_or_arrays(None) is None
    assert share_or_arrays(np.float32(0.5)) == 0.5
    assert share_or_arrays(0) == 0.0
    assert share_or_arrays([X, Y]) == [X, Y]
    with pytest.raises(cr.SpecError, match="validation is of the type str; give a share"):
        share_or_arrays("x.csv")

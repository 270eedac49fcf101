"""Draw the first values of parameters, as `symbolic/initialisers.py` states them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..symbolic.errors import SpecError
from ..symbolic.initialisers import Distribution, Initialiser


def draw(
    initialiser: Initialiser,
    shape: tuple[int, ...],
    fan_in: int,
    fan_out: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Values of this shape from the initialiser's distribution.

    constant     scale everywhere
    normal       normal with mean 0 and standard deviation scale; not truncated
    uniform      uniform in [-scale, scale)
    orthogonal   scale times a matrix (first index: rows, all others: columns) whose rows, or columns where
                 there are fewer of them, are orthonormal; uniform among all of those

    Raises SpecError where the scale has no value, and for orthogonal with fewer than two indices.

    >>> from chainrule.symbolic.initialisers import initialiser
    >>> Q = draw(initialiser("orthogonal"), (2, 3), 3, 2, np.random.default_rng(0))
    >>> bool(np.allclose(Q @ Q.T, np.eye(2)))
    True
    """
    scale = initialiser.scale_of(fan_in, fan_out)
    match initialiser.distribution:
        case Distribution.CONSTANT:
            return np.full(shape, scale)
        case Distribution.NORMAL:
            return rng.standard_normal(shape) * scale
        case Distribution.UNIFORM:
            return rng.uniform(-1.0, 1.0, shape) * scale
        case Distribution.ORTHOGONAL:
            return _orthogonal(shape, rng) * scale


def _orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    if len(shape) < 2:
        raise SpecError(f"initialiser 'orthogonal': the shape {shape} is not a matrix; use another initialiser")
    rows, columns = shape[0], math.prod(shape[1:])
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    Q, R = np.linalg.qr(tall)
    # with the diagonal of R made positive, Q is uniform (Mezzadri 2007, section 5)
    Q = Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)
    return np.ascontiguousarray(Q if rows >= columns else Q.T).reshape(shape)

"""What an update changes is fetched while its gradient is computed: it changes no bit of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.codegen import emit
from chainrule.runtime import kernels
from chainrule.runtime.products import DEEP_TO_FETCH

from .bits import bits, use

RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 40))
Y = np.tanh(X[:, :1] - X[:, 1:2])
BATCH = 128  # the last batch has 44 samples
MODEL = cr.Model(40, [cr.Dense(130, "tanh"), cr.Dense(70, "relu"), cr.Dense(1)])


def trained(rule: Any, dtype: str, threads: int) -> cr.Trainer:
    made = cr.Trainer(MODEL, rule, BATCH, dtype, seed=1, threads=threads)
    use(made, threads)
    made.fit(X, Y, epochs=2, verbose=0)
    return made


RULES = {"sgd": cr.SGD(0.1), "momentum": cr.SGD(0.1, momentum=0.9), "adam": cr.Adam(0.01)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_without_it(rule: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BATCH > DEEP_TO_FETCH
    plain = trained(RULES[rule], dtype, 1)
    assert "gemm_fetching(" not in plain.kernels.source.partition("\n\n\n")[2]
    monkeypatch.setattr(kernels, "key_of", lambda *_: None)  # no source is remembered
    monkeypatch.setattr(emit, "MANY_ELEMENTS", 1)
    fetching = trained(RULES[rule], dtype, 1)
    assert fetching.kernels.source.partition("\n\n\n")[2].count("gemm_fetching(") == 3
    assert bits(fetching) == bits(plain)
    assert bits(trained(RULES[rule], dtype, 2)) == bits(plain)


def test_it_is_done_for_large_gradients_that_are_updated_at_once() -> None:
    wide = cr.Model(600, [cr.Dense(512, "relu"), cr.Dense(1)])
    made = cr.Trainer(wide, cr.Adam(0.01)).kernels
    source, slots = made.source, made.machine().kernels["slots"]
    places = ", ".join(f"table[{slots[name]}] + first*2400" for name in ("W1", "W1@m", "W1@v"))
    assert places in " ".join(source.split())
    assert source.partition("\n\n\n")[2].count("gemm_fetching(") == 1
    clipped = cr.Trainer(wide, cr.Adam(0.01), clip_norm=1.0).kernels.source
    assert "gemm_fetching(" not in clipped.partition("\n\n\n")[2]

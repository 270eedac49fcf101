"""The table of a model."""

import math

import pytest

from chainrule.runtime.summary import rows, summary
from chainrule.symbolic.activations import Activation
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations
from chainrule.symbolic.model import Model
from chainrule.symbolic.penalties import L2

OWN = Equations("h[n,i] = tanh(sum(j, V[i,j]*x[n,j]) + c[i])", "h", {"i": 5}, {"V": ["i", "j"], "c": ["i"]})


def test_every_kind_of_layer() -> None:
    layers = [
        OWN,
        Dropout(0.5),
        Dense(3, Activation("prelu", per_unit=True)),
        Activate("tanh"),
        Dense(2, "softmax"),
    ]
    model = Model(4, layers, "cross_entropy", penalties=[L2()])
    table = summary(model)
    assert table.splitlines() == [
        "layer  what               output shape  parameters    count",
        "-----  -----------------  ------------  ------------  -----",
        "       input              4",
        "    1  equations -> h     5             V1 c1            25",
        "    2  dropout, rate 0.5  5",
        "    3  dense, prelu       3             W2 b2 alpha2     21",
        "    4  tanh               3",
        "    5  dense, softmax     2             Wo bo             8",
        "-----  -----------------  ------------  ------------  -----",
        "                                        total            54",
        "loss cross_entropy, penalty l2",
    ]


@pytest.mark.parametrize(
    "model",
    [
        Model([2, 3], [Dense(4)]),
        Model(3, [Dense(1)], loss="(y - y_hat)**4"),
        Model(3, [OWN, Dense(2, "z/(1 + exp(-z)) + 0.125*sin(z)*cos(z)*tanh(z)")]),
        Model(3, [Dense(2), Dropout(0.1)]),
    ],
)
def test_counts_are_those_of_the_program(model: Model) -> None:
    program = model.program()
    sizes = [math.prod(program.size(e) for e in p.shape) for p in program.parameters]
    assert sum(row.count for row in rows(model)) == sum(sizes)
    assert rows(model)[-1].shape == model.outputs
    assert max(map(len, summary(model).splitlines())) < 100

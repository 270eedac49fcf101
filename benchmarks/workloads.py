"""What is measured: models, their data, their first weights and the first order of samples, the same for everybody."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = list[tuple[Array, Array]]  # of each layer: W (units, inputs) and b (units,)

SEED: Final = 0
SAMPLES: Final = 8192
LARGE: Final = 10**7  # products of a weight and an input


@dataclass(frozen=True)
class Workload:
    """A dense network, and how it is trained or asked.

    name         names it on the command line
    sizes        features, then the units of each layer
    activation   of the hidden layers
    output       of the last layer: identity, softmax or sigmoid
    loss         squared_error, cross_entropy (integer classes) or binary_cross_entropy (against its own inputs)
    batch        samples in a step; divides `samples`
    optimiser    sgd or adam
    lr           its learning rate
    samples      in an epoch
    asked        samples in a call of predict, if that is what is measured; 0: training is
    dtype        float32 or float64
    aim          how many times as fast as the best peer it is meant to be, where that was said
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    output: str
    loss: str
    batch: int
    optimiser: str = "adam"
    lr: float = 1e-3
    samples: int = SAMPLES
    asked: int = 0
    dtype: str = "float32"
    aim: float | None = None

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, units) of each layer."""
        return tuple(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def activations(self) -> tuple[str, ...]:
        return (self.activation,) * (len(self.sizes) - 2) + (self.output,)

    @property
    def unit(self) -> str:
        """What one time is the time of."""
        return "call" if self.asked else "step"

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.samples // self.batch

    @property
    def large(self) -> bool:
        """Whether the arithmetic of a step or call takes far more time than starting it."""
        weights = sum(inputs * units for inputs, units in self.layers)
        return weights * (self.asked or self.batch) > LARGE

    @property
    def title(self) -> str:
        """The model in a line.

        >>> WORKLOADS["classifier"].title
        '64-128-10 relu, cross entropy, batch 32, adam'
        """
        if self.asked:
            return f"{'-'.join(map(str, self.sizes))} {self.activation}, predict {self.asked:,}"
        words = (self.loss.replace("_", " "), f"batch {self.batch}", self.optimiser)
        dtype = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{'-'.join(map(str, self.sizes))} {self.activation}, {', '.join(words)}{dtype}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Workload:
        """What `to_dict` gave.

        >>> all(Workload.from_dict(w.to_dict()) == w for w in WORKLOADS.values())
        True
        """
        return cls(**{**given, "sizes": tuple(given["sizes"])})


def _table(*rows: Workload) -> dict[str, Workload]:
    return {row.name: row for row in rows}


SQUARED: Final = ("identity", "squared_error")
CLASSES: Final = ("softmax", "cross_entropy")
CLASSIFIER: Final = Workload("classifier", (64, 128, 10), "relu", *CLASSES, batch=32, aim=3.5)

WORKLOADS: Final = _table(
    Workload("tiny", (2, 16, 1), "tanh", *SQUARED, batch=32, optimiser="sgd", lr=0.01, aim=12),
    Workload("regression", (13, 64, 64, 1), "relu", *SQUARED, batch=64, aim=3.5),
    Workload("field", (2, 32, 32, 32, 1), "tanh", *SQUARED, batch=128, aim=3.5),
    CLASSIFIER,
    Workload("medium", (784, 256, 128, 10), "relu", *CLASSES, batch=128, aim=1.3),
    Workload("large", (784, 1024, 1024, 10), "relu", *CLASSES, batch=256, samples=6144, aim=1.1),
    replace(CLASSIFIER, name="predict-one", asked=1, aim=5),
    replace(CLASSIFIER, name="predict-many", asked=100_000, aim=1.3),
)

OTHERS: Final = _table(
    Workload("odd", (17, 33, 5), "sigmoid", *CLASSES, batch=37, samples=37 * 220),
    Workload("gelu", (64, 128, 128, 10), "gelu", *CLASSES, batch=64),
    Workload("softplus", (32, 64, 64, 1), "softplus", *SQUARED, batch=64),
    Workload("wide-output", (32, 64, 1000), "relu", *CLASSES, batch=64),
    Workload("auto-encoder", (784, 64, 784), "sigmoid", "sigmoid", "binary_cross_entropy", batch=64, samples=4096),
    Workload("deep", (16,) * 9 + (1,), "tanh", *SQUARED, batch=64),
    replace(CLASSIFIER, name="float64", dtype="float64", aim=None),
    replace(CLASSIFIER, name="large-batch", batch=4096, samples=4096 * 8, aim=None),
)

ALL: Final = {**WORKLOADS, **OTHERS}


def data(workload: Workload) -> tuple[Array, Array]:
    """Inputs and targets: drawn, and answered by a random network, so that there is something to learn."""
    rng = np.random.default_rng([SEED, *workload.sizes])
    x = rng.standard_normal((workload.samples, workload.sizes[0]))
    if workload.loss == "binary_cross_entropy":
        x = 1 / (1 + np.exp(-x))
        return x.astype(workload.dtype), x.astype(workload.dtype)
    hidden = np.tanh(x @ rng.standard_normal((workload.sizes[0], 16)) / math.sqrt(workload.sizes[0]))
    answers = (hidden @ rng.standard_normal((16, workload.sizes[-1]))).round(6)  # the same behind every BLAS
    y = answers.argmax(axis=1) if workload.loss == "cross_entropy" else answers.astype(workload.dtype)
    return x.astype(workload.dtype), y


def question(workload: Workload) -> Array:
    """The inputs of a call of predict."""
    rng = np.random.default_rng([SEED, 2])
    return rng.standard_normal((workload.asked, workload.sizes[0])).astype(workload.dtype)


def first_weights(workload: Workload) -> Weights:
    """Normal weights that keep the variance; biases that are not zero, so that a lost bias shows."""
    rng = np.random.default_rng([SEED, 1])
    gain = 2.0 if workload.activation in ("relu", "gelu", "softplus") else 1.0
    return [
        (
            (rng.standard_normal((units, inputs)) * math.sqrt(gain / inputs)).astype(workload.dtype),
            (rng.standard_normal(units) * 0.01).astype(workload.dtype),
        )
        for inputs, units in workload.layers
    ]


def order(workload: Workload, epoch: int) -> NDArray[np.int64]:
    """The order of the samples in an epoch: of the first one, which is compared, that of a `Trainer` with this seed.

    Later ones are NumPy's, which peers draw for each epoch, as a user of theirs would: 0.1 ms for 8,192 samples.
    """
    if epoch:
        return np.random.default_rng([SEED, epoch]).permutation(workload.samples)
    digest = blake2b(f"{SEED} {epoch}".encode(), digest_size=13).digest()
    places = np.arange(workload.samples, dtype=np.uint64)
    z: Array = int.from_bytes(digest[:8], "little") + places * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z ^= z >> 31
    chosen: list[int] = []
    for place, number in enumerate(z.tolist()):
        j = number * (place + 1) >> 64
        chosen.append(place)
        chosen[place], chosen[j] = chosen[j], place
    return np.array(chosen)

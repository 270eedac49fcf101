"""Dense nets in float64 with HIPS autograd: written by themselves, so that the kernels have something to agree with.

Conventions as in PyTorch: elementwise losses are means over the outputs and the samples, the cross-entropy and the
divergence are sums over the classes and means over the samples; weights make it sum(w l)/sum(w).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.special import erf, logsumexp

Arrays = dict[str, np.ndarray]


def sigmoid(z: Any) -> Any:
    return anp.exp(-anp.logaddexp(0, -z))


def softplus(z: Any) -> Any:
    return anp.logaddexp(0, z)


def log_softmax(z: Any) -> Any:
    return z - logsumexp(z, axis=-1, keepdims=True)


def expm1_below(z: Any) -> Any:
    return anp.expm1(anp.where(z > 0, 0, z))


def hard_sigmoid(z: Any) -> Any:
    return anp.where(z <= -3, 0, anp.where(z >= 3, 1, z / 6 + 0.5))


ACTIVATIONS: Mapping[str, Callable[..., Any]] = {
    "identity": lambda z: z,
    "relu": lambda z: anp.where(z > 0, z, 0),
    "leaky_relu": lambda z: anp.where(z > 0, z, 0.01 * z),
    "prelu": lambda z, alpha: anp.where(z > 0, z, alpha * z),
    "relu6": lambda z: anp.where(z <= 0, 0, anp.where(z >= 6, 6, z)),
    "elu": lambda z: anp.where(z > 0, z, expm1_below(z)),
    "selu": lambda z: 1.0507009873554805 * anp.where(z > 0, z, 1.6732632423543772 * expm1_below(z)),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / 2**0.5)),
    "gelu_tanh": lambda z: 0.5 * z * (1 + anp.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3))),
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": anp.tanh,
    "hard_tanh": lambda z: anp.where(z <= -1, -1, anp.where(z >= 1, 1, z)),
    "softplus": softplus,
    "softsign": lambda z: z / (1 + anp.abs(z)),
    "silu": lambda z: z * sigmoid(z),
    "swish": lambda z, beta: z * sigmoid(beta * z),
    "hard_swish": lambda z: z * hard_sigmoid(z),
    "mish": lambda z: z * anp.tanh(softplus(z)),
    "sin": anp.sin,
    "exp": anp.exp,
    "gaussian": lambda z: anp.exp(-(z**2)),
    "softmax": lambda z: anp.exp(log_softmax(z)),
    "log_softmax": log_softmax,
}
TRAINABLE = {"prelu": "alpha", "swish": "beta"}


def gaussian_nll(y: Any, outputs: Any) -> Any:
    mean, log_variance = outputs[..., : y.shape[-1]], outputs[..., y.shape[-1] :]
    return anp.mean((log_variance + (y - mean) ** 2 / anp.exp(log_variance)) / 2, -1)


def kl_divergence(y: Any, p: Any) -> Any:
    positive = np.where(y > 0, y, 1)
    return anp.sum(anp.where(y > 0, y * (np.log(positive) - anp.log(p)), 0), -1)


LOSSES: Mapping[str, Callable[[Any, Any], Any]] = {
    "squared_error": lambda y, p: anp.mean((y - p) ** 2, -1),
    "absolute_error": lambda y, p: anp.mean(anp.abs(y - p), -1),
    "huber": lambda y, p: anp.mean(anp.where(anp.abs(y - p) <= 1, (y - p) ** 2 / 2, anp.abs(y - p) - 0.5), -1),
    "log_cosh": lambda y, p: anp.mean(anp.logaddexp(y - p, p - y) - np.log(2), -1),
    "quantile": lambda y, p: anp.mean(anp.where(y >= p, 0.5, -0.5) * (y - p), -1),
    "cross_entropy": lambda y, p: -anp.sum(y * anp.log(p), -1),
    "binary_cross_entropy": lambda y, p: -anp.mean(y * anp.log(p) + (1 - y) * anp.log(1 - p), -1),
    "hinge": lambda y, p: anp.mean(anp.where(y * p < 1, 1 - y * p, 0), -1),
    "squared_hinge": lambda y, p: anp.mean(anp.where(y * p < 1, 1 - y * p, 0) ** 2, -1),
    "poisson": lambda y, p: anp.mean(p - y * anp.log(p), -1),
    "gaussian_nll": gaussian_nll,
    "kl_divergence": kl_divergence,
}
POSITIVE = ("binary_cross_entropy", "cross_entropy", "kl_divergence", "poisson")  # what they take the logarithm of


def predicted(layers: Sequence[str], parameters: Mapping[str, Any], x: Any) -> Any:
    """Dense layers by their activations; "tanh+sin" is a dense layer with tanh and a layer of its own with sin."""
    a, number = x, 0
    for k, names in enumerate(layers, start=1):
        label = "o" if k == len(layers) else str(k)
        a = anp.dot(a, parameters[f"W{label}"].T) + parameters[f"b{label}"]
        for at, name in enumerate(names.split("+")):
            number += 1
            ending = f"_{number}" if at else label
            own = (parameters[f"{TRAINABLE[name]}{ending}"],) if name in TRAINABLE else ()
            a = ACTIVATIONS[name](a, *own)
    return a


def mean_over_samples(losses: Any, weight: np.ndarray | None) -> Any:
    return anp.mean(losses) if weight is None else anp.sum(weight * losses) / np.sum(weight)


def loss_and_gradients(
    layers: Sequence[str], loss: str, parameters: Arrays, x: np.ndarray, y: np.ndarray,
    weight: np.ndarray | None = None, l2: float = 0.0, l1: float = 0.0,
) -> tuple[float, Arrays]:  # fmt: skip
    def total(p: Any) -> Any:
        data = mean_over_samples(LOSSES[loss](y, predicted(layers, p, x)), weight)
        weights = [p[name] for name in p if name.startswith("W")]
        return data + sum(l2 / 2 * anp.sum(W**2) + l1 * anp.sum(anp.abs(W)) for W in weights)

    value, gradients = value_and_grad(total)({k: np.asarray(v, float) for k, v in parameters.items()})
    return float(value), gradients


def targets(loss: str, samples: int, outputs: int, rng: np.random.Generator) -> np.ndarray:
    """Random targets of the kind that a loss takes."""
    shape = (samples, outputs)
    if loss in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0], shape)
    if loss in ("cross_entropy", "kl_divergence"):
        soft = rng.random(shape) * (rng.random(shape) > 0.3)
        soft[:, 0] += 0.1
        return soft / soft.sum(axis=1, keepdims=True)
    if loss == "binary_cross_entropy":
        return rng.random(shape).round(1)
    if loss == "poisson":
        return rng.integers(0, 4, shape).astype(float)
    if loss == "gaussian_nll":
        return rng.normal(size=(samples, outputs // 2))
    return rng.normal(size=shape)

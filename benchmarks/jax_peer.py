"""JAX: a whole epoch in one jit, `lax.scan` over its batches, the state donated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from .contestant import Build, Variants
from .workloads import Array, Weights, Workload, order

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

ACTIVATIONS: dict[str, Any] = {
    "identity": lambda z: z,
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "gelu": partial(nn.gelu, approximate=False),
    "softmax": nn.softmax,
}


def logits(workload: Workload, params: Any, x: Any) -> Any:
    """The network up to the activation of its last layer."""
    for k, (weights, bias) in enumerate(params):
        z = x @ weights + bias
        x = ACTIVATIONS[workload.activation](z) if k < len(params) - 1 else z
    return x


def loss(workload: Workload, params: Any, x: Any, y: Any) -> Any:
    z = logits(workload, params, x)
    if workload.loss == "squared_error":
        return jnp.mean((z - y) ** 2)
    if workload.loss == "binary_cross_entropy":
        return jnp.mean(nn.softplus(z) - y * z)
    # A comparison instead of a look-up: the gradient of a look-up is a scatter, which is slow on a CPU.
    chosen = jnp.arange(z.shape[-1]) == y[:, None]
    return jnp.mean(nn.logsumexp(z, axis=-1) - jnp.sum(jnp.where(chosen, z, 0), axis=-1))


def step(workload: Workload, state: Any, x: Any, y: Any) -> Any:
    params, m, v, t = state
    value, grads = jax.value_and_grad(partial(loss, workload))(params, x, y)
    if workload.optimiser == "sgd":
        return (jax.tree.map(lambda w, g: w - workload.lr * g, params, grads), m, v, t), value
    t = t + 1
    c1, c2 = 1 - BETA1**t, 1 - BETA2**t
    alpha, eps = workload.lr * jnp.sqrt(c2) / c1, EPS * jnp.sqrt(c2)
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    params = jax.tree.map(lambda w, m, v: w - alpha * m / (jnp.sqrt(v) + eps), params, m, v)
    return (params, m, v, t), value


def epoch(workload: Workload, gather: str, unroll: int, state: Any, x: Any, y: Any, samples: Any) -> Any:
    """One epoch; the batches are gathered inside of the scan, or all of them before it."""
    batches = samples.reshape(-1, workload.batch)
    if gather == "before":
        chosen = (take(x, batches), take(y, batches))
        state, losses = lax.scan(lambda s, b: step(workload, s, *b), state, chosen, unroll=unroll)
    else:
        state, losses = lax.scan(lambda s, b: step(workload, s, take(x, b), take(y, b)), state, batches, unroll=unroll)
    return state, jnp.mean(losses)


def take(array: Any, rows: Any) -> Any:
    return array.at[rows].get(mode="promise_in_bounds")


class Jax:
    """The state, and the compiled functions."""

    def __init__(self, gather: str, unroll: int, workload: Workload, x: Array, y: Array, weights: Weights) -> None:
        jax.config.update("jax_enable_x64", workload.dtype == "float64")
        self.workload, self.epochs = workload, 0
        self.x, self.y = jnp.asarray(x), jnp.asarray(y, workload.dtype if y.dtype.kind == "f" else "int32")
        params = [(jnp.array(w.T), jnp.array(b)) for w, b in weights]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        self.state = (params, zeros(params), zeros(params), jnp.zeros((), workload.dtype))
        self.epoch = jax.jit(partial(epoch, workload, gather, unroll), donate_argnums=0)
        last = ACTIVATIONS[workload.output]
        self.forward = jax.jit(lambda params, x: last(logits(workload, params, x)))

    def fit(self, epochs: int) -> list[float]:
        losses = []
        for _ in range(epochs):
            samples = order(self.workload, self.epochs).astype(np.int32)
            self.state, value = self.epoch(self.state, self.x, self.y, samples)
            losses.append(value)
            self.epochs += 1
        return [float(value) for value in losses]

    def predict(self, x: Array) -> Array:
        return np.asarray(self.forward(self.state[0], x))


def built(gather: str, unroll: int = 1) -> Build:
    return partial(Jax, gather, unroll)


def variants(workload: Workload) -> Variants:
    if workload.asked:
        return {"jit": built("inside")}
    return {
        "gather inside": built("inside"),
        "gather before": built("before"),
        "inside, unroll 4": built("inside", 4),
        "before, unroll 4": built("before", 4),
    }

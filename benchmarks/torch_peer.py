"""PyTorch, eager: `Sequential`, the fused or the foreach optimiser, an epoch permuted at once and cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  its usual name

from .contestant import Variants, thread_counts
from .workloads import Array, Weights, Workload, order

ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
}
LOSSES: dict[str, Any] = {  # of what comes before the activation of the last layer
    "squared_error": F.mse_loss,
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
}
OUTPUTS: dict[str, Any] = {
    "identity": lambda z: z,
    "softmax": partial(torch.softmax, dim=-1),
    "sigmoid": torch.sigmoid,
}


def sequential(workload: Workload, weights: Weights) -> Any:
    """The network up to the activation of its last layer, with the given weights."""
    modules: list[Any] = []
    for inputs, units in workload.layers:
        modules += [nn.Linear(inputs, units), ACTIVATIONS[workload.activation]()]
    net = nn.Sequential(*modules[:-1])
    with torch.no_grad():
        for linear, (w, b) in zip(net[::2], weights, strict=True):
            linear.weight.copy_(torch.from_numpy(w))
            linear.bias.copy_(torch.from_numpy(b))
    return net


class Batches:
    """The samples of one epoch after another, in the order of each."""

    def __init__(self, workload: Workload, x: Array, y: Array) -> None:
        self.workload, self.epochs = workload, 0
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def next(self) -> Iterator[tuple[Any, Any]]:
        """Permute at once: one gather an epoch is cheaper than one a step."""
        rows = torch.from_numpy(order(self.workload, self.epochs))
        self.epochs += 1
        size = self.workload.batch
        return zip(self.x[rows].split(size), self.y[rows].split(size), strict=True)


class Eager:
    """Module, optimiser and data."""

    def __init__(self, threads: int, update: str, workload: Workload, x: Array, y: Array, weights: Weights) -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(getattr(torch, workload.dtype))
        self.threads, self.workload = threads, workload
        self.net = sequential(workload, weights)
        rule = torch.optim.SGD if workload.optimiser == "sgd" else torch.optim.Adam
        self.optimiser = rule(self.net.parameters(), lr=workload.lr, **{update: True})
        self.batches = Batches(workload, x, y)
        self.loss, self.output = LOSSES[workload.loss], OUTPUTS[workload.output]

    def fit(self, epochs: int) -> list[float]:
        torch.set_num_threads(self.threads)
        return [self.epoch() for _ in range(epochs)]

    def epoch(self) -> float:
        losses = []
        for x, y in self.batches.next():
            loss = self.loss(self.net(x), y)
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.inference_mode()
    def predict(self, x: Array) -> Array:
        answer: Array = self.output(self.net(torch.from_numpy(x))).numpy()
        return answer


def variants(workload: Workload) -> Variants:
    if workload.asked:
        return {f"{t} threads": partial(Eager, t, "foreach") for t in thread_counts()}
    return {
        f"{update}, {threads} threads": partial(Eager, threads, update)
        for threads, update in product(thread_counts(), ("fused", "foreach"))
    }


# --- compiled


class Compiled:
    """A step as one compiled function: loss, gradients and update, its state in tensors."""

    def __init__(self, threads: int, workload: Workload, x: Array, y: Array, weights: Weights) -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(getattr(torch, workload.dtype))
        self.threads, self.workload = threads, workload
        net = sequential(workload, weights)
        self.params = {k: p.detach().clone() for k, p in net.named_parameters()}
        self.m = {k: torch.zeros_like(p) for k, p in self.params.items()}
        self.v = {k: torch.zeros_like(p) for k, p in self.params.items()}
        self.t = torch.zeros(())
        self.batches = Batches(workload, x, y)
        self.step = torch.compile(partial(compiled_step, workload, net), fullgraph=True, dynamic=False)
        output = OUTPUTS[workload.output]
        self.forward = torch.compile(lambda x: output(net(x)), fullgraph=True, dynamic=False)

    def fit(self, epochs: int) -> list[float]:
        torch.set_num_threads(self.threads)
        return [self.epoch() for _ in range(epochs)]

    @torch.no_grad()
    def epoch(self) -> float:
        losses = [self.step(self.params, self.m, self.v, self.t, x, y) for x, y in self.batches.next()]
        return float(torch.stack(losses).mean())

    @torch.inference_mode()
    def predict(self, x: Array) -> Array:
        answer: Array = self.forward(torch.from_numpy(x)).numpy()
        return answer


def compiled_step(workload: Workload, net: Any, params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
    """One step; the update as in `torch.optim.Adam`, in place."""

    def loss(params: Any) -> Any:
        return LOSSES[workload.loss](torch.func.functional_call(net, params, (x,)), y)

    grads, value = torch.func.grad_and_value(loss)(params)
    if workload.optimiser == "sgd":
        for k, p in params.items():
            p.sub_(grads[k], alpha=workload.lr)
        return value
    t.add_(1)
    c1, c2 = 1 - 0.9**t, 1 - 0.999**t
    for k, p in params.items():
        m[k].mul_(0.9).add_(grads[k], alpha=0.1)
        v[k].mul_(0.999).addcmul_(grads[k], grads[k], value=0.001)
        p.sub_(workload.lr / c1 * m[k] / ((v[k] / c2).sqrt() + 1e-8))
    return value


def variants_compiled(workload: Workload) -> Variants:
    return {f"compiled, {t} threads": partial(Compiled, t) for t in thread_counts()}

"""Record what torch.optim makes of a parameter of three elements in 100 steps, in float64.

    pip install torch==2.13.0
    python tests/symbolic/trajectories/record.py

writes torch_optim.json beside this file: for every rule and setting, the parameter after each tenth step.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS = 100
KEPT = 10
START = (1.5, -0.7, 0.25)

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {},
        {"lr": 0.1, "momentum": 0.5},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ],
    "momentum": [{}, {"lr": 0.02, "momentum": 0.95}, {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}],
    "nesterov": [{}, {"lr": 0.02, "momentum": 0.95}, {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}],
    "adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.05},
        {"lr": 0.3, "initial_accumulator_value": 0.1, "eps": 1e-6},
    ],
    "rmsprop": [
        {},
        {"lr": 0.02, "alpha": 0.9, "weight_decay": 0.05},
        {"lr": 0.005, "momentum": 0.9, "centered": True, "eps": 1e-6},
        {"lr": 0.01, "alpha": 0.5, "momentum": 0.5},
    ],
    "adadelta": [{}, {"lr": 5.0, "rho": 0.95, "eps": 1e-5}, {"lr": 2.0, "weight_decay": 0.1}],
    "adam": [{}, {"lr": 0.1, "beta1": 0.8, "beta2": 0.99, "eps": 1e-6}, {"lr": 0.02, "weight_decay": 0.1}],
    "amsgrad": [{}, {"lr": 0.1, "beta1": 0.8, "beta2": 0.9}, {"lr": 0.02, "weight_decay": 0.1}],
    "adamw": [{}, {"lr": 0.05, "weight_decay": 0.2}, {"lr": 0.02, "beta1": 0.5, "weight_decay": 0.0}],
    "adamax": [{}, {"lr": 0.1, "beta1": 0.8, "beta2": 0.9}, {"lr": 0.02, "weight_decay": 0.1}],
    "nadam": [{}, {"lr": 0.1, "beta1": 0.8, "beta2": 0.99, "momentum_decay": 0.02}, {"weight_decay": 0.1}],
}


def gradient(w: Sequence[float], t: int) -> list[float]:
    """g_i = (i + 1)(w_i - i/2)/2 + 3/10 sin(7 t/10 + i) + w_i^3/10 for the elements i = 0, 1, 2 in step t."""
    return [(i + 1) * (w_i - i / 2) / 2 + 0.3 * math.sin(0.7 * t + i) + w_i * w_i * w_i / 10 for i, w_i in enumerate(w)]


def torch_optimiser(name: str, setting: dict[str, Any], parameter: Any) -> Any:
    """The optimiser of torch that a row of our table names; defaults stay torch's own."""
    import torch

    given = dict(setting)
    if name in ("momentum", "nesterov"):
        given = {"lr": 0.01, "momentum": 0.9, "nesterov": name == "nesterov", **given}
    if name == "sgd":  # torch had no default for a long time; ours is 0.01
        given = {"lr": 0.01, **given}
    if name == "amsgrad":
        given["amsgrad"] = True
    if {"beta1", "beta2"} & set(given):
        given["betas"] = (given.pop("beta1", 0.9), given.pop("beta2", 0.999))
    classes = {
        "sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop",
        "adadelta": "Adadelta", "adam": "Adam", "amsgrad": "Adam", "adamw": "AdamW", "adamax": "Adamax",
        "nadam": "NAdam",
    }  # fmt: skip
    return getattr(torch.optim, classes[name])([parameter], **given)


def trajectory(name: str, setting: dict[str, Any]) -> list[list[float]]:
    """The parameter after each tenth step."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default dtype
    try:
        parameter = torch.nn.Parameter(torch.tensor(START))
        rule = torch_optimiser(name, setting, parameter)
        kept = []
        for t in range(1, STEPS + 1):
            parameter.grad = torch.tensor(gradient(parameter.tolist(), t))
            rule.step()
            if t % KEPT == 0:
                kept.append(parameter.tolist())
    finally:
        torch.set_default_dtype(before)
    return kept


def main() -> None:
    import torch

    rows = [
        json.dumps({"optimiser": name, "hyperparameters": setting, "w": trajectory(name, setting)})
        for name, settings in SETTINGS.items()
        for setting in settings
    ]
    head = json.dumps({"torch": torch.__version__, "steps": STEPS, "kept": KEPT, "start": START})
    text = head[:-1] + ', "trajectories": [\n' + ",\n".join(rows) + "\n]}\n"
    Path(__file__).with_name("torch_optim.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""Model -> source of its kernels: the pipeline of `codegen/`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace

import sympy as sp

from ..symbolic.derivation import derived_program
from ..symbolic.derive import Derived
from ..symbolic.initialisers import default_for, initialiser
from ..symbolic.language import Kind, Program, Role, name_of
from ..symbolic.layers import Activate, Dropout
from ..symbolic.model import LOSS, OUTPUT, Model, Variant, layer_pieces
from ..symbolic.optimisers import Optimiser
from .banner import banner
from .emit import Routine, module_source
from .layout import plain_name
from .legal import legalised
from .plan import Plan, Step, plan
from .request import Request, Update

MATHEMATICS = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor",
    "log", "log1p", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
ELEMENTARY = (  # what the runtime has, vectorised
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp", "expm1", "log", "log1p",
    "power", "sigmoid", "sin", "sinh", "softplus", "tan", "tanh",
)  # fmt: skip
OTHERS = (
    "affine", "fetch", "flat", "gemm", "gemm_fetching", "maximum", "natural", "sign", "sum_rows", "uniform", "view",
)  # fmt: skip


NUMBA = "from numba import njit\n"
HEAD = f"""\
import math
from math import {", ".join(n for n in MATHEMATICS if n not in ELEMENTARY)}

import numpy as np
{NUMBA}"""  # what is not the runtime's


def import_source(real: str) -> str:
    """What kernels call of the runtime."""
    return f"{_import(f'elementary_{real}', ELEMENTARY)}\n{_import('support', OTHERS)}"


def _import(module: str, names: Iterable[str]) -> str:
    lines = textwrap.fill(", ".join(names) + ",", 114)
    return f"from chainrule.runtime.{module} import (\n{textwrap.indent(lines, '    ')}\n)"


def with_bound_rule(update: Update) -> Update:
    return replace(update, optimiser=update.optimiser.bound)


def model_source(model: Model, request: Request, support: str) -> str:
    """The kernels of a model as one module; `support` is the source that brings in what they call."""
    plain = derived_program(model.program(replace(request.variant, training=False)))
    training = plain
    if any(isinstance(layer, Dropout) for layer in model.layers):
        training = derived_program(model.program(replace(request.variant, training=True)))
    name = plain_name(model.name)
    summary = [f"{name}: {_shape_line(model)}", f"numbers are {request.dtype}; targets are "
               + ("integers, the class" if request.variant.classes else "numbers")
               + (", samples have weights" if request.variant.weighted else "")]  # fmt: skip
    description = {
        "model": name,
        "classes": model.loss.classes and request.variant.classes,
        "weighted": request.variant.weighted,
        "initial": initial_values(model, request.variant),
    }
    return programs_source(plain, training, request, support, summary, description, (OUTPUT,))


def programs_source(
    plain: Derived, training: Derived, request: Request, support: str, summary: Iterable[str],
    description: Mapping[str, object], outputs: tuple[str, ...],
) -> str:  # fmt: skip
    """The kernels of a derived program, and of the one that trains it (the same unless there is dropout)."""
    update = request.update if request.update is None else with_bound_rule(request.update)
    numbered = _numbers(plain, 1)
    numbered_training = numbered if training is plain else _numbers(training, len(numbered) + 1)
    routines = []
    for name in request.routines:
        derived, numbers = (training, numbered_training) if name == "train" else (plain, numbered)
        if name == "train" and update is None:
            continue
        rule = update if name == "train" else None
        routines.append(_routine(name, derived, numbers, rule, outputs, request))
    steps = _steps(plain, numbered)
    head = banner(
        "Kernels generated from a model by chainrule", list(summary), *steps, update.optimiser if update else None,
        max(r.plan.operations for r in routines),
    )  # fmt: skip
    if training is not plain:
        more = banner("Training (with dropout)", [], *_steps(training, numbered_training), None, 0)
        head += "\n" + more.rsplit("operations:", 1)[0]
    shown = {
        **description,
        "parameters": _parameters(plain.forward),
        "inputs": _given(plain.forward, Role.INPUT) | _given(plain.forward, Role.STATE),
        "targets": _given(plain.forward, Role.TARGET),
        "weights": _given(plain.forward, Role.WEIGHT),
        "bounds": _bounds(plain.forward),
        "gradients": {p.name: plain.adjoint[p.name] for p in plain.forward.parameters},
        "loss": LOSS,
        "outputs": outputs,
        "work": {r.name: work_of(r.plan) for r in routines},
        "optimiser": {} if update is None else _optimiser(update),
    }
    return module_source(head, f"{HEAD}\n{support}", routines, request.dtype, shown)


def _routine(
    name: str, derived: Derived, numbers: Mapping[str, int], update: Update | None, outputs: tuple[str, ...],
    request: Request,
) -> Routine:  # fmt: skip
    gradients = {derived.adjoint[p.name]: p.name for p in derived.forward.parameters}
    wanted = {
        "predict": outputs,
        "evaluate": (LOSS, *outputs),
        "gradients": (LOSS, *gradients),
        "train": (LOSS, *gradients),
    }[name]
    program = derived.program.restricted_to(wanted)
    # parameters that the results do not depend on still have a (zero) gradient, and so must be known
    given = {t.name: t for t in program.tensors}
    if name in ("gradients", "train"):
        missing = tuple(p for p in derived.forward.parameters if p.name not in given)
        program = replace(program, tensors=(*program.tensors, *missing))
    kept = {e.name for e in program.equations}
    legal_program, original = legalised(program)
    renamed = {old: new for new, old in original.items()}
    here = {renamed[q]: renamed[p] for q, p in gradients.items() if q in kept}
    own_numbers = {renamed[q]: number for q, number in numbers.items() if q in renamed}
    forward = name in ("predict", "evaluate")
    own_gradients, trains = {} if forward else here, name == "train"
    made = plan(
        legal_program, own_numbers, own_gradients, passing=forward, in_parts=trains and request.in_parts, apart=trains,
        in_place=forward or (trains and not request.keeps),
    )  # fmt: skip
    return Routine(name, made, here, original, update)


def work_of(made: Plan) -> dict[str, object]:
    """What the runtime must know of a plan to cut a batch into blocks, and to see whether a product is one of BLAS."""
    return {
        "operations": made.operations,
        "largest_product": made.largest_product,
        "depths": made.depths,
        "turned": made.turned,
        **({"in_parts": True} if made.in_parts else {}),
        **({"in_place": True} if made.in_place else {}),
    }


def _numbers(derived: Derived, start: int) -> dict[str, int]:
    """Forward equations, then backward ones, numbered as they are printed."""
    return {e.name: k for k, e in enumerate(derived.program.equations, start=start)}


def _steps(derived: Derived, numbers: Mapping[str, int]) -> tuple[list[Step], list[Step]]:
    forward = [Step(numbers[e.name], e, None) for e in derived.forward.equations]
    backward = [Step(numbers[e.name], e, None) for e in derived.backward]
    return forward, backward


def _parameters(program: Program) -> dict[str, tuple[int, ...]]:
    return {p.name: tuple(program.size(i.extent) for i in p.indices) for p in program.parameters}


def _given(program: Program, role: Role) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Shape of one sample of everything that is given; and whether it is real or integer."""
    return {
        t.name: (str(t.kind.value), tuple(program.size(i.extent) for i in t.indices[1:])) for t in program.role(role)
    }


def _bounds(program: Program) -> dict[str, int]:
    """For integers that stand inside an index: the extent that they must stay below."""
    bounds: dict[str, int] = {}
    for equation in program.equations:
        for read in equation.expr.atoms(sp.Indexed):
            tensor = program.by_name[name_of(read)]
            for position, index in zip(read.indices, tensor.indices, strict=True):
                for inner in position.atoms(sp.Indexed):
                    given = program.by_name[name_of(inner)]
                    if given.kind is Kind.INTEGER and given.role is not Role.INTERMEDIATE and position == inner:
                        size = program.size(index.extent)
                        bounds[given.name] = min(size, bounds.get(given.name, size))
    return bounds


def initial_values(model: Model, variant: Variant) -> dict[str, tuple[str, float]]:
    """Parameter -> distribution and scale of its first values; by default those that fit the activation."""
    program = model.program(variant)
    found: dict[str, tuple[str, float]] = {}
    pieces = layer_pieces(model, replace(variant, training=True))
    for layer, following, piece in zip(model.layers, (*model.layers[1:], None), pieces, strict=True):
        activation = getattr(layer, "activation", None)
        if activation is None or activation.name == "identity":
            activation = getattr(following, "activation", None) if isinstance(following, Activate) else activation
        default = default_for("identity" if activation is None else activation.name)
        for name, given in piece.initial.items():
            if isinstance(given, int | float):
                found[name] = ("constant", float(given))
                continue
            chosen = default if given is None else initialiser(given) if isinstance(given, str) else given
            fan_in, fan_out = (program.size(e) for e in piece.fans.get(name, (sp.Integer(1), sp.Integer(1))))
            found[name] = (str(chosen.distribution.value), float(chosen.scale_of(fan_in, fan_out)))
    return found


def _optimiser(update: Update) -> dict[str, object]:
    rule: Optimiser = update.optimiser
    scalars = dict.fromkeys(["t", "lr", *rule.scalars, *(name for name, _ in rule.scalar_updates)], 0.0)
    return {
        "name": rule.name,
        "lr": rule.hyperparameters["lr"],
        "states": dict(rule.states),
        "scalars": {name: float(rule.scalars.get(name, 0.0)) for name in scalars},
    }


def _shape_line(model: Model) -> str:
    """64 -> dense 128 relu -> dense 10 softmax, cross_entropy"""
    words = ["x".join(map(str, model.inputs))]
    for layer in model.layers:
        kind = type(layer).__name__.lower()
        made = getattr(layer, "activation", None)
        size = f" {layer.units}" if hasattr(layer, "units") else f" {layer.rate}" if hasattr(layer, "rate") else ""
        words.append(f"{'activation' if kind == 'activate' else kind}{size}{'' if made is None else ' ' + made.name}")
    return f"{' -> '.join(words)}, {model.loss.name}"

"""Laws over random models of the language: nothing here was written with a certain model in mind."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from chainrule.codegen.generate import model_source
from chainrule.codegen.request import Request, Update
from chainrule.runtime.evaluation import run_gradients
from chainrule.symbolic.derivation import Derivation
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import Program, Role
from chainrule.symbolic.model import Model
from chainrule.symbolic.optimisers import optimiser
from chainrule.symbolic.prove import random_point
from chainrule.symbolic.spec import model_from_dict, model_to_dict

from .codegen.plain_python import in_both_orders, model_machine
from .strategies import Case, cases, models

Values = Mapping[str, Mapping[tuple[int, ...], Any]]

HASHES = """
import hashlib, json, sys
from chainrule.symbolic.model import Variant
from chainrule.symbolic.model import Model
from chainrule.symbolic.spec import model_from_dict
from chainrule.codegen.generate import model_source
from chainrule.codegen.request import Request, Update
from chainrule.symbolic.optimisers import optimiser

for tables, variant in json.load(sys.stdin):
    request = Request(Variant(**variant), Update(optimiser("nadam"), clip_norm=1.0))
    print(hashlib.sha256(model_source(model_from_dict(tables), request, "").encode()).hexdigest())
"""


def bounded(examples: int) -> settings:
    """So many models, the same ones in every run."""
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


@cache
def derivation(case: Case) -> Derivation:
    """One derivation for all laws that meet the same case."""
    return case.model.derivation(case.variant)


def point_of(program: Program, samples: int, seed: int) -> dict[str, dict[tuple[int, ...], Any]]:
    """Values that any loss takes, in double precision."""
    point = random_point(program, samples, random.Random(seed))
    return {name: {p: v if isinstance(v, int) else float(v) for p, v in t.items()} for name, t in point.items()}


def gradients(made: Derivation, point: Values, samples: int) -> dict[str, Any]:
    """Loss and gradients as the derived equations have them."""
    values = interpret(made.program, point, samples)
    return {"L": values["L"], **{name: values[made.derived.adjoint[name]] for name in made.gradients}}


def assert_close(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Equal to 1e-12 of the largest number in a tensor."""
    assert got.keys() == wanted.keys()
    for name, table in wanted.items():
        largest = max(map(abs, table.values()))
        for where, value in table.items():
            assert abs(got[name][where] - value) <= 1e-12 * max(largest, 1), (name, where)


def rows(program: Program, point: Values, order: list[int]) -> dict[str, dict[tuple[int, ...], Any]]:
    """The point with samples in another order, or some of them several times; parameters stay."""
    made = {name: dict(table) for name, table in point.items()}
    for tensor in program.tensors:
        if tensor.indices and tensor.indices[0].name == "n":
            old = point[tensor.name]
            made[tensor.name] = {(k, *p[1:]): v for k, n in enumerate(order) for p, v in old.items() if p[0] == n}
    return made


@bounded(12)
@given(cases())
def test_derived_is_brute_force(case: Case) -> None:
    derivation(case).prove(samples=2)


@bounded(60)
@given(models())
def test_spec_to_model_to_spec(model: Model) -> None:
    """What a model is written as reads as that model, and is written in the same way again; through JSON, too."""
    tables = model_to_dict(model)
    again = model_from_dict(json.loads(json.dumps(tables)))
    assert again == model
    assert model_to_dict(again) == tables


@bounded(15)
@given(cases(dropout=False))
def test_the_order_of_samples_does_not_matter(case: Case) -> None:
    made = derivation(case)
    point = point_of(made.program, 3, 1)
    assert_close(gradients(made, rows(made.program, point, [2, 0, 1]), 3), gradients(made, point, 3))


@bounded(15)
@given(cases(dropout=False))
def test_weight_k_is_the_row_k_times(case: Case) -> None:
    """A sample of weight 3 beside one of weight 1 is as four samples without weights, three of them the same."""
    weighted = derivation(replace(case, variant=replace(case.variant, weighted=True)))
    plain = derivation(replace(case, variant=replace(case.variant, weighted=False)))
    (weight,) = weighted.program.role(Role.WEIGHT)
    point = point_of(weighted.program, 2, 2)
    point[weight.name] = {(0,): 3.0, (1,): 1.0}
    often = rows(plain.program, point, [0, 0, 0, 1])
    assert_close(gradients(weighted, point, 2), gradients(plain, often, 4))


@bounded(12)
@given(cases(dropout=False))
def test_what_is_emitted_is_what_is_derived(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """The emitted source, run by Python, against the interpreter of the equations."""
    made = derivation(case)
    point = point_of(made.program, 3, 3)
    arrays = {
        t.name: np.array([v for _, v in sorted(point[t.name].items())]).reshape(
            [made.program.size(e, 3) for e in t.shape]
        )
        for t in made.program.tensors
    }
    parameters = {name: arrays.pop(name) for name in made.gradients}
    machine = model_machine(case.model, tmp_path_factory.mktemp("law"), case.variant)
    given = (arrays["x"], arrays["y"], arrays.get("w"))
    loss, got = in_both_orders(machine, lambda m: run_gradients(m, parameters, *given))
    tables = {name: dict(np.ndenumerate(array)) for name, array in got.items()}
    assert_close({"L": {(): float(loss)}, **tables}, gradients(made, point, 3))


def test_emitted_twice_the_bytes_are_the_same() -> None:
    """In this process, and in another one where sets and dictionaries of names have another order."""
    seen: list[Case] = []

    @bounded(8)
    @given(cases())
    def look(case: Case) -> None:
        seen.append(case)

    look()
    update = Update(optimiser("nadam"), clip_norm=1.0)
    texts = [model_source(case.model, Request(case.variant, update), "") for case in seen]
    again = [model_source(case.model, Request(case.variant, update), "") for case in seen]
    assert texts == again
    there = subprocess.run(
        [sys.executable, "-c", HASHES],
        input=json.dumps([(model_to_dict(case.model), asdict(case.variant)) for case in seen]),
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split() == [hashlib.sha256(text.encode()).hexdigest() for text in texts]

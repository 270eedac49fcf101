"""What the matrix forms say is what the equations say: the printed tree is evaluated and compared."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.derivation import Derivation
from chainrule.symbolic.functions import expm1, log1p
from chainrule.symbolic.interpret import interpret
from chainrule.symbolic.language import SAMPLE, Equation, Kind, Role, Tensor
from chainrule.symbolic.layers import Activate, Dense, Dropout, Equations
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.notation import (
    TRANSPOSE,
    Call,
    Cases,
    Fraction,
    Group,
    Math,
    Name,
    Number,
    Over,
    Partial,
    Power,
    Product,
    Root,
    Row,
    Sign,
    Total,
    Word,
    notation,
)
from chainrule.symbolic.penalties import L1, L2
from chainrule.symbolic.report.facts import Facts
from chainrule.symbolic.report.matrix import matrix_form

SAMPLES = 3
FITTING = {
    "cross_entropy": "softmax",
    "kl_divergence": "softmax",
    "binary_cross_entropy": "sigmoid",
    "poisson": "exp",
}
FUNCTIONS: Mapping[str, Any] = {
    **{f: getattr(np, f) for f in ("exp", "log", "sin", "cos", "tanh", "cosh", "sinh", "sign", "expm1", "log1p")},
    "erf": np.vectorize(math.erf),
    "erfc": np.vectorize(math.erfc),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
}


@dataclass
class Reader:
    """Evaluates notation: a vector is a column, one for every sample if `sampled` says so."""

    values: dict[Math, Any]
    sampled: set[Math]
    targets: Any
    width: int

    def read(self, form: Math, n: int) -> Any:
        match form:
            case Name() | Partial():
                return self.symbol(form, n)
            case Number():
                return float(form.text)
            case Group():
                body = self.read(form.body, n)
                if form.bracket == "||":
                    return float(np.sqrt(np.sum(np.square(body))))
                return np.abs(body) if form.bracket == "|" else body
            case Call() if form in self.values:  # a penalty: P(W)
                return self.values[form]
            case Call():
                return FUNCTIONS[form.function.text](self.read(form.arguments[0], n))  # type: ignore[union-attr]
            case Power():
                base = self.read(form.base, n)
                return base.T if form.exponent == TRANSPOSE else base ** self.read(form.exponent, n)
            case Root():
                return np.sqrt(self.read(form.body, n))
            case Fraction():
                return self.read(form.top, n) / self.read(form.bottom, n)
            case Total():
                return sum((-1 if negative else 1) * self.read(t, n) for negative, t in form.terms)
            case Over():
                assert (form.kind, form.indices) == ("sum", Name("n"))
                return sum(self.read(form.body, k) for k in range(SAMPLES))
            case Cases():
                result = np.nan
                for value, condition in reversed(form.branches):
                    holds = True if condition is None else self.condition(condition, n)
                    result = np.where(holds, self.read(value, n), result)
                return result
            case Product():
                return self.product(form, n)
        raise AssertionError(form)

    def product(self, form: Product, n: int) -> Any:
        result = 1.0
        for factor in form.factors:
            value = self.read(factor, n)
            numbers = np.ndim(result) == 0 or np.ndim(value) == 0
            result = result * value if form.sign == ".*" or numbers else result @ value
        return result.item() if np.shape(result) == (1, 1) and self.is_inner(form) else result

    def is_inner(self, form: Product) -> bool:
        return any(isinstance(f, Name) and f.transposed for f in form.factors[:-1])

    def condition(self, form: Math, n: int) -> Any:
        match form:
            case Row(parts=(left, Sign(text=sign), right)):
                a, b = self.read(left, n), self.read(right, n)
                return {"<=": a <= b, "<": a < b, ">=": a >= b, ">": a > b}[sign]
            case Row(parts=parts) if Word("and") in parts or Word("or") in parts:
                both = Word("and") in parts
                held = [self.condition(p.body if isinstance(p, Group) else p, n) for p in parts[::2]]
                return np.all(held, axis=0) if both else np.any(held, axis=0)
            case Row(parts=(Word(text="not"), Group(body=body))):
                return np.logical_not(self.condition(body, n))
        raise AssertionError(form)

    def symbol(self, form: Math, n: int) -> Any:
        if isinstance(form, Name) and form.base == "e" and form.sub == Name("y"):
            return np.eye(self.width)[:, [self.targets[n]]]
        if isinstance(form, Name) and form.sub is not None and form in self.values:
            return self.values[form]  # an extent: U_1
        name = form.bottom if isinstance(form, Partial) else form
        assert isinstance(name, Name)
        plain = replace(name, sub=None, transposed=False)
        key = replace(form, bottom=plain) if isinstance(form, Partial) else plain
        value = self.values[key]
        value = value[n] if key in self.sampled else value
        if name.sub == Name("y"):
            value = float(value[self.targets[n], 0])
        else:
            assert name.sub in (None, Name("n"))
        return value.T if name.transposed else value


def reader_and_values(derivation: Derivation) -> tuple[Reader, dict[str, Any]]:
    """Random inputs, all equations interpreted, and a reader of notation over them."""
    random = np.random.default_rng(0)
    program, facts = derivation.program, Facts(derivation)
    given = {t.name: drawn(derivation, t, random) for t in program.tensors}
    given_tables = {k: {at: v.item() for at, v in np.ndenumerate(array)} for k, array in given.items()}
    tables = interpret(program, given_tables, SAMPLES)
    arrays = {name: as_array(program.by_name[name], table, derivation) for name, table in tables.items()}
    written = interpret(facts.written, given_tables, SAMPLES)
    arrays |= {k: as_array(facts.written.by_name[k], t, derivation) for k, t in written.items() if k not in arrays}
    values, sampled = {}, set()
    for name, array in arrays.items():
        tensor = program.by_name[name] if name in program.by_name else facts.written.by_name[name]
        values[facts.symbols[name]] = column(array, tensor)
        if tensor.indices and tensor.indices[0].symbol == SAMPLE:
            sampled.add(facts.symbols[name])
    extents = {e for t in program.by_name.values() for e in t.shape}
    values |= {notation(e, facts.symbols): float(program.size(e, SAMPLES)) for e in extents}
    values[Name("N")], values[Name("pi")] = float(SAMPLES), math.pi
    width = program.size(program.by_name["y_hat"].shape[-1])
    return Reader(values, sampled, np.ravel(given["y"]).astype(int), width), arrays


def drawn(derivation: Derivation, tensor: Tensor, random: np.random.Generator) -> Any:
    shape = tuple(derivation.program.size(e, SAMPLES) for e in tensor.shape)
    if tensor.kind is Kind.INTEGER:
        return random.integers(0, 2, shape)
    if tensor.role in (Role.TARGET, Role.WEIGHT, Role.NOISE):
        return random.uniform(0.1, 0.9, shape)
    return random.uniform(-1, 1, shape)


def as_array(tensor: Tensor, table: Mapping[tuple[int, ...], Any], derivation: Derivation) -> Any:
    array = np.zeros(tuple(derivation.program.size(e, SAMPLES) for e in tensor.shape))
    for position, value in table.items():
        array[position] = value
    return array


def column(array: Any, tensor: Tensor) -> Any:
    """The tensor as the notation reads it: columns for vectors, floats for single numbers."""
    is_sampled = bool(tensor.indices) and tensor.indices[0].symbol == SAMPLE
    if is_sampled:
        return [column(row, replace(tensor, indices=tensor.indices[1:])) for row in array]
    return array[:, None] if array.ndim == 1 else float(array) if array.ndim == 0 else array


def check(derivation: Derivation) -> set[str]:
    """Compare every matrix form with its equation; return the names of those that have one."""
    facts = Facts(derivation)
    reader, arrays = reader_and_values(derivation)
    found = set()
    equations: list[tuple[Equation, Math | None]] = [(e, facts.gradient_form(e)) for e in derivation.backward]
    equations += [(e, matrix_form(e, facts.symbols)) for e in facts.written.equations]
    for equation, form in equations:
        if form is None or equation.kind is Kind.INTEGER:
            continue
        found.add(equation.name)
        wanted = column(arrays[equation.name], equation.tensor)
        sampled = bool(equation.indices) and equation.indices[0].symbol == SAMPLE
        for n in range(SAMPLES if sampled else 1):
            value = wanted[n] if sampled else wanted
            np.testing.assert_allclose(reader.read(form, n) + 0 * value, value, rtol=1e-10, atol=1e-12)
    return found


GRADIENTS = {"dW1", "db1", "dWo", "dbo"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    model = Model(3, [Dense(4, name), Dense(2)], penalties=[L2(0.1), L1(0.1)])
    assert check(model.derivation()) >= GRADIENTS | {"dx1", "x1" if name == "identity" else "z1", "y_hat"}


@pytest.mark.parametrize(("name", "weighted"), list(itertools.product(LOSSES, (False, True))))
def test_loss(name: str, weighted: bool) -> None:
    model = Model(3, [Dense(4, "tanh"), Dense(2, FITTING.get(name, "identity"))], LOSSES[name])
    found = check(model.derivation(Variant(LOSSES[name].classes, weighted, False)))
    assert found >= {*GRADIENTS, "dz1", "dx1", "L"}


def test_layers_of_other_kinds() -> None:
    layers = [
        Dense(4, "prelu"),
        Dropout(0.3),
        Activate("gelu"),
        Equations("m[n] = mean(j, x[n,j])\nh[n,j] = g[j]*(x[n,j] - m[n])", "h", {}, {"g": ["j"]}),
        Dense(2, "softmax"),
    ]
    found = check(Model(3, layers, "cross_entropy").derivation(Variant(True, True, True)))
    assert found >= {*GRADIENTS, "dg2", "dz1"}


def test_what_is_not_of_matrix_shape_has_no_form() -> None:
    text = "h[n,i] = sum(j, k, A[i,j,k]*x[n,j]*x[n,k]) + V[i,i]*x[n,i]*i"
    model = Model(2, [Equations(text, "h", {"i": 2, "k": 2}, {"A": ["i", "j", "k"], "V": ["i", "k"]})])
    facts = Facts(model.derivation())
    assert facts.matrix_form("y_hat") is None
    assert not {expm1, log1p} & {type(e) for e in facts.written.defined["y_hat"].expr.args}

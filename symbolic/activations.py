"""Activations: one row each, the formula is the definition: what becomes of `z`, which the layer computed.

A row may hold `unit_sum` and `unit_max` (softmax), and symbols of its own: trainable parameters and constants.
Slopes at kinks are those that follow from the formula as written: see docs/decisions/0002-slopes-at-kinks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import sympy as sp

from .bounds import with_numbers
from .errors import SpecError, nearest
from .formula import FUNCTIONS, checked_name, checked_title, parse_formula
from .table import Table

Z: Final = sp.Symbol("z", real=True)


@dataclass(frozen=True)
class Activation:
    """An activation function; used inside `Dense`, or as a layer of its own.

    name         of the table, or any name for a formula of one's own
    formula      an expression in z, and in the parameters and constants
    parameters   trainable symbols and their first values
    constants    symbols that are replaced by their values
    per_unit     whether each unit has parameters of its own (else they are shared by the layer)

    >>> Activation("swish_beta", "z/(1 + exp(-beta*z))", parameters={"beta": 1.0}).formula
    z/(1 + exp(-beta*z))
    >>> Activation("relu").formula
    Piecewise((0, z <= 0), (z, True))

    Raises `SpecError` for an unknown name, a formula that cannot be read, or a symbol that is not declared.
    """

    name: str
    formula: sp.Expr | str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    per_unit: bool = False
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        checked_title(self.name, "activation")
        place = f"activation '{self.name}'"
        if isinstance(self.formula, str) and not self.formula:
            _from_table(self, place)
            return
        _check_values(self.parameters, self.constants, place)
        symbols = {s: sp.Symbol(s, real=True) for s in (*self.parameters, *self.constants)}
        formula = self.formula
        if isinstance(formula, str):
            formula = parse_formula(formula, {"z": Z, **symbols}, place, units=True)
        formula = in_own_symbols(formula, {"z": Z, **symbols}, place)
        values = {symbols[s]: sp.Rational(str(v)) for s, v in self.constants.items()}
        object.__setattr__(self, "formula", with_numbers(formula, values, place))
        object.__setattr__(self, "parameters", MappingProxyType({k: float(v) for k, v in self.parameters.items()}))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))

    def __hash__(self) -> int:
        return hash((self.name, self.formula, tuple(self.parameters.items())))

    @property
    def expr(self) -> sp.Expr:
        assert isinstance(self.formula, sp.Expr)
        return self.formula


def _from_table(made: Activation, place: str) -> None:
    row = ACTIVATIONS.get(made.name)
    if row is None:
        raise SpecError(f"{place} is not known. {nearest(made.name, ACTIVATIONS)}")
    unknown = set(made.parameters) - set(row.parameters)
    if unknown or made.constants:
        name = sorted(unknown | set(made.constants))[0]
        raise SpecError(f"{place}: '{name}' is not a parameter of it. {nearest(name, row.parameters)}")
    _check_values(made.parameters, {}, place)
    parameters = {k: float(v) for k, v in {**row.parameters, **made.parameters}.items()}
    object.__setattr__(made, "formula", row.formula)
    object.__setattr__(made, "parameters", MappingProxyType(parameters))
    object.__setattr__(made, "constants", MappingProxyType({}))
    object.__setattr__(made, "source", row.source)


def _check_values(parameters: Mapping[str, float], constants: Mapping[str, float], place: str) -> None:
    for name, value in [*parameters.items(), *constants.items()]:
        checked_name(name, place)
        if name == "z" or (name in parameters and name in constants):
            raise SpecError(f"{place}: the symbol '{name}' has a meaning already; give it another name")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise SpecError(f"{place}: '{name}' has the value {value!r}; give a finite number")


def in_own_symbols(formula: object, symbols: Mapping[str, sp.Symbol], place: str) -> sp.Expr:
    """A SymPy expression of the user's, with its symbols replaced by ours of the same names."""
    if not isinstance(formula, sp.Expr):
        raise SpecError(f"{place}: {formula!r} is neither text nor a SymPy expression; give one of them")
    replaced: dict[sp.Basic, sp.Basic] = {}
    for symbol in sorted(formula.free_symbols, key=str):
        if str(symbol) not in symbols:
            raise SpecError(f"{place}: the symbol '{symbol}' is not declared. {nearest(str(symbol), symbols)}")
        replaced[symbol] = symbols[str(symbol)]
    return as_language(formula.xreplace(replaced))


def as_language(formula: sp.Expr) -> sp.Expr:
    """SymPy's Max, Min and Heaviside in the language of equations; floating-point constants made exact."""
    larger, smaller = FUNCTIONS["max"][1], FUNCTIONS["min"][1]

    def fold(pair: object, arguments: tuple[sp.Expr, ...]) -> sp.Expr:
        result = arguments[-1]
        for argument in arguments[:-1]:
            result = pair(argument, result)  # type: ignore[operator]
        return result

    def by_number(arguments: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
        return tuple(sorted(arguments, key=lambda a: (a.is_number is True, sp.default_sort_key(a))))

    formula = formula.replace(sp.Max, lambda *a: fold(larger, by_number(a)))
    formula = formula.replace(sp.Min, lambda *a: fold(smaller, by_number(a)))
    formula = formula.replace(sp.Heaviside, lambda u, *_: FUNCTIONS["heaviside"][1](u))
    return formula.replace(lambda e: isinstance(e, sp.Float), lambda e: sp.Rational(str(float(e))))


def activation(given: str | sp.Expr | Activation) -> Activation:
    """An activation from a name of the table, a formula as text, a SymPy expression, or an activation.

    >>> activation("z*tanh(z)").name
    'formula'
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str) and given.isidentifier() and given != "z":
        return Activation(given)
    return Activation("formula", given)


def _row(name: str, formula: str, source: str = "", **parameters: float) -> tuple[str, Callable[[], Activation]]:
    return name, lambda: Activation(name, formula, parameters, source=source)


SELU_ALPHA = "1.6732632423543772848170429916717"
SELU_SCALE = "1.0507009873554804934193349852946"

ACTIVATIONS: Final = Table([
    _row("identity",    "z"),
    _row("relu",        "max(z, 0)"),
    _row("leaky_relu",  "where(z <= 0, 0.01*z, z)", "Maas et al. 2013"),
    _row("prelu",       "where(z <= 0, alpha*z, z)", "He et al. 2015, eq. 1", alpha=0.25),
    _row("relu6",       "clip(z, 0, 6)", "Krizhevsky 2010"),
    _row("elu",         "where(z <= 0, exp(z) - 1, z)", "Clevert et al. 2016, eq. 15, alpha = 1"),
    _row("selu",        f"{SELU_SCALE}*where(z <= 0, {SELU_ALPHA}*(exp(z) - 1), z)", "Klambauer et al. 2017, eq. 2"),
    _row("gelu",        "z*(1 + erf(z/sqrt(2)))/2", "Hendrycks and Gimpel 2016"),
    _row("gelu_tanh",   "z*(1 + tanh(sqrt(2/pi)*(z + 0.044715*z**3)))/2", "Hendrycks and Gimpel 2016, section 2"),
    _row("sigmoid",     "1/(1 + exp(-z))"),
    _row("hard_sigmoid", "clip(z/6 + 1/2, 0, 1)", "Howard et al. 2019, section 5.2 (as PyTorch; Keras 3 agrees)"),
    _row("tanh",        "tanh(z)"),
    _row("hard_tanh",   "clip(z, -1, 1)"),
    _row("softplus",    "log(1 + exp(z))"),
    _row("softsign",    "z/(1 + abs(z))"),
    _row("silu",        "z/(1 + exp(-z))", "Elfwing et al. 2018, eq. 2"),
    _row("swish",       "z/(1 + exp(-beta*z))", "Ramachandran et al. 2017, beta trainable", beta=1.0),
    _row("hard_swish",  "z*clip(z/6 + 1/2, 0, 1)", "Howard et al. 2019, section 5.2"),
    _row("mish",        "z*tanh(log(1 + exp(z)))", "Misra 2019"),
    _row("sin",         "sin(z)", "Sitzmann et al. 2020"),
    _row("exp",         "exp(z)"),
    _row("gaussian",    "exp(-z**2)"),
    _row("softmax",     "exp(z)/sum(exp(z))"),
    _row("log_softmax", "z - log(sum(exp(z)))"),
])  # fmt: skip

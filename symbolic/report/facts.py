"""What all sections of a report look up: numbers, symbols, spines, matrix forms of one derivation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy as sp

from ..breaking import estimated_width
from ..formula import split_equations
from ..language import SAMPLE, Equation, Kind, Program, Role, Tensor, elements, name_of, where_of
from ..layers import Equations
from ..model import LOSS, OUTPUT
from ..notation import Math, Name, Symbols, at, notation, subscript
from .document import Phrase, Running
from .matrix import matrix_form
from .spine import depending_on, needed_for, spine

if TYPE_CHECKING:
    from ..derivation import Derivation


def numbered(derivation: Derivation) -> list[tuple[int, Equation]]:
    """All equations in the order in which they are computed, numbered from 1 as generated code cites them.

    >>> from ..layers import Dense
    >>> from ..model import Model
    >>> for number, equation in numbered(Model(2, [Dense(1)]).derivation())[:2]: print(number, equation)
    1 y_hat[n,i] = sum_j Wo[i,j] x[n,j] + bo[i]
    2 l[n] = sum_i (y[n,i] - y_hat[n,i])^2/U_o
    """
    return list(enumerate((*derivation.forward.equations, *derivation.backward), start=1))


LOSS_NAME = Name("L")
WIDEST_FORM = 150.0  # in letters; a wider formula is easier to read index by index


def readable(form: Math | None) -> Math | None:
    """A matrix form, unless it is too wide to help."""
    return form if form is not None and estimated_width(form) <= WIDEST_FORM else None


def at_position(equation: Equation, where: tuple[sp.Expr, ...]) -> sp.Expr:
    """The right side of an equation at a position."""
    return equation.expr.xreplace(dict(zip((i.symbol for i in equation.indices), where, strict=True)))


@dataclass(frozen=True)
class Facts:
    """A derivation and what can be seen in it."""

    derivation: Derivation

    @cached_property
    def written(self) -> Program:
        """The program as the user wrote it, before any pass: layers, loss, penalties."""
        return self.derivation.model.program(self.derivation.variant)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        return {equation.name: number for number, equation in numbered(self.derivation)}

    @cached_property
    def backward(self) -> Mapping[str, Equation]:
        return {e.name: e for e in self.derivation.backward}

    @cached_property
    def spine(self) -> tuple[str, ...]:
        """From the input of the model to its output."""
        (x,) = self.written.role(Role.INPUT)[:1]
        return spine(self.written, x.name, OUTPUT)

    @cached_property
    def on_data(self) -> frozenset[str]:
        """Tensors that depend on the data of a sample; penalties do not."""
        given = [t.name for t in self.written.tensors if t.role is not Role.PARAMETER]
        return depending_on(self.written, given)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Results of a product with a matrix of parameters -> the label of its layer, if one has it alone."""
        found: dict[str, str] = {}
        for equation in self.written.equations:
            if isinstance(equation.contraction, sp.Sum) and equation.name in self.on_data:
                label = self._label_of_product(equation)
                if label:
                    found[equation.name] = label
        counts = list(found.values())
        return {name: label for name, label in found.items() if counts.count(label) == 1}

    def _label_of_product(self, equation: Equation) -> str | None:
        read = {str(e.base.label) for e in equation.contraction.function.atoms(sp.Indexed)}  # type: ignore[union-attr]
        matrices = [p for p in self.written.parameters if p.name in read and len(p.indices) > 1]
        if len(matrices) != 1 or SAMPLE not in {i.symbol for i in equation.indices}:
            return None
        symbol = Symbols(self.written.by_name, {}, {}, self._own)[matrices[0].name]
        return symbol.label[0] if isinstance(symbol, Name) and symbol.label else None

    @cached_property
    def _own(self) -> frozenset[str]:
        """The names that the layers give their tensors, without the label."""
        names = {"W", "b", "z", "x"}
        for layer in self.derivation.model.layers:
            names |= {
                *getattr(layer, "parameters", ()),
                *getattr(getattr(layer, "activation", None), "parameters", ()),
            }
            if isinstance(layer, Equations):
                names |= {name for name, _, _, _ in split_equations(layer.equations_text, "layer")}
        return frozenset(names)

    @cached_property
    def symbols(self) -> Symbols:
        adjoint = self.derivation.derived.adjoint
        known = [*self.derivation.forward.by_name, *self.backward]
        return Symbols(known, adjoint, self.labels, self._own)

    def tensor(self, name: str) -> Tensor:
        return self.written.by_name[name]

    def matrix_form(self, name: str, folded: Mapping[str, Math] | None = None) -> Math | None:
        """The matrix form of the equation that computes a tensor, as written."""
        return readable(matrix_form(self.written.defined[name], self.symbols, folded))

    @cached_property
    def helpers(self) -> Mapping[str, Equation]:
        """Equations that passes added to share or prepare a value, without a contraction."""
        return {
            e.name: e
            for e in self.derivation.forward.equations
            if e.name not in self.written.by_name and e.contraction is None and e.kind is Kind.REAL
        }

    def inlined(self, equation: Equation) -> Equation:
        """An equation of the running program with what helpers stand for in their place."""
        expr = equation.expr
        while True:
            reads = {r: self.helpers[name_of(r)] for r in elements(expr) if name_of(r) in self.helpers}
            if not reads:
                return replace(equation, expr=expr)
            expr = expr.xreplace({read: at_position(helper, where_of(read)) for read, helper in reads.items()})

    def gradient_form(self, equation: Equation, folded: Mapping[str, Math] | None = None) -> Math | None:
        """The matrix form of an adjoint equation."""
        return readable(matrix_form(self.inlined(equation), self.symbols, folded))

    def running(self, equation: Equation) -> Running:
        """An equation as it runs, with its number."""
        left, right = notation(equation.element, self.symbols), notation(equation.expr, self.symbols)
        return Running(self.numbers[equation.name], equation, left, right, self.phrase(equation.rule))

    def phrase(self, rule: str) -> Phrase:
        """A rule with the names of tensors in it as symbols."""
        parts: list[str | Math] = []
        for piece in re.split(r"([A-Za-z]\w*)", rule):
            is_name = piece in self.numbers or piece in self.written.by_name
            parts.append(self.symbols[piece] if is_name else piece)
        return tuple(p for p in parts if p != "")

    def cited(self, names: Iterable[str]) -> str:
        """The numbers of equations, as they are cited: (3), (4)."""
        return ", ".join(f"({self.numbers[n]})" for n in names if n in self.numbers)

    def layer_of(self, equation: Equation) -> Any:
        """The layer that an equation comes from, by its rule; None for the loss and penalties."""
        found = re.match(r"layer (\d+)\b", equation.rule)
        layers = self.derivation.model.layers
        return layers[int(found[1]) - 1] if found and int(found[1]) <= len(layers) else None

    def activation_label(self, name: str) -> str | None:
        """k, where a tensor on the spine is a^(k) of the result of layer k's product, its neighbour below."""
        if name not in self.spine[1:] or name in self.labels:
            return None
        below = self.spine[self.spine.index(name) - 1]
        return self.labels.get(below) if self.is_single(below, name) else None

    def is_single(self, lower: str, upper: str) -> bool:
        """Whether one equation leads from a tensor to its neighbour on the spine."""
        between = self.below(lower)
        return all(read not in between for read in self.written.defined[upper].reads)

    def below(self, name: str) -> frozenset[str]:
        """What depends on a tensor, without itself."""
        if name not in self._below:
            self._below[name] = depending_on(self.written, [name]) - {name}
        return self._below[name]

    @cached_property
    def _below(self) -> dict[str, frozenset[str]]:
        return {}

    @cached_property
    def data_loss(self) -> str | None:
        """The part of the loss that depends on the data: L itself, or E in L = E + penalties."""
        equation = self.written.defined[LOSS]
        read = [name for name in equation.reads if name in self.written.defined]
        if all(name in self.on_data for name in read):
            return LOSS
        data = [name for name in read if name in self.on_data]
        plain = equation.expr == sp.Add(*(self.written.defined[n].element for n in read))
        return data[0] if plain and len(data) == 1 else None

    @cached_property
    def output_needs(self) -> frozenset[str]:
        return needed_for(self.written, OUTPUT)


def function_of(label: str, prime: bool = False) -> Name:
    return Name("a", label=(label,), prime=prime)


def element_symbol(facts: Facts, parameter: Tensor) -> Math:
    """w_ij^(k): an element is written with the small letter of its matrix."""
    symbol = facts.symbols[parameter.name]
    if isinstance(symbol, Name) and len(symbol.base) == 1:
        symbol = Name(symbol.base.lower(), symbol.hat, symbol.label)
    return at(symbol, subscript(Name(i.name) for i in parameter.indices))

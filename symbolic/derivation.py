"""Model -> program -> derived gradients: the pipeline of `symbolic/`, and the value that comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .check import check
from .derive import Derived, derive
from .exponentials import exponentials_inlined, logarithms_opened, shifted_exponentials
from .language import Equation, Program
from .normalise import normalise
from .stability import branches_outward, named_functions
from .tidy import tidied

if TYPE_CHECKING:
    from .model import Model, Variant

FORWARD_PASSES = (
    named_functions,  # first: normalise would give the parts of 1/(1 + exp(-z)) names of their own
    branches_outward,
    exponentials_inlined,
    normalise,  # one contraction an equation, on which all that follows relies
    logarithms_opened,  # before shifting: log(exp(z)/s) becomes z - log(s), which then can be shifted
    shifted_exponentials,
)
BEFORE_NORMAL_FORM = (named_functions, branches_outward, exponentials_inlined)


@dataclass(frozen=True)
class Derivation:
    """The equations of a model, the adjoint equations behind them, and the gradient of every parameter.

    >>> from .layers import Dense
    >>> from .model import Model
    >>> derivation = Model(2, [Dense(1)], "squared_error").derivation()
    >>> print(derivation.gradients["Wo"])
    dWo[i,j] = sum_n dy_hat[n,i] x[n,j]
    """

    model: Model
    variant: Variant
    derived: Derived

    @property
    def forward(self) -> Program:
        return self.derived.forward

    @property
    def backward(self) -> tuple[Equation, ...]:
        return self.derived.backward

    @property
    def program(self) -> Program:
        """Forward and backward in one program, whose outputs are the loss, the prediction and all gradients."""
        return self.derived.program

    @cached_property
    def gradients(self) -> Mapping[str, Equation]:
        """Parameter -> the equation of the loss's gradient with respect to it: name, indices, SymPy right-hand side."""
        backward = {e.name: e for e in self.backward}
        return MappingProxyType({p.name: backward[self.derived.adjoint[p.name]] for p in self.forward.parameters})

    def prove(self, **options: Any) -> None:
        """Check every gradient against brute force; see `prove.prove`. Raises `InternalError` where one is wrong."""
        from .prove import prove

        prove(self, **options)

    def __str__(self) -> str:
        return self.text()

    def text(self, **options: Any) -> str:
        """The derivation for an 80-column terminal."""
        from .report import text_report

        return text_report(self, **options)

    def latex(self, **options: Any) -> str:
        """The derivation as a LaTeX document that compiles as it is (article, amsmath)."""
        from .report import latex_report

        return latex_report(self, **options)

    def html(self, **options: Any) -> str:
        """The derivation as one HTML page with MathML."""
        from .report import html_report

        return html_report(self, **options)


def derivation(model: Model, variant: Variant) -> Derivation:
    """Derive the gradients of a model."""
    return Derivation(model, variant, derived_program(model.program(variant)))


def derived_program(program: Program, loss: str = "L", wrt: Iterable[str] | None = None) -> Derived:
    """Normal form, stable form, adjoints of all parameters or of `wrt`, and nothing computed twice.

    What each stage made is checked by the checker of the language before the next one starts.
    """
    derived = tidied(derive(prepared(program), loss, wrt))
    check(derived.program)
    return derived


def prepared(program: Program) -> Program:
    """Normal form and stable form."""
    for forward_pass in FORWARD_PASSES:
        program = check(forward_pass(program), normal=forward_pass not in BEFORE_NORMAL_FORM)
    return program

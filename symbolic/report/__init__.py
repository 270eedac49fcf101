"""The derivation as a report: text for a terminal, LaTeX, HTML with MathML.

`sections.py` says what is told, in which order; `matrix.py` recognises vectors and matrices in the equations;
`terminal.py`, `tex.py` and `page.py` print. What is printed is read off the equations that run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts import numbered
from .page import html_of
from .sections import document
from .terminal import text_of
from .tex import latex_of

if TYPE_CHECKING:
    from ..derivation import Derivation
    from ..optimisers import Optimiser

__all__ = ["document", "html_report", "latex_report", "numbered", "text_report"]


def text_report(derivation: Derivation, *, optimiser: Optimiser | None = None) -> str:
    """The report for an 80-column terminal.

    >>> from ..layers import Dense
    >>> from ..model import Model
    >>> print(text_report(Model(2, [Dense(1)]).derivation()).splitlines()[0])
    model: 2 inputs, dense 1, squared_error
    """
    return text_of(document(derivation, optimiser))


def latex_report(derivation: Derivation, *, optimiser: Optimiser | None = None) -> str:
    """The report as a LaTeX document."""
    return latex_of(document(derivation, optimiser))


def html_report(derivation: Derivation, *, optimiser: Optimiser | None = None) -> str:
    """The report as an HTML page."""
    return html_of(document(derivation, optimiser))

"""The sections of a report, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chain import chain_section
from .document import Document
from .facts import Facts
from .forward import loss_section, model_section
from .gradients import gradient_section
from .overview import model_line, symbols_section
from .update import update_section

if TYPE_CHECKING:
    from ..derivation import Derivation
    from ..optimisers import Optimiser


def document(derivation: Derivation, optimiser: Optimiser | None = None) -> Document:
    """The report on a derivation; with an optimiser, its update too."""
    facts = Facts(derivation)
    sections = [
        symbols_section(facts),
        model_section(facts),
        loss_section(facts),
        chain_section(facts),
        gradient_section(facts),
    ]
    if optimiser is not None:
        sections.append(update_section(optimiser))
    return Document(f"{derivation.model.name}: {model_line(derivation.model)}", tuple(sections))

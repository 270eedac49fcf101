"""The update of the optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sympy as sp

from ..notation import (
    Symbols,
    notation,
    plain_symbol,
)
from .document import Block, Display, Paragraph, Section, Step

if TYPE_CHECKING:
    from ..optimisers import Optimiser


def update_section(optimiser: Optimiser) -> Section:
    """The optimiser's rule, with its symbols, and as it runs with the numbers put in."""
    words = "For every element w of every parameter, with g the derivative of L by it, in step t = 1, 2, ..."
    values = ", ".join(f"{k} = {v:g}" for k, v in optimiser.hyperparameters.items())
    blocks: list[Block] = [
        Paragraph((f"{optimiser.name}. {words}:",)),
        Display(tuple(update_steps((*optimiser.scalar_updates, *optimiser.updates)))),
    ]
    if values:
        blocks.append(Paragraph((f"with {values}. As it runs, with these numbers:",)))
        bound = optimiser.bound
        blocks.append(Display(tuple(update_steps((*bound.scalar_updates, *bound.updates)))))
    return Section("The update", tuple(blocks))


def update_steps(updates: Iterable[tuple[str, sp.Expr]]) -> list[Step]:
    symbols = Symbols((), {}, {})
    return [Step(plain_symbol(name), notation(expr, symbols), (), "<-") for name, expr in updates]

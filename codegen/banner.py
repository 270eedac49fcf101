"""The head of a generated file: the model, its formulas under their numbers, the update, the operations."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ..symbolic.optimisers import Optimiser
from ..symbolic.text import equation_text, expression_text
from .arrays import GAP
from .layout import plain_text
from .plan import Step


def banner(
    title: str, summary: Sequence[str], forward: Sequence[Step], backward: Sequence[Step], rule: Optimiser | None,
    operations: int,
) -> str:  # fmt: skip
    """The head of the file: the model, its formulas under their numbers, the update, the operations."""
    lines = [f"{title}.  Change the model, not this file.", "", *summary, ""]
    for heading, steps in (
        ("forward", forward),
        ("backward: dq is the derivative of L with respect to q", backward),
    ):
        if steps:
            lines += [heading, *(_formula(s) for s in steps), ""]
    if rule is not None:
        lines.append(f"update, for every element w of every parameter and its gradient g ({rule.name})")
        updates = (*rule.scalar_updates, *rule.updates)
        lines += [
            textwrap.fill(f"{n} = {expression_text(e)}", 100, initial_indent="    ", subsequent_indent="        ")
            for n, e in updates
        ]
        lines.append("")
    lines.append(f"operations: {operations} a sample, forward and backward, without the gradients of the parameters")
    lines.append(f"gaps: {GAP} bytes behind what a block of samples or a worker keeps, since cores fetch ahead")
    return plain_text("\n".join(lines)) + "\n"


def _formula(step: Step) -> str:
    head = f"  ({step.number})"
    text = f"{head:<8}{equation_text(step.equation)}"
    return textwrap.fill(text, 106, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False)

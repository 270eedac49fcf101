"""A report as text of at most 80 columns."""

from __future__ import annotations

import textwrap

from ..plain import notation_text, wrapped
from ..text import expression_text
from .document import Block, Display, Document, Paragraph, Phrase, Running, Section, Step, Table

COLUMNS = 80
INDENT = "  "


def text_of(document: Document) -> str:
    """The whole report; it ends with a line break."""
    lines = textwrap.wrap(document.title, COLUMNS)
    lines += ["=" * max(map(len, lines))]
    for number, section in enumerate(document.sections):
        lines += ["", *section_lines(section, number)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def section_lines(section: Section, number: int) -> list[str]:
    title = f"{number}. {section.title}" if number else section.title
    lines = [title, "-" * len(title)]
    last: Block | None = None
    for block in section.blocks:
        if not (isinstance(block, Running) and isinstance(last, Running | Display)):
            lines.append("")
        lines += block_lines(block)
        last = block
    return lines


def block_lines(block: Block) -> list[str]:
    match block:
        case Paragraph():
            return textwrap.wrap(phrase_text(block.phrase), COLUMNS)
        case Table():
            return table_lines(block)
        case Display():
            return display_lines(block)
        case Running():
            return running_lines(block)


def phrase_text(phrase: Phrase) -> str:
    return "".join(p if isinstance(p, str) else notation_text(p) for p in phrase)


def table_lines(table: Table) -> list[str]:
    cells = [list(table.head), *([phrase_text(c) for c in row] for row in table.rows)]
    widths = [min(30, max(len(row[k]) for row in cells)) for k in range(len(table.head) - 1)]
    lines = []
    for row in cells:
        columns = [textwrap.wrap(c, w) or [""] for c, w in zip(row, widths, strict=False)]
        columns.append(textwrap.wrap(row[-1], COLUMNS - len(INDENT) - sum(w + 2 for w in widths)) or [""])
        for k in range(max(map(len, columns))):
            parts = [c[k] if k < len(c) else "" for c in columns]
            lines.append(INDENT + "  ".join([p.ljust(w) for p, w in zip(parts, widths, strict=False)] + parts[-1:]))
    return lines


def display_lines(display: Display) -> list[str]:
    lines: list[str] = []
    indent = 0
    for step in display.steps:
        if step.left is not None:
            indent = len(notation_text(step.left))
        lines += step_lines(step, indent)
    return lines


def step_lines(step: Step, indent: int) -> list[str]:
    """left = right, and on the right what gives it, where there is room; else in a line of its own."""
    left = notation_text(step.left) if step.left is not None else " " * indent
    head = f"{INDENT}{left} {step.sign} "
    if len(head) > COLUMNS // 2:
        body = wrapped(head.strip() + " " + notation_text(step.right), COLUMNS - 2, COLUMNS - 6)
        lines = [INDENT + body[0], *(INDENT * 3 + line for line in body[1:])]
    else:
        deeper = len(head) + 2
        body = wrapped(notation_text(step.right), COLUMNS - len(head), COLUMNS - deeper)
        lines = [head + body[0], *(" " * deeper + line for line in body[1:])]
    return with_rule(lines, phrase_text(step.rule))


def running_lines(block: Running) -> list[str]:
    """The equation with the names that it has in generated code, its number in front."""
    number = f"{INDENT}({block.number})".ljust(7)
    left = expression_text(block.equation.element)
    text = f"{left} = {expression_text(block.equation.expr)}"
    body = wrapped(text, COLUMNS - len(number), COLUMNS - len(number) - 4)
    lines = [number + body[0], *(" " * (len(number) + 4) + line for line in body[1:])]
    return with_rule(lines, block.equation.rule)


def with_rule(lines: list[str], rule: str) -> list[str]:
    """A rule at the right margin of the last line, or below it."""
    if not rule:
        return lines
    shown = f"[{rule}]"
    if len(lines[-1]) + 2 + len(shown) <= COLUMNS:
        return [*lines[:-1], lines[-1] + shown.rjust(COLUMNS - len(lines[-1]))]
    below = textwrap.wrap(shown, COLUMNS - 12)
    return [*lines, *(line.rjust(COLUMNS) for line in below)]

"""A report as a LaTeX document: article and amsmath, nothing else."""

from __future__ import annotations

import textwrap
from itertools import groupby

from ..breaking import broken, estimated_width
from ..latex import escaped, notation_latex
from ..notation import Math
from .document import Block, Display, Document, Paragraph, Phrase, Running, Section, Step, Table

ROOM = 78.0  # widths of a small letter in a line of 17 cm
PREAMBLE = r"""\documentclass[10pt,a4paper,fleqn]{article}
\usepackage{amsmath}
\setlength{\textwidth}{17cm}
\setlength{\textheight}{25cm}
\setlength{\oddsidemargin}{-0.5cm}
\setlength{\topmargin}{-1.5cm}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5\baselineskip}
\allowdisplaybreaks
"""


def latex_of(document: Document) -> str:
    """The whole report as a document that compiles."""
    lines = [PREAMBLE + r"\begin{document}", rf"\section*{{{escaped(document.title)}}}", ""]
    for number, section in enumerate(document.sections):
        lines += section_lines(section, number)
    return "\n".join([*lines, r"\end{document}", ""])


def section_lines(section: Section, number: int) -> list[str]:
    title = f"{number}. {section.title}" if number else section.title
    lines = [rf"\subsection*{{{escaped(title)}}}", ""]
    for is_running, blocks in groupby(section.blocks, lambda b: isinstance(b, Running)):
        if is_running:
            lines += [
                *aligned([row for b in blocks if isinstance(b, Running) for row in running_rows(b)]),
                "",
            ]
        else:
            lines += [line for b in blocks for line in (*block_lines(b), "")]
    return lines


def block_lines(block: Block) -> list[str]:
    match block:
        case Paragraph():
            return textwrap.wrap(
                phrase_latex(block.phrase), 110, break_long_words=False, break_on_hyphens=False
            )
        case Table():
            return table_lines(block)
        case Display():
            return display_lines(block)
        case Running():
            return aligned(running_rows(block))


def phrase_latex(phrase: Phrase) -> str:
    return "".join(escaped(p) if isinstance(p, str) else f"${notation_latex(p)}$" for p in phrase)


def phrase_width(phrase: Phrase) -> float:
    return sum(len(p) * 0.85 if isinstance(p, str) else estimated_width(p) for p in phrase)


def table_lines(table: Table) -> list[str]:
    """Paragraphs in the cells, so that a long one breaks; a long table goes on in the next page."""
    widths = ("3.5cm", "4.5cm", "8cm")
    lines = []
    head = " & ".join(rf"\textit{{{escaped(h)}}}" for h in table.head)
    rows = [head, *(" & ".join(phrase_latex(c) for c in row) for row in table.rows)]
    columns = "".join(rf"p{{{w}}}" for w in widths)
    for start in range(0, len(rows), 40):
        part = rows[start : start + 40]
        lines += [
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            *(rf"{row} \\" for row in part),
            r"\end{tabular}",
            "",
        ]
    return lines


def display_lines(display: Display) -> list[str]:
    left = max((estimated_width(s.left) for s in display.steps if s.left is not None), default=0.0)
    return aligned([row for step in display.steps for row in step_rows(step, left)])


def aligned(rows: list[str]) -> list[str]:
    """Rows aligned at their signs."""
    return [r"\begin{align*}", *(rf"{row} \\" for row in rows[:-1]), rows[-1], r"\end{align*}"]


def step_rows(step: Step, left_width: float) -> list[str]:
    """A step in lines; what gives it stands at the right margin of the last one where there is room, else below."""
    left = notation_latex(step.left) if step.left is not None else ""
    sign = r"\leftarrow" if step.sign == "<-" else step.sign
    room = ROOM - left_width - 4
    lines = broken(step.right, room, room - 4)
    rows = formula_rows(left, sign, lines)
    if fits_beside(step.rule, left_width, lines[-1]):
        return [*rows[:-1], rf"{rows[-1]} \tag*{{\footnotesize {phrase_latex(step.rule)}}}"]
    return rows + rule_rows(step.rule)


def running_rows(block: Running) -> list[str]:
    """An equation with its number, and what gives it, at the right margin."""
    left_width = estimated_width(block.left)
    room = ROOM - left_width - 11
    lines = broken(block.right, room, room - 4)
    rows = formula_rows(notation_latex(block.left), "=", lines)
    if len(lines) == 1 and fits_beside(block.rule, left_width + 6, lines[0]):
        words = rf"{{\footnotesize {phrase_latex(block.rule)}}}\quad"
        return [rf"{rows[0]} \tag*{{{words}({block.number})}}"]
    return [rf"{rows[0]} \tag{{{block.number}}}", *rows[1:], *rule_rows(block.rule)]


def formula_rows(left: str, sign: str, lines: list[Math]) -> list[str]:
    first, *others = (notation_latex(line) for line in lines)
    return [rf"{left} &{sign} {first}", *(rf"&\qquad {line}" for line in others)]


def fits_beside(rule: Phrase, left_width: float, last: Math) -> bool:
    return bool(rule) and left_width + estimated_width(last) + 0.85 * phrase_width(rule) + 12 <= ROOM


def rule_rows(rule: Phrase) -> list[str]:
    return [rf"&\qquad \text{{\footnotesize {line}}}" for line in _wrapped_phrase(rule)] if rule else []


def _wrapped_phrase(rule: Phrase) -> list[str]:
    """A rule in lines that are narrow enough, broken between its words."""
    glued: list[list[str | Math]] = [[]]
    for part in rule:
        if isinstance(part, str):
            first, *others = part.split(" ")
            glued[-1].append(first)
            glued += [[w] for w in others]
        else:
            glued[-1].append(part)
    lines: list[list[str | Math]] = [[]]
    for word in glued:
        if lines[-1] and phrase_width((*lines[-1], *word)) > 0.9 * ROOM:
            lines.append([])
        lines[-1] += [*([" "] if lines[-1] else []), *word]
    return [phrase_latex(tuple(line)) for line in lines]

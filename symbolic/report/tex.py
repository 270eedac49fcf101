"""A report as a LaTeX document: article and amsmath, nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from ..breaking import broken, estimated_width
from ..latex import escaped, notation_latex
from ..notation import Math
from .document import Block, Display, Document, Paragraph, Phrase, Running, Section, Step, Table

ROOM = 92.0  # widths of a small letter in a line of 17 cm
LONG_WORD = 20  # letters
WIDEST_LEFT = 26.0  # of a left side that the others are aligned with
PREAMBLE = r"""\documentclass[10pt,a4paper,fleqn]{article}
\usepackage{amsmath}
\setlength{\textwidth}{17cm}
\setlength{\textheight}{25cm}
\setlength{\oddsidemargin}{-0.5cm}
\setlength{\topmargin}{-1.5cm}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5\baselineskip}
\allowdisplaybreaks
\begin{document}
\setlength{\abovedisplayskip}{0.4\baselineskip}
\setlength{\belowdisplayskip}{0.4\baselineskip}
"""


def latex_of(document: Document) -> str:
    """The whole report as a document that compiles."""
    lines = [PREAMBLE + rf"\section*{{\raggedright {words_latex(document.title)}}}", ""]
    for number, section in enumerate(document.sections):
        lines += section_lines(section, number)
    text = "\n".join([*lines, r"\end{document}", ""])
    return text.replace("\\end{align*}\n\n\\begin{align*}", "\\end{align*}\n\\begin{align*}")  # less space between


def section_lines(section: Section, number: int) -> list[str]:
    title = f"{number}. {section.title}" if number else section.title
    lines = [rf"\subsection*{{{escaped(title)}}}", ""]
    for is_running, blocks in groupby(section.blocks, lambda b: isinstance(b, Running)):
        if is_running:
            lines += [*runs_lines([b for b in blocks if isinstance(b, Running)]), ""]
        else:
            lines += [line for b in blocks for line in (*block_lines(b), "")]
    return lines


def block_lines(block: Block) -> list[str]:
    match block:
        case Paragraph():
            return textwrap.wrap(phrase_latex(block.phrase), 110, break_long_words=False, break_on_hyphens=False)
        case Table():
            return table_lines(block)
        case Display():
            return display_lines(block)
        case Running():
            return runs_lines([block])


def phrase_latex(phrase: Phrase) -> str:
    return "".join(words_latex(p) if isinstance(p, str) else f"${notation_latex(p)}$" for p in phrase)


def words_latex(text: str) -> str:
    """Words; a very long one (a name of the user's) may be broken at its underscores."""
    words = (
        escaped(w) if len(w) < LONG_WORD else escaped(w).replace(r"\_", r"\_\allowbreak{}") for w in text.split(" ")
    )
    return " ".join(words)


def phrase_width(phrase: Phrase) -> float:
    return sum(len(p) * 0.85 if isinstance(p, str) else estimated_width(p) for p in phrase)


def table_lines(table: Table) -> list[str]:
    """Paragraphs in the cells, so that a long one breaks; a long table goes on in the next page."""
    lines = []
    head = " & ".join(rf"\textit{{{escaped(h)}}}" for h in table.head)
    rows = [rf"{head} \\", *map(table_row, table.rows)]
    columns = "".join(rf"p{{{w}cm}}" for w in COLUMNS)
    for start in range(0, len(rows), 40):
        part = rows[start : start + 40]
        lines += [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", *part, r"\end{tabular}", ""]
    return lines


COLUMNS = (3.5, 4.5, 8.0)  # in cm


def table_row(row: tuple[Phrase, ...]) -> str:
    """A row; if a formula is wider than its column, every cell gets a line."""
    cells = [phrase_latex(c) for c in row]
    widest = [max((estimated_width(p) for p in c if not isinstance(p, str)), default=0.0) for c in row]
    if all(w < 5 * cm for w, cm in zip(widest, COLUMNS, strict=True)):
        return " & ".join(cells) + r" \\"
    return "\n".join(rf"\multicolumn{{3}}{{@{{}}p{{16.5cm}}@{{}}}}{{{cell}}} \\" for cell in cells)


def display_lines(display: Display) -> list[str]:
    width = left_width([s.left for s in display.steps])
    return aligned([row for step in display.steps for row in step_rows(step, width)])


def runs_lines(blocks: list[Running]) -> list[str]:
    width = left_width([b.left for b in blocks])
    return aligned([row for block in blocks for row in running_rows(block, width)])


def left_width(lefts: Sequence[Math | None]) -> float:
    """The width that left sides take; those that are too wide stand above the right side."""
    widths = [estimated_width(left) for left in lefts if left is not None]
    return max((w for w in widths if w <= WIDEST_LEFT), default=0.0)


def aligned(rows: list[str]) -> list[str]:
    """Rows aligned at their signs."""
    return [r"\begin{align*}", *(rf"{row} \\" for row in rows[:-1]), rows[-1], r"\end{align*}"]


def step_rows(step: Step, left: float) -> list[str]:
    """A step in lines; what gives it stands at the right margin of the last one, else below it."""
    sign = r"\leftarrow" if step.sign == "<-" else step.sign
    lines = broken(step.right, ROOM - left - 4, ROOM - left - 8)
    rows = formula_rows(step.left, sign, lines)
    if fits_beside(step.rule, left, lines[-1]):
        return [*rows[:-1], rf"{rows[-1]} \tag*{{\footnotesize {phrase_latex(step.rule)}}}"]
    return rows + rule_rows(step.rule)


def running_rows(block: Running, left: float) -> list[str]:
    """An equation with its number, and what gives it, at the right margin."""
    lines = broken(block.right, ROOM - left - 11, ROOM - left - 15)
    rows = formula_rows(block.left, "=", lines)
    if len(lines) == 1 and fits_beside(block.rule, left + 6, lines[0]):
        words = rf"{{\footnotesize {phrase_latex(block.rule)}}}\quad"
        return [*rows[:-1], rf"{rows[-1]} \tag*{{{words}({block.number})}}"]
    return [rf"{rows[0]} \tag{{{block.number}}}", *rows[1:], *rule_rows(block.rule)]


def formula_rows(left: Math | None, sign: str, lines: list[Math]) -> list[str]:
    """Left side, sign and right side; a left side that is too wide gets a row of its own."""
    first, *others = (notation_latex(line) for line in lines)
    head = "" if left is None else notation_latex(left)
    if left is not None and estimated_width(left) > WIDEST_LEFT:
        rows = [rf"&{head}", rf"&\quad {sign} {first}"]
    else:
        rows = [rf"{head} &{sign} {first}"]
    return [*rows, *(rf"&\qquad {line}" for line in others)]


def fits_beside(rule: Phrase, left: float, last: Math) -> bool:
    return bool(rule) and left + estimated_width(last) + 0.85 * phrase_width(rule) + 12 <= ROOM


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

"""A report as one HTML page with MathML: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from ..breaking import broken
from ..mathml import notation_mathml, operator, tag
from ..notation import Math
from .document import Block, Display, Document, Paragraph, Phrase, Running, Section, Step, Table

ROOM = 92.0
STYLE = """
:root { color-scheme: light dark; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem; }
body { font: 1rem/1.5 Georgia, "Times New Roman", serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #8888; }
table.symbols { border-collapse: collapse; }
table.symbols th { text-align: left; font-weight: normal; font-style: italic; }
table.symbols td, th { padding: 0.15rem 1.5rem 0.15rem 0; vertical-align: baseline; }
div.formula { display: flex; gap: 1rem; align-items: baseline; }
div.formula { overflow-x: auto; padding: 0.2rem 0 0.2rem 1rem; }
div.formula math { flex: 0 0 auto; }
mtable.steps { margin-left: 0; }
mtd.rule { padding-left: 2.5em !important; font-size: 0.8rem; opacity: 0.7; }
span.number { flex: 0 0 2.5rem; }
span.rule { margin-left: auto; font-size: 0.8rem; opacity: 0.7; text-align: right; }
mtable.steps > mtr > mtd { text-align: left; padding: 0.25em 0.2em; }
mtable.steps > mtr > mtd:first-child { text-align: right; }
mtable.cases > mtr > mtd { text-align: left; }
""".strip()


def html_of(document: Document) -> str:
    """The whole report as a page."""
    title = escape(document.title)
    body = [section_html(section, number) for number, section in enumerate(document.sections)]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            f"<h1>{title}</h1>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def section_html(section: Section, number: int) -> str:
    title = f"{number}. {section.title}" if number else section.title
    return "\n".join([f"<h2>{escape(title)}</h2>", *map(block_html, section.blocks)])


def block_html(block: Block) -> str:
    match block:
        case Paragraph():
            return f"<p>{phrase_html(block.phrase)}</p>"
        case Table():
            return table_html(block)
        case Display():
            return display_html(block)
        case Running():
            return running_html(block)


def inline(math: Math) -> str:
    return tag("math", notation_mathml(math))


def phrase_html(phrase: Phrase) -> str:
    return "".join(escape(p) if isinstance(p, str) else inline(p) for p in phrase)


def table_html(table: Table) -> str:
    head = tag("tr", *(tag("th", escape(h)) for h in table.head))
    rows = [tag("tr", *(tag("td", phrase_html(c)) for c in row)) for row in table.rows]
    return tag("table", "\n", "\n".join([head, *rows]), "\n", class_="symbols")


def display_html(display: Display) -> str:
    rows = [row for step in display.steps for row in step_rows(step)]
    return f'<div class="formula">{steps_html(rows)}</div>'


def steps_html(rows: list[str]) -> str:
    return tag(
        "math",
        tag("mtable", "\n", "\n".join(rows), "\n", class_="steps", displaystyle="true"),
        displaystyle="true",
    )


def step_rows(step: Step) -> list[str]:
    left = notation_mathml(step.left) if step.left is not None else ""
    rows = formula_rows(left, step.sign, step.right)
    if not step.rule:
        return rows
    rule = tag("mtd", tag("mrow", *(rule_part(p) for p in step.rule)), class_="rule")
    return [*rows[:-1], rows[-1].removesuffix("</mtr>") + rule + "</mtr>"]


def rule_part(part: str | Math) -> str:
    """Words of a rule, with spaces at their ends kept."""
    if not isinstance(part, str):
        return notation_mathml(part)
    return tag("mtext", escape(part).replace(" ", "\u00a0"))


def formula_rows(left: str, sign: str, right: Math) -> list[str]:
    lines = [notation_mathml(line) for line in broken(right, ROOM, ROOM - 4)]
    first = tag("mtr", tag("mtd", left), tag("mtd", operator(sign)), tag("mtd", lines[0]))
    space = tag("mspace", width="2em")
    return [
        first,
        *(tag("mtr", tag("mtd"), tag("mtd"), tag("mtd", tag("mrow", space, line))) for line in lines[1:]),
    ]


def running_html(block: Running) -> str:
    rows = formula_rows(notation_mathml(block.left), "=", block.right)
    number = tag("span", f"({block.number})", class_="number")
    rule = tag("span", phrase_html(block.rule), class_="rule")
    return f'<div class="formula" id="equation-{block.number}">{number}{steps_html(rows)}{rule}</div>'

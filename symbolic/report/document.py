"""What a report consists of, whichever way it is printed.

document ::= title section*
section  ::= title block*
block    ::= Paragraph | Table | Display | Running
"""

from __future__ import annotations

from dataclasses import dataclass

from ..language import Equation
from ..notation import Math

Phrase = tuple[str | Math, ...]


@dataclass(frozen=True)
class Paragraph:
    """Words, with formulas between them."""

    phrase: Phrase


@dataclass(frozen=True)
class Table:
    """Rows of cells; a cell is a phrase."""

    head: tuple[str, ...]
    rows: tuple[tuple[Phrase, ...], ...]


@dataclass(frozen=True)
class Step:
    """One line of a derivation: left = right, and the rule that gives it. Without a left side it goes on."""

    left: Math | None
    right: Math
    rule: Phrase = ()
    sign: str = "="


@dataclass(frozen=True)
class Display:
    """A formula, step by step."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Running:
    """An equation as it runs: its number, the equation, and it in notation, with its rule."""

    number: int
    equation: Equation
    left: Math
    right: Math
    rule: Phrase


Block = Paragraph | Table | Display | Running


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    title: str
    sections: tuple[Section, ...]

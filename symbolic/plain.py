"""Notation as plain ASCII text, and text in lines of at most 80 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .breaking import Piece, filled
from .notation import (
    BRACKETS,
    Call,
    Cases,
    Fraction,
    Group,
    Math,
    Name,
    Number,
    Over,
    Partial,
    Power,
    Product,
    Root,
    Row,
    Sign,
    Total,
    Word,
)

TIGHT = (Name, Number, Group, Call, Power, Root)


def notation_text(math: Math) -> str:
    """Notation as text.

    >>> x = Name("x", label=("1",))
    >>> notation_text(Product((Name("W", label=("o",)), x))), notation_text(Partial(Name("L"), x))
    ('W^(o) x^(1)', 'dL/dx^(1)')
    """
    t = notation_text
    match math:
        case Name():
            return _name(math)
        case Number() | Word():
            return math.text
        case Sign():
            return math.text
        case Row():
            return re.sub(r" ,|(?<=[,(]) ", lambda m: m[0].strip(), " ".join(filter(None, map(t, math.parts))))
        case Call():
            return f"{t(math.function)}({', '.join(map(t, math.arguments))})"
        case Group():
            opening, closing = BRACKETS[math.bracket]
            return f"{opening}{t(math.body)}{closing}"
        case Power():
            exponent = t(math.exponent)
            raised = exponent if isinstance(math.exponent, Name | Number | Word) else f"({exponent})"
            return f"{t(math.base)}^{raised}"
        case Root():
            return f"sqrt({t(math.body)})"
        case Fraction():
            top = f"({t(math.top)})" if isinstance(math.top, Total | Over) else t(math.top)
            return f"{top}/{t(math.bottom)}" if isinstance(math.bottom, TIGHT) else f"{top}/({t(math.bottom)})"
        case Partial():
            top, bottom = (t(p) if isinstance(p, Name | Call) else f"({t(p)})" for p in (math.top, math.bottom))
            return f"d{top}/d{bottom}"
        case Product():
            factors = [f"({t(f)})" if isinstance(f, Fraction) else t(f) for f in math.factors]
            return (f" {math.sign} " if math.sign else " ").join(factors)
        case Total():
            return _total(math)
        case Over():
            return f"{math.kind}_{t(math.indices).replace(' ', '')} {t(math.body)}".rstrip()
        case Cases():
            parts = [f"{t(v)} otherwise" if c is None else f"{t(v)} if {t(c)}" for v, c in math.branches]
            return "{" + "; ".join(parts) + "}"


def _name(name: Name) -> str:
    sub = "" if name.sub is None else notation_text(name.sub).replace(" ", "")
    sub = f"_{{{sub}}}" if set(sub) & set("+-*/,") else f"_{sub}" if sub else ""
    label = "" if not name.label else f"^({','.join(name.label)})"
    transposed = ("T" if label else "^T") if name.transposed else ""
    base = "l" if name.base == "ell" else name.base
    return f"{base}{'_hat' if name.hat else ''}{chr(39) * name.prime}{sub}{label}{transposed}"


def _total(math: Total) -> str:
    text = ""
    for negative, term in math.terms:
        shown = notation_text(term)
        text += (" - " if text else "-") + shown if negative else (" + " if text else "") + shown
    return text


def wrapped(text: str, first: int, later: int) -> list[str]:
    """A formula in lines, broken at spaces: before operators, outside of brackets where possible.

    >>> wrapped("alpha + f(b + c) + d", 16, 16)
    ['alpha + f(b + c)', '+ d']
    """
    if len(text) <= first:
        return [text]
    pieces, depth, before = [], 0, ""
    for word in text.split(" "):
        for part in _short(word, min(first, later)):
            pieces.append(Piece(Word(part), 4 * depth + _reluctance(before, word), len(part) + 1.0, True))
        depth += sum(map(word.count, "([{")) - sum(map(word.count, ")]}"))
        before = word
    lines = filled(pieces, first + 1.0, later + 1.0)
    return [" ".join(p.math.text for p in line if isinstance(p.math, Word)) for line in lines]


def _reluctance(before: str, word: str) -> int:
    """How bad a break between two words is: best before a sign or behind a case, worst behind a sign."""
    if word in ("+", "-", "=", "<-") or before.endswith(";"):
        return 0
    if word in ("*", ".*", "if", "otherwise", "and", "or"):
        return 1
    return 3 if {before, word} & _SIGNS else 2


_SIGNS = frozenset(("+", "-", "=", "*", ".*", "<-", "if", "and", "or", "not", "<=", ">=", "<", ">", "!="))


def _short(word: str, width: int) -> Sequence[str]:
    """A word too long for a line (a name of the user's) in pieces that fit."""
    return [word[k : k + width] for k in range(0, len(word), width)] if len(word) > width else [word]

"""Formulas that are too wide become several lines, broken at operators, at the outermost ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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

Width = Callable[[Math], float]


@dataclass(frozen=True)
class Piece:
    """A part of a formula that stays together; `depth`: how deep in brackets a break before it would be."""

    math: Math
    depth: int
    width: float
    may_break: bool


def estimated_width(math: Math) -> float:
    """The width of typeset notation, in widths of a small letter.

    >>> estimated_width(Name("W")) < estimated_width(Name("W", label=("1",)))
    True
    """
    w = estimated_width
    match math:
        case Name():
            base = 1.3 if len(math.base) != 1 and math.base.isalpha() and len(math.base) < 8 else len(math.base)
            label = sum(map(len, math.label)) + 1.2 if math.label else 0
            return max(base, len(math.base) * 0.95) + 0.72 * max(
                label + math.transposed, w(math.sub) if math.sub else 0
            ) + 0.4 * math.prime  # fmt: skip
        case Number() | Word():
            return float(len(math.text))
        case Sign():
            return {",": 0.8, "": 0.3, "(": 0.8, ")": 0.8, "...": 2.5}.get(math.text, 2.8)
        case Row():
            return sum(map(w, math.parts)) + 0.3 * len(math.parts)
        case Call():
            return w(math.function) + 2.4 + sum(w(a) + 0.8 for a in math.arguments)
        case Group():
            return w(math.body) + 2.2
        case Power():
            return w(math.base) + 0.72 * w(math.exponent)
        case Root():
            return w(math.body) + 2.0
        case Fraction() | Partial():
            return max(w(math.top), w(math.bottom)) + (1.8 if isinstance(math, Partial) else 0.6)
        case Product():
            return sum(map(w, math.factors)) + (2.6 if math.sign else 0.5) * (len(math.factors) - 1)
        case Total():
            return sum(w(t) + 2.8 for _, t in math.terms)
        case Over():
            return max(3.0 if math.kind != "sum" else 2.4, 0.72 * w(math.indices)) + 0.6 + w(math.body)
        case Cases():
            return 3.0 + max(w(v) + (w(c) + 5.0 if c is not None else 9.0) for v, c in math.branches)


def broken(math: Math, first: float, later: float, width: Width = estimated_width) -> list[Math]:
    """The lines of a formula: the first no wider than `first`, the others than `later`, if possible."""
    if width(math) <= first:
        return [math]
    pieces = list(_pieces(math, 0, min(first, later) * 0.4, width))
    return [Row(tuple(p.math for p in line)) for line in filled(pieces, first, later)]


def filled(pieces: Sequence[Piece], first: float, later: float) -> list[list[Piece]]:
    """Pieces in lines; a line is broken as late as possible among the outermost places in its last part."""
    lines: list[list[Piece]] = []
    rest = list(pieces)
    room = first
    while rest:
        used, fits = 0.0, 0
        while fits < len(rest) and used + rest[fits].width <= room:
            used += rest[fits].width
            fits += 1
        if fits == len(rest):
            lines.append(rest)
            break
        places = [k for k in range(1, fits + 1) if k < len(rest) and rest[k].may_break]
        if not places:  # nothing fits: the first place behind it, or the rest in one line
            places = [next((k for k in range(max(1, fits), len(rest)) if rest[k].may_break), len(rest))]
        filled_to = [sum(p.width for p in rest[:k]) for k in places]
        late = [k for k, so_far in zip(places, filled_to, strict=True) if so_far >= 0.45 * room] or places[-1:]
        cut = min(late, key=lambda k: (rest[k].depth if k < len(rest) else 0, -k))
        lines.append(rest[:cut])
        rest, room = rest[cut:], later
    return lines


def _pieces(math: Math, depth: int, enough: float, width: Width) -> Iterator[Piece]:
    """A formula taken apart where that makes pieces narrower; what is narrow enough stays together."""

    def piece(part: Math, may_break: bool = False, at: int = depth) -> Piece:
        return Piece(part, at, width(part), may_break)

    def inside(part: Math, deeper: int = 2) -> Iterator[Piece]:
        return _pieces(part, depth + deeper, enough, width)

    def bracketed(part: Math, opening: Math, closing: Math) -> Iterator[Piece]:
        yield piece(opening)
        yield from inside(part)
        yield piece(closing)

    match math:
        case Total():
            for k, (negative, term) in enumerate(math.terms):
                if k or negative:
                    yield piece(Sign(("-" if negative else "+") if k else "0-"), may_break=k > 0)
                yield from inside(term, 1)
        case Product() if width(math) > enough:
            for k, factor in enumerate(math.factors):
                if k:
                    yield piece(Sign(math.sign), may_break=True)
                yield from inside(factor, 1)
        case Row() if width(math) > enough:
            for part in math.parts:
                is_relation = isinstance(part, Sign) and part.text not in (",",)
                if is_relation:
                    yield piece(part, may_break=True)
                else:
                    yield from inside(part, 1)
        case _ if width(math) <= enough:
            yield piece(math)
        case Group():
            opening, closing = BRACKETS[math.bracket]
            yield from bracketed(math.body, Sign(f"{opening}<"), Sign(f">{closing}"))
        case Call():
            yield piece(math.function)
            yield piece(Sign("(<"))
            for k, argument in enumerate(math.arguments):
                if k:
                    yield piece(Sign(","))
                yield from inside(argument)
            yield piece(Sign(">)"))
        case Power():
            base = math.base.body if isinstance(math.base, Group) else math.base
            yield from bracketed(base, Sign("(<"), Power(Sign(">)"), math.exponent))
        case Root():
            yield from bracketed(math.body, Sign("(<"), Power(Sign(">)"), Fraction(Number("1"), Number("2"))))
        case Fraction():
            yield from bracketed(math.top, Sign("(<"), Sign(">)"))
            yield piece(Sign("/"), may_break=True, at=depth + 1)
            yield from bracketed(math.bottom, Sign("(<"), Sign(">)"))
        case Over():
            yield piece(Over(math.kind, math.indices, Row(())))
            yield from inside(math.body, 1)
        case Cases():
            yield piece(Sign("{<"))
            for k, (value, condition) in enumerate(math.branches):
                if k:
                    yield piece(Sign(";"))
                yield from inside(value)
                yield piece(Word("if" if condition is not None else "otherwise"), may_break=True, at=depth + 1)
                if condition is not None:
                    yield from inside(condition)
            yield piece(Sign(">}"))
        case _:
            yield piece(math)

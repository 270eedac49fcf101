"""Notation as MathML (Core), for HTML pages without scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .notation import (
    BRACKETS,
    GREEK,
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
    is_tall,
)

LETTERS = dict(zip(GREEK, "αβγδεζηθικλμνξπρστυφχψω", strict=True))
APPLY = "\u2061"
SIGNS = {
    ".*": "⊙", "<=": "≤", ">=": "≥", "!=": "≠", "<-": "←", "...": "⋯",
    "-": "−", "0-": "−",
    "(<": "(", ">)": ")", "[<": "[", ">]": "]", "{<": "{", ">}": "}", "|<": "|", ">|": "|",
    "||<": "‖", ">||": "‖", "||": "‖",
}  # fmt: skip


def tag(name: str, *content: str, **attributes: str) -> str:
    """An element; a trailing underscore in the name of an attribute is dropped."""
    given = "".join(f' {k.rstrip("_")}="{escape(v)}"' for k, v in attributes.items())
    return f"<{name}{given}>{''.join(content)}</{name}>"


def operator(text: str, **attributes: str) -> str:
    return tag("mo", escape(SIGNS.get(text, text)), **attributes)


def row(parts: Iterable[str]) -> str:
    given = list(parts)
    return given[0] if len(given) == 1 else tag("mrow", *given)


def notation_mathml(math: Math) -> str:
    """Notation as an element of MathML.

    >>> notation_mathml(Name("w", label=("1",), sub=Name("i")))
    '<msubsup><mi>w</mi><mi>i</mi><mrow><mo stretchy="false">(</mo><mn>1</mn><mo stretchy="false">)</mo></mrow></msubsup>'
    """  # noqa: E501  one element
    t = notation_mathml
    match math:
        case Name():
            return _name(math)
        case Number():
            return _number(math.text)
        case Word(text="T"):
            return tag("mi", "T", mathvariant="normal")
        case Word():
            spaced = math.text in ("if", "otherwise", "and", "or", "not")
            return tag("mtext", f"\u00a0{math.text}\u00a0") if spaced else tag("mi", escape(math.text))
        case Sign():
            return operator(
                math.text, **({"stretchy": "false"} if len(math.text) > 1 and math.text[0] in "([{|>" else {})
            )
        case Row():
            return row(map(t, math.parts))
        case Call():
            arguments = [p for a in math.arguments for p in (operator(","), t(a))][1:]
            return row((t(math.function), operator(APPLY), _between("(", row(arguments), is_tall(math.arguments))))
        case Group():
            return _between(math.bracket, t(math.body), is_tall((math.body,)))
        case Power():
            return tag("msup", t(math.base), t(math.exponent))
        case Root():
            return tag("msqrt", t(math.body))
        case Fraction():
            return tag("mfrac", t(math.top), t(math.bottom))
        case Partial():
            return tag("mfrac", *(row((tag("mi", "∂"), _derived(p))) for p in (math.top, math.bottom)))
        case Product():
            between = tag("mspace", width="0.17em") if math.sign in ("", "*") else operator(math.sign)
            return row([p for f in math.factors for p in (between, t(f))][1:])
        case Total():
            return row(_terms(math))
        case Over():
            words = {
                "sum": operator("∑", movablelimits="false"),
                "max": operator("max"),
                "argmax": operator("arg max"),
            }
            return row((tag("munder", words[math.kind], t(math.indices)), t(math.body)))
        case Cases():
            rows = [tag("mtr", tag("mtd", t(v)), tag("mtd", _condition(c))) for v, c in math.branches]
            return row((operator("{", stretchy="true"), tag("mtable", *rows, class_="cases")))


def _condition(condition: Math | None) -> str:
    if condition is None:
        return tag("mtext", "otherwise")
    return row((tag("mtext", "if\u00a0"), notation_mathml(condition)))


def _number(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    if not e:
        return tag("mn", text)
    power = int(exponent)
    shown = tag("mn", str(power)) if power >= 0 else row((operator("-"), tag("mn", str(-power))))
    raised = tag("msup", tag("mn", "10"), shown)
    return raised if mantissa == "1" else row((tag("mn", mantissa), operator("·"), raised))


def _letters(base: str) -> str:
    return tag("mi", LETTERS.get(base) or ("ℓ" if base == "ell" else escape(base)))


def _name(name: Name) -> str:
    base = tag("mover", _letters(name.base), operator("^")) if name.hat else _letters(name.base)
    raised: list[str] = [operator("′")] if name.prime else []
    for part in name.label:
        if len(part) < 3:
            shown = tag("mn" if part.isdigit() else "mi", escape(part))
            raised += [operator("(", stretchy="false"), shown, operator(")", stretchy="false")]
        else:
            raised.append(tag("mtext", escape(part)))
    if name.transposed:
        raised.append(tag("mi", "T", mathvariant="normal"))
    sub = "" if name.sub is None else notation_mathml(name.sub)
    if sub and raised:
        return tag("msubsup", base, sub, tag("mrow", *raised))
    if sub:
        return tag("msub", base, sub)
    return tag("msup", base, tag("mrow", *raised)) if raised else base


def _derived(math: Math) -> str:
    return (
        notation_mathml(math)
        if isinstance(math, Name | Call)
        else _between("(", notation_mathml(math), is_tall((math,)))
    )


def _between(bracket: str, body: str, tall: bool) -> str:
    opening, closing = BRACKETS[bracket]
    grows = "true" if tall else "false"
    return tag("mrow", operator(opening, stretchy=grows, form="prefix"), body,
               operator(closing, stretchy=grows, form="postfix"))  # fmt: skip


def _terms(math: Total) -> Iterable[str]:
    for k, (negative, term) in enumerate(math.terms):
        if k or negative:
            yield operator("-" if negative else "+")
        yield notation_mathml(term)

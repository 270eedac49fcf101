"""Notation as LaTeX, for article and amsmath."""

from __future__ import annotations

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

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "<": r"\textless{}", ">": r"\textgreater{}", '"': "''", "|": r"\textbar{}",
}  # fmt: skip
SIGNS = {
    "": "\\,", ".*": r"\odot", "*": r"\,", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "<-": r"\leftarrow",
    "...": r"\cdots", "0-": "-", "(<": "(", ">)": ")", "[<": "[", ">]": "]", "{<": r"\{", ">}": r"\}",
    "|<": "|", ">|": "|", "||<": r"\|", ">||": r"\|", ";": r";\;",
}  # fmt: skip
DELIMITERS = {"(": "(", ")": ")", "[": "[", "]": "]", "|": "|", "||": r"\|"}
FUNCTIONS = frozenset(("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min"))
ACCENTED_GREEK = {"epsilon": r"\varepsilon", "phi": r"\varphi"}


def escaped(text: str) -> str:
    """Text with the characters that LaTeX gives a meaning as characters.

    >>> print(escaped("my_param 50%"))
    my\\_param 50\\%
    """
    return "".join(SPECIAL.get(c, c) if ord(c) < 128 else "?" for c in text)


def notation_latex(math: Math) -> str:
    r"""Notation as LaTeX.

    >>> print(notation_latex(Partial(Name("L"), Name("W", label=("1",)))))
    \frac{\partial L}{\partial W^{(1)}}
    """
    t = notation_latex
    match math:
        case Name():
            return _name(math)
        case Number():
            return _number(math.text)
        case Word(text="T"):
            return r"\mathsf{T}"
        case Word():
            return _function(math.text) if math.text in FUNCTIONS else rf"\mathrm{{{escaped(math.text)}}}"
        case Sign():
            return SIGNS.get(math.text, math.text)
        case Row():
            return " ".join(_in_row(p) for p in math.parts)
        case Call():
            arguments = ", ".join(map(t, math.arguments))
            return t(math.function) + _between("(", arguments, is_tall(math.arguments))
        case Group():
            return _between(math.bracket, t(math.body), is_tall((math.body,)))
        case Power():
            return f"{{{t(math.base)}}}^{{{t(math.exponent)}}}"
        case Root():
            return rf"\sqrt{{{t(math.body)}}}"
        case Fraction():
            return rf"\frac{{{t(math.top)}}}{{{t(math.bottom)}}}"
        case Partial():
            return rf"\frac{{\partial {_derived(math.top)}}}{{\partial {_derived(math.bottom)}}}"
        case Product():
            sign = SIGNS[math.sign]
            return f" {sign} ".join(map(t, math.factors))
        case Total():
            return _total(math)
        case Over():
            head = {"sum": r"\sum", "max": r"\max", "argmax": r"\operatorname*{arg\,max}"}[math.kind]
            return rf"{head}_{{{t(math.indices)}}} {t(math.body)}".rstrip()
        case Cases():
            rows = [rf"{t(v)} & {_condition(c)}" for v, c in math.branches]
            return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"


def _in_row(math: Math) -> str:
    spaced = isinstance(math, Word) and math.text in ("if", "otherwise", "and", "or", "not")
    return rf"\ \text{{{math.text}}}\ " if spaced and isinstance(math, Word) else notation_latex(math)


def _condition(condition: Math | None) -> str:
    return r"\text{otherwise}" if condition is None else rf"\text{{if }} {notation_latex(condition)}"


def _number(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    power = f"10^{{{int(exponent)}}}"
    return power if mantissa == "1" else rf"{mantissa} \cdot {power}"


def _function(name: str) -> str:
    return f"\\{name}"


def _letters(base: str) -> str:
    if base in GREEK:
        return r"o" if base == "omicron" else ACCENTED_GREEK.get(base, f"\\{base}")
    if base == "ell":
        return r"\ell"
    return base if len(base) == 1 else rf"\mathrm{{{escaped(base)}}}"


def _name(name: Name) -> str:
    base = rf"\hat {_letters(name.base)}" if name.hat else _letters(name.base)
    sub = f"_{{{notation_latex(name.sub)}}}" if name.sub is not None else ""
    label = [f"({escaped(part)})" if len(part) < 3 else rf"\,\mathrm{{{escaped(part)}}}" for part in name.label]
    above = "'" * name.prime
    raised = "".join([*label, r"\mathsf{T}" if name.transposed else ""])
    if above and raised:
        return rf"{{{base}}}^{{\prime {raised}}}{sub}"
    return f"{base}{above}{sub}{f'^{{{raised}}}' if raised else ''}"


def _derived(math: Math) -> str:
    closed = isinstance(math, Name | Call)
    return notation_latex(math) if closed else _between("(", notation_latex(math), is_tall((math,)))


def _between(bracket: str, body: str, tall: bool) -> str:
    opening, closing = (DELIMITERS[b] for b in BRACKETS[bracket])
    return rf"\left{opening} {body} \right{closing}" if tall else f"{opening}{body}{closing}"


def _total(math: Total) -> str:
    text = ""
    for negative, term in math.terms:
        shown = notation_latex(term)
        text += (" - " if text else "-") + shown if negative else (" + " if text else "") + shown
    return text

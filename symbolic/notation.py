"""Mathematical notation as a small tree, between SymPy and the three ways of printing it.

    math  ::= Name | Number | Word | Sign | Call(function, math*) | Group(math) | Power(math, math)
            | Root(math) | Fraction(math, math) | Partial(math, math) | Product(math*, sign)
            | Total((negative, math)*) | Over(sum | max | argmax, indices, math)
            | Cases((math, condition)*) | Row(math*)

`notation` makes such a tree of an expression in index notation; `plain.py`, `latex.py`, `mathml.py` print it.
Order and brackets are decided here, once, so that the three agree. A sign is named by its ASCII form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy.printing.printer import Printer

from .functions import CONTRACTIONS, ArgMaxOver, MaxOver
from .language import is_index
from .text import decimal, ordered_terms, over_and_under

GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A symbol: x, x^(1), w_ij^(1), y_hat, W^(o)T. `label` holds what stands in superscript, part by part."""

    base: str
    hat: bool = False
    label: tuple[str, ...] = ()
    sub: Math | None = None
    transposed: bool = False
    prime: bool = False


@dataclass(frozen=True)
class Number:
    text: str


@dataclass(frozen=True)
class Word:
    text: str


@dataclass(frozen=True)
class Sign:
    """An operator, a relation or a bracket that stands alone."""

    text: str


@dataclass(frozen=True)
class Row:
    parts: tuple[Math, ...]


@dataclass(frozen=True)
class Call:
    function: Math
    arguments: tuple[Math, ...]


@dataclass(frozen=True)
class Group:
    """Brackets: "(" round, "|" an absolute value, "||" a norm, "[" a condition as 0 or 1."""

    body: Math
    bracket: str = "("


@dataclass(frozen=True)
class Power:
    base: Math
    exponent: Math


@dataclass(frozen=True)
class Root:
    body: Math


@dataclass(frozen=True)
class Fraction:
    top: Math
    bottom: Math


@dataclass(frozen=True)
class Partial:
    """The partial derivative of the top by the bottom."""

    top: Math
    bottom: Math


@dataclass(frozen=True)
class Product:
    """Factors; the sign is "" (side by side), "*" (a dot) or ".*" (element by element)."""

    factors: tuple[Math, ...]
    sign: str = ""


@dataclass(frozen=True)
class Total:
    """Terms, each with whether it is subtracted."""

    terms: tuple[tuple[bool, Math], ...]


@dataclass(frozen=True)
class Over:
    """A sum or a maximum of the body over indices."""

    kind: str
    indices: Math
    body: Math


@dataclass(frozen=True)
class Cases:
    """Values and their conditions; None is "otherwise"."""

    branches: tuple[tuple[Math, Math | None], ...]


Math = (
    Name
    | Number
    | Word
    | Sign
    | Row
    | Call
    | Group
    | Power
    | Root
    | Fraction
    | Partial
    | Product
    | Total
    | Over
    | Cases
)

TRANSPOSE = Word("T")
BRACKETS: Mapping[str, tuple[str, str]] = {
    "(": ("(", ")"),
    "[": ("[", "]"),
    "|": ("|", "|"),
    "||": ("||", "||"),
}


def is_tall(parts: tuple[Math, ...]) -> bool:
    """Whether brackets must grow around something."""
    tall = (Fraction, Partial, Over, Cases, Root)
    found: list[Math] = list(parts)
    while found:
        math = found.pop()
        if isinstance(math, tall):
            return True
        match math:
            case Product():
                found += math.factors
            case Total():
                found += [term for _, term in math.terms]
            case Call():
                found += math.arguments
            case Group():
                found.append(math.body)
            case Power():
                found.append(math.base)
            case Row():
                found += math.parts
            case _:
                pass
    return False


def total(*terms: Math) -> Math:
    """A sum; one term alone is itself."""
    return terms[0] if len(terms) == 1 else Total(tuple((False, t) for t in terms))


def product(factors: Iterable[Math], sign: str = "") -> Math:
    """A product with brackets where they are needed; one factor alone is itself.

    >>> product([Name("W"), Total(((False, Name("x")), (True, Name("y"))))]).factors[1].bracket
    '('
    """
    given = tuple(factors)
    if len(given) == 1:
        return given[0]
    loose = (Total, Product) if sign else (Total,)
    return Product(tuple(_as_factor(f, loose, k == len(given) - 1) for k, f in enumerate(given)), sign)


def _as_factor(factor: Math, loose: tuple[type, ...], last: bool) -> Math:
    if isinstance(factor, Over) and last and Product not in loose:
        return factor
    return Group(factor) if isinstance(factor, (*loose, Over)) else factor


def at(symbol: Math, sub: Math | None) -> Math:
    """A symbol with a subscript; a derivative carries it where it derives."""
    if sub is None:
        return symbol
    if isinstance(symbol, Name):
        return replace(symbol, sub=sub if symbol.sub is None else Row((symbol.sub, Sign(","), sub)))
    if isinstance(symbol, Partial):
        return replace(symbol, bottom=at(symbol.bottom, sub))
    if isinstance(symbol, Call) and isinstance(symbol.function, Name):
        return replace(symbol, function=at(symbol.function, sub))
    raise AssertionError(f"{symbol} takes no subscript")


def transposed(math: Math) -> Math:
    """The transpose of a symbol or of an expression.

    >>> transposed(Name("W", label=("1",))).transposed
    True
    """
    if isinstance(math, Name) and math.base and not math.transposed:
        return replace(math, transposed=True)
    return Power(Group(math), TRANSPOSE)


def power(base: Math, exponent: Math) -> Math:
    """A power; whatever is not a plain symbol or number gets brackets."""
    plain = isinstance(base, Name) and not base.label and not base.transposed
    closed = isinstance(base, Group | Cases) or (isinstance(base, Call) and isinstance(base.function, Word))
    return Power(base if plain or closed or isinstance(base, Number) else Group(base), exponent)


def subscript(parts: Iterable[Math]) -> Math | None:
    """Indices side by side where each is a letter, else with commas: w_ij, y_n,i+1."""
    given = tuple(parts)
    if len(given) < 2:
        return given[0] if given else None
    if all(isinstance(p, Name) and len(p.base) == 1 and p == Name(p.base) for p in given):
        return Row(given)
    return Row(tuple(piece for p in given for piece in (Sign(","), p))[1:])


def plain_symbol(name: str) -> Math:
    """A name of a hyperparameter or of an index as a symbol: beta1 is beta with subscript 1, U_o is U with o.

    >>> plain_symbol("beta1").sub, plain_symbol("y_hat").hat, plain_symbol("momentum").base
    (Number(text='1'), True, 'momentum')
    """
    if re.fullmatch(r"[A-Za-z]_hat", name):
        return Name(name[0], hat=True)
    found = re.fullmatch(r"([A-Za-z]|" + "|".join(sorted(GREEK)) + r")_?([0-9]+|(?<=_)[A-Za-z0-9_]+)", name)
    if found:
        parts = [Number(p) if p.isdigit() else Name(p) for p in found[2].split("_") if p]
        return Name(found[1], sub=subscript(parts))
    return Name(name)


class Symbols:
    """What the names of a program look like: W1 is W^(1), dz1 is delta^(1), dW1 is dL/dW^(1).

    known      names of all tensors and equations
    adjoint    tensor -> the name of its adjoint
    deltas     tensor -> label, where its adjoint is written delta^(label)
    own        names that layers give their tensors, before the label is appended: W, b, z, x, ...

    >>> symbols = Symbols(["W1", "z1", "dW1", "dz1"], {"W1": "dW1", "z1": "dz1"}, {"z1": "1"})
    >>> symbols["W1"].label, symbols["dz1"].base, symbols["dW1"].bottom == symbols["W1"]
    (('1',), 'delta', True)
    """

    def __init__(
        self,
        known: Iterable[str],
        adjoint: Mapping[str, str],
        deltas: Mapping[str, str],
        own: Iterable[str] = (),
    ) -> None:
        self.known = frozenset(known)
        self.own = frozenset(own)
        self.derived = {derivative: tensor for tensor, derivative in adjoint.items()}
        self.deltas = dict(deltas)
        self._made: dict[str, Math] = {}

    def __getitem__(self, name: str) -> Math:
        if name not in self._made:
            self._made[name] = self._symbol(name)
        return self._made[name]

    def _symbol(self, name: str) -> Math:
        if name in self.derived:
            tensor = self.derived[name]
            if tensor in self.deltas:
                return Name("delta", label=(self.deltas[tensor],))
            return Partial(Name("L"), self[tensor])
        if name not in self.known:
            return plain_symbol(name)
        if name == "l":
            return Name("ell")
        if name.startswith("P_"):
            for cut in (m.start() for m in re.finditer("_", name[2:])):
                if name[3 + cut :] in self.known:
                    return Call(Name("P", sub=Word(name[2 : 2 + cut])), (self[name[3 + cut :]],))
        return self._with_word(name) or labelled_symbol(name, self.own)

    def _with_word(self, name: str) -> Math | None:
        """What belongs to a tensor carries a word: zo_max and exp_zo are z^(o) with max, exp in superscript.

        dm_v, the part of dm that comes through v, is the derivative of L^v.
        """
        cuts = [k for k, letter in enumerate(name) if letter == "_"]
        for k in reversed(cuts):
            stem, word = name[:k], name[k + 1 :]
            if stem in self.derived and word in self.known:
                return _of_part(self[stem], word)
            if len(stem) > 1 and stem in self.known and stem not in self.derived:
                return with_label(self[stem], word)
        for k in cuts:
            word, stem = name[:k], name[k + 1 :]
            for length in range(len(stem), 1, -1):
                if stem[:length] in self.known and stem[:length] not in self.derived:
                    return with_label(self[stem[:length]], word + stem[length:])
                if not stem[length - 1].isdigit():
                    break
        return None


def with_label(symbol: Math, word: str) -> Math | None:
    return replace(symbol, label=(*symbol.label, word)) if isinstance(symbol, Name) else None


def _of_part(symbol: Math, word: str) -> Math | None:
    """A derivative of the part of the loss that comes through a tensor."""
    if isinstance(symbol, Partial) and isinstance(symbol.top, Name):
        return replace(symbol, top=replace(symbol.top, label=(word,)))
    return with_label(symbol, word)


def labelled_symbol(name: str, own: Iterable[str] = ()) -> Name:
    """The name of a layer's tensor: its own name, then the label of the layer ("1", "2", ..., "o").

    >>> labelled_symbol("alpha2").label, labelled_symbol("V1_2").base, labelled_symbol("Wo", ["W"]).label
    (('2',), 'V1', ('o',))
    """
    if re.fullmatch(r"[A-Za-z]_hat", name):
        return Name(name[0], hat=True)
    stem = name.removesuffix("o")
    if stem != name and (stem in own or stem.removesuffix("_") in own):
        return Name(stem if stem in own else stem.removesuffix("_"), label=("o",))
    found = re.fullmatch(r"(.*[0-9])_([0-9]+)|(.*?[A-Za-z_])([0-9]+)", name)
    if not found:
        return Name(name)
    base, label = (part for part in found.groups() if part is not None)
    return Name(base, label=(label,))


class IndexNotation(Printer):
    """Expressions in index notation as notation; what SymPy's printers do for strings, for trees.

    `hidden` are indices that are left out, where they are the same throughout.
    """

    printmethod = "_chainrule_notation"

    def __init__(self, symbols: Symbols, hidden: Iterable[sp.Symbol] = ()) -> None:
        super().__init__()
        self.symbols = symbols
        self.hidden = frozenset(hidden)

    def doprint(self, expr: object) -> Math:
        """The tree itself: SymPy's printers end by making a string."""
        made: Math = self._print(expr)
        return made

    def emptyPrinter(self, expr: object) -> Math:
        return Word(str(expr))

    def _print_Symbol(self, expr: sp.Symbol) -> Math:
        return plain_symbol(expr.name) if is_index(expr) else self.symbols[expr.name]

    def _print_Indexed(self, expr: sp.Indexed) -> Math:
        return at(
            self.symbols[str(expr.base.label)],
            subscript(self._print(i) for i in expr.indices if i not in self.hidden),
        )

    def _print_Integer(self, expr: sp.Integer) -> Math:
        return Number(str(expr.p)) if expr >= 0 else Total(((True, Number(str(-expr.p))),))

    def _print_Rational(self, expr: sp.Rational) -> Math:
        if expr < 0:
            return Total(((True, self._print(-expr)),))
        shown = decimal(expr)
        return Number(shown) if shown else Fraction(Number(str(expr.p)), Number(str(expr.q)))

    def _print_Float(self, expr: sp.Float) -> Math:
        return Number(f"{float(expr):.15g}")

    def _print_Pi(self, _: sp.Expr) -> Math:
        return Name("pi")

    def _print_Exp1(self, _: sp.Expr) -> Math:
        return Name("e")

    def _print_Add(self, expr: sp.Add) -> Math:
        terms = []
        for term in ordered_terms(expr):
            negative = bool(term.could_extract_minus_sign())
            shown = self._print(-term if negative else term)
            terms.append((negative, Group(shown) if isinstance(shown, Total) else shown))
        return Total(tuple(terms))

    def _print_Mul(self, expr: sp.Mul) -> Math:
        if expr.could_extract_minus_sign() and expr.args[0].is_number and expr.args[0].is_negative:
            shown = self._print(-expr)
            return Total(((True, Group(shown) if isinstance(shown, Total) else shown),))
        above, below = over_and_under(expr)
        return self.quotient(above, below)

    def quotient(self, above: list[sp.Expr], below: list[sp.Expr]) -> Math:
        """Factors over factors. A sum stands beside its fraction, not on top of it."""
        sums = [f for f in above if isinstance(f, CONTRACTIONS)]
        if below and sums:
            rest = [f for f in above if f not in sums]
            front = Fraction(self.factors(rest) if rest else Number("1"), self.factors(below))
            return product([front, *(self._print(s) for s in sums)])
        top = self.factors(above) if above else Number("1")
        return Fraction(top, self.factors(below)) if below else top

    def factors(self, factors: list[sp.Expr]) -> Math:
        return product(self._print(f) for f in factors)

    def _print_Pow(self, expr: sp.Pow) -> Math:
        if expr.exp == sp.Rational(1, 2):
            return Root(self._print(expr.base))
        if expr.exp.is_number and expr.exp.is_negative:
            return self.quotient([], [sp.Pow(expr.base, -expr.exp)])
        return power(self._print(expr.base), self._print(expr.exp))

    def _print_Piecewise(self, expr: sp.Piecewise) -> Math:
        return Cases(tuple((self._print(e), None if c == sp.true else self._print(c)) for e, c in expr.args))

    def _print_KroneckerDelta(self, expr: sp.KroneckerDelta) -> Math:
        return Group(Row((self._print(expr.args[0]), Sign("="), self._print(expr.args[1]))), "[")

    def _print_Relational(self, expr: sp.core.relational.Relational) -> Math:
        sign = {"==": "=", "!=": "!="}.get(expr.rel_op, expr.rel_op)
        return Row((self._print(expr.lhs), Sign(sign), self._print(expr.rhs)))

    def _joined(self, word: str, args: Iterable[sp.Basic]) -> Math:
        pieces: list[Math] = []
        for a in sorted(args, key=sp.default_sort_key):
            shown = self._print(a)
            pieces += [Word(word), Group(shown) if isinstance(a, sp.And | sp.Or) else shown]
        return Row(tuple(pieces[1:]))

    def _print_And(self, expr: sp.And) -> Math:
        return self._joined("and", expr.args)

    def _print_Or(self, expr: sp.Or) -> Math:
        return self._joined("or", expr.args)

    def _print_Not(self, expr: sp.Not) -> Math:
        return Row((Word("not"), Group(self._print(expr.args[0]))))

    def _print_BooleanTrue(self, _: sp.Basic) -> Math:
        return Word("true")

    def _print_BooleanFalse(self, _: sp.Basic) -> Math:
        return Word("false")

    def over(self, kind: str, expr: sp.Expr) -> Math:
        body = self._print(expr.function)
        indices = subscript(plain_symbol(str(s)) for s, _, _ in expr.limits)
        assert indices is not None
        return Over(kind, indices, Group(body) if isinstance(body, Total) else body)

    def _print_Sum(self, expr: sp.Sum) -> Math:
        return self.over("sum", expr)

    def _print_MaxOver(self, expr: MaxOver) -> Math:
        return self.over("max", expr)

    def _print_ArgMaxOver(self, expr: ArgMaxOver) -> Math:
        return self.over("argmax", expr)

    def _print_Abs(self, expr: sp.Abs) -> Math:
        return Group(self._print(expr.args[0]), "|")

    def _print_exp(self, expr: sp.exp) -> Math:
        return Call(Word("exp"), (self._print(expr.args[0]),))

    def _print_Function(self, expr: sp.Function) -> Math:
        return Call(Word(expr.func.__name__), tuple(self._print(a) for a in expr.args))


def notation(expr: sp.Basic, symbols: Symbols, hidden: Iterable[sp.Symbol] = ()) -> Math:
    """An expression in index notation as notation.

    >>> z = sp.Symbol("z", real=True)
    >>> notation(1 - sp.tanh(z), Symbols([], {}, {})).terms[1][0]
    True
    """
    return IndexNotation(symbols, hidden).doprint(expr)

"""Equations as plain text, for terminals, banners of generated files and error messages.

    dW1[i,j] = sum_n dz1[n,i] x[n,j] + 0.002 W1[i,j]

A product is a space, a power ^, a Piecewise `{a if condition; b otherwise}`, a Kronecker delta `[i = j]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy as sp
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.printer import Printer

from .functions import CONTRACTIONS, ArgMaxOver, MaxOver

if TYPE_CHECKING:
    from .language import Equation, Program


def decimal(number: sp.Rational) -> str | None:
    """A fraction as a decimal number where that is exact and short, else None.

    >>> decimal(sp.Rational(851, 500)), decimal(sp.Rational(1, 3)), decimal(sp.Rational(1, 10**8))
    ('1.702', None, '1e-08')
    """
    rest = number.q
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1 or number.q in (1, 2, 4):
        return None
    text = f"{float(number):.15g}"
    return text if sp.Rational(text) == number else None


class TextPrinter(Printer):
    """SymPy's printer with the rules above."""

    printmethod = "_chainrule_text"

    def parenthesized(self, expr: sp.Basic, level: int) -> str:
        text = self._print(expr)
        loose = isinstance(expr, sp.Sum) and level >= PRECEDENCE["Mul"]
        return f"({text})" if loose or precedence(expr) < level else text

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return expr.name

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return f"{expr.base.label}[{','.join(self._print(i).replace(' ', '') for i in expr.indices)}]"

    def _print_Integer(self, expr: sp.Integer) -> str:
        return str(expr.p)

    def _print_Rational(self, expr: sp.Rational) -> str:
        return decimal(expr) or f"{expr.p}/{expr.q}"

    def _print_Float(self, expr: sp.Float) -> str:
        return f"{float(expr):.15g}"

    def _print_Pi(self, _: sp.Expr) -> str:
        return "pi"

    def _print_Exp1(self, _: sp.Expr) -> str:
        return "e"

    def _print_Add(self, expr: sp.Add) -> str:
        text = ""
        for term in ordered_terms(expr):
            negative = term.could_extract_minus_sign()
            shown = self.parenthesized(-term if negative else term, PRECEDENCE["Add"] + 1 if negative else 0)
            text += (" - " if text else "-") + shown if negative else (" + " if text else "") + shown
        return text

    def _print_Mul(self, expr: sp.Mul) -> str:
        if expr.could_extract_minus_sign() and expr.args[0].is_number and expr.args[0].is_negative:
            return f"-{self.parenthesized(-expr, PRECEDENCE['Mul'])}"
        above, below = over_and_under(expr)
        top = " ".join(self._factor(f, last=f is above[-1]) for f in above) or "1"
        if not below:
            return top
        bottom = " ".join(self._factor(f, last=False) for f in below)
        return f"{top}/{bottom if len(below) == 1 else f'({bottom})'}"

    def _factor(self, expr: sp.Expr, last: bool) -> str:
        text = self._print(expr)
        loose = isinstance(expr, sp.Add | sp.Mul) or (isinstance(expr, sp.Sum) and not last)
        fraction = isinstance(expr, sp.Rational) and expr.q != 1 and "/" in text
        return f"({text})" if loose or fraction else text

    def _print_Pow(self, expr: sp.Pow) -> str:
        if expr.exp == sp.Rational(1, 2):
            return f"sqrt({self._print(expr.base)})"
        if expr.exp.is_number and expr.exp.is_negative:
            return self._print_Mul(expr)
        base = self.parenthesized(expr.base, PRECEDENCE["Pow"] + 1)
        return f"{base}^{self.parenthesized(expr.exp, PRECEDENCE['Atom'])}"

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        parts = [
            f"{self._print(e)} otherwise" if c == sp.true else f"{self._print(e)} if {self._print(c)}"
            for e, c in expr.args
        ]
        return "{" + "; ".join(parts) + "}"

    def _print_KroneckerDelta(self, expr: sp.KroneckerDelta) -> str:
        return f"[{self._print(expr.args[0])} = {self._print(expr.args[1])}]"

    def _print_Relational(self, expr: sp.core.relational.Relational) -> str:
        sign = {"==": "=", "!=": "!="}.get(expr.rel_op, expr.rel_op)
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"

    def _print_And(self, expr: sp.And) -> str:
        return " and ".join(self._print(a) for a in sorted(expr.args, key=sp.default_sort_key))

    def _print_Or(self, expr: sp.Or) -> str:
        return " or ".join(self._print(a) for a in sorted(expr.args, key=sp.default_sort_key))

    def _print_Not(self, expr: sp.Not) -> str:
        return f"not ({self._print(expr.args[0])})"

    def _print_Sum(self, expr: sp.Sum) -> str:
        body = expr.function
        shown = f"({self._print(body)})" if isinstance(body, sp.Add) else self._print(body)
        return f"sum_{''.join(str(s) for s, _, _ in expr.limits)} {shown}"

    def _print_MaxOver(self, expr: MaxOver) -> str:
        return f"max_{expr.limits[0][0]} ({self._print(expr.function)})"

    def _print_ArgMaxOver(self, expr: ArgMaxOver) -> str:
        return f"argmax_{expr.limits[0][0]} ({self._print(expr.function)})"

    def _print_Abs(self, expr: sp.Abs) -> str:
        return f"|{self._print(expr.args[0])}|"

    def _print_exp(self, expr: sp.exp) -> str:
        return f"exp({self._print(expr.args[0])})"

    def _print_Function(self, expr: sp.Function) -> str:
        return f"{expr.func.__name__}({', '.join(self._print(a) for a in expr.args)})"

    def _print_BooleanTrue(self, _: sp.Basic) -> str:
        return "true"

    def _print_BooleanFalse(self, _: sp.Basic) -> str:
        return "false"

    def emptyPrinter(self, expr: object) -> str:
        return str(expr)


def ordered_terms(expr: sp.Add) -> list[sp.Expr]:
    """Terms in the order in which one writes them: sums first, then by SymPy's order; no minus in front."""
    terms = list(expr.as_ordered_terms())
    first = [t for t in terms if t.has(sp.Sum)]
    rest = [t for t in terms if not t.has(sp.Sum)]
    ordered = first + rest
    if ordered[0].could_extract_minus_sign():
        positive = [t for t in ordered if not t.could_extract_minus_sign()]
        ordered = positive + [t for t in ordered if t.could_extract_minus_sign()]
    return ordered


def over_and_under(expr: sp.Expr) -> tuple[list[sp.Expr], list[sp.Expr]]:
    """Factors above and below the line of a fraction; numbers first, sums last."""
    above: list[sp.Expr] = []
    below: list[sp.Expr] = []
    for factor in sp.Mul.make_args(expr):
        if isinstance(factor, sp.Rational) and factor.q != 1 and decimal(factor) is None:
            above += [sp.Integer(factor.p)] if factor.p != 1 else []
            below.append(sp.Integer(factor.q))
        elif isinstance(factor, sp.Pow) and factor.exp.is_number and factor.exp.is_negative:
            below.append(sp.Pow(factor.base, -factor.exp))
        else:
            above.append(factor)

    def order(f: sp.Expr) -> tuple[bool, bool, bool, bool, str]:
        last = isinstance(f, sp.Add | sp.Piecewise)
        return (isinstance(f, CONTRACTIONS), not f.is_number, not isinstance(f, sp.Symbol), last, str(f))

    return sorted(above, key=order), sorted(below, key=order)


_printer = TextPrinter()


def expression_text(expr: sp.Basic) -> str:
    """An expression as text.

    >>> x = sp.Symbol("x")
    >>> expression_text(x*(1 - sp.tanh(x)**2)/3)
    'x (1 - tanh(x)^2)/3'
    """
    return str(_printer.doprint(expr))


def equation_text(equation: Equation) -> str:
    return f"{expression_text(equation.element)} = {expression_text(equation.expr)}"


def program_text(program: Program) -> str:
    """A program, an equation a line."""
    return "\n".join(equation_text(e) for e in program.equations)

"""SymPy -> the formula language of `formula.py`, which reads what is written here as the same expression."""

from __future__ import annotations

import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from .choices import clip
from .errors import SpecError
from .functions import unit_max, unit_sum
from .limits import LARGEST_LITERAL
from .text import decimal

RENAMED = {sp.Abs: "abs", sp.ceiling: "ceil", unit_sum: "sum", unit_max: "max"}


class FormulaPrinter(StrPrinter):
    """SymPy's printer of Python-like text, where the formula language has other words."""

    printmethod = "_chainrule_formula"

    def _print_Integer(self, expr: sp.Integer) -> str:
        return whole(int(expr))

    def _print_Rational(self, expr: sp.Rational) -> str:
        return decimal(expr) or f"{whole(expr.p)}/{whole(expr.q)}"

    def _print_Mul(self, expr: sp.Mul) -> str:
        coefficient, rest = expr.as_coeff_Mul()
        if not isinstance(coefficient, sp.Rational) or coefficient.q == 1:
            return super()._print_Mul(expr)
        if coefficient < 0:
            return f"-{self._print_Mul(-expr)}"
        if decimal(coefficient) is None:
            above = self.parenthesize(rest * coefficient.p, PRECEDENCE["Mul"], strict=True)
            return f"{above}/{whole(coefficient.q)}"
        return f"{self._print(coefficient)}*{self.parenthesize(rest, PRECEDENCE['Mul'], strict=True)}"

    def _print_Exp1(self, _: sp.Expr) -> str:
        return "e"

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        (value, condition), *others = expr.args
        if len(others) == 2 and expr == clip(others[1][0], value, others[0][0]):
            return f"clip({self._print(others[1][0])}, {self._print(value)}, {self._print(others[0][0])})"
        if condition == sp.true:
            return self._print(value)
        if not others:
            raise SpecError(f'formula: "{expr}" has no value where its conditions do not hold; end with (value, True)')
        rest = self._print(sp.Piecewise(*others, evaluate=False))
        return f"where({self._print(condition)}, {self._print(value)}, {rest})"

    def _print_Relational(self, expr: sp.core.relational.Relational) -> str:
        return f"{self._print(expr.lhs)} {expr.rel_op} {self._print(expr.rhs)}"

    def _print_And(self, expr: sp.And) -> str:
        return self._joined(expr, " and ")

    def _print_Or(self, expr: sp.Or) -> str:
        return self._joined(expr, " or ")

    def _joined(self, expr: sp.Basic, word: str) -> str:
        return word.join(f"({self._print(a)})" for a in sorted(expr.args, key=sp.default_sort_key))

    def _print_Not(self, expr: sp.Not) -> str:
        return f"(not ({self._print(expr.args[0])}))"

    def _print_Function(self, expr: sp.Function) -> str:
        name = RENAMED.get(expr.func, expr.func.__name__)
        return f"{name}({', '.join(self._print(a) for a in expr.args)})"

    def _print_Abs(self, expr: sp.Abs) -> str:
        return self._print_Function(expr)


def whole(number: int) -> str:
    """An integer; a long one as a decimal number or in pieces: the language reads 18 digits at most."""
    if abs(number) <= LARGEST_LITERAL:
        return str(number)
    if number.bit_length() < 1000 and number == sp.Rational(repr(float(number))):
        return repr(float(number))
    high, low = divmod(number, LARGEST_LITERAL)
    return f"({whole(high)}*10**18 + {low})"


_printer = FormulaPrinter()


def written(expr: sp.Expr) -> str:
    """An expression as a formula.

    >>> z = sp.Symbol("z", real=True)
    >>> written(z/(1 + sp.exp(-sp.Rational("1.702")*z)))
    'z/(1 + exp(-1.702*z))'
    >>> written(sp.Piecewise((0, z <= 0), (abs(z)/3, True)))
    'where(z <= 0, 0, abs(z)/3)'
    """
    return str(_printer.doprint(expr))

"""The functions that the language of equations has beyond SymPy's own.

Two contractions besides SymPy's `Sum`: `MaxOver` and `ArgMaxOver`, over one index.
Two markers, `unit_sum(expr)` and `unit_max(expr)`, for activations that look at all units of a sample (softmax).
Two elementary functions with names, because what they stand for overflows as it is written:

    sigmoid(z)  = 1/(1 + exp(-z))
    softplus(z) = log(1 + exp(z))

Their derivatives are not written here: SymPy differentiates `definition`, and the result is folded back.
"""

from __future__ import annotations

from functools import cache

import sympy as sp
from sympy.codegen.cfunctions import expm1, log1p
from sympy.concrete.expr_with_limits import ExprWithLimits

__all__ = [
    "CONTRACTIONS", "ArgMaxOver", "MaxOver", "erfc", "expm1", "log1p", "sigmoid", "softplus", "unit_max", "unit_sum",
]  # fmt: skip


class MaxOver(ExprWithLimits):
    """The largest value of an expression over an index; ties and slopes as decided in `ArgMaxOver`."""

    is_commutative = True
    is_real = True


class ArgMaxOver(ExprWithLimits):
    """The first position, counted from 0, at which an expression is largest over an index."""

    is_commutative = True
    is_integer = True
    is_real = True


CONTRACTIONS = (sp.Sum, MaxOver, ArgMaxOver)


class sigmoid(sp.Function):
    """The logistic function 1/(1 + exp(-z)).

    >>> z = sp.Symbol("z", real=True)
    >>> sigmoid(z).diff(z)
    (1 - sigmoid(z))*sigmoid(z)
    """

    nargs = 1
    is_real = True
    is_positive = True

    @staticmethod
    def definition(z: sp.Expr) -> sp.Expr:
        return 1 / (1 + sp.exp(-z))

    @classmethod
    def eval(cls, z: sp.Expr) -> sp.Expr | None:
        return sp.Rational(1, 2) if z.is_zero else None

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return _logistic_slope().xreplace({_S: self.func(self.args[0])})

    def _eval_rewrite_as_exp(self, z: sp.Expr, **_: object) -> sp.Expr:
        return self.definition(z)

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.definition(self.args[0])._eval_evalf(prec)


_S = sp.Symbol("s", positive=True)


@cache
def _logistic_slope() -> sp.Expr:
    """The derivative of the logistic function in terms of its value s, from exp(-z) = 1/s - 1."""
    z = sp.Symbol("z", real=True)
    slope = sp.diff(sigmoid.definition(z), z).subs(sp.exp(-z), 1 / _S - 1)
    return _S * sp.cancel(slope / _S)


class softplus(sp.Function):
    """log(1 + exp(z)).

    >>> z = sp.Symbol("z", real=True)
    >>> softplus(z).diff(z)
    sigmoid(z)
    """

    nargs = 1
    is_real = True
    is_positive = True

    @staticmethod
    def definition(z: sp.Expr) -> sp.Expr:
        return sp.log(1 + sp.exp(z))

    @classmethod
    def eval(cls, z: sp.Expr) -> sp.Expr | None:
        return sp.log(2) if z.is_zero else None

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return sigmoid(self.args[0])

    def _eval_rewrite_as_exp(self, z: sp.Expr, **_: object) -> sp.Expr:
        return self.definition(z)

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.definition(self.args[0])._eval_evalf(prec)


class erfc(sp.erfc):
    """The complement of the error function, which stays as it is written.

    SymPy's own makes 2 - erfc(z) of erfc(-z), which cancels where erfc(z) is near 2.

    >>> z = sp.Symbol("z", real=True)
    >>> erfc(-z).diff(z)
    2*exp(-z**2)/sqrt(pi)
    """

    @classmethod
    def eval(cls, z: sp.Expr) -> sp.Expr | None:
        return sp.Integer(1) if z.is_zero else None


class unit_sum(sp.Function):
    """In an activation: the sum of an expression in z over all units of a sample."""

    nargs = 1
    is_real = True


class unit_max(sp.Function):
    """In an activation: the largest value of an expression in z over all units of a sample."""

    nargs = 1
    is_real = True

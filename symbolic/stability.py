"""Rewrites that keep every value and lose none of it in floating point. Each is named and stated by before and after.

Those of single formulas are here; sums of exponentials, which take several equations, are in `exponentials.py`.

They run on the forward program, before deriving, so that the gradients inherit them; `stable_values` runs on what was
derived as well. A test proves each rule: equal values where both sides have one, finite values at large arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import sympy as sp

from .bounds import expanded_if_short
from .functions import CONTRACTIONS, erfc, expm1, log1p, sigmoid, softplus
from .language import Equation, Program, elements

POLES = (sp.log, log1p, sp.tan, sp.exp, sp.asin, sp.acos, sp.acosh, sp.atanh)
MOST_BRANCHES = 8  # of choices that are multiplied out


def named_functions(program: Program) -> Program:
    """Functions that overflow or cancel as they are written get the names under which they are computed well.

    before   1/(1 + exp(-z))    exp(z)/(1 + exp(z))    log(1 + exp(z))    exp(z) - 1    log(1 + z)    sinh(z)/cosh(z)
    after    sigmoid(z)         sigmoid(z)             softplus(z)        expm1(z)      log1p(z)      tanh(z)

    before   1 + erf(z)         1 + tanh(z)        1/(1 + 3 exp(-z))    log(2 + exp(z))              exp(z) - exp(-z)
    after    erfc(-z)           2 sigmoid(2 z)     sigmoid(z - log(3))  softplus(z - log(2)) + log(2)  2 sinh(z)

    before   1 - tanh(z)^2      1 - cos(z)         sqrt(1 + u) - 1         x^2 - y^2
    after    1/cosh(z)^2        2 sin(z/2)^2       u/(1 + sqrt(1 + u))     (x - y) (x + y)

    before   (exp(z) - 1)/(1 + exp(z))    sigmoid(z) - sigmoid(-z)    cosh(z) - 1       z - log(1 + exp(z))
    after    tanh(z/2)                    tanh(z/2)                   2 sinh(z/2)^2     -softplus(-z)

    before   log(z + sqrt(1 + z^2))
    after    asinh(z)
    """
    return program.with_equations(with_expr(e, _uncancelled(_named(e.expr))) for e in program.equations)


def _uncancelled(expr: sp.Expr) -> sp.Expr:
    """Differences as they are written, in the form that keeps their digits; not of what deriving made, which reads
    stored values: 1 - a**2 is right for the a that is stored."""
    if not any(isinstance(e, sp.Add) for e in sp.preorder_traversal(expr)):
        return expr
    return bottom_up(expr, lambda node: _difference(node) if isinstance(node, sp.Add) else node)


def _difference(node: sp.Add) -> sp.Expr:
    """Two terms of an opposite sign that are equal somewhere: of squares, of a cosine, of roots."""
    for one, other in itertools.permutations(node.args, 2):
        rest = [t for t in node.args if t not in (one, other)]
        found = _of_two(one, other)
        if found is not None:
            return sp.Add(found, *rest)
    return node


def _of_two(one: sp.Expr, other: sp.Expr) -> sp.Expr | None:
    """one + other without their difference; None where no rule fits."""
    c, function = other.as_coeff_Mul()
    if one == -c and function.is_Pow and function.exp == 2 and isinstance(function.base, sp.tanh):
        return one / sp.cosh(function.base.args[0]) ** 2
    if one == -c and isinstance(function, sp.cos):
        return 2 * one * sp.sin(function.args[0] / 2) ** 2
    if one == -c and isinstance(function, sp.cosh):
        return 2 * c * sp.sinh(function.args[0] / 2) ** 2
    if isinstance(function, softplus) and one == -c * function.args[0]:
        return c * softplus(-function.args[0])
    if one.is_number and function.is_Pow and function.exp == sp.Rational(1, 2) and isinstance(function.base, sp.Add):
        number, u = function.base.as_coeff_Add()
        if number.is_positive and one == -c * sp.sqrt(number):
            return c * u / (sp.sqrt(number) + function)
    d, square = one.as_coeff_Mul()
    if c == -d and d.is_positive and all(_is_square(f) for f in (square, function)):
        return d * (square.base - function.base) * (square.base + function.base)
    return None


def _is_square(expr: sp.Expr) -> bool:
    return expr.is_Pow and expr.exp == 2 and expr.base in elements(expr.base)


def stable_values(equation: Equation) -> Equation:
    """The rules of `named_functions`, and those that would be in the way of differentiating.

    before   log(cosh(z))
    after    log1p(2 sinh(z/2)^2) if |z| <= 1;  |z| + softplus(-2 |z|) - log(2) otherwise

    before   da[n,i] sigmoid(z[n,i]) (1 - sigmoid(z[n,i]))      where no sigmoid(z) is added to it
    after    da[n,i] sigmoid(z[n,i]) sigmoid(-z[n,i])

    before   da[n,i] (1 - cos(z[n,i]))      1/(1 + |z[n,i]|) - sign(z[n,i]) z[n,i]/(1 + |z[n,i]|)^2
    after    2 da[n,i] sin(z[n,i]/2)^2      1/(1 + |z[n,i]|)^2
    """
    expr = _complements(_named(equation.expr))
    expr = _uncancelled(expr) if expr.has(sp.cos) else expr
    expr = bottom_up(expr, lambda node: _over_one(node) if isinstance(node, sp.Add) else node)
    if expr.has(sp.log) and expr.has(sp.cosh):
        expr = bottom_up(expr, lambda node: _log_cosh(node) if isinstance(node, sp.log) else node)
    return with_expr(equation, expr)


def _over_one(node: sp.Add) -> sp.Expr:
    """c - c t/(t + rest) = c rest/(t + rest): the derivative of a quotient far from 0, where it cancels."""
    for one, other in itertools.permutations(node.args, 2):
        ratio = -other / one
        for x in (f.args[0] for f in sp.Mul.make_args(ratio) if isinstance(f, sp.sign)):
            ratio = ratio / sp.sign(x) / x * sp.Abs(x)
        for below in (f.base for f in sp.Mul.make_args(ratio) if f.is_Pow and f.exp == -1):
            if isinstance(below, sp.Add) and ratio * below in below.args:
                made = one * (below - ratio * below) / below
                return sp.Add(made, *(t for t in node.args if t not in (one, other)))
    return node


def _complements(expr: sp.Expr) -> sp.Expr:
    """1 - sigmoid(u) as a factor of a whole formula, or of a sum's terms: there nothing hides how it cancels."""
    if isinstance(expr, sp.Sum):
        return expr.func(_complements(expr.function), *expr.limits)
    if not isinstance(expr, sp.Mul) or not expr.has(sigmoid):
        return expr
    mirrored = {1 - s: sigmoid(-s.args[0]) for s in expr.atoms(sigmoid)}
    return sp.Mul(*(mirrored.get(f, _complements(f) if isinstance(f, sp.Sum) else f) for f in expr.args))


def _log_cosh(node: sp.log) -> sp.Expr:
    """log(c cosh(u)): what does not overflow cancels near 0 if c = 1, and the other way round."""
    c, function = node.args[0].as_coeff_Mul()
    if not isinstance(function, sp.cosh) or not c.is_positive:
        return node
    u = function.args[0]
    large = sp.Abs(u) + softplus(-2 * sp.Abs(u)) + sp.log(c / 2)
    if c != 1:
        return large
    return sp.Piecewise((log1p(2 * sp.sinh(u / 2) ** 2), sp.Abs(u) <= 1), (large, True))


def branches_outward(program: Program) -> Program:
    """A function with a pole is taken inside the branches of a Piecewise, never of the branch not taken.

    before   sqrt({0 if z <= 0; z otherwise})          whose derivative at z < 0 is 1/0 * 0
    after    {0 if z <= 0; sqrt(z) otherwise}          whose derivative there is 0
    """
    return program.with_equations(with_expr(e, _folded(e.expr)) for e in program.equations)


def _folded(expr: sp.Expr) -> sp.Expr:
    return bottom_up(expr, _fold_node) if expr.has(sp.Piecewise) else expr


def _fold_node(node: sp.Basic) -> sp.Basic:
    if isinstance(node, (sp.Piecewise, *CONTRACTIONS)) or not _has_pole(node):
        return node
    branches = [len(p.args) for a in node.args for p in _outermost_choices(a)]
    return sp.piecewise_fold(node) if branches and math.prod(branches) <= MOST_BRANCHES else node


def _has_pole(node: sp.Basic) -> bool:
    if isinstance(node, sp.Pow):
        return not (node.exp.is_integer and node.exp.is_nonnegative)
    if isinstance(node, sp.Mul):
        return any(a.has(sp.log, log1p, sp.exp) or _divides(a) for a in node.args)
    return isinstance(node, POLES)


def _outermost_choices(expr: sp.Basic) -> list[sp.Piecewise]:
    """The Piecewise in an expression that stand in no other one, and under no contraction."""
    if isinstance(expr, sp.Piecewise):
        return [expr]
    if isinstance(expr, (sp.Indexed, *CONTRACTIONS)):
        return []
    return [p for a in expr.args for p in _outermost_choices(a)]


def _divides(factor: sp.Expr) -> bool:
    return isinstance(factor, sp.Pow) and factor.exp.is_negative is True and bool(elements(factor))


def with_expr(equation: Equation, expr: sp.Expr) -> Equation:
    return equation if expr == equation.expr else replace(equation, expr=expr)


def _named(expr: sp.Expr) -> sp.Expr:
    if not expr.has(sp.exp, sp.log, sp.cosh, sp.erf, sp.tanh, sigmoid):
        return expr
    return bottom_up(expr, _name_node)


def bottom_up(expr: sp.Basic, rule: Callable[[sp.Basic], sp.Basic]) -> sp.Basic:
    """Apply a rule to every node, arguments first; elements of tensors are left alone."""
    if isinstance(expr, sp.Indexed) or not expr.args:
        return expr
    arguments = [bottom_up(a, rule) for a in expr.args]
    if any(new is not old for new, old in zip(arguments, expr.args, strict=True)):
        expr = expr.func(*arguments)
    return rule(expr)


def _name_node(node: sp.Basic) -> sp.Basic:
    if isinstance(node, sp.Pow):
        return _logistic_power(node)
    if isinstance(node, sp.Mul):
        return _logistic_product(node)
    if isinstance(node, sp.log):
        return _logarithm(node)
    if isinstance(node, sp.Add):
        node = _beside_number(_hyperbolic(_mirrored(node)), _exponential_minus_one)
        return _beside_number(node, _complement)
    return node


def _mirrored(node: sp.Add) -> sp.Expr:
    """c sigmoid(u) - c sigmoid(-u) = c tanh(u/2); c, of any factors, may stand before 1 - sigmoid, too."""
    if not node.has(sigmoid):
        return node
    for one, other in itertools.combinations(node.args, 2):
        mine, others = set(sp.Mul.make_args(one)), set(sp.Mul.make_args(-other))
        u, v = (_logistic_argument(sp.Mul(*rest)) for rest in (mine - others, others - mine))
        if u is not None and v is not None and u == -v:
            made = sp.Mul(*(mine & others)) * sp.tanh(u / 2)
            return sp.Add(made, *(t for t in node.args if t not in (one, other)))
    return node


def _logistic_argument(factor: sp.Expr) -> sp.Expr | None:
    """u, where a factor is sigmoid(u) or 1 - sigmoid(-u)."""
    if isinstance(factor, sigmoid):
        return factor.args[0]
    return -(1 - factor).args[0] if isinstance(1 - factor, sigmoid) else None


def _hyperbolic(node: sp.Add) -> sp.Expr:
    """c exp(u) - c exp(-u) = 2 c sinh(u), and with a plus cosh."""
    powers = [(t, *t.as_coeff_Mul()) for t in node.args if t.has(sp.exp)]
    for (one, c, f), (other, d, g) in itertools.combinations(powers, 2):
        if isinstance(f, sp.exp) and isinstance(g, sp.exp) and abs(c) == abs(d) and f.args[0] == -g.args[0]:
            u = -f.args[0] if f.args[0].could_extract_minus_sign() else f.args[0]
            sign = c if u == f.args[0] else d
            made = 2 * sign * (sp.cosh(u) if c == d else sp.sinh(u))
            return sp.Add(made, *(t for t in node.args if t not in (one, other)))
    return node


def _beside_number(node: sp.Expr, made: Callable[[sp.Expr, sp.Expr, sp.Expr], sp.Expr | None]) -> sp.Expr:
    """number + c f + rest = made(number, c, f) + rest, for the first term c f of which something is made."""
    number, rest = node.as_coeff_Add() if isinstance(node, sp.Add) else (sp.Integer(0), node)
    if number == 0:
        return node
    terms = sp.Add.make_args(rest)
    for term in terms:
        found = made(number, *term.as_coeff_Mul())
        if found is not None:
            return sp.Add(found, *(t for t in terms if t != term))
    return node


def _complement(number: sp.Expr, c: sp.Expr, function: sp.Expr) -> sp.Expr | None:
    """c + c erf(u) = c erfc(-u), and c + c tanh(u) = 2 c sigmoid(2 u), with a minus likewise; and back to tanh."""
    if isinstance(function, sigmoid) and c == -2 * number:
        return -number * sp.tanh(function.args[0] / 2)
    if abs(c) != abs(number) or not isinstance(function, sp.erf | sp.tanh):
        return None
    u = function.args[0] * c / number
    return number * erfc(-u) if isinstance(function, sp.erf) else 2 * number * sigmoid(2 * u)


def _exponential_minus_one(number: sp.Expr, c: sp.Expr, function: sp.Expr) -> sp.Expr | None:
    """c exp(u) - c = c expm1(u)"""
    return c * expm1(function.args[0]) if isinstance(function, sp.exp) and c == -number else None


def _exponent_beside_one(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    """a and u, where the expression is a (1 + exp(u)) for a number a, be it written a + c exp(v)."""
    if not isinstance(expr, sp.Add) or len(expr.args) != 2:
        return None
    number, rest = expr.as_coeff_Add()
    c, exponential = rest.as_coeff_Mul()
    if number.is_positive and c.is_positive and isinstance(exponential, sp.exp):
        return number, exponential.args[0] + sp.log(c / number)
    return None


def _logistic_power(node: sp.Pow) -> sp.Expr:
    found = _exponent_beside_one(node.base)
    if found is not None and node.exp.is_integer and node.exp.is_negative:
        number, u = found
        return number**node.exp * sigmoid(-u) ** (-node.exp)
    return node


def _logistic_product(node: sp.Mul) -> sp.Expr:
    """exp(u) sigmoid(-u)**k = sigmoid(u) sigmoid(-u)**(k - 1); expm1(u) sigmoid(-u) = tanh(u/2); the quotient of
    sinh(u) and cosh(u) = tanh(u)."""
    factors = list(node.args)
    for at, factor in enumerate(factors):
        base, power = factor.as_base_exp() if not isinstance(factor, sp.exp) else (factor, sp.Integer(1))
        if isinstance(base, sigmoid) and power.is_integer and power.is_positive:
            u = -base.args[0]
            if expm1(u) in factors:
                rest = [f for f in factors if f not in (factor, expm1(u))]
                return sp.Mul(sp.tanh(u / 2), base ** (power - 1), *rest)
            for other, exponential in enumerate(factors):
                if isinstance(exponential, sp.exp):
                    beside = expanded_if_short(exponential.args[0] - u)  # a number, where exp(-z) had a factor
                    if beside.is_number:
                        rest = [f for k, f in enumerate(factors) if k not in (at, other)]
                        return sp.Mul(sp.exp(beside), sigmoid(u), base ** (power - 1), *rest)
        if isinstance(base, sp.cosh) and power.is_integer and power.is_negative:
            sine = sp.sinh(base.args[0])
            if sine in factors:
                rest = [f for f in factors if f not in (factor, sine)]
                return sp.Mul(sp.tanh(base.args[0]), base ** (power + 1), *rest)
    return node


def _logarithm(node: sp.log) -> sp.Expr:
    inside = node.args[0]
    found = _exponent_beside_one(inside)
    if found is not None:
        number, u = found
        return sp.log(number) + softplus(u)
    if isinstance(inside, sigmoid):
        return -softplus(-inside.args[0])
    if isinstance(inside, sp.Add):
        for u in inside.args:
            if inside - u == sp.sqrt(u**2 + 1):
                return sp.asinh(u)
    if isinstance(inside, sp.Add) and inside.args[0] == 1:
        rest = sp.Add(*inside.args[1:])
        if isinstance(-rest, sigmoid):
            return -softplus((-rest).args[0])
        return log1p(rest)
    return node

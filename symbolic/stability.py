"""Rewrites that keep every value and lose none of it in floating point. Each is named and stated by before and after.

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
from .functions import CONTRACTIONS, MaxOver, erfc, expm1, log1p, sigmoid, softplus
from .language import Equation, Program, elements, name_of, where_of
from .normalise import unique

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
    return program.with_equations(_with(e, _uncancelled(_named(e.expr))) for e in program.equations)


def _uncancelled(expr: sp.Expr) -> sp.Expr:
    """Differences as they are written, in the form that keeps their digits; not of what deriving made, which reads
    stored values: 1 - a**2 is right for the a that is stored."""
    if not any(isinstance(e, sp.Add) for e in sp.preorder_traversal(expr)):
        return expr
    return _bottom_up(expr, lambda node: _difference(node) if isinstance(node, sp.Add) else node)


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
    expr = _bottom_up(expr, lambda node: _over_one(node) if isinstance(node, sp.Add) else node)
    if expr.has(sp.log) and expr.has(sp.cosh):
        expr = _bottom_up(expr, lambda node: _log_cosh(node) if isinstance(node, sp.log) else node)
    return _with(equation, expr)


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
    return program.with_equations(_with(e, _folded(e.expr)) for e in program.equations)


def _folded(expr: sp.Expr) -> sp.Expr:
    return _bottom_up(expr, _fold_node) if expr.has(sp.Piecewise) else expr


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


def _with(equation: Equation, expr: sp.Expr) -> Equation:
    return equation if expr == equation.expr else replace(equation, expr=expr)


def _named(expr: sp.Expr) -> sp.Expr:
    if not expr.has(sp.exp, sp.log, sp.cosh, sp.erf, sp.tanh, sigmoid):
        return expr
    return _bottom_up(expr, _name_node)


def _bottom_up(expr: sp.Basic, rule: Callable[[sp.Basic], sp.Basic]) -> sp.Basic:
    """Apply a rule to every node, arguments first; elements of tensors are left alone."""
    if isinstance(expr, sp.Indexed) or not expr.args:
        return expr
    arguments = [_bottom_up(a, rule) for a in expr.args]
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
        return _beside_one(_exponential_minus_one(_hyperbolic(_mirrored(node))))
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


def _beside_one(node: sp.Expr) -> sp.Expr:
    """c + c erf(u) = c erfc(-u), and c + c tanh(u) = 2 c sigmoid(2 u), with a minus likewise; and back to tanh."""
    number, rest = node.as_coeff_Add() if isinstance(node, sp.Add) else (sp.Integer(0), node)
    if number == 0:
        return node
    for term in sp.Add.make_args(rest):
        c, function = term.as_coeff_Mul()
        if isinstance(function, sigmoid) and c == -2 * number:
            return sp.Add(-number * sp.tanh(function.args[0] / 2), *(t for t in sp.Add.make_args(rest) if t != term))
        if abs(c) == abs(number) and isinstance(function, sp.erf | sp.tanh):
            u = function.args[0] * c / number
            others = (t for t in sp.Add.make_args(rest) if t != term)
            return sp.Add(number * erfc(-u) if isinstance(function, sp.erf) else 2 * number * sigmoid(2 * u), *others)
    return node


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


def _exponential_minus_one(node: sp.Expr) -> sp.Expr:
    """c exp(u) - c + rest = c expm1(u) + rest."""
    number, rest = node.as_coeff_Add() if isinstance(node, sp.Add) else (sp.Integer(0), node)
    if number == 0:
        return node
    for term in sp.Add.make_args(rest):
        c, exponential = term.as_coeff_Mul()
        if isinstance(exponential, sp.exp) and c == -number:
            return sp.Add(c * expm1(exponential.args[0]), *(t for t in sp.Add.make_args(rest) if t != term))
    return node


def exponentials_inlined(program: Program) -> Program:
    """A named exponential that a sum reads is written where it is read, so that `shifted_exponentials` can see it.

    before   e[n,i] = exp(z[n,i]);                   a[n,i] = e[n,i]/Sum(e[n,j], j)
    after                                            a[n,i] = exp(z[n,i])/Sum(exp(z[n,j]), j)
    What is needed several times gets a name again later (`functions_shared`).
    """
    summed = {
        name_of(total.function)
        for equation in program.equations
        for total in equation.expr.atoms(sp.Sum)
        if isinstance(total.function, sp.Indexed)
    }
    defined = {e.name: e for e in program.equations if isinstance(e.expr, sp.exp) and e.name in summed}

    def written_out(equation: Equation) -> Equation:
        reads = {r: inlined(r, defined) for r in elements(equation.expr) if name_of(r) in defined}
        return _with(equation, equation.expr.xreplace({r: v for r, v in reads.items() if v is not None}))

    if not defined:
        return program
    equations = [written_out(e) for e in program.equations]
    needed = {name for e in equations for name in e.reads} | set(program.outputs)
    return program.with_equations(e for e in equations if e.name not in defined or e.name in needed)


def logarithms_opened(program: Program) -> Program:
    """The logarithm of a stored quotient or power of exponentials is written out.

    before   p[n,i] = exp(z[n,i])/s[n];   l[n] = -log(p[n,y[n]])
    after    p[n,i] = exp(z[n,i])/s[n];   l[n] = log(s[n]) - z[n,y[n]]
    likewise log(a) with a = sigmoid(z) gives -softplus(-z), and log(1 - a) gives -softplus(z);
    log(1 + s) with s a sum of exponentials gives softplus(log(s)), which can be shifted
    """
    equations: list[Equation] = []
    defined: dict[str, Equation] = {}
    for equation in program.equations:
        if equation.expr.has(sp.log, log1p):
            equation = _with(equation, _bottom_up(equation.expr, lambda node: _opened(node, defined)))
        defined[equation.name] = equation
        equations.append(equation)
    return program.with_equations(equations)


def inlined(read: sp.Expr, defined: dict[str, Equation]) -> sp.Expr | None:
    """The right side of the equation that assigns an element, at that element."""
    equation = defined.get(name_of(read))
    if equation is None or equation.contraction is not None:
        return None
    return equation.expr.xreplace(dict(zip((i.symbol for i in equation.indices), where_of(read), strict=True)))


def _opened(node: sp.Basic, defined: dict[str, Equation]) -> sp.Basic:
    if not isinstance(node, (sp.log, log1p)):
        return node
    inside = node.args[0] if isinstance(node, sp.log) else 1 + node.args[0]
    if isinstance(inside, sp.Mul) and any(
        isinstance(f.as_base_exp()[0], sigmoid) or f.has(sp.exp) for f in inside.args
    ):
        opened = _log_of(inside)
        if opened is not None:
            return opened
    number, rest = inside.as_coeff_Add()
    summed = defined.get(name_of(rest)) if rest in elements(rest) else None
    if number.is_positive and summed is not None and _sum_of_exponentials(summed) is not None:
        return sp.log(number) + softplus(sp.log(rest) - sp.log(number))
    for read in elements(inside):
        value = inlined(read, defined)
        if value is None or not value.has(sp.exp, sigmoid):
            continue
        if inside == read or inside == 1 - read:
            opened = _log_of(inside.xreplace({read: value}))
            if opened is not None:
                return opened
    return node


def _log_of(value: sp.Expr) -> sp.Expr | None:
    """log of a product of exponentials, sigmoids, numbers and powers of elements, term by term."""
    complement = expanded_if_short(1 - value)
    if isinstance(complement, sigmoid):
        return -softplus(complement.args[0])
    terms = []
    for factor in sp.Mul.make_args(value):
        base, power = factor.as_base_exp() if not isinstance(factor, sp.exp) else (factor, sp.Integer(1))
        if isinstance(base, sp.exp):
            terms.append(power * base.args[0])
        elif isinstance(base, sigmoid):
            terms.append(-power * softplus(-base.args[0]))
        elif isinstance(base, sp.Indexed) or base.is_positive:
            terms.append(power * sp.log(base))
        else:
            return None
    return sp.Add(*terms)


def shifted_exponentials(program: Program) -> Program:
    """A sum of exponentials is taken relative to its largest exponent, where only ratios and logarithms of it are read.

    before   s[n] = sum_j exp(z[n,j]);    p[n,i] = exp(z[n,i])/s[n];       l[n] = log(s[n])
    after    m[n] = max_j z[n,j];         s[n] = sum_j exp(z[n,j] - m[n])
             p[n,i] = exp(z[n,i] - m[n])/s[n];                              l[n] = m[n] + log(s[n])

    No value depends on m, so m may be taken as constant when differentiating.
    """
    taken = set(program.by_name)
    for equation in program.equations:
        if _sum_of_exponentials(equation) is not None:
            program = _shifted(program, equation, taken)
    return program


def _sum_of_exponentials(equation: Equation) -> tuple[sp.Expr, sp.Sum] | None:
    """Factor and sum, where an equation is a sum of exponentials times a number."""
    total = equation.contraction
    if not isinstance(total, sp.Sum) or len(total.limits) != 1 or not isinstance(total.function, sp.exp):
        return None
    factor = sp.Mul(*(f for f in sp.Mul.make_args(equation.expr) if f != total))
    if equation.expr != factor * total or elements(factor) or not elements(total.function):
        return None
    return factor, total


def _weighted(equation: Equation, summed: sp.Sum) -> sp.Expr | None:
    """The weights g, where an equation is sum_j g_j exp(u_j) and the other sum is sum_j exp(u_j)."""
    total = equation.contraction
    if equation.expr != total or not isinstance(total, sp.Sum) or len(total.limits) != 1:
        return None
    ((own, *bounds),), ((other, *others),) = total.limits, summed.limits
    function = total.function.xreplace({own: other})
    factors = sp.Mul.make_args(function)
    if bounds != others or summed.function not in factors or len(factors) < 2:
        return None
    weight = sp.Mul(*(f for f in factors if f != summed.function))
    return None if weight.has(sp.exp) else weight


def _shifted(program: Program, total: Equation, taken: set[str]) -> Program:
    found = _sum_of_exponentials(total)
    assert found is not None
    factor, summed = found
    exponent = summed.function.args[0]
    if any(isinstance(t, MaxOver) for t in sp.preorder_traversal(exponent)) or _has_shift(exponent, program):
        return program
    weights = {e.name: _weighted(e, summed) for e in program.equations if e.indices == total.indices}
    group = {total.name, *(name for name, weight in weights.items() if weight is not None)}
    readers = [e for e in program.equations if group & set(e.reads)]
    name = unique(f"{_stem(total.name)}_max", set(taken))
    maximum = Equation(name, total.indices, MaxOver(exponent, *summed.limits), total.rule, constant=True)
    shift = maximum.element
    replaced: dict[str, Equation] = {
        total.name: _with(total, factor * sp.Sum(sp.exp(exponent - shift), *summed.limits)),
    }
    for equation in program.equations:
        weight = weights.get(equation.name)
        if weight is not None:
            replaced[equation.name] = _with(equation, sp.Sum(weight * sp.exp(exponent - shift), *summed.limits))
    for reader in readers:
        expr = _read_shifted(reader.expr, group, total, shift)
        if expr is None:
            return program
        replaced[reader.name] = _with(reader, expr)
    taken.add(name)
    equations: list[Equation] = []
    for equation in program.equations:
        if equation.name in group and maximum not in equations:
            equations.append(maximum)
        equations.append(replaced.get(equation.name, equation))
    return program.with_equations(equations)


def _stem(name: str) -> str:
    return name.removesuffix("_sum")


def _has_shift(exponent: sp.Expr, program: Program) -> bool:
    """Whether the exponent is already relative to a maximum."""
    for read in elements(exponent):
        equation = program.defined.get(name_of(read))
        if equation is not None and isinstance(equation.expr, MaxOver):
            return True
    return False


def _read_shifted(expr: sp.Expr, group: set[str], total: Equation, shift: sp.Expr) -> sp.Expr | None:
    """The reader of sums s, in terms of the shifted ones: s = exp(m) s'. None where m would stay behind."""
    reads = [r for r in elements(expr) if name_of(r) in group]
    read = next((r for r in reads if name_of(r) == total.name), None)
    if read is None or len(reads) != len({name_of(r) for r in reads}) or len({where_of(r) for r in reads}) > 1:
        return None
    here = shift.xreplace(dict(zip((i.symbol for i in total.indices), where_of(read), strict=True)))
    lone = sp.Symbol("shift_", real=True)
    standing = sp.Symbol("log_s_", real=True)
    logarithms = [e for e in expr.atoms(sp.log) if read in sp.Mul.make_args(e.args[0])]
    opened = expr.xreplace({e: here + e.subs(read, standing) for e in logarithms})
    opened = _bottom_up(opened.xreplace({r: r * lone for r in reads}), lambda node: _ratio(node, here, lone))
    if opened.has(lone):
        return None
    return opened.xreplace({standing: read})


def _ratio(node: sp.Basic, shift: sp.Expr, lone: sp.Symbol) -> sp.Basic:
    """exp(k u)/s**k -> exp(k u - k m)/s'**k inside a product; `lone` stays at an s without its exponential."""
    if not isinstance(node, sp.Mul) or not node.has(lone):
        return node
    factors = sp.Mul.make_args(node)
    power = sum((f.as_base_exp()[1] for f in factors if f.as_base_exp()[0] == lone), sp.Integer(0))
    powers = [f for f in factors if isinstance(f, sp.exp)]
    others = [f for f in factors if f.as_base_exp()[0] != lone and not isinstance(f, sp.exp)]
    if power.is_integer and power.is_negative and len(powers) == 1:
        return sp.Mul(sp.exp(expanded_if_short(powers[0].args[0] + power * shift)), *others)
    return node

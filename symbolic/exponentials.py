"""Sums of exponentials and their logarithms, over several equations: rewrites that keep every value and never overflow.

Softmax, log-softmax and what users write of the kind become ratios to the largest exponential. Like the rewrites of
`stability.py` they run on the forward program, before deriving.
"""

from __future__ import annotations

import sympy as sp

from .bounds import expanded_if_short
from .functions import MaxOver, log1p, sigmoid, softplus
from .language import Equation, Program, elements, name_of, where_of
from .normalise import unique
from .stability import bottom_up, with_expr


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
        return with_expr(equation, equation.expr.xreplace({r: v for r, v in reads.items() if v is not None}))

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
            equation = with_expr(equation, bottom_up(equation.expr, lambda node: _opened(node, defined)))
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
        total.name: with_expr(total, factor * sp.Sum(sp.exp(exponent - shift), *summed.limits)),
    }
    for equation in program.equations:
        weight = weights.get(equation.name)
        if weight is not None:
            replaced[equation.name] = with_expr(equation, sp.Sum(weight * sp.exp(exponent - shift), *summed.limits))
    for reader in readers:
        expr = _read_shifted(reader.expr, group, total, shift)
        if expr is None:
            return program
        replaced[reader.name] = with_expr(reader, expr)
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
    opened = bottom_up(opened.xreplace({r: r * lone for r in reads}), lambda node: _ratio(node, here, lone))
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

"""SymPy expressions as Python source for Numba: numbers in the kernel's own type, lazily chosen branches.

A constant is written `real(0.5)`, so that a float32 kernel stays in float32. A Piecewise becomes a conditional
expression: the branch that is not taken is not computed, which makes guarded reads safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy as sp

from ..symbolic.choices import as_larger
from ..symbolic.errors import InternalError
from ..symbolic.functions import erfc, expm1, log1p, sigmoid, softplus
from ..symbolic.language import elements, is_index, name_of, where_of

SUM, PRODUCT, UNARY, POWER, ATOM = range(5)

FUNCTIONS: Mapping[type, str] = {
    sp.exp: "exp", sp.log: "log", sp.sin: "sin", sp.cos: "cos", sp.tan: "tan", sp.sinh: "sinh", sp.cosh: "cosh",
    sp.tanh: "tanh", sp.asin: "asin", sp.acos: "acos", sp.atan: "atan", sp.asinh: "asinh", sp.acosh: "acosh",
    sp.atanh: "atanh", sp.erf: "erf", sp.erfc: "erfc", erfc: "erfc", sp.floor: "floor",
    sp.ceiling: "ceil", sp.sign: "sign", expm1: "expm1", log1p: "log1p", sigmoid: "sigmoid", softplus: "softplus",
}  # fmt: skip
EXPONENT_OF_PRODUCTS = 64
IN_DOUBLES = {  # where plain doubles are computed: Python's own functions, and what it lacks
    "sigmoid": "1.0/(1.0 + math.exp(-({})))",
    "softplus": "(max({0}, 0.0) + math.log1p(math.exp(-abs({0}))))",
    "sign": "math.copysign(1.0, {0})*({0} != 0.0)",
}


@dataclass(frozen=True)
class Names:
    """How elements and indices are called in the source.

    offsets    tensor -> what is subtracted from its first index (an array that holds a block of the tensor)
    scalars    tensors without indices -> a local name; others are read as `name[0]`
    extents    symbols of extents -> source
    cast       what makes a constant a number of the kernel's type; empty where plain doubles are computed
    """

    offsets: Mapping[str, str] = field(default_factory=dict)
    scalars: Mapping[str, str] = field(default_factory=dict)
    extents: Mapping[sp.Symbol, str] = field(default_factory=dict)
    cast: str = "real"


def source(expr: sp.Basic, names: Names = Names()) -> str:
    """The source of a real expression.

    >>> x = sp.Symbol("x", real=True)
    >>> source(sp.tanh(x)**2/3 - 1)
    'real(0.3333333333333333)*tanh(x[0])**2 - real(1)'
    """
    return _real(expr, names)[0]


def integer_source(expr: sp.Expr, names: Names = Names()) -> str:
    """The source of an integer expression: positions, extents, look-ups."""
    return _integer(expr, names, SUM)


def condition_source(condition: sp.Basic, names: Names = Names()) -> str:
    """The source of a condition."""
    if condition == sp.true:
        return "True"
    if condition == sp.false:
        return "False"
    if isinstance(condition, sp.And | sp.Or):
        word = " and " if isinstance(condition, sp.And) else " or "
        parts = sorted(condition.args, key=sp.default_sort_key)
        return word.join(f"({condition_source(c, names)})" for c in parts)
    if isinstance(condition, sp.Not):
        return f"not ({condition_source(condition.args[0], names)})"
    if not isinstance(condition, sp.core.relational.Relational):
        raise InternalError(f"code generator: no rule for the condition {condition}")
    left, right = condition.lhs, condition.rhs
    if left.is_integer and right.is_integer:
        return f"{_integer(left, names, SUM)} {condition.rel_op} {_integer(right, names, SUM)}"
    return f"{source(left, names)} {condition.rel_op} {source(right, names)}"


def read_source(read: sp.Expr, names: Names) -> str:
    """The source that reads an element."""
    name, where = name_of(read), where_of(read)
    if not where:
        return names.scalars.get(name, f"{name}[0]")
    positions = [_integer(w, names, SUM) for w in where]
    if name in names.offsets:
        positions[0] = f"{positions[0]} - {names.offsets[name]}"
    return f"{name}[{', '.join(positions)}]"


def number(value: sp.Expr, names: Names = Names()) -> str:
    """A constant in the kernel's type."""
    text = repr(int(value)) if value.is_Integer and names.cast else repr(float(value.evalf(25)))
    return f"{names.cast}({text})" if names.cast or text.startswith("-") else text


def _wrapped(pair: tuple[str, int], level: int) -> str:
    text, own = pair
    return f"({text})" if own < level else text


def _real(expr: sp.Basic, names: Names) -> tuple[str, int]:
    """Source and its precedence."""
    if isinstance(expr, sp.Indexed) or (isinstance(expr, sp.Symbol) and not is_index(expr)):
        return read_source(expr, names), ATOM
    if expr.is_number and isinstance(expr, sp.Expr):
        return number(expr, names), ATOM
    if isinstance(expr, sp.Symbol):
        return f"{names.cast or 'float'}({_integer(expr, names, SUM)})", ATOM
    if isinstance(expr, sp.Add):
        return _sum(expr, names), SUM
    if isinstance(expr, sp.Mul):
        return _product(expr, names)
    if isinstance(expr, sp.Pow):
        return _power(expr.base, expr.exp, names)
    if isinstance(expr, sp.Piecewise):
        return _branches(expr, names), ATOM
    if isinstance(expr, sp.KroneckerDelta):
        left, right = (_integer(a, names, SUM) for a in expr.args)
        one, zero = number(sp.Integer(1), names), number(sp.Integer(0), names)
        return f"({one} if {left} == {right} else {zero})", ATOM
    if isinstance(expr, sp.Abs):
        return f"abs({source(expr.args[0], names)})", ATOM
    if expr.func in FUNCTIONS:
        return _call(FUNCTIONS[expr.func], source(expr.args[0], names), names), ATOM
    raise InternalError(f"code generator: no rule for {expr.func.__name__} in {expr}")


def _call(function: str, argument: str, names: Names) -> str:
    if names.cast:
        return f"{function}({argument})"
    template = IN_DOUBLES.get(function)
    return f"math.{function}({argument})" if template is None else f"({template.format(argument)})"


def _order(expr: sp.Expr) -> tuple[int, str]:
    return (0 if elements(expr) else 1, str(expr))


def _sum(expr: sp.Add, names: Names) -> str:
    terms = sorted(expr.args, key=lambda t: (t.could_extract_minus_sign(), *_order(t)))
    text = ""
    for term in terms:
        negative = bool(text) and term.could_extract_minus_sign()
        shown = _wrapped(_real(-term if negative else term, names), PRODUCT if negative else SUM)
        text += (" - " if negative else " + " if text else "") + shown
    return text


def _product(expr: sp.Mul, names: Names) -> tuple[str, int]:
    constants = [f for f in expr.args if f.is_number]
    constant = sp.Mul(*constants)
    above, below = [], []
    for factor in (f for f in expr.args if not f.is_number):
        base, power = (factor.base, factor.exp) if isinstance(factor, sp.Pow) else (factor, sp.Integer(1))
        if power.is_number and power.is_negative:
            below.append(_wrapped(_power(base, -power, names), PRODUCT + 1))
        else:
            above.append((_order(factor), _wrapped(_real(factor, names), PRODUCT)))
    texts = [text for _, text in sorted(above)]
    if constant == -1 and texts:
        texts[0] = f"-{texts[0]}"
    elif constant != 1 or not texts:
        texts.insert(0, number(constant, names))
    top = "*".join(texts)
    if not below:
        return top, PRODUCT
    bottom = "*".join(sorted(below))
    return f"{top}/({bottom})" if len(below) > 1 else f"{top}/{bottom}", PRODUCT


def _power(base: sp.Expr, exponent: sp.Expr, names: Names) -> tuple[str, int]:
    if exponent == 1:
        return _real(base, names)
    if exponent == sp.Rational(1, 2):
        return _call("sqrt", source(base, names), names), ATOM
    if exponent.is_number and exponent.is_negative:
        return (
            f"{number(sp.Integer(1), names)}/{_wrapped(_power(base, -exponent, names), PRODUCT + 1)}",
            PRODUCT,
        )
    if exponent == 2 and isinstance(base, sp.Indexed | sp.Symbol) and not is_index(base):
        read = read_source(base, names)
        return f"{read}*{read}", PRODUCT  # Numba would compile a function for the power
    if exponent.is_Integer and int(exponent) <= EXPONENT_OF_PRODUCTS:
        return f"{_wrapped(_real(base, names), ATOM)}**{int(exponent)}", POWER
    if exponent.is_Rational and exponent.q == 2:
        whole = _power(base, sp.Integer(exponent.p // 2), names)
        return f"{_wrapped(whole, PRODUCT)}*{_call('sqrt', source(base, names), names)}", PRODUCT
    if base == sp.E:
        return _call("exp", source(exponent, names), names), ATOM
    if not names.cast:
        return f"({source(base, names)})**({source(exponent, names)})", POWER
    return f"power({source(base, names)}, {source(exponent, names)})", ATOM


def _branches(expr: sp.Piecewise, names: Names) -> str:
    larger = as_larger(expr)
    if larger is not None and names.cast:
        return f"maximum({', '.join(source(part, names) for part in larger)})"  # NaN stays NaN here, too
    *branches, (last, condition) = expr.args
    text = source(last, names)
    if condition != sp.true:
        text = f"{text} if {condition_source(condition, names)} else {names.cast or 'float'}(np.nan)"
    for value, condition in reversed(branches):
        text = f"{source(value, names)} if {condition_source(condition, names)} else {text}"
    return f"({text})"


def _integer(expr: sp.Expr, names: Names, level: int) -> str:
    if expr.is_Integer:
        return str(int(expr))
    if isinstance(expr, sp.Indexed) or (isinstance(expr, sp.Symbol) and not is_index(expr)):
        return read_source(expr, names)
    if is_index(expr):
        return names.extents.get(expr, expr.name)
    if isinstance(expr, sp.Add):
        text = ""
        for term in sorted(expr.args, key=lambda t: (t.is_number, t.could_extract_minus_sign(), str(t))):
            negative = bool(text) and term.could_extract_minus_sign()
            shown = _integer(-term if negative else term, names, PRODUCT)
            text += (" - " if negative else " + " if text else "") + shown
        return f"({text})" if level > SUM else text
    if isinstance(expr, sp.Mul):
        return "*".join(_integer(f, names, PRODUCT) for f in expr.args)
    if isinstance(expr, sp.Pow) and expr.exp.is_Integer and expr.exp.is_positive:
        return f"{_integer(expr.base, names, ATOM)}**{int(expr.exp)}"
    if isinstance(expr, (sp.floor, sp.ceiling)):
        return _floor(expr, names)
    if isinstance(expr, sp.KroneckerDelta):
        left, right = (_integer(a, names, SUM) for a in expr.args)
        return f"(1 if {left} == {right} else 0)"
    if isinstance(expr, sp.Abs):
        return f"abs({_integer(expr.args[0], names, SUM)})"
    if isinstance(expr, sp.sign):
        inner = _integer(expr.args[0], names, ATOM)
        return f"(({inner} > 0) - ({inner} < 0))"
    if isinstance(expr, (sp.Max, sp.Min)):
        word = "max" if isinstance(expr, sp.Max) else "min"
        return f"{word}({', '.join(_integer(a, names, SUM) for a in expr.args)})"
    if isinstance(expr, sp.Piecewise) and expr.args[-1][1] == sp.true:
        *branches, (last, _) = expr.args
        text = _integer(last, names, SUM)
        for value, condition in reversed(branches):
            text = f"{_integer(value, names, SUM)} if {condition_source(condition, names)} else {text}"
        return f"({text})"
    raise InternalError(f"code generator: no rule for the integer {expr}")


def _floor(expr: sp.Expr, names: Names) -> str:
    above, below = sp.fraction(sp.together(expr.args[0]))
    top, bottom = _integer(above, names, PRODUCT), _integer(below, names, PRODUCT)
    if isinstance(expr, sp.floor):
        return f"({top})//({bottom})"
    return f"-(-({top})//({bottom}))"

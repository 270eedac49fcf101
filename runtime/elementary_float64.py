"""Elementary functions of float64 that LLVM vectorises: a loop over `out[i] = exp(x[i])` becomes packed arithmetic.

What Numba calls for `math.exp` is libm's function, for one number at a time. Here a function is a straight line of
sums, products and selections, without branches or calls. It is no njit function, whose compile takes 100 ms, but an
intrinsic: when a caller is compiled, the formula below runs once as Python on `_Value`s, whose arithmetic appends LLVM
instructions to a small function of its own module, and that is inlined wherever it is called. This takes some 5 ms.

The instructions carry no fast-math flags, and since they stand in a module of their own, Numba adds none of the
caller's: `reassoc` would undo a reduction such as (x - n*high) - n*low, `contract` would fuse its products with those
of the caller. Where one rounding for a*b + c is welcome, `_fma` asks for it by name. So a result depends on the
argument alone, not on the caller, nor on whether its loop was vectorised; between machines with and without a fused
multiply-add it may differ in the last bits.

Coefficients, unless a source is named, are minimax polynomials for the relative error, by Remez' exchange in 200 bits,
rounded to float64 one after the other with the rest fitted again. Errors were measured against mpmath, in units in the
last place (ulp) of the exact result, of which the smallest is that of the denormal numbers.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_NUMBER = types.float64
_REAL, _WORD = ir.DoubleType(), ir.IntType(64)
_DIGITS, _BIAS = 52, 1023  # of the fraction; of the exponent
_SMALLEST = 2.0 ** (1 - _BIAS)  # of the normal numbers
_ROUNDER = 1.5 * 2.0**_DIGITS  # added to a number below 2^(_DIGITS - 1), it leaves no bits for a fraction
_ROUNDER_BITS = (_BIAS + _DIGITS << _DIGITS) + (1 << _DIGITS - 1)


# ---- writing LLVM instructions as formulas


def _operator(real, word):
    """The operator that appends one instruction for reals and another for machine words."""

    def apply(self, other):
        write = getattr(self.builder, word if isinstance(self.value.type, ir.IntType) else real)
        return _Value(self.builder, write(self.value, self.operand(other)))

    return apply


def _comparison(sign):
    """The comparison of reals (false where one is NaN) and of signed words."""

    def apply(self, other):
        word = isinstance(self.value.type, ir.IntType)
        compare = self.builder.icmp_signed if word else self.builder.fcmp_ordered
        return _Value(self.builder, compare(sign, self.value, self.operand(other)))

    return apply


class _Value:
    """A value in the LLVM function that is being written: what is computed with it becomes an instruction."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def operand(self, other):
        """The other side of an operator: a Python number is a constant of this value's type."""
        return other.value if isinstance(other, _Value) else self.value.type(other)

    __add__ = __radd__ = _operator("fadd", "add")
    __sub__ = _operator("fsub", "sub")
    __mul__ = __rmul__ = _operator("fmul", "mul")
    __truediv__ = _operator("fdiv", "sdiv")
    __and__ = _operator("", "and_")
    __or__ = _operator("", "or_")
    __xor__ = _operator("", "xor")
    __lshift__ = _operator("", "shl")
    __rshift__ = _operator("", "lshr")
    __lt__, __le__, __gt__, __ge__, __eq__ = (_comparison(sign) for sign in ("<", "<=", ">", ">=", "=="))

    def __neg__(self):
        return _Value(self.builder, self.builder.fneg(self.value))

    def __rsub__(self, other):
        return _Value(self.builder, self.operand(other)) - self

    def __rtruediv__(self, other):
        return _Value(self.builder, self.operand(other)) / self


def _llvm(name, first, *others):
    """A function of LLVM's own, of one type."""
    kind, arguments = first.value.type, [first.value, *map(first.operand, others)]
    function = first.builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * len(arguments)))
    return _Value(first.builder, first.builder.call(function, arguments))


def _fma(a, b, c):
    """a*b + c, rounded once where the machine can: the same in a loop and in a single call."""
    return _llvm("llvm.fmuladd", a, b, c)


def _abs(x):
    return _llvm("llvm.fabs", x)


def _signed(size, x):
    """The size with the sign of x."""
    return _llvm("llvm.copysign", size, x)


def _where(condition, then, otherwise):
    """One of two values, one of which may be a Python number; both are computed."""
    kind = then if isinstance(then, _Value) else otherwise
    chosen = condition.builder.select(condition.value, kind.operand(then), kind.operand(otherwise))
    return _Value(condition.builder, chosen)


def _bits(x):
    return _Value(x.builder, x.builder.bitcast(x.value, _WORD))


def _real(bits):
    return _Value(bits.builder, bits.builder.bitcast(bits.value, _REAL))


def _polynomial(x, *coefficients):
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule in x^2 for pairs of terms, whose chain is half as long."""
    pairs = [_fma(x, high, low) for low, high in zip(coefficients[::2], coefficients[1::2], strict=False)]
    total, *rest = reversed([*pairs, *coefficients[2 * len(pairs) :]])
    for pair in rest:
        total = _fma(x * x, total, pair)
    return total


def _elementary(formula):
    """The formula as an intrinsic: it is written once into each module that calls it."""
    name, count = f"chainrule_{formula.__name__}_{_NUMBER}", formula.__code__.co_argcount
    kind = ir.FunctionType(_REAL, [_REAL] * count)

    def write(module):
        function = ir.Function(module, kind, name)
        function.linkage = "weak_odr"  # several modules may hold it
        function.attributes.add("alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(formula(*(_Value(builder, argument) for argument in function.args)).value)
        return module

    def codegen(context, builder, signature, arguments):
        if name not in builder.module.globals:
            library = context.active_code_library
            library.add_ir_module(write(library.create_ir_module(name)))
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    def unary(typing_context, x):
        return _NUMBER(_NUMBER), codegen

    def binary(typing_context, x, y):
        return _NUMBER(_NUMBER, _NUMBER), codegen

    function = unary if count == 1 else binary
    function.__name__, function.__qualname__, function.__doc__ = formula.__name__, formula.__name__, formula.__doc__
    return intrinsic(function)


# ---- exponentials


def _power_of_two(k):
    """2^k, for the exponents of normal numbers."""
    return _real((k + _BIAS) << _DIGITS)


def _reduced(x):
    """A whole number k, as a word, and r with x = k ln 2 + r, |r| <= 0.347.

    The first part of ln 2 has 32 bits, so that its product with k is exact (Cody and Waite 1980, chapter 6).
    """
    shifted = _fma(x, 1 / math.log(2), _ROUNDER)
    n = shifted - _ROUNDER
    return _bits(shifted) - _ROUNDER_BITS, _fma(n, -1.90821492927058770e-10, _fma(n, -0.693147180369123816490, x))


def _exponential(r):
    """e^r - 1 for |r| <= 0.347, relative error 4e-19."""
    tail = _polynomial(
        r, 0.5, 0.1666666666666668, 0.04166666666666672, 0.008333333333318935, 0.0013888888888842347,
        0.00019841269893343497, 2.4801587427662992e-05, 2.7557236746599524e-06, 2.7557178246644636e-07,
        2.5111676847535178e-08, 2.0944887449598044e-09,
    )  # fmt: skip
    return _fma(r * r, tail, r)


def _scaled(s, k):
    """(1 + s) 2^k, by two factors, because 2^k alone may be too large or denormal."""
    both = k + 2 * _BIAS
    first = both >> 1
    factor = _real(first << _DIGITS)
    return _fma(s, factor, factor) * _real((both - first) << _DIGITS)


def _exp(x):
    x = _where(x < -746.0, -746.0, x)
    k, r = _reduced(_where(x > 710.0, 710.0, x))
    return _scaled(_exponential(r), k)


@_elementary
def exp(x):
    """e^x = 2^k e^r, and e^r by a polynomial. 0.99 ulp."""
    return _exp(x)


@_elementary
def tanh(x):
    """E/(E + 2) with E = e^(2|x|) - 1, and the sign of x; from 20 on, x is 20. 2.5 ulp."""
    size = _abs(x)
    size = _where(size > 20.0, 20.0, size)
    k, r = _reduced(size + size)
    scale, e = _power_of_two(k), _exponential(r)
    return _signed(_fma(scale, e, scale - 1.0) / _fma(scale, e, scale + 1.0), x)

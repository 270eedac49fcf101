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


def _operand(kind, number):
    """What LLVM takes for a value, or for a Python number, which becomes a constant of the type."""
    return number.value if isinstance(number, _Value) else kind(number)


def _operator(real, word):
    """The operator that appends one instruction for reals and another for machine words."""

    def apply(self, other):
        write = getattr(self.builder, word if isinstance(self.value.type, ir.IntType) else real)
        return _Value(self.builder, write(self.value, _operand(self.value.type, other)))

    return apply


def _comparison(sign):
    """The comparison of reals (false where one is NaN) and of signed words."""

    def apply(self, other):
        word = isinstance(self.value.type, ir.IntType)
        compare = self.builder.icmp_signed if word else self.builder.fcmp_ordered
        return _Value(self.builder, compare(sign, self.value, _operand(self.value.type, other)))

    return apply


class _Value:
    """A value in the LLVM function that is being written: what is computed with it becomes an instruction."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

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

    def __invert__(self):
        return _Value(self.builder, self.builder.not_(self.value))

    def __neg__(self):
        return _Value(self.builder, self.builder.fneg(self.value))

    def __rsub__(self, other):
        return _Value(self.builder, _operand(self.value.type, other)) - self

    def __rtruediv__(self, other):
        return _Value(self.builder, _operand(self.value.type, other)) / self


def _llvm(name, first, *others):
    """A function of LLVM's own, of one type."""
    kind = first.value.type
    arguments = [first.value, *(_operand(kind, other) for other in others)]
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
    """One of two numbers; both are computed."""
    chosen = condition.builder.select(condition.value, _operand(_REAL, then), _operand(_REAL, otherwise))
    return _Value(condition.builder, chosen)


def _bits(x):
    """The bits of a number as a machine word."""
    return _Value(x.builder, x.builder.bitcast(x.value, _WORD))


def _real(bits):
    """The number that has these bits."""
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


@_elementary
def expm1(x):
    """2^k (e^r - 1) + (2^k - 1); x itself where it is tiny. 1.5 ulp."""
    low = _where(x < -40.0, -40.0, x)
    k, r = _reduced(_where(low > 710.0, 710.0, low))
    scale = _power_of_two(k - 1)  # half of it: 2^1024 is too large
    e = _fma(scale, _exponential(r), scale - 0.5)
    return _where(_abs(x) < 2.0**-54, x, e + e)


@_elementary
def sigmoid(x):
    """1/(1 + e) or e/(1 + e) with e = e^-|x|. 2 ulp."""
    e = _exp(-_abs(x))
    return _where(x < 0.0, e, 1.0) / (e + 1.0)


# ---- logarithms


def _logarithm(k, f):
    """k ln 2 + log(1 + f), for f from sqrt(1/2) - 1 to sqrt(2) - 1.

    With s = f/(2 + f): log(1 + f) = 2 artanh s = 2 s + s q(s^2), 2 s = f - f^2/2 + s f^2/2, as in fdlibm's e_log.c;
    relative error of q's part 1.3e-18. ln 2 is split as in `_reduced`.
    """
    s, half = f / (f + 2.0), f * f * 0.5
    series = _polynomial(
        s * s, 0.6666666666666735, 0.39999999999408736, 0.2857142874391376, 0.22222198398597773, 0.18183574236315675,
        0.1531377733745245, 0.1479886710184143,
    )  # fmt: skip
    small = _fma(s, _fma(s * s, series, half), k * 1.90821492927058770e-10)
    return _fma(k, 0.693147180369123816490, f - (half - small))


_ROOT_BITS = 0x3FE6A09E667F3BCD  # of sqrt(1/2)


def _split(x, digits=_DIGITS, bias=_BIAS, root=_ROOT_BITS):
    """x = 2^k (1 + f), f from sqrt(1/2) - 1 to sqrt(2) - 1, for positive normal x: k + bias as a word, k, f."""
    shifted = _bits(x) + ((bias << digits) - root)
    k = shifted >> digits
    f = _real((shifted & ((1 << digits) - 1)) + root) - 1.0
    return k, _real(k + (bias + digits << digits)) - (2.0**digits + bias), f


def _with_edges(logarithm, x):
    """The logarithm of x where x is positive and finite; infinity, -infinity at 0, NaN below."""
    inside = _where(x > 0.0, logarithm, _where(x == 0.0, -math.inf, math.nan))
    return _where(x == math.inf, x, inside)


@_elementary
def log(x):
    """x = 2^k (1 + f): k ln 2 + log(1 + f), a polynomial. 1 ulp."""
    denormal = x < _SMALLEST
    _, k, f = _split(_where(denormal, x * 2.0**_DIGITS, x))
    return _with_edges(_logarithm(_where(denormal, k - float(_DIGITS), k), f), x)


@_elementary
def log1p(x):
    """log of 1 + x = 2^k (1 + f) with f = 2^-k x + (2^-k - 1), which is exact where it matters; x itself if tiny."""
    whole = x + 1.0
    word, k, f = _split(whole)
    scale = _real((2 * _BIAS - word) << _DIGITS)  # 2^-k; it is not used where k is so large that this fails
    f = _where(x < 2.0**_DIGITS, _fma(scale, x, scale - 1.0), f)
    return _where(_abs(x) < 2.0**-54, x, _with_edges(_logarithm(k, f), whole))


@_elementary
def softplus(x):
    """max(x, 0) + log(1 + e) with e = e^-|x|, which is at most 1. 2 ulp."""
    e = _exp(-_abs(x))
    high = e > 0.41421356
    logarithm = _logarithm(_where(high, 1.0, 0.0), _where(high, _fma(e, 0.5, -0.5), e))
    return _where(x > 0.0, x, 0.0) + logarithm


# ---- the error function


@_elementary
def erf(x):
    """1 - e^-g with the sign of x, where g = -log(erfc(|x|)) = |x| q(|x|), q a polynomial; 1 from 6 on."""
    size = _abs(x)
    size = _where(size > 6.0, 6.0, size)
    q = _polynomial(  # less 1, so that its rounding errors are small
        size, 0.1283791670955125, 0.6366197723676105, 0.10277260330009895, -0.01912844696370214, -0.0002091952243572435,
        0.00169621049467999, -0.0005901466702761366, 2.595479359359726e-05, 6.42908951899893e-05,
        -2.932496974099384e-05, 2.7976475287675954e-06, 3.562949560506939e-06, -2.4284671492440445e-06,
        8.529077122284988e-07, -1.7370505322966802e-07, 8.223240522869985e-09, 7.826704582571762e-09,
        -3.1633530979447883e-09, 6.828823219980149e-10, -9.571007988342449e-11, 8.741000339091549e-12,
        -4.765576072403102e-13, 1.1826624179959166e-14,
    )  # fmt: skip
    k, r = _reduced(-_fma(size, q, size))
    scale = _power_of_two(k)
    return _signed(_fma(scale, _exponential(r), scale - 1.0), x)

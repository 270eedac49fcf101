"""Elementary functions of float32 that LLVM vectorises: a loop over `out[i] = exp(x[i])` becomes packed arithmetic.

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
rounded to float32 one after the other with the rest fitted again. Errors were measured against float64, in units in the
last place (ulp) of the exact result, of which the smallest is that of the denormal numbers.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_NUMBER = types.float32
_REAL, _WORD, _DOUBLE = ir.FloatType(), ir.IntType(32), ir.DoubleType()
_DIGITS, _BIAS = 23, 127  # of the fraction; of the exponent
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


def _where(condition, then, otherwise, kind=_REAL):
    """One of two numbers, or words, of a kind; both are computed."""
    chosen = condition.builder.select(condition.value, _operand(kind, then), _operand(kind, otherwise))
    return _Value(condition.builder, chosen)


def _bits(x):
    """The bits of a number as a machine word."""
    word = ir.IntType(64) if x.value.type == _DOUBLE else ir.IntType(32)
    return _Value(x.builder, x.builder.bitcast(x.value, word))


def _real(bits):
    """The number that has these bits."""
    kind = _DOUBLE if bits.value.type == ir.IntType(64) else ir.FloatType()
    return _Value(bits.builder, bits.builder.bitcast(bits.value, kind))


def _top(x):
    """x without the latter half of its bits, so that the product of two such numbers is exact."""
    return _real(_bits(x) & -(1 << _DIGITS // 2 + 1))


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

    The first part of ln 2 has 10 bits, so that its product with k is exact (Cody and Waite 1980, chapter 6).
    """
    shifted = _fma(x, 1 / math.log(2), _ROUNDER)
    n = shifted - _ROUNDER
    return _bits(shifted) - _ROUNDER_BITS, _fma(n, 2.12194440e-4, _fma(n, -0.693359375, x))


def _exponential(r):
    """e^r - 1 for |r| <= 0.347, relative error 1.6e-8."""
    return _fma(r * r, _polynomial(r, 0.5, 0.16666526, 0.04166614, 0.008368828, 0.0013977288), r)


def _factors(k):
    """Two factors of 2^k, which alone may be too large or denormal."""
    both = k + 2 * _BIAS
    first = both >> 1
    return _real(first << _DIGITS), _real((both - first) << _DIGITS)


def _raised(r, k):
    """2^k e^r."""
    first, second = _factors(k)
    return _fma(_exponential(r), first, first) * second


def _exp(x):
    x = _where(x < -104.0, -104.0, x)
    k, r = _reduced(_where(x > 89.0, 89.0, x))
    return _raised(r, k)


@_elementary
def exp(x):
    """e^x = 2^k e^r, and e^r by a polynomial. 0.99 ulp."""
    return _exp(x)


@_elementary
def tanh(x):
    """2 n d/(d^2 + n^2), where n/d is tanh(x/2); from 9.4 on, x is 9.4. 3.9 ulp at most: all numbers were tried.

    n = x p(x^2) and d = q(x^2). Where the result nears 1, n nears d, and their own errors cancel to first order. Near
    the minimax coefficients, whose relative error is 7e-9, these were found by trial: the sum with the rounding errors
    is smaller, though their own error is 3e-8.
    """
    x = _where(x > 9.4, 9.4, x)
    x = _where(x < -9.4, -9.4, x)
    square = x * x
    n = _fma(x * square, _fma(square, 1.14342045e-4, 0.0297775343), x)
    d = _fma(square, _fma(square, _fma(square, 2.46276818e-6, 0.00241388683), 0.226221755), 2.0)
    return n * (d + d) / _fma(d, d, n * n)


@_elementary
def expm1(x):
    """2^k (e^r - 1) + (2^k - 1); x itself where it is tiny. 1.5 ulp."""
    low = _where(x < -18.0, -18.0, x)
    k, r = _reduced(_where(low > 89.0, 89.0, low))
    scale = _power_of_two(k - 1)  # half of it: 2^128 is too large
    e = _fma(scale, _exponential(r), scale - 0.5)
    return _where(_abs(x) < 2.0**-25, x, e + e)


@_elementary
def sigmoid(x):
    """1/(1 + e) or e/(1 + e) with e = e^-|x|. 2 ulp."""
    e = _exp(-_abs(x))
    return _where(x < 0.0, e, 1.0) / (e + 1.0)


@_elementary
def sinh(x):
    """H + H/(2 H + 1) with H = (e^|x| - 1)/2, and the sign of x; x itself where it is tiny."""
    size = _abs(x)
    k, r = _reduced(_where(size > 89.5, 89.5, size))
    scale = _power_of_two(k - 2)  # 2^k and its half may be too large
    half = 2.0 * _fma(scale, _exponential(r), scale - 0.25)
    return _where(size < 2.0**-12, x, _signed(half * (1.0 / (half + half + 1.0) + 1.0), x))


@_elementary
def cosh(x):
    """H + 1/(4 H) with H = e^|x|/2."""
    size = _abs(x)
    k, r = _reduced(_where(size > 89.5, 89.5, size))
    scale = _power_of_two(k - 2)
    half = 2.0 * _fma(scale, _exponential(r), scale)
    return half + 0.25 / half


# ---- logarithms


def _logarithm(k, f):
    """k ln 2 + log(1 + f), for f from sqrt(1/2) - 1 to sqrt(2) - 1.

    log(1 + f) = f - f^2/2 + f^3 p(f); relative error of p's part 6e-9. ln 2 is split as in `_reduced`.
    """
    square = f * f
    tail = _polynomial(
        f, 0.3333333, -0.25000829, 0.20001268, -0.16623102, 0.14200564, -0.13161369, 0.12769441, -0.07640059
    )  # fmt: skip
    small = _fma(square, _fma(f, tail, -0.5), k * -2.12194440e-4)
    return _fma(k, 0.693359375, small + f)


_ROOT_BITS = 0x3F3504F3  # of sqrt(1/2)


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


def _log1p(x, twos):
    """log((1 + x) 2^twos), with the edges of the logarithm.

    1 + x = 2^k (1 + f), and f = 2^-k x + (2^-k - 1), which is exact where it matters.
    """
    whole = x + 1.0
    word, k, f = _split(whole)
    scale = _real((2 * _BIAS - word) << _DIGITS)  # 2^-k; it is not used where k is so large that this fails
    f = _where(x < 2.0**_DIGITS, _fma(scale, x, scale - 1.0), f)
    return _with_edges(_logarithm(k + twos, f), whole)


@_elementary
def log1p(x):
    """As log, with f from x, not from the rounded 1 + x; x itself where it is tiny."""
    return _where(_abs(x) < 2.0**-25, x, _log1p(x, 0.0))


@_elementary
def softplus(x):
    """max(x, 0) + log(1 + e) with e = e^-|x|, which is at most 1: there a polynomial, relative error 5e-9. 2.5 ulp."""
    e = _exp(-_abs(x))
    series = _polynomial(
        e, 1.0, -0.4999993, 0.33330464, -0.2495802, 0.19692121, -0.15344977, 0.10661371, -0.057460483, 0.02008846,
        -0.0032910742,
    )  # fmt: skip
    return _fma(e, series, _where(x > 0.0, x, 0.0))


@_elementary
def asinh(x):
    """log(1 + s) with s = |x| + x^2/(1 + sqrt(1 + x^2)), log(2 |x|) if large, and the sign of x; x itself if tiny."""
    size = _abs(x)
    large = size > 2.0**26
    square = size * size
    s = _where(large, size, square / (_llvm("llvm.sqrt", square + 1.0) + 1.0) + size)
    return _where(size < 2.0**-12, x, _signed(_log1p(s, _where(large, 1.0, 0.0)), x))


@_elementary
def acosh(x):
    """log(1 + s) with s = t + sqrt(t (t + 2)), t = x - 1, or log(2 x) if large; NaN below 1."""
    large = x > 2.0**26
    t = x - 1.0
    s = _where(large, t, _llvm("llvm.sqrt", t * (t + 2.0)) + t)
    return _where(x >= 1.0, _log1p(s, _where(large, 1.0, 0.0)), math.nan)


@_elementary
def atanh(x):
    """log(1 + 2 |x|/(1 - |x|))/2 with the sign of x; x itself where it is tiny."""
    size = _abs(x)
    logarithm = _log1p((size + size) / (1.0 - size), 0.0)
    return _where(size < 2.0**-12, x, _signed(logarithm * 0.5, x))


# ---- the error function


@_elementary
def erf(x):
    """1 - e^-g with the sign of x, where g = -log(erfc(|x|)) = |x| q(|x|), q a polynomial; 1 from 4 on."""
    size = _abs(x)
    size = _where(size > 4.0, 4.0, size)
    q = _polynomial(  # less 1, so that its rounding errors are small
        size, 0.12837917, 0.63661957, 0.102776304, -0.019147824, -0.00016949371, 0.0016756554, -0.00063734455,
        0.00011885355, -9.38677e-06,
    )  # fmt: skip
    k, r = _reduced(-_fma(size, q, size))
    scale = _power_of_two(k)
    return _signed(_fma(scale, _exponential(r), scale - 1.0), x)


@_elementary
def erfc(x):
    """e^(-x^2) (1 + q p(q - 1))/(1 + 2 |x|) with q = 2 |x|/(|x| + 2); 2 less that where x is negative.

    The form is that of Shepherd and Laframboise 1981. The rounding error of x^2 would count: it is computed as well.
    """
    size = _abs(x)
    size = _where(size > 10.2, 10.2, size)
    ratio = (size + size) / (size + 2.0)
    p = _polynomial(
        ratio - 1.0, 0.2769784, -0.3697424, 0.20371093, -0.03965545, -0.014548518, 0.0064880736, 0.0021423448,
        -0.00082834275, -0.00040001515,
    )  # fmt: skip
    p = _fma(ratio, p, 1.0) / _fma(size, 2.0, 1.0)
    square, top = size * size, _top(size)
    rest = (top * top - square) + (size - top) * (size + top)
    k, r = _reduced(-square)
    first, second = _factors(k)
    value = _fma(_exponential(r - rest), p, p) * first * second
    return _where(x < 0.0, 2.0 - value, value)


# ---- trigonometric functions

_TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561  # times 2^-256


def _converted(x, way, kind):
    """x as a number of another type, by an instruction of LLVM's."""
    return _Value(x.builder, getattr(x.builder, way)(x.value, kind))


def _turns(k):
    """2^-k, and 2/pi 2^k without whole turns in four parts: three of 29 bits, and the rest."""
    parts, rest = [], (_TWO_OVER_PI << k) % (1 << 258)
    for place in (229, 200, 171):
        parts.append(float(rest >> place << place) * 2.0**-256)
        rest %= 1 << place
    return 2.0**-k, *parts, float(rest) * 2.0**-256


def _quarters(x):
    """x = (n + f) pi/2 with |f| <= 1/2: n as a word, right modulo 4, and f pi/2.

    x = m 2^k, where k = 0 and x < 2^75, or k = 52 and m is a whole number. So m 2/pi 2^k needs those bits of 2/pi 2^k
    only that do not give whole turns (Payne and Hanek 1983). In doubles the products of m, of 24 bits, and the parts of
    29 bits are exact, and so are the sums of these, the larger first, when the quarters have been taken away.
    """
    wide, rounder = _converted(x, "fpext", _DOUBLE), 1.5 * 2.0**52
    large = _abs(wide) >= 2.0**75
    scale, *parts = (_where(large, far, near, _DOUBLE) for near, far in zip(_turns(0), _turns(52), strict=True))
    m = wide * scale
    first, second, third = (m * part for part in parts[:3])
    first, second = (_fma(_fma(a, 2.0**-27, rounder) - rounder, -(2.0**27), a) for a in (first, second))  # whole turns
    shifted = first + second + third + rounder
    f = _fma(m, parts[3], first - (shifted - rounder) + second + third)
    return _converted(_bits(shifted), "trunc", _WORD), _converted(f * (math.pi / 2), "fptrunc", _REAL)


def _sine(r):
    """sin r for |r| <= pi/4, relative error 4e-9."""
    square = r * r
    return _fma(r * square, _polynomial(square, -0.16666655, 0.008332188, -0.00019518095), r)


def _cosine(r):
    """cos r for |r| <= pi/4, relative error 1.2e-10."""
    square = r * r
    tail = _polynomial(square, 0.041666646, -0.001388731, 2.4432327e-05)
    return _fma(square * square, tail, _fma(square, -0.5, 1.0))


def _wave(n, r):
    """The sine of n quarters and r."""
    size = _where((n & 1) == 0, _sine(r), _cosine(r))
    return _real(_bits(size) ^ ((n & 2) << _DIGITS + 7))


@_elementary
def sin(x):
    """x = n pi/2 + r: a polynomial for sin r or cos r; x itself where it is tiny. The bound holds for all x."""
    n, r = _quarters(x)
    return _where(_abs(x) < 2.0**-12, x, _wave(n, r))


@_elementary
def cos(x):
    """The sine of a quarter more. The bound holds for all x."""
    n, r = _quarters(x)
    return _wave(n + 1, r)


@_elementary
def tan(x):
    """x = n pi/2 + r: tan r by a polynomial, or -1/tan r; x itself where it is tiny. The bound holds for all x."""
    n, r = _quarters(x)
    square = r * r
    tail = _polynomial(square, 0.33333144, 0.1333915, 0.05338175, 0.024537178, 0.0029457866, 0.009489816)
    size, even = _fma(r * square, tail, r), (n & 1) == 0
    return _where(_abs(x) < 2.0**-12, x, _where(even, size, -1.0) / _where(even, 1.0, size))


# ---- inverse trigonometric functions


def _arcsine(s, square):
    """asin s from s and s^2, for s up to 1/2, relative error 5e-9."""
    return _fma(s * square, _polynomial(square, 0.16666754, 0.074952476, 0.04547726, 0.024143543, 0.042229626), s)


@_elementary
def asin(x):
    """A polynomial up to 1/2; above, pi/2 - 2 asin(sqrt((1 - |x|)/2)), and the sign of x."""
    size = _abs(x)
    large = size > 0.5
    square = _where(large, _fma(size, -0.5, 0.5), x * x)
    angle = _arcsine(_where(large, _llvm("llvm.sqrt", square), size), square)
    return _signed(_where(large, _fma(angle, -2.0, math.pi / 2), angle), x)


@_elementary
def acos(x):
    """pi/2 - asin x up to 1/2; above, 2 asin(sqrt((1 - |x|)/2)), or pi less that where x is negative."""
    size = _abs(x)
    large = size > 0.5
    square = _where(large, _fma(size, -0.5, 0.5), x * x)
    angle = _arcsine(_where(large, _llvm("llvm.sqrt", square), x), square)
    twice = angle + angle
    return _where(large, _where(x < 0.0, math.pi - twice, twice), math.pi / 2 - angle)


@_elementary
def atan(x):
    """base + atan t, with the sign of x: t = |x|, (|x| - 1)/(|x| + 1) or -1/|x|, so that |t| <= tan(pi/8)."""
    size = _abs(x)
    middle, far = size > math.tan(math.pi / 8), size > math.tan(3 * math.pi / 8)
    above = _where(far, -1.0, _where(middle, size - 1.0, size))
    below = _where(far, size, _where(middle, size + 1.0, 1.0))
    base = _where(far, math.pi / 2, _where(middle, math.pi / 4, 0.0))
    t = above / below
    square = t * t
    tail = _polynomial(square, -0.33332947, 0.19977614, -0.13876551, 0.08049804)
    return _signed(_fma(t * square, tail, t) + base, x)


# ---- powers


def _whole(x):
    """Whether x is a whole number; infinity is one."""
    size = _abs(x)
    rounded = (size + 2.0**_DIGITS) - 2.0**_DIGITS
    return (size >= 2.0**_DIGITS) | (rounded == size)


def _power_edges(size, x, y):
    """x^y from size = |x|^y: its sign, and what IEEE 754 (section 9.2) asks of pow at 0, infinity and NaN."""
    base, exponent = _abs(x), _abs(y)
    edge = (base == 0.0) | (base == math.inf) | (exponent == math.inf)
    size = _where(edge, _where((base > 1.0) == (y > 0.0), math.inf, 0.0), size)
    odd = _whole(y) & ~_whole(y * 0.5)
    size = _where(odd, _signed(size, x), size)
    defined = (x == x) & (y == y) & (_whole(y) | (x >= 0.0) | (x == -math.inf))
    one = (y == 0.0) | (x == 1.0) | ((x == -1.0) & (exponent == math.inf))
    return _where(one, 1.0, _where(defined, size, math.nan))


@_elementary
def power(x, y):
    """x^y = 2^(y log2 |x|), the logarithm and its product with y in doubles; edges as pow has them."""
    _, k, f = _split(_converted(_abs(x), "fpext", _DOUBLE), 52, 1023, 0x3FE6A09E667F3BCD)
    s = f / (f + 2.0)  # log(1 + f) = 2 artanh s, relative error 5e-12
    series = _polynomial(s * s, 0.6666666563716582, 0.40000337241080247, 0.2853716847627058, 0.2358497946731988)
    logarithm = _fma(_fma(s * s, series, 2.0) * s, 1 / math.log(2), k)
    product = _converted(y, "fpext", _DOUBLE) * logarithm
    product = _where(product < -200.0, -200.0, product, _DOUBLE)
    product = _where(product > 200.0, 200.0, product, _DOUBLE)
    shifted = product + 1.5 * 2.0**52
    r = _converted((product - (shifted - 1.5 * 2.0**52)) * math.log(2), "fptrunc", _REAL)
    return _power_edges(_raised(r, _converted(_bits(shifted), "trunc", _WORD)), x, y)

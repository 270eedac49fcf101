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

import itertools
import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_NUMBER = types.float64
_REAL, _WORD, _DOUBLE = ir.DoubleType(), ir.IntType(64), ir.DoubleType()
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
    x = _where(x < -746.0, -746.0, x)
    k, r = _reduced(_where(x > 710.0, 710.0, x))
    return _raised(r, k)


@_elementary
def exp(x):
    """e^x = 2^k e^r, and e^r by a polynomial. 0.99 ulp."""
    return _exp(x)


@_elementary
def tanh(x):
    """2 n d/(d^2 + n^2), where n/d is tanh(x/2); from 19.1 on, x is 19.1. 3.5 ulp.

    n = x p(x^2) and d = 2 + e = q(x^2), relative error of the result 2e-18. Where the result nears 1, n nears d, and
    their own errors cancel to first order; where it is small, e is, and its rounding counts little.
    """
    x = _where(x > 19.1, 19.1, x)
    x = _where(x < -19.1, -19.1, x)
    square = x * x
    p = _polynomial(
        square, 0.036489657656799894, 3.197911146322326e-4, 9.843238630288073e-7, 1.1314852752579277e-9,
        4.08791838538208e-13, 2.0776036754432148e-17,
    )  # fmt: skip
    q = _polynomial(
        square, 0.23964598198026643, 0.0039434140609533735, 2.004457281119973e-5, 3.790628914459422e-8,
        2.5456814106963763e-11, 4.196851690599962e-15,
    )  # fmt: skip
    n, e = _fma(x * square, p, x), square * q
    return _fma(n, e + e, n * 4.0) / (_fma(e, e + 4.0, n * n) + 4.0)


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


@_elementary
def sinh(x):
    """H + H/(2 H + 1) with H = (e^|x| - 1)/2, and the sign of x; x itself where it is tiny."""
    size = _abs(x)
    k, r = _reduced(_where(size > 710.5, 710.5, size))
    scale = _power_of_two(k - 2)  # 2^k and its half may be too large
    half = 2.0 * _fma(scale, _exponential(r), scale - 0.25)
    return _where(size < 2.0**-26, x, _signed(half * (1.0 / (half + half + 1.0) + 1.0), x))


@_elementary
def cosh(x):
    """H + 1/(4 H) with H = e^|x|/2."""
    size = _abs(x)
    k, r = _reduced(_where(size > 710.5, 710.5, size))
    scale = _power_of_two(k - 2)
    half = 2.0 * _fma(scale, _exponential(r), scale)
    return half + 0.25 / half


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
    return _where(_abs(x) < 2.0**-54, x, _log1p(x, 0.0))


@_elementary
def softplus(x):
    """max(x, 0) + log(1 + e) with e = e^-|x|, which is at most 1. 2 ulp."""
    e = _exp(-_abs(x))
    high = e > 0.41421356
    logarithm = _logarithm(_where(high, 1.0, 0.0), _where(high, _fma(e, 0.5, -0.5), e))
    return _where(x > 0.0, x, 0.0) + logarithm


@_elementary
def asinh(x):
    """log(1 + s) with s = |x| + x^2/(1 + sqrt(1 + x^2)), log(2 |x|) if large, and the sign of x; x itself if tiny."""
    size = _abs(x)
    large = size > 2.0**54
    square = size * size
    s = _where(large, size, square / (_llvm("llvm.sqrt", square + 1.0) + 1.0) + size)
    return _where(size < 2.0**-26, x, _signed(_log1p(s, _where(large, 1.0, 0.0)), x))


@_elementary
def acosh(x):
    """log(1 + s) with s = t + sqrt(t (t + 2)), t = x - 1, or log(2 x) if large; NaN below 1."""
    large = x > 2.0**54
    t = x - 1.0
    s = _where(large, t, _llvm("llvm.sqrt", t * (t + 2.0)) + t)
    return _where(x >= 1.0, _log1p(s, _where(large, 1.0, 0.0)), math.nan)


@_elementary
def atanh(x):
    """log(1 + 2 |x|/(1 - |x|))/2 with the sign of x; x itself where it is tiny."""
    size = _abs(x)
    logarithm = _log1p((size + size) / (1.0 - size), 0.0)
    return _where(size < 2.0**-26, x, _signed(logarithm * 0.5, x))


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


@_elementary
def erfc(x):
    """e^(-x^2) (1 + q p(q - 1))/(1 + 2 |x|) with q = 2 |x|/(|x| + 4); 2 less that where x is negative.

    The form is that of Shepherd and Laframboise 1981. The rounding error of x^2 would count: it is computed as well.
    """
    size = _abs(x)
    size = _where(size > 27.3, 27.3, size)
    ratio = (size + size) / (size + 4.0)
    p = _polynomial(
        ratio - 1.0, 0.23299511862555256, -0.3726162354661158, 0.3879958875687213, -0.3198988333139542,
        0.2188597672784229, -0.12512693228231817, 0.05879656645353731, -0.02162905088644618, 0.005431317012281588,
        -0.0003993472344039841, -0.00035842724698058673, 0.00015917126627102335, -8.54476905484129e-06,
        -1.5855563792839305e-05, 4.621139262497949e-06, 1.087972153670295e-06, -7.741174144478497e-07,
        -4.5879024371228446e-08, 1.0115487170467501e-07, 2.885095831073945e-10, -8.389362331046894e-09,
    )  # fmt: skip
    p = _fma(ratio, p, 1.0) / _fma(size, 2.0, 1.0)
    square, top = size * size, _top(size)
    rest = (top * top - square) + (size - top) * (size + top)
    k, r = _reduced(-square)
    first, second = _factors(k)
    value = _fma(_exponential(r - rest), p, p) * first * second
    return _where(x < 0.0, 2.0 - value, value)


# ---- trigonometric functions

_TWO_OVER_PI = int(  # times 2^-1216
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA09D1921CFE1D"
    "EB1CB129A73EE88235F52EBB4484E99C7026B45F7E413991D639835339F49C845F8BBDF9283B1FF897FFDE05980FEF2F118B"
    "5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D7527BAC7EBE5F17B3D0739F78A5292EA6BFB5FB11F8D5D0856033046FC7B"
    "6BAB",
    16,
)


def _entry(table, index):
    """An element of a constant array."""
    module, kind = index.builder.module, ir.ArrayType(_REAL, len(table))
    array = ir.GlobalVariable(module, kind, module.get_unique_name("table"))
    array.linkage, array.global_constant, array.initializer = "internal", True, kind(table)
    return _Value(index.builder, index.builder.load(index.builder.gep(array, [_WORD(0), index.value])))


def _turns(k):
    """2/pi 2^(16 k - 26) without whole turns, in four parts: three that end 50, 102 and 154 bits after the point."""
    parts, rest = [], (_TWO_OVER_PI << 16 * k >> 26) % (1 << 1218)
    for place in (1166, 1114, 1062):
        whole = (rest + (1 << place - 1)) >> place
        parts.append(math.ldexp(whole, place - 1216))
        rest -= whole << place
    return *parts, math.ldexp(rest >> 900, 900 - 1216)


_TURNS = [part for k in range(63) for part in _turns(k)]


def _sum_and_error(larger, smaller):
    """The rounded sum and its rounding error (Dekker 1971)."""
    total = larger + smaller
    return total, smaller - (total - larger)


def _quarters(x):
    """x = (n + f) pi/2 with |f| <= 1/2: n as a word, right modulo 4, and f pi/2.

    x = m 2^(16 k - 26), where k = 0 and x < 2^42, or m is a whole number below 2^68. So m 2/pi 2^(16 k - 26) needs
    those bits of 2/pi only that do not give whole turns (Payne and Hanek 1983). m is cut into parts of 27 and 26 bits,
    2/pi into six of 26 and a rest. Their products are exact, and so are the sums of those of like place; the first of
    these gives whole turns only and is left out. Summed from the largest on, they cancel exactly.
    """
    exponent = _bits(_abs(x)) >> _DIGITS
    k = _where(exponent > 1049, (exponent - 1049) >> 4, 0, _WORD)
    m = x * _power_of_two(26 - (k << 4))
    high = _real(_bits(m) & -(1 << 26))
    low = m - high
    parts = []
    for j in range(3):
        pair, rounder = _entry(_TURNS, (k << 2) + j), _ROUNDER * 2.0 ** (-24 - 52 * j)
        first = (pair + rounder) - rounder
        parts += [first, pair - first]
    parts.append(_entry(_TURNS, (k << 2) + 3))
    a, b, c, d, e, g = (_fma(low, one, high * other) for one, other in itertools.pairwise(parts))
    a = _fma(_fma(a, 0.25, _ROUNDER) - _ROUNDER, -4.0, a)
    shifted = (a + b) + _ROUNDER
    f, error = _sum_and_error(a - (shifted - _ROUNDER), b)
    f, error = _sum_and_error(f, c + error)
    f, error = _sum_and_error(f, d + error)
    return _bits(shifted), (f + (e + g + error)) * (math.pi / 2)


def _sine(r):
    """sin r for |r| <= pi/4, relative error 3.7e-18."""
    square = r * r
    tail = _polynomial(
        square, -0.1666666666666663, 0.00833333333332184, -0.00019841269829358544, 2.755731353852453e-06,
        -2.5050734391409857e-08, 1.589543343670026e-10,
    )  # fmt: skip
    return _fma(r * square, tail, r)


def _cosine(r):
    """cos r for |r| <= pi/4, relative error 5.7e-20."""
    square = r * r
    tail = _polynomial(
        square, 0.041666666666666595, -0.0013888888888873325, 2.480158728898368e-05, -2.755731421007478e-07,
        2.0875704271054615e-09, -1.1358683341222195e-11,
    )  # fmt: skip
    return _fma(square * square, tail, _fma(square, -0.5, 1.0))


def _wave(n, r):
    """The sine of n quarters and r."""
    size = _where((n & 1) == 0, _sine(r), _cosine(r))
    return _real(_bits(size) ^ ((n & 2) << _DIGITS + 10))


@_elementary
def sin(x):
    """x = n pi/2 + r: a polynomial for sin r or cos r; x itself where it is tiny. The bound holds for all x."""
    n, r = _quarters(x)
    return _where(_abs(x) < 2.0**-26, x, _wave(n, r))


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
    tail = _polynomial(
        square, 0.3333333333333277, 0.13333333333415584, 0.05396825392620734, 0.021869489620083938,
        0.008863219007449106, 0.0035922905002001826, 0.0014547492876261505, 0.0005951014573984757,
        0.00022227099573868478, 0.00013675076681039105, -2.6705046587515332e-05, 8.974664149029864e-05,
        -4.5036079595715016e-05, 2.090177347426005e-05,
    )  # fmt: skip
    size, even = _fma(r * square, tail, r), (n & 1) == 0
    return _where(_abs(x) < 2.0**-26, x, _where(even, size, -1.0) / _where(even, 1.0, size))


# ---- inverse trigonometric functions


def _arcsine(s, square):
    """asin s from s and s^2, for s up to 1/2, relative error 1.5e-17."""
    tail = _polynomial(
        square, 0.16666666666665395, 0.07500000000340608, 0.04464285682524589, 0.030381959268136915,
        0.022371754818259218, 0.017359754707463437, 0.013884731110097342, 0.01217259128932178, 0.006513078569215296,
        0.019569765799951098, -0.016290483161422176, 0.03195840041806691,
    )  # fmt: skip
    return _fma(s * square, tail, s)


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
    tail = _polynomial(
        square, -0.3333333333333319, 0.1999999999995218, -0.14285714280053685, 0.11111110776274552,
        -0.09090897550116221, 0.0769205650544995, -0.06663061692779264, 0.058475796471238684, -0.050379025792879194,
        0.03802875916322471, -0.017867806458784847,
    )  # fmt: skip
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


def _logarithm_in_two(k, f):
    """k + log2(1 + f) as the sum of two numbers, of which the first has 26 bits, to about 2^-66.

    log(1 + f) = 2 artanh s = 2/3 s (3 + s^2 + s^4 q(s^2)) with s = f/(2 + f). What counts is computed in two parts; the
    scheme is that of fdlibm's e_pow.c, without its table.
    """
    whole = f + 2.0
    inverse = 1.0 / whole
    s = f * inverse
    s_top, whole_top = _top(s), _top(whole)
    s_rest = ((f - s_top * whole_top) - s_top * (f - (whole_top - 2.0))) * inverse
    square = s * s
    series = _polynomial(
        square, 0.6000000000000343, 0.4285714285512669, 0.33333333784155694, 0.2727267615941012, 0.23080154752329013,
        0.19884774288921309, 0.19798824859609523,
    )  # fmt: skip
    small = s_rest * (s_top + s) + square * square * series
    squared = s_top * s_top
    factor = _top((squared + 3.0) + small)
    first, second = s_top * factor, s_rest * factor + (small - ((factor - 3.0) - squared)) * s
    product = _top(first + second)
    rest = second - (product - first)
    high, low = product * 0.9617966860532761, product * 7.872699542894897e-09 + rest * 0.9617966939259756  # 2/(3 ln 2)
    total = _top((high + low) + k)
    return total, low - ((total - k) - high)


@_elementary
def power(x, y):
    """x^y = 2^(y log2 |x|), the logarithm in two parts and its product with y in three; edges as pow has them."""
    size = _abs(x)
    denormal = size < _SMALLEST
    _, k, f = _split(_where(denormal, size * 2.0**_DIGITS, size))
    high, low = _logarithm_in_two(_where(denormal, k - float(_DIGITS), k), f)
    y_top = _top(y)
    first, second = y_top * high, (y - y_top) * high + y * low
    product = first + second
    inside = _abs(product) < 1100.0
    shifted = _where(inside, product, _where(product > 0.0, 1100.0, -1100.0)) + _ROUNDER
    r = _where(inside, (first - (shifted - _ROUNDER)) + second, 0.0)
    return _power_edges(_raised(r * math.log(2), _bits(shifted) - _ROUNDER_BITS), x, y)

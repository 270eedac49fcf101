"""What emitted kernels call: matrix products, arrays behind addresses, random numbers.

It needs NumPy and Numba only. A module of kernels imports from here, or holds a copy of this text
(`chainrule generate`), and so runs where chainrule is not installed.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LARGEST = 2**63 - 1
READ, INTO_L2, DATA = 0, 2, 1  # of a hint to fetch: why, how near, what
FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}  # not nnan, ninf: a NaN must stay one


@intrinsic
def view(context, address, shape, dtype):
    """The C-contiguous array of a shape and type at an address: no reference counts inside the parallel loops."""
    array = types.Array(dtype.dtype, len(shape), "C")

    def codegen(context, builder, signature, arguments):
        data = builder.inttoptr(arguments[0], context.get_data_type(array.dtype).as_pointer())
        extents = [builder.sext(e, ir.IntType(64)) for e in cgutils.unpack_tuple(builder, arguments[1])]
        return _array(context, builder, array, data, extents)

    return array(types.int64, shape, dtype), codegen


@intrinsic
def flat(context, array, at):
    """The elements of a C-contiguous array in a row, from one on."""
    row = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, arguments):
        data, elements = (_field(context, builder, array, arguments[0], name) for name in ("data", "nitems"))
        rest = builder.sub(elements, arguments[1])
        return _array(context, builder, row, builder.gep(data, [arguments[1]]), [rest])

    return row(array, types.int64), codegen


def _array(context, builder, array, data, extents):
    """A C-contiguous array as Numba has it: a structure, put together without memory, which is less to compile."""
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    strides = [item]
    for extent in reversed(extents[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    fields = {
        "nitems": functools.reduce(builder.mul, extents), "itemsize": item, "data": data,
        "shape": cgutils.pack_array(builder, extents), "strides": cgutils.pack_array(builder, strides),
    }  # fmt: skip
    model = context.data_model_manager[array]
    made = ir.Constant(model.get_value_type(), None)  # without an owner
    for name, value in fields.items():
        made = builder.insert_value(made, value, model.get_field_position(name))
    return made


def _field(context, builder, array, value, name):
    """Of the structure that an array is."""
    return builder.extract_value(value, context.data_model_manager[array].get_field_position(name))


def _address(context, builder, signature, arguments, k, at):
    """Of an element of the array that is argument k."""
    data = _field(context, builder, signature.args[k], arguments[k], "data")
    return builder.ptrtoint(builder.gep(data, [at]), ir.IntType(64))


def _call_product(context, builder, real, passed):
    """Call the product of `products.py`."""
    kind = ir.FunctionType(ir.VoidType(), [p.type for p in passed])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"chainrule_product_{real.name}"), passed)
    return context.get_dummy_value()


def _product(start=False, others=False):
    """What calls the product; `start` is an argument where the product is added to a row, `others` are where arrays are
    fetched meanwhile."""

    def typed(left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right, right_at,
              right_stride, out, out_at, out_stride, *more):  # fmt: skip
        word = types.int64
        signature = types.void(
            types.boolean, types.boolean, word, word, word, left, word, word, right, word, word, out, word, word, *more
        )

        def codegen(context, builder, signature, arguments):
            passed = [*(builder.zext(arguments[k], ir.IntType(64)) for k in (0, 1)), *arguments[2:5]]
            for k in (5, 8, 11):
                passed += [_address(context, builder, signature, arguments, k, arguments[k + 1]), arguments[k + 2]]
            zero = ir.IntType(64)(0)
            passed.append(_address(context, builder, signature, arguments, 14, zero) if start else zero)
            passed += arguments[14:] if others else [zero] * 3
            return _call_product(context, builder, signature.args[11].dtype, passed)

        return signature, codegen

    return typed


@intrinsic
def gemm(context, left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right, right_at,
         right_stride, out, out_at, out_stride):  # fmt: skip
    """out = left right, row-major, on parts of arrays: each begins `_at` elements into its array and has rows `_stride`
    elements apart; a turned matrix is stored as its transpose. `products.py` computes it."""
    return _product()(left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right, right_at,
                      right_stride, out, out_at, out_stride)  # fmt: skip


@intrinsic
def gemm_fetching(context, left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right, right_at,
                  right_stride, out, out_at, out_stride, a, b, c):  # fmt: skip
    """`gemm`; what lies at three addresses as the result lies in its array, and changes next, is fetched meanwhile."""
    word = types.int64
    return _product(others=True)(left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right,
                                 right_at, right_stride, out, out_at, out_stride, word, word, word)  # fmt: skip


@intrinsic
def affine(context, left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right, right_at,
           right_stride, out, out_at, out_stride, row):  # fmt: skip
    """out = row + left right: the product, added to the same row of numbers everywhere."""
    return _product(start=True)(left_turned, right_turned, rows, columns, depth, left, left_at, left_stride, right,
                                right_at, right_stride, out, out_at, out_stride, row)  # fmt: skip


@intrinsic
def natural(context, number):
    """An integer that is not negative: said so, or every index that is made of it is looked at."""

    def codegen(context, builder, signature, arguments):
        return builder.and_(arguments[0], ir.IntType(64)(LARGEST))

    return types.int64(types.int64), codegen


@intrinsic
def fetch(context, array, at):
    """Have the cache line of an element fetched, which will soon be read; a hint that changes nothing."""

    def codegen(context, builder, signature, arguments):
        data = _field(context, builder, signature.args[0], arguments[0], "data")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        hint = [ir.IntType(32)(k) for k in (READ, INTO_L2, DATA)]
        kind = ir.FunctionType(ir.VoidType(), [place.type, *(k.type for k in hint)])
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind), [place, *hint])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def sum_rows(context, rows, columns, given, given_at, given_stride, out, out_at):
    """out = the sum of the rows of a part of an array, which begins and has rows as those of `gemm`."""
    word = types.int64

    def codegen(context, builder, signature, arguments):
        rows, columns, _, given_at, given_stride, _, out_at = arguments
        zero, one = ir.IntType(64)(0), ir.IntType(64)(1)
        matrix = _address(context, builder, signature, arguments, 2, given_at)
        total = _address(context, builder, signature, arguments, 5, out_at)
        passed = [one, zero, one, columns, rows, zero, zero, matrix, given_stride, total, columns, *[zero] * 4]
        return _call_product(context, builder, signature.args[5].dtype, passed)

    return types.void(word, word, given, word, word, out, word), codegen


# ---- elementary functions that Python's math lacks


@njit(fastmath=FAST, error_model="numpy")
def sign(z):
    """-1, 0 or 1; NaN stays NaN."""
    one = z**0  # of the type of z: an integer would make doubles of single precision
    return one if z > 0 else (-one if z < 0 else z)


@intrinsic
def maximum(context, a, b):
    """The larger of two numbers, or NaN where one of them is."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(arguments[0].type, [arguments[0].type] * 2)
        return builder.call(builder.module.declare_intrinsic("llvm.maximum", [arguments[0].type], kind), arguments)

    return (a(a, b), codegen) if isinstance(a, types.Float) and a == b else None


@njit(error_model="numpy")
def uniform(key, position):
    """A number in [0, 1) from a key and a position: the finaliser of SplitMix64 (Steele et al. 2014), no state."""
    bits = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(position) * np.uint64(0xD1B54A32D192ED03)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return (bits >> np.uint64(40)) * (1.0 / 16777216.0)  # 24 bits: exact in float32, and so never rounded to 1

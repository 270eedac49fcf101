"""Matrix products by address: in tiles of registers, and by BLAS where its packing is better.

A function of the extents alone decides which, so the bits do not depend on anything else. In tiles, every number of
the result is one sum in the order of the depth, whatever tile it falls into: rows and columns may be cut into blocks
anywhere. Only products of fewer than `FEW_ROWS` rows add in another order, and so do those of one column, for any
number of rows.

The right matrix is read in panels of two vectors of columns. A panel that is turned, or whose rows lie far apart, is
copied first; and so is a left matrix that is turned, tile by tile.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .control import DEEPEST, MOST_TURNED
from .tiles import (
    SMALL_TILE_ROWS,
    TILE_ROWS,
    WORD,
    clear_panel,
    dots,
    fill,
    instructions,
    pack,
    pack_left,
    repeat_number,
    stack,
    tile,
    turn,
    vector_bytes,
)  # fmt: skip

PRODUCT = types.void(*[types.int64] * 12)
FEW_ROWS = 5  # below it, turning a panel costs more than it saves
FEW_TO_PACK = 16  # rows or columns, below which an operand that lies far apart is read as it lies
NEAR = 8_192  # numbers over which a panel is spread: more, and its lines take one another's places in the caches
MOST_PACKED = 2**18  # bytes of the left matrix that are packed at once, and lie on the stack
TILES_AT_ONCE = 48  # so many tiles of rows use a panel while it is in a cache, and the rows stay in the next one


def _blas(real, added):
    """xGEMM as Fortran has it, with alpha = 1, and beta = 1 where `added`, else 0: column-major, all by reference.

    Integers stand in 64 bits, of which a library with integers of 32 reads the lower half.
    """
    symbol = "chainrule_sgemm" if real == ir.FloatType() else "chainrule_dgemm"

    @intrinsic
    def function(context, arguments):
        def codegen(context, builder, signature, given):
            ta, tb, m, n, k, a, lda, b, ldb, c, ldc = cgutils.unpack_tuple(builder, given[0])

            def by_reference(value):
                with builder.goto_entry_block():
                    place = builder.alloca(value.type)
                builder.store(value, place)
                return builder.bitcast(place, WORD.as_pointer())

            def letter(turned):
                turned = builder.icmp_signed("!=", turned, WORD(0))
                return by_reference(builder.select(turned, WORD(ord("T")), WORD(ord("N"))))

            def matrix(address):
                return builder.inttoptr(address, WORD.as_pointer())

            one, beta = by_reference(real(1.0)), by_reference(real(1.0 if added else 0.0))
            m, n, k, lda, ldb, ldc = (by_reference(value) for value in (m, n, k, lda, ldb, ldc))
            passed = [letter(ta), letter(tb), m, n, k, one, matrix(a), lda, matrix(b), ldb, beta, matrix(c), ldc]
            kind = ir.FunctionType(ir.VoidType(), [p.type for p in passed])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), passed)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return function


def product_of(real, size):
    """The product for one type of numbers.

    out[r, c] = start[c] + sum_k left[r, k] right[k, c], row-major, by addresses and by strides in elements. A turned
    matrix is stored as its transpose. Where the address of `start` is 0, it stands for zeros.
    """
    lanes, rows_of_tile, rows_of_small = vector_bytes() // size, TILE_ROWS, SMALL_TILE_ROWS
    rows_at_once = TILES_AT_ONCE * rows_of_tile
    width_of_panel, on_stack = 2 * lanes, stack(DEEPEST * 2 * vector_bytes())
    wide = instructions("wide_tile", real, tile(rows_of_tile, 2))
    small = instructions("small_tile", real, tile(rows_of_small, 2))
    some = instructions("some_tile", real, tile(rows_of_tile, 2, overlapping=True))
    narrow = instructions("narrow_tile", real, tile(rows_of_tile, 1, masked=True))
    line = instructions("line", real, tile(1, 2, masked=True))
    tall = instructions("tall_tile", real, tile(2 * rows_of_tile, 1))
    few, down = instructions("dots", real, dots()), instructions("dots_down", real, dots(spread_out=True))
    turned, turned_once = instructions("turn", real, turn(2)), instructions("turn_once", real, turn(1))
    packed, packed_left = instructions("pack", real, pack), instructions("pack_left", real, pack_left(rows_of_tile))
    left_on_stack = stack(MOST_PACKED)
    clear, repeat = instructions("clear", real, clear_panel), instructions("repeat", real, repeat_number)
    large, large_added, spread = _blas(real, added=False), _blas(real, added=True), instructions("spread", real, fill)
    zeros = stack(2 * vector_bytes())

    def product(
        left_turned, right_turned, rows, columns, depth, left, left_stride, right, right_stride, out, out_stride, start
    ):
        if depth > DEEPEST or (left_turned and rows * columns * depth > MOST_TURNED):
            passed = (right_turned, left_turned, columns, rows, depth, right, right_stride, left, left_stride, out,
                      out_stride)  # fmt: skip
            if start == 0:
                large(passed)
                return
            for row in range(rows):
                spread((columns, start, out + size * row * out_stride))
            large_added(passed)
            return
        left_row, left_step = (1, left_stride) if left_turned else (left_stride, 1)
        nothing = zeros()
        if start == 0:
            clear((nothing,))
        if columns == 1 and out_stride == 1 and left_step == 1 and (right_turned or right_stride == 1):
            if start != 0:
                repeat((start, nothing))
            for row in range(0, rows, lanes):
                a, c = left + size * row * left_row, out + size * row
                few((depth, right, a, left_row, c, min(lanes, rows - row), nothing))
            return
        if right_turned and rows < FEW_ROWS and left_step == 1:
            for column in range(0, columns, lanes):
                a = right + size * column * right_stride
                s = start + size * column if start != 0 else nothing
                for row in range(rows):
                    c = out + size * (row * out_stride + column)
                    few((depth, left + size * row * left_row, a, right_stride, c, min(lanes, columns - column), s))
            return
        if right_turned and left_step == 1 and depth >= 4 * lanes and 8 * columns <= 5 * lanes:
            for column in range(columns):
                if start != 0:
                    repeat((start + size * column, nothing))
                for row in range(0, rows, lanes):
                    c = out + size * (row * out_stride + column)
                    down((depth, right + size * column * right_stride, left + size * row * left_row, left_row, c,
                          min(lanes, rows - row), nothing, out_stride))  # fmt: skip
            return
        panel, tiles_of_left = on_stack(), left_on_stack()
        at_once, far = rows_at_once, False
        if left_turned and columns >= 2 * FEW_TO_PACK and rows >= rows_of_tile and depth * left_stride > NEAR:
            at_once, far = max(1, MOST_PACKED // (size * depth * rows_of_tile)) * rows_of_tile, True
        for top in range(0, rows, at_once):
            end = min(rows, top + at_once)
            if far:
                for first in range(top, end, rows_of_tile):
                    row = min(first, rows - rows_of_tile)
                    packed_left((left + size * row, left_stride, depth, tiles_of_left + size * depth * (first - top)))
            for begin in range(0, columns, width_of_panel):
                column = max(0, min(begin, columns - width_of_panel))  # the last panel overlaps the one before
                width = min(width_of_panel, columns - column)
                b, b_row = right + size * column, right_stride
                s = start + size * column if start != 0 else nothing
                whole = width == width_of_panel
                if right_turned and width <= lanes:
                    turned_once((right + size * column * right_stride, right_stride, depth, width, panel))
                    b, b_row = panel, lanes
                elif right_turned:
                    turned((right + size * column * right_stride, right_stride, depth, width, panel))
                    b, b_row = panel, width_of_panel
                elif whole and rows >= FEW_TO_PACK and depth * right_stride > NEAR:
                    packed((b, right_stride, depth, panel))
                    b, b_row = panel, width_of_panel
                if width == lanes and rows >= 2 * rows_of_tile:
                    for first in range(top, end, 2 * rows_of_tile):
                        row = min(first, rows - 2 * rows_of_tile)
                        tall((depth, left + size * row * left_row, left_row, left_step, b, b_row,
                              out + size * (row * out_stride + column), out_stride, width, s))  # fmt: skip
                    continue
                for first in range(top, end, rows_of_tile):
                    row = max(0, min(first, rows - rows_of_tile))
                    a, c = left + size * row * left_row, out + size * (row * out_stride + column)
                    rest = rows - first
                    if whole and rows >= rows_of_small and -(-rest // rows_of_small) * rows_of_small < rows_of_tile:
                        for begin_of_small in range(first, rows, rows_of_small):
                            r = min(begin_of_small, rows - rows_of_small)
                            small((depth, left + size * r * left_row, left_row, left_step, b, b_row,
                                   out + size * (r * out_stride + column), out_stride, width, s))  # fmt: skip
                    elif rows < rows_of_tile:
                        for r in range(rows):
                            line((depth, a + size * r * left_row, left_row, left_step, b, b_row,
                                  c + size * r * out_stride, out_stride, width, s))  # fmt: skip
                    elif whole and far:
                        a = tiles_of_left + size * depth * (first - top)
                        wide((depth, a, 1, rows_of_tile, b, b_row, c, out_stride, width, s))
                    elif whole:
                        wide((depth, a, left_row, left_step, b, b_row, c, out_stride, width, s))
                    elif width > lanes:
                        some((depth, a, left_row, left_step, b, b_row, c, out_stride, width, s))
                    else:
                        narrow((depth, a, left_row, left_step, b, b_row, c, out_stride, width, s))

    return product

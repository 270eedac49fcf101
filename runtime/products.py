"""Matrix products by address: in tiles of registers, and by BLAS where its packing is better.

A function of the extents alone decides which, so the bits do not depend on anything else. In tiles, every number of
the result is one sum in the order of the depth, whatever tile it falls into: rows and columns may be cut into blocks
anywhere. Only products of fewer than `FEW_ROWS` rows add in another order, and so do those of few columns, or of a few
more than a vector has numbers, for any number of rows.

The right matrix is read in panels of two vectors of columns. A panel that is turned, or whose rows lie far apart, is
copied first; and so is a left matrix that is turned, tile by tile.
"""

from functools import partial
from types import SimpleNamespace

from .assembly import WORD, written
from .control import DEEPEST, MOST_TURNED
from .tiles import (
    SMALL_TILE_ROWS,
    SUMS_AT_ONCE,
    TILE_ROWS,
    Vectors,
    add_rows,
    clear,
    dots,
    dots_tile,
    fetch_tile,
    fill,
    pack,
    pack_left,
    repeat,
    spread_out,
    tile,
    turn,
    vector_bytes,
)  # fmt: skip

DOTS = {5: 2, 3: 4, 2: 4}  # rows of tiles of so many columns: accumulators enough to hide the latency
FEW_ROWS = 5  # below it, turning a panel costs more than it saves
FEW_TO_PACK = 16  # rows or columns, below which an operand that lies far apart is read as it lies
DEEP_TO_FETCH = 96  # in shorter sums there is no time to fetch what comes next
NEAR = 8_192  # numbers over which a panel is spread: more, and its lines take one another's places in the caches
MOST_PACKED = 2**18  # bytes of the left matrix that are packed at once, and lie on the stack
TILES_AT_ONCE = 48  # so many tiles of rows use a panel while it is in a cache, and the rows stay in the next one


def in_small(rows):
    """Rows of the small tiles that hold so many."""
    return (rows + (SMALL_TILE_ROWS - 1)) // SMALL_TILE_ROWS * SMALL_TILE_ROWS


def write_product(module, real, name):
    """Write the product for one type of numbers into a module.

    out[r, c] = start[c] + sum_k left[r, k] right[k, c], row-major, by addresses and by strides in elements. A turned
    matrix is stored as its transpose. Where the address of `start` is 0, it stands for zeros; where that of `left` is,
    for a row of ones. Where that of `a` is not, what lies in the arrays a, b and c as the result lies in `out` will be
    changed next, and is fetched meanwhile.
    """
    functions = {
        "wide": tile(TILE_ROWS, 2), "small": tile(SMALL_TILE_ROWS, 2), "some": tile(TILE_ROWS, 2, overlapping=True),
        "narrow": tile(TILE_ROWS, 1, masked=True), "line": tile(1, 2, masked=True), "tall": tile(2 * TILE_ROWS, 1),
        "dots": dots, "spread_out": spread_out, "clear": clear, "repeat": repeat, "fill": fill, "turn": turn,
        "pack": pack, "pack_left": pack_left(TILE_ROWS), "pack_few": pack_left(SMALL_TILE_ROWS), "pair": tile(2, 2),
        "add_rows": add_rows, "fetch": fetch_tile(TILE_ROWS, 2),
    }  # fmt: skip
    kind = partial(Vectors, real=real)
    inner = {name: written(module, name, emit, kind, inside=True) for name, emit in functions.items()}
    tiles = {
        columns: written(module, f"dots_{columns}", dots_tile(rows, columns), kind, inside=True)
        for columns, rows in DOTS.items()
    }
    inner["few_columns"] = written(module, "few_columns", few_columns(tiles), kind, inside=True)

    def product(code, left_turned, right_turned, rows, columns, depth, left, left_stride, right, right_stride, out,
                out_stride, start, a, b, c):  # fmt: skip
        of = _Product(
            code=code, inner=SimpleNamespace(**{name: partial(call, code) for name, call in inner.items()}),
            left_turned=left_turned != 0, right_turned=right_turned != 0, rows=rows, columns=columns, depth=depth,
            left=left, left_stride=left_stride, right=right, right_stride=right_stride, out=out, out_stride=out_stride,
            start=start, others=(a, b, c),
        )  # fmt: skip
        of.write()

    written(module, name, product, kind)


def few_columns(tiles):
    """A product of fewer columns than fill a vector, or a few more, by tiles of dot products of so many columns.

    The last tiles overlap the ones before. Apart from the rest, it takes no registers from products of other kinds.
    """

    def emit(code, rows, columns, depth, left, left_row, right, right_row, out, out_row, start, zeros):
        by = code.choose(columns % 3 == 0, 3, code.choose((columns == 2) | (columns == 4), 2, 5))
        for width, tile_of in tiles.items():
            with code.when(by == width):
                for first in code.range(0, rows, DOTS[width]):
                    for begin in code.range(0, columns, width):
                        r, c = code.smaller(first, rows - DOTS[width]), code.smaller(begin, columns - width)
                        tile_of(
                            code, depth, left + code.size * r * left_row, left_row, right + code.size * c * right_row,
                            right_row, out + code.size * (r * out_row + c), out_row,
                            code.choose(start != 0, start + code.size * c, zeros),
                        )  # fmt: skip

    return emit


class _Product(SimpleNamespace):
    """The operands of a product, and the ways to compute it."""

    def write(self):
        """Write all ways, and which of them is taken when."""
        code, rows, columns, depth, lanes = self.code, self.rows, self.columns, self.depth, self.code.lanes
        with code.when(self.left == 0):
            self.rows_of_ones()
            code.leave()
        with code.when((depth > DEEPEST) | (self.left_turned & (rows * columns * depth > MOST_TURNED))):
            self.by_blas()
            code.leave()

        self.left_row = code.choose(self.left_turned, 1, self.left_stride)
        self.left_step = code.choose(self.left_turned, self.left_stride, 1)
        self.same_start = code.stack(2 * vector_bytes())  # the start of a row or column: zeros, where there is none
        with code.when(self.start == 0):
            self.inner.clear(self.same_start)

        one_line = (self.left_step == 1) & (self.right_turned | (self.right_stride == 1))
        with code.when((columns == 1) & (self.out_stride == 1) & one_line):
            self.one_column()
            code.leave()
        with code.when(self.right_turned & (self.left_step == 1)):
            with code.when(rows < FEW_ROWS):
                self.few_rows()
                code.leave()
            with code.when((depth >= 4 * lanes) & (4 * columns <= 5 * lanes)):
                few = (columns >= 2) & (4 * columns <= 3 * lanes) | (columns > lanes)
                with code.when(few):
                    self.inner.few_columns(
                        rows, columns, depth, self.left, self.left_row, self.right, self.right_stride, self.out,
                        self.out_stride, self.start, self.same_start,
                    )  # fmt: skip
                    code.leave()
        few = (columns > 0) & (2 * columns <= lanes) & (rows >= 2 * lanes) & (self.start == 0)
        with code.when(self.left_turned & ~self.right_turned & few):
            self.turned_about()
            code.leave()
        self.in_tiles()

    # where things are

    def row(self, r):
        """Of the left matrix."""
        return self.left + self.code.size * r * self.left_row

    def column(self, c):
        """Of the right matrix, where it is turned: there it is a line."""
        return self.right + self.code.size * c * self.right_stride

    def result(self, r, c):
        return self.out + self.code.size * (r * self.out_stride + c)

    def start_of(self, column):
        """Of the results from a column on."""
        return self.code.choose(self.start != 0, self.start + self.code.size * column, self.same_start)

    def repeat_start(self, column):
        """Have the start of one column in every lane."""
        with self.code.when(self.start != 0):
            self.inner.repeat(self.start + self.code.size * column, self.same_start)

    # ways

    def one_column(self):
        lanes = self.code.lanes
        self.repeat_start(0)
        for r in self.code.range(0, self.rows, lanes):
            height = self.code.smaller(lanes, self.rows - r)
            self.inner.dots(self.depth, self.right, self.row(r), self.left_row, self.result(r, 0), height,
                            self.same_start)  # fmt: skip

    def few_rows(self):
        lanes = self.code.lanes
        for c in self.code.range(0, self.columns, lanes):
            width, start = self.code.smaller(lanes, self.columns - c), self.start_of(c)
            for r in self.code.range(self.rows):
                self.inner.dots(self.depth, self.row(r), self.column(c), self.right_stride, self.result(r, c), width,
                                start)  # fmt: skip

    def rows_of_ones(self):
        code, some = self.code, SUMS_AT_ONCE * self.code.lanes
        for c in code.range(0, self.columns, some):
            width = code.smaller(some, self.columns - c)
            self.inner.add_rows(self.depth, self.right + code.size * c, self.right_stride, self.result(0, c), width)

    def turned_about(self):
        """Few columns are the few rows of the transposed product, of which the left matrix has panels as it lies."""
        code, wide, sums = self.code, 2 * self.code.lanes, self.code.stack(4 * vector_bytes())

        def of(inner, columns, c, r):
            inner(self.depth, self.right + code.size * c, 1, self.right_stride, self.left + code.size * r,
                  self.left_stride, sums, wide, wide, self.same_start)  # fmt: skip
            for k in range(columns):
                self.inner.spread_out(wide, sums + code.size * k * wide, self.result(r, c + k), self.out_stride)

        for begin in code.range(0, self.rows, wide):
            r = code.smaller(begin, self.rows - wide)
            with code.either(self.columns == 1) as (one, more):
                with one:
                    of(self.inner.line, 1, 0, r)
                with more:
                    for first in code.range(0, self.columns, 2):
                        of(self.inner.pair, 2, code.smaller(first, self.columns - 2), r)

    def in_tiles(self):
        """Panel by panel, and in each tile by tile. A left matrix whose columns lie far apart is packed, some tiles of
        rows at a time."""
        code, rows, columns, depth, size = self.code, self.rows, self.columns, self.depth, self.code.size
        lanes, wide = code.lanes, 2 * code.lanes
        far = self.left_turned & (columns >= 2 * FEW_TO_PACK) & (rows >= TILE_ROWS) & (depth * self.left_stride > NEAR)
        panel, packed = code.stack(DEEPEST * 2 * vector_bytes()), code.stack(MOST_PACKED + TILE_ROWS * DEEPEST * size)
        bottom = self.rows_in_large_tiles()
        packed_rows = code.larger(1, MOST_PACKED // code.larger(1, size * depth * TILE_ROWS)) * TILE_ROWS
        for top in code.range(0, rows, step := code.choose(far, packed_rows, TILES_AT_ONCE * TILE_ROWS)):
            end = code.smaller(rows, top + step)
            with code.when(far):
                self.pack_rows(top, end, bottom, packed)
            for begin in code.range(0, columns, wide):
                c = code.larger(0, code.smaller(begin, columns - wide))  # the last panel overlaps the one before
                panel_of = self.panel(panel, c, code.smaller(wide, columns - c))
                with code.either((panel_of.width == lanes) & (rows >= 2 * TILE_ROWS)) as (narrow, other):
                    with narrow:
                        for first in code.range(top, end, 2 * TILE_ROWS):
                            self.tile(self.inner.tall, panel_of, code.smaller(first, rows - 2 * TILE_ROWS))
                    with other:
                        for first in code.range(top, end, TILE_ROWS):
                            copy = code.choose(far, packed + size * depth * (first - top), 0)
                            self.rows_of_a_tile(panel_of, first, bottom, copy)

    def pack_rows(self, top, end, bottom, packed):
        """The rows of the tiles that begin from `top` to before `end`; those of the small ones are all of one chunk."""
        code, rows, depth, step = self.code, self.rows, self.depth, self.left_step
        for first in code.range(top, code.smaller(end, bottom), TILE_ROWS):
            r = code.smaller(first, rows - TILE_ROWS)
            self.inner.pack_left(self.row(r), step, depth, packed + code.size * depth * (first - top))
        small = (top <= bottom) & (bottom < end)
        for first in code.range(bottom, code.choose(small, rows, bottom), SMALL_TILE_ROWS):
            r = code.smaller(first, rows - SMALL_TILE_ROWS)
            self.inner.pack_few(self.row(r), step, depth, packed + code.size * depth * (first - top))

    def rows_in_large_tiles(self):
        """From which row on tiles are small: the rest is, and the large tile before it where fewer rows are computed
        twice then. All rows, where the last large tile had better overlap the one before."""
        code, rows = self.code, self.rows
        rest = rows % TILE_ROWS
        alone, together = in_small(rest), in_small(rest + TILE_ROWS)
        few = (alone < TILE_ROWS) | (rows < TILE_ROWS)
        before = (rows >= TILE_ROWS) & (together < TILE_ROWS + code.smaller(alone, TILE_ROWS))
        bottom = code.choose(before, rows - rest - TILE_ROWS, code.choose(few, rows - rest, rows))
        return code.choose(rows < SMALL_TILE_ROWS, rows, bottom)

    def panel(self, panel, c, width):
        """The columns c..c+width-1, copied into a panel where they are turned or their rows lie far apart."""
        code, depth, lanes, wide = self.code, self.depth, self.code.lanes, 2 * self.code.lanes
        as_it_lies = self.right + code.size * c
        whole, one = width == wide, self.right_turned & (width <= lanes)
        apart = ~self.right_turned & whole & (self.rows >= FEW_TO_PACK) & (depth * self.right_stride > NEAR)
        with code.when(self.right_turned):
            row = code.choose(one, lanes, wide)
            self.inner.turn(self.column(c), self.right_stride, depth, code.smaller(width, lanes), panel, row)
            with code.when(width > lanes):
                second = panel + code.size * lanes
                self.inner.turn(self.column(c + lanes), self.right_stride, depth, width - lanes, second, row)
        with code.when(apart):
            self.inner.pack(as_it_lies, self.right_stride, depth, panel)
        copied = self.right_turned | apart
        return SimpleNamespace(
            column=c, width=width, whole=whole, start=self.start_of(c),
            place=code.choose(copied, panel, as_it_lies),
            row=code.choose(one, lanes, code.choose(copied, wide, self.right_stride)),
        )  # fmt: skip

    def rows_of_a_tile(self, panel, first, bottom, packed):
        """The rows from the first on: one tile, all small ones, or line by line.

        packed   where they are packed; 0: nowhere
        """
        code, rows, tile = self.code, self.rows, self.tile
        with code.either(panel.whole & (first >= bottom)) as (small, large):
            with small:
                for begin in code.range(first, code.choose(first == bottom, rows, first), SMALL_TILE_ROWS):
                    copy = code.choose(packed != 0, packed + code.size * self.depth * (begin - first), 0)
                    tile(self.inner.small, panel, code.smaller(begin, rows - SMALL_TILE_ROWS), copy, SMALL_TILE_ROWS)
            with large, code.either(rows < TILE_ROWS) as (lines, tiles):
                with lines:
                    for r in code.range(rows):
                        tile(self.inner.line, panel, r)
                with tiles:
                    r = code.smaller(first, rows - TILE_ROWS)
                    with code.either(panel.whole) as (wide, part):
                        with wide:
                            self.wide_tile(panel, r, packed)
                        with part, code.either(panel.width > code.lanes) as (some, narrow):
                            with some:
                                tile(self.inner.some, panel, r)
                            with narrow:
                                tile(self.inner.narrow, panel, r)

    def wide_tile(self, panel, r, packed):
        """A tile of which there are many: what will be changed next may be fetched."""
        code = self.code
        with code.when((self.others[0] != 0) & (self.depth >= DEEP_TO_FETCH)):
            offset = code.size * (r * self.out_stride + panel.column)
            self.inner.fetch(self.out_stride, *(array + offset for array in self.others))
        self.tile(self.inner.wide, panel, r, packed, TILE_ROWS)

    def tile(self, inner, panel, r, packed=None, height=1):
        """Have a tile computed, whose first row is r, and whose rows may be packed at an address that is not 0."""
        choose, left, row, step = self.code.choose, self.row(r), self.left_row, self.left_step
        if packed is not None:
            there = packed != 0
            left, row, step = choose(there, packed, left), choose(there, 1, row), choose(there, height, step)
        inner(self.depth, left, row, step, panel.place, panel.row, self.result(r, panel.column), self.out_stride,
              panel.width, panel.start)  # fmt: skip

    # BLAS

    def by_blas(self):
        code = self.code
        with code.either(self.start == 0) as (alone, added):
            with alone:
                self.gemm(added=False)
            with added:
                for r in code.range(self.rows):
                    self.inner.fill(self.columns, self.start, self.result(r, 0))
                self.gemm(added=True)

    def gemm(self, added):
        """out = left right by xGEMM as Fortran has it, or out += left right: column-major, so that the two matrices
        change places, and all by reference.

        Integers stand in 64 bits, of which a library with integers of 32 reads the lower half.
        """
        code, one = self.code, self.by_reference(self.code.real(1.0))
        letters = [code.choose(t, ord("T"), ord("N")) for t in (self.right_turned, self.left_turned)]
        extents = self.columns, self.rows, self.depth
        passed = [self.by_reference(word.raw) for word in (*letters, *extents)]
        passed += [one, code.pointer(self.right), self.by_reference(self.right_stride.raw)]
        passed += [code.pointer(self.left), self.by_reference(self.left_stride.raw)]
        passed += [self.by_reference(code.real(1.0 if added else 0.0))]
        passed += [code.pointer(self.out), self.by_reference(self.out_stride.raw)]
        code.call("chainrule_sgemm" if code.size == 4 else "chainrule_dgemm", passed)

    def by_reference(self, raw):
        builder = self.code.builder
        with builder.goto_entry_block():
            place = builder.alloca(raw.type)
        builder.store(raw, place)
        return builder.bitcast(place, WORD.as_pointer())

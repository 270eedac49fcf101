"""Matrix products of small matrices: tiles of the result that stay in vector registers.

A call of BLAS packs both matrices before it multiplies, which is most of its time below some 10^6 operations. Here the
left matrix is read number by number and spread over a vector, the right one is read as it lies; where it is transposed,
a panel of it is turned first. A tile of R x C vectors needs R + C reads for R*C multiplications, so that it is the
multiplications that take the time (Goto and van de Geijn 2008, section 4, without the packing).

The innermost loops are written as LLVM instructions, because a vectoriser does not find these tiles in loops.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD, HALF = ir.IntType(64), ir.IntType(32)


def vector_bytes():
    """Bytes of the widest vectors of this machine."""
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


TILE_ROWS = {64: 14, 32: 6, 16: 6}[vector_bytes()]  # with two vectors of columns: as many as the registers hold
SMALL_TILE_ROWS = 4  # for what is left: accumulators enough to hide the latency of a multiplication


class _Code:
    """Instructions on vectors of one type of numbers."""

    def __init__(self, builder, real):
        self.builder, self.real = builder, real
        self.size = 4 if real == ir.FloatType() else 8
        self.lanes = vector_bytes() // self.size
        self.vector = ir.VectorType(real, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def _call(self, name, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def fma(self, a, b, c):
        """a*b + c in every lane."""
        return self._call(f"llvm.fma.{self.suffix}", self.vector, [a, b, c])

    def at(self, address, elements):
        """The address so many elements further."""
        return self.builder.add(address, self.builder.mul(_word(elements), WORD(self.size)))

    def times(self, stride, number):
        return self.builder.mul(_word(stride), _word(number))

    def spread(self, value):
        """A number in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, HALF(0))
        return self.builder.shuffle_vector(first, undefined, _positions([0] * self.lanes))

    def mask(self, count):
        """Which lanes are below a count."""
        count = self.builder.trunc(count, HALF)
        return self.builder.icmp_signed("<", _positions(range(self.lanes)), self.spread(count))

    def number(self, address):
        return self.builder.load(self.builder.inttoptr(address, self.real.as_pointer()), align=self.size)

    def load(self, address, mask=None):
        place = self.builder.inttoptr(address, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.size)
        return self._call(f"llvm.masked.load.{self.suffix}.p0", self.vector, [place, HALF(self.size), mask, self.zero])

    def store(self, value, address, mask=None):
        place = self.builder.inttoptr(address, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.size)
        else:
            arguments = [value, place, HALF(self.size), mask]
            self._call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), arguments)

    def shuffle(self, x, y, positions):
        return self.builder.shuffle_vector(x, y, _positions(positions))

    def loop(self, count, step, start, body):
        """`values = body(k, values)` for k = 0, step, ... below count, from `start`; the last values."""
        builder = self.builder
        before, inside, after = builder.block, builder.append_basic_block("each"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", WORD(0), count), inside, after)
        builder.position_at_end(inside)
        k = builder.phi(WORD)
        k.add_incoming(WORD(0), before)
        values = [builder.phi(value.type) for value in start]
        for phi, value in zip(values, start, strict=True):
            phi.add_incoming(value, before)
        made = body(k, values)
        following, end = builder.add(k, WORD(step)), builder.block
        k.add_incoming(following, end)
        for phi, value in zip(values, made, strict=True):
            phi.add_incoming(value, end)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        results = [builder.phi(value.type) for value in start]
        for phi, value, last in zip(results, start, made, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(last, end)
        return results


def _word(value):
    return WORD(value) if isinstance(value, int) else value


def _positions(positions):
    positions = list(positions)
    return ir.Constant(ir.VectorType(HALF, len(positions)), positions)


def instructions(name, real, emit):
    """A function of one tuple of addresses and integers, whose instructions are those of `emit(code, *arguments)`.

    It stays a function of its own in the machine code, whose registers are all for the tile.
    """

    @intrinsic
    def function(context, arguments):
        def codegen(context, builder, signature, given):
            values = cgutils.unpack_tuple(builder, given[0])
            kind = ir.FunctionType(ir.VoidType(), [WORD] * len(values))
            made = cgutils.get_or_insert_function(builder.module, kind, f"chainrule_{name}_{real.intrinsic_name}")
            if not made.blocks:
                made.linkage = "internal"
                made.attributes.add("noinline")
                inside = ir.IRBuilder(made.append_basic_block("begin"))
                emit(_Code(inside, real), *made.args)
                inside.ret_void()
            builder.call(made, values)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return function


def tile(rows, vectors, masked=False, overlapping=False):
    """out[r, c] = start[c] + sum_k left[r*left_row + k*left_step] right[k*right_row + c], for c below `width`.

    What is beyond `width` is masked, which processors store slowly; or the last vector ends there, and overlaps the one
    before, which computes the same.
    """

    def emit(code, depth, left, left_row, left_step, right, right_row, out, out_row, width, start):
        builder, lanes = code.builder, code.lanes
        masks = [None] * vectors
        if masked:
            masks = [code.mask(builder.sub(width, WORD(c * lanes))) for c in range(vectors)]
        columns = [WORD(c * lanes) for c in range(vectors)]
        if overlapping:
            columns[-1] = builder.sub(width, WORD(lanes))

        def vectors_at(line):
            return [code.load(code.at(line, c), mask) for c, mask in zip(columns, masks, strict=True)]

        def step(k, totals):
            read, column = vectors_at(code.at(right, code.times(right_row, k))), code.at(left, code.times(left_step, k))
            made = []
            for r in range(rows):
                number = code.spread(code.number(code.at(column, code.times(left_row, r))))
                made += [code.fma(number, read[c], totals[r * vectors + c]) for c in range(vectors)]
            return made

        totals = code.loop(depth, 1, vectors_at(start) * rows, step)
        for r in range(rows):
            line = code.at(out, code.times(out_row, r))
            for c in range(vectors):
                code.store(totals[r * vectors + c], code.at(line, columns[c]), masks[c])

    return emit


def dots(spread_out=False):
    """out[c] = start[c] + sum_k left[k] right[c*right_row + k] for one vector of columns, `width` of them there.

    Where it is `spread_out`, the results stand `out_step` elements apart, and `start` holds as many equal numbers.
    """

    def emit(code, depth, left, right, right_row, out, width, start, *out_step):
        builder, lanes = code.builder, code.lanes
        last = builder.sub(width, WORD(1))
        lines = []
        for c in range(lanes):
            column = builder.select(builder.icmp_signed("<", WORD(c), width), WORD(c), last)
            lines.append(code.at(right, builder.mul(column, right_row)))

        def step(mask):
            def body(k, totals):
                x = code.load(code.at(left, k), mask)
                return [code.fma(x, code.load(code.at(q, k), mask), t) for q, t in zip(lines, totals, strict=True)]

            return body

        whole = builder.and_(depth, WORD(-lanes))
        totals = code.loop(whole, lanes, [code.zero] * lanes, step(None))
        rest = builder.sub(depth, whole)
        mask = code.mask(rest)
        totals = code.loop(rest, lanes, totals, lambda k, values: step(mask)(builder.add(k, whole), values))
        if not spread_out:
            there = code.mask(width)
            code.store(builder.fadd(code.load(start, there), _sums(code, totals)), out, there)
            return
        results = builder.fadd(code.load(start), _sums(code, totals))
        for c in range(lanes):  # of columns that are not there, the last one is written again
            column = builder.select(builder.icmp_signed("<", WORD(c), width), WORD(c), last)
            place = builder.inttoptr(code.at(out, builder.mul(column, out_step[0])), code.real.as_pointer())
            builder.store(builder.extract_element(results, HALF(c)), place, align=code.size)

    return emit


def _sums(code, vectors):
    """The vector of the sums of as many vectors as it has lanes: halves are added, pair by pair."""
    lanes, group = code.lanes, code.lanes
    while len(vectors) > 1:
        half = group // 2
        low = [g + j for g in range(0, lanes, group) for j in range(half)]
        low = _pairwise(low, half, lanes)
        high = [p + half for p in low]
        count = len(vectors) // 2
        pairs = zip(vectors[:count], vectors[count:], strict=True)
        vectors = [code.builder.fadd(code.shuffle(x, y, low), code.shuffle(x, y, high)) for x, y in pairs]
        group = half
    return vectors[0]


def _pairwise(positions, group, lanes):
    """Groups of the first vector and of the second in turn."""
    groups = [positions[k : k + group] for k in range(0, len(positions), group)]
    return [p for g in groups for p in (*g, *(lanes + q for q in g))]


def fill(code, count, source, place):
    """place[k] = source[k]"""

    def vector(k, values):
        code.store(code.load(code.at(source, k)), code.at(place, k))
        return values

    def rest(k, values):
        k = code.builder.add(k, whole)
        target = code.builder.inttoptr(code.at(place, k), code.real.as_pointer())
        code.builder.store(code.number(code.at(source, k)), target)
        return values

    whole = code.builder.and_(count, WORD(-code.lanes))
    code.loop(whole, code.lanes, [], vector)
    code.loop(code.builder.sub(count, whole), 1, [], rest)


def clear_panel(code, place):
    """place[c] = 0 for two vectors of columns."""
    for c in range(2):
        code.store(code.zero, code.at(place, c * code.lanes))


def repeat_number(code, number, place):
    """place[c] = number[0] for one vector of columns."""
    code.store(code.spread(code.number(number)), place)


def turn(vectors):
    """panel[k, c] = right[c, k] for so many vectors of columns; of columns not there, the last one stands in."""

    def emit(code, right, right_row, depth, width, panel):
        builder, lanes = code.builder, code.lanes
        wide, last = vectors * lanes, builder.sub(width, WORD(1))
        lines = []
        for c in range(wide):
            column = builder.select(builder.icmp_signed("<", WORD(c), width), WORD(c), last)
            lines.append(code.at(right, builder.mul(column, right_row)))

        def at(k, c):
            return code.at(panel, builder.add(builder.mul(k, WORD(wide)), WORD(c)))

        def block(k, values):
            for part in range(0, wide, lanes):
                square = [code.load(code.at(line, k)) for line in lines[part : part + lanes]]
                for j, row in enumerate(_transposed(code, square)):
                    code.store(row, at(builder.add(k, WORD(j)), part))
            return values

        def single(k, values):
            k = builder.add(k, whole)
            for c, line in enumerate(lines):
                builder.store(code.number(code.at(line, k)), builder.inttoptr(at(k, c), code.real.as_pointer()))
            return values

        whole = builder.and_(depth, WORD(-lanes))
        code.loop(whole, lanes, [], block)
        code.loop(builder.sub(depth, whole), 1, [], single)

    return emit


def pack(code, right, right_row, depth, panel):
    """panel[k, c] = right[k, c] for two vectors of columns, whose rows lie far apart in `right`."""

    def row(k, values):
        for c in (0, code.lanes):
            value = code.load(code.at(right, code.builder.add(code.times(right_row, k), WORD(c))))
            code.store(value, code.at(panel, code.builder.add(code.times(2 * code.lanes, k), WORD(c))))
        return values

    code.loop(depth, 1, [], row)


def pack_left(rows):
    """packed[k, r] = left[k*left_step + r] for the rows of a tile, whose depth lies far apart in `left`."""

    def emit(code, left, left_step, depth, packed):
        def step(k, values):
            read, written = code.at(left, code.times(left_step, k)), code.at(packed, code.times(rows, k))
            for r in range(rows):
                place = code.builder.inttoptr(code.at(written, r), code.real.as_pointer())
                code.builder.store(code.number(code.at(read, r)), place)
            return values

        code.loop(depth, 1, [], step)

    return emit


def _transposed(code, rows):
    """A square of vectors, transposed: off-diagonal blocks are exchanged, the largest first."""
    lanes, block = code.lanes, code.lanes // 2
    while block:
        made = list(rows)
        for r in range(lanes):
            if r & block == 0:
                x, y = rows[r], rows[r + block]
                made[r] = code.shuffle(x, y, [p if p & block == 0 else lanes + p - block for p in range(lanes)])
                made[r + block] = code.shuffle(x, y, [p + block if p & block == 0 else lanes + p for p in range(lanes)])
        rows, block = made, block // 2
    return rows


def stack(size):
    """A function that gives the address of so many bytes on the stack, aligned to a cache line."""

    @intrinsic
    def function(context):
        def codegen(context, builder, signature, arguments):
            with builder.goto_entry_block():  # not `alloca_once`, which writes zeros and keeps LLVM busy for minutes
                place = builder.alloca(ir.ArrayType(ir.IntType(8), size + 64))
            return builder.and_(builder.add(builder.ptrtoint(place, WORD), WORD(63)), WORD(-64))

        return types.int64(), codegen

    return function

"""Matrix products of small matrices: tiles of the result that stay in vector registers.

A call of BLAS packs both matrices before it multiplies, which is most of its time below some 10^6 operations. Here the
left matrix is read number by number and spread over a vector, the right one is read as it lies; where it is transposed,
a panel of it is turned first. A tile of R x C vectors needs R + C reads for R*C multiplications, so that it is the
multiplications that take the time (Goto and van de Geijn 2008, section 4, without the packing).

The innermost loops are written as LLVM instructions, because a vectoriser does not find these tiles in loops.
"""

from llvmlite import binding, ir

from .assembly import BYTE, HALF, LINE, WORD, Code, Word


def vector_bytes():
    """Bytes of the widest vectors of this machine."""
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


TILE_ROWS = {64: 14, 32: 6, 16: 6}[vector_bytes()]  # with two vectors of columns: as many as the registers hold
SMALL_TILE_ROWS = 4  # for what is left: accumulators enough to hide the latency of a multiplication
TO_WRITE, INTO_L1, DATA_CACHE = 1, 3, 1  # of a hint to fetch: why, how near, what
SUMS_AT_ONCE = 4  # vectors of columns whose rows are added up in one pass


class Place:
    """Where a number is: what LLVM knows its address as."""

    def __init__(self, raw):
        self.raw = raw


class Vectors(Code):
    """Instructions on vectors of one type of numbers, besides those on words."""

    def __init__(self, function, real):
        super().__init__(function)
        self.real, self.size = real, size_of(real)
        self.lanes = vector_bytes() // self.size
        self.vector = ir.VectorType(real, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def fma(self, a, b, c):
        """a*b + c in every lane."""
        return self.call(f"llvm.fma.{self.suffix}", [a, b, c], self.vector)

    def at(self, place, elements):
        """Where the number is that stands so many further than the one at an address or such a place."""
        pointer = place.raw if isinstance(place, Place) else self.pointer(place, self.real)
        return Place(self.builder.gep(pointer, [self.raw(elements)]))

    def spread(self, value):
        """A number in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, HALF(0))
        return self.builder.shuffle_vector(first, undefined, _positions([0] * self.lanes))

    def mask(self, count):
        """Which lanes are below a count."""
        count = self.builder.trunc(count.raw, HALF)
        return self.builder.icmp_signed("<", _positions(range(self.lanes)), self.spread(count))

    def fetch(self, address):
        """Have the cache line at an address fetched, to be changed; a hint that changes nothing."""
        self.call("llvm.prefetch.p0", [self.pointer(address, BYTE), HALF(TO_WRITE), HALF(INTO_L1), HALF(DATA_CACHE)])

    def number(self, place):
        return self.builder.load(place.raw, align=self.size)

    def put(self, value, place):
        """Store a number."""
        self.builder.store(value, place.raw, align=self.size)

    def vector_at(self, place, mask=None):
        pointer = self.builder.bitcast(place.raw, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        arguments = [pointer, HALF(self.size), mask, self.zero]
        return self.call(f"llvm.masked.load.{self.suffix}.p0", arguments, self.vector)

    def put_vector(self, value, place, mask=None):
        pointer = self.builder.bitcast(place.raw, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
        else:
            self.call(f"llvm.masked.store.{self.suffix}.p0", [value, pointer, HALF(self.size), mask])

    def some_at(self, place, count):
        """A vector of so many numbers."""
        pointer = self.builder.bitcast(place.raw, ir.VectorType(self.real, count).as_pointer())
        return self.builder.load(pointer, align=self.size)

    def put_some(self, values, place):
        self.builder.store(values, self.builder.bitcast(place.raw, values.type.as_pointer()), align=self.size)

    def shuffle(self, x, y, positions):
        return self.builder.shuffle_vector(x, y, _positions(positions))

    def accumulate(self, count, step, start, body):
        """`values = body(k, values)` for k = 0, step, ... below count, from `start`; the last values."""
        builder = self.builder
        before, inside, after = builder.block, builder.append_basic_block("each"), builder.append_basic_block("after")
        builder.cbranch((count > 0).raw, inside, after)
        builder.position_at_end(inside)
        k = builder.phi(WORD)
        k.add_incoming(WORD(0), before)
        values = [builder.phi(value.type) for value in start]
        for phi, value in zip(values, start, strict=True):
            phi.add_incoming(value, before)
        made = body(Word(self, k), values)
        following, end = Word(self, k) + step, builder.block
        k.add_incoming(following.raw, end)
        for phi, value in zip(values, made, strict=True):
            phi.add_incoming(value, end)
        builder.cbranch((following < count).raw, inside, after)
        builder.position_at_end(after)
        results = [builder.phi(value.type) for value in start]
        for phi, value, last in zip(results, start, made, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(last, end)
        return results


def size_of(real):
    """Bytes of a number."""
    return 4 if real == ir.FloatType() else 8


def _positions(positions):
    positions = list(positions)
    return ir.Constant(ir.VectorType(HALF, len(positions)), positions)


def tile(rows, vectors, masked=False, overlapping=False):
    """out[r, c] = start[c] + sum_k left[r*left_row + k*left_step] right[k*right_row + c], for c below `width`.

    What is beyond `width` is masked, which processors store slowly; or the last vector ends there, and overlaps the one
    before, which computes the same.
    """

    def emit(code, depth, left, left_row, left_step, right, right_row, out, out_row, width, start):
        lanes = code.lanes
        masks = [None] * vectors
        if masked:
            masks = [code.mask(width - c * lanes) for c in range(vectors)]
        columns = [code.word(c * lanes) for c in range(vectors)]
        if overlapping:
            columns[-1] = width - lanes

        def vectors_at(line):
            return [code.vector_at(code.at(line, c), mask) for c, mask in zip(columns, masks, strict=True)]

        def step(k, totals):
            read, column = vectors_at(code.at(right, right_row * k)), code.at(left, left_step * k)
            made = []
            for r in range(rows):
                number = code.spread(code.number(code.at(column, left_row * r)))
                made += [code.fma(number, read[c], totals[r * vectors + c]) for c in range(vectors)]
            return made

        totals = code.accumulate(depth, 1, vectors_at(start) * rows, step)
        for r in range(rows):
            line = code.at(out, out_row * r)
            for c in range(vectors):
                code.put_vector(totals[r * vectors + c], code.at(line, columns[c]), masks[c])

    return emit


def fetch_tile(rows, vectors):
    """Have the lines fetched that lie at the place of a tile in three arrays."""

    def emit(code, out_row, a, b, c):
        for array in (a, b, c):
            for r in range(rows):
                for line in range(-(-vectors * vector_bytes() // LINE)):
                    code.fetch(array + out_row * (code.size * r) + LINE * line)

    return emit


def dots(code, depth, left, right, right_row, out, width, start):
    """out[c] = start[c] + sum_k left[k] right[c*right_row + k] for one vector of columns, `width` of them there."""
    lines, lanes = _lines(code, right, right_row, width), code.lanes

    def step(first, mask=None):
        def body(k, totals):
            x = code.vector_at(code.at(left, k + first), mask)
            return [
                code.fma(x, code.vector_at(code.at(line, k + first), mask), total)
                for line, total in zip(lines, totals, strict=True)
            ]

        return body

    whole = depth & -lanes
    totals = code.accumulate(whole, lanes, [code.zero] * lanes, step(0))
    rest = depth - whole
    totals = code.accumulate(rest, lanes, totals, step(whole, code.mask(rest)))
    there = code.mask(width)
    sums = code.builder.fadd(code.vector_at(code.at(start, 0), there), _sums(code, totals))
    code.put_vector(sums, code.at(out, 0), there)


def dots_tile(rows, columns):
    """out[r, c] = start[c] + sum_k left[r*left_row + k] right[c*right_row + k] for some rows and columns.

    Both matrices are read as they lie, in vectors along the sum, so that no column is computed that is not there.
    """

    def emit(code, depth, left, left_row, right, right_row, out, out_row, start):
        above = [code.at(left, code.word(r) * left_row) for r in range(rows)]
        across = [code.at(right, code.word(c) * right_row) for c in range(columns)]

        def step(first, mask=None):
            def body(k, totals):
                x, y = ([code.vector_at(code.at(line, k + first), mask) for line in lines] for lines in (above, across))
                pairs = ((a, b) for a in x for b in y)
                return [code.fma(a, b, total) for (a, b), total in zip(pairs, totals, strict=True)]

            return body

        whole = depth & -code.lanes
        totals = code.accumulate(whole, code.lanes, [code.zero] * (rows * columns), step(0))
        rest = depth - whole
        totals = code.accumulate(rest, code.lanes, totals, step(whole, code.mask(rest)))
        height = min(rows, code.lanes)  # of what becomes one vector of sums
        for c, width in _powers_of_two(columns, code.lanes // height):
            begin, apart = code.some_at(code.at(start, c), width), code.lanes // (height * width)
            for top in range(0, rows, height):
                some = range(top, top + height)
                sums = _sums(code, [totals[r * columns + c + j] for r in some for j in range(width)])
                for k, r in enumerate(some):
                    line = code.shuffle(sums, sums, [(k * width + j) * apart for j in range(width)])
                    code.put_some(code.builder.fadd(begin, line), code.at(out, out_row * r + c))

    return emit


def _powers_of_two(count, most):
    """(where it begins, how many) for parts of so many: each is a power of two, and `most` while there are so many."""
    begin = 0
    while begin < count:
        part = min(most, 1 << (count - begin).bit_length() - 1)
        yield begin, part
        begin += part


def add_rows(code, depth, matrix, matrix_row, out, width):
    """out[c] = sum_k matrix[k, c] for some vectors of columns, `width` of them there."""
    columns = [code.word(c * code.lanes) for c in range(SUMS_AT_ONCE)]
    masks = [code.mask(width - c) for c in columns]

    def step(k, totals):
        line = code.at(matrix, matrix_row * k)
        read = (code.vector_at(code.at(line, c), mask) for c, mask in zip(columns, masks, strict=True))
        return [code.builder.fadd(total, x) for total, x in zip(totals, read, strict=True)]

    totals = code.accumulate(depth, 1, [code.zero] * SUMS_AT_ONCE, step)
    for total, c, mask in zip(totals, columns, masks, strict=True):
        code.put_vector(total, code.at(out, c), mask)


def _lines(code, matrix, row, width):
    """Where the rows of one vector of columns begin; of those from `width` on, the last one before it stands in."""
    return [code.at(matrix, code.smaller(c, width - 1) * row) for c in range(code.lanes)]


def _sums(code, vectors):
    """The vector of the sums of as many vectors as it has lanes: halves are added, pair by pair.

    Of fewer vectors, a power of two of them, each sum stands in several lanes, side by side.
    """
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
    (total,) = vectors
    while group > 1:
        group //= 2
        total = code.builder.fadd(total, code.shuffle(total, total, [p ^ group for p in range(lanes)]))
    return total


def _pairwise(positions, group, lanes):
    """Groups of the first vector and of the second in turn."""
    groups = [positions[k : k + group] for k in range(0, len(positions), group)]
    return [p for g in groups for p in (*g, *(lanes + q for q in g))]


def fill(code, count, source, place):
    """place[k] = source[k]"""
    whole = count & -code.lanes
    for k in code.range(0, whole, code.lanes):
        code.put_vector(code.vector_at(code.at(source, k)), code.at(place, k))
    for k in code.range(whole, count):
        code.put(code.number(code.at(source, k)), code.at(place, k))


def clear(code, place):
    """place[c] = 0 for two vectors of columns."""
    for c in range(2):
        code.put_vector(code.zero, code.at(place, c * code.lanes))


def repeat(code, number, place):
    """place[c] = number[0] for one vector of columns."""
    code.put_vector(code.spread(code.number(code.at(number, 0))), code.at(place, 0))


def spread_out(code, count, numbers, out, out_step):
    """out[c*out_step] = numbers[c]"""
    for c in code.range(count):
        code.put(code.number(code.at(numbers, c)), code.at(out, c * out_step))


def turn(code, right, right_row, depth, width, panel, panel_row):
    """panel[k, c] = right[c, k] for one vector of columns; of columns not there, the last one stands in."""
    lines, lanes = _lines(code, right, right_row, width), code.lanes
    whole = depth & -lanes
    for k in code.range(0, whole, lanes):
        square = [code.vector_at(code.at(line, k)) for line in lines]
        for j, row in enumerate(_transposed(code, square)):
            code.put_vector(row, code.at(panel, (k + j) * panel_row))
    for k in code.range(whole, depth):
        for c, line in enumerate(lines):
            code.put(code.number(code.at(line, k)), code.at(panel, k * panel_row + c))


def pack(code, right, right_row, depth, panel):
    """panel[k, c] = right[k, c] for two vectors of columns, whose rows lie far apart in `right`."""
    for k in code.range(depth):
        for c in (0, code.lanes):
            code.put_vector(code.vector_at(code.at(right, k * right_row + c)), code.at(panel, k * (2 * code.lanes) + c))


def pack_left(rows):
    """packed[k, r] = left[k*left_step + r] for the rows of a tile, whose depth lies far apart in `left`."""

    def emit(code, left, left_step, depth, packed):
        for k in code.range(depth):
            for r in range(rows):
                code.put(code.number(code.at(left, k * left_step + r)), code.at(packed, k * rows + r))

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

"""The loops over steps, phases and blocks: alone, or by a team of threads.

    alone(control)          all blocks of all phases of all steps, in order
    team(worker, control)   the same by several threads: worker 0 leads, the others help

and besides them, `shuffle`: the order in which an epoch takes its samples.

The leader opens a phase by giving every worker its share of the blocks, and opens the next one when all are done. A
worker takes blocks from its own share, in which its data are likely to be in its cache, then from the others' shares.
So nobody waits for a helper that the system has not woken yet: the leader does that share as well. What a block
computes depends on the block alone, so the result does not depend on who computes it.

A cache line that one core has written takes another one 0.1 to 0.3 us to read. So all that a helper needs to begin with
a phase is in the line of its share, which is all that it looks at while it waits; and the leader counts its own blocks.

Steps may run over several epochs: each has the same number of them, and a key of its own; at its end a copy of the
parameters may be kept.

A share is one number that is changed atomically: the serial number of the phase, the next block, the end.

Everything here is compiled once for a machine; `native.py` keeps the machine code.
"""

from llvmlite import ir

from .assembly import Assembled, Truth, written
from .control import (
    ADDRESSES,
    BATCH,
    BLOCKS,
    DONE,
    FIRST,
    INSIDE,
    KEPT,
    KEYS,
    LAST,
    LIVE,
    OPEN,
    PHASES,
    SERIAL,
    SHARES,
    SIZE,
    STRIDE,
    TABLE,
    TASKS,
    THREADS,
    TOTAL,
    WIDTH,
)  # fmt: skip
from .products import write_product
from .tiles import size_of

SAMPLES, ROWS, GIVEN, WIDTH_GIVEN, LOOK = 0, 6, 7, 8, 9  # in the table of a phase, as the emitter has it
INNER, STRANGE = 0, 1  # where `LOOK` leads to
SPINS = 4_000  # looks at the shares, some 30 us, before a worker offers its core to others
LINGERS = 400_000  # looks of a helper, some 0.3 ms, for the next call, before it sleeps: an epoch follows soon
NEXT, SERIAL_AT, END = 20, 40, 2**20 - 1  # in a share: where the next block and the serial begin; bits of the end


def _steps(code, c):
    """for each step: what kernels read of it is put into the table, and after its phases a copy may be kept; gives its
    samples."""
    table, keys = code.words(c[TABLE]), code.words(c[KEYS])
    total, batch = c[TOTAL], c[BATCH]
    steps = code.larger(1, (total + batch - 1) // code.larger(1, batch))  # processors trap where they divide by 0
    for step in code.range(c[FIRST], c[LAST]):
        epoch, number = step // steps, step % steps
        start = number * batch
        samples = code.smaller(batch, total - start)
        table[0] = samples
        table[1] = epoch * total + start
        table[2] = step
        table[4] = keys[epoch] + 1000003 * number
        yield samples
        with code.when((number + 1 == steps) & (c[KEPT] != 0)):
            live, kept = code.words(c[LIVE]), code.words(c[KEPT] + 8 * c[SIZE] * epoch)
            for k in code.range(c[SIZE]):
                kept[k] = live[k]


def _phases(code, c, samples):
    """for each phase of a step: its function, and how many blocks it has."""
    addresses, tasks, sizes, width = code.words(c[ADDRESSES]), code.words(c[TASKS]), code.words(c[BLOCKS]), c[WIDTH]
    for phase in code.range(c[PHASES]):
        count = code.variable(tasks[phase])
        for k in code.range(width):
            size = sizes[phase * width + k]
            with code.when(size > 0):
                count.set(count.get() + (samples + size - 1) // size)
        yield addresses[phase], count.get()


def alone(code, control):
    """All blocks, one after the other."""
    c = code.words(control)
    for samples in _steps(code, c):
        for function, count in _phases(code, c, samples):
            for task in code.range(count):
                code.call_at(function, task, 0, c[TABLE])


def team(code, worker, control):
    """The part of one worker; the leader returns when all is done and all helpers have left."""
    c = code.words(control)
    with code.either(worker > 0) as (helper, leader):
        with helper:
            _as_helper(code, worker, control, c)
        with leader:
            _as_leader(code, control, c)


def _take(code, control, owner, worker, table):
    """for each block that is left of the share of a worker: take it, and do it; what is in the loop comes after it."""
    place = control + 8 * (SHARES + STRIDE * owner)

    def look():
        share = code.load(place)
        return share & END > (share >> NEXT) & END, share

    for share in code.whilst(look):
        with code.when(code.exchange(place, share, share + (1 << NEXT))):
            function = code.words(place)[1]  # of this phase, which does not end before this block is done
            code.call_at(function, (share >> NEXT) & END, worker, table)
            yield


def _wait(code, idle):
    """One more look in vain: offer the core after many."""
    idle.set(idle.get() + 1)
    with code.when(idle.get() > SPINS):
        code.offer_core()


def _as_helper(code, worker, control, c):
    looks, idle, seen = code.variable(0), code.variable(0), code.variable(0)
    for _ in code.whilst(lambda: (looks.get() < LINGERS, None)):
        looks.set(looks.get() + 1)
        with code.when(code.load(control + 8 * OPEN) != 0):
            code.add(control + 8 * INSIDE, 1)
            code.settle()  # either it sees that all is over, or the leader sees that it is inside
            idle.set(0)
            seen.set(-1)
            for _ in code.whilst(lambda: (code.load(control + 8 * OPEN) != 0, None)):
                serial = code.load(control + 8 * (SHARES + STRIDE * worker)) >> SERIAL_AT
                with code.either(serial != seen.get()) as (new, old):
                    with new:
                        seen.set(serial)
                        threads, table = c[THREADS], c[TABLE]  # of this call: before it was open, of another one
                        for k in code.range(code.choose(worker < threads, threads, 0)):
                            for _ in _take(code, control, (worker + k) % threads, worker, table):
                                code.add(control + 8 * DONE, 1)
                        idle.set(0)
                    with old:
                        _wait(code, idle)
            code.add(control + 8 * INSIDE, -1)
            looks.set(0)


def _as_leader(code, control, c):
    by_helpers, idle = code.variable(0), code.variable(0)
    threads, table = c[THREADS], c[TABLE]
    code.store(control + 8 * DONE, 0)
    code.store(control + 8 * OPEN, 1)
    for samples in _steps(code, c):
        for function, count in _phases(code, c, samples):
            with code.either(count == 1) as (single, many):
                with single:
                    code.call_at(function, 0, 0, table)
                with many:
                    _open(code, control, c, threads, function, count)
                    by_helpers.set(by_helpers.get() + count)
                    for owner in code.range(threads):
                        for _ in _take(code, control, owner, 0, table):
                            by_helpers.set(by_helpers.get() - 1)
                    idle.set(0)
                    for _ in code.whilst(lambda: (code.load(control + 8 * DONE) < by_helpers.get(), None)):
                        _wait(code, idle)
    code.store(control + 8 * OPEN, 0)
    code.settle()
    for _ in code.whilst(lambda: (code.load(control + 8 * INSIDE) != 0, None)):
        code.offer_core()


def _open(code, control, c, threads, function, count):
    """Give every worker its share of the blocks of a phase."""
    serial = (c[SERIAL] + 1) & 0x3FFFFF
    c[SERIAL] = serial
    for other in code.range(threads):
        begin, end = count * other // threads, count * (other + 1) // threads
        place = control + 8 * (SHARES + STRIDE * other)
        code.words(place)[1] = function
        code.store(place, (serial << SERIAL_AT) | (begin << NEXT) | end)


def shuffle(code, order, count, key):
    """The numbers below `count`, fewer than 2^32, in the order of a key: each is as likely in one place as in another.

    Each number i takes the place of one of those before it, or its own, and that one the next place (Knuth, The Art of
    Computer Programming 2, section 3.4.2, exercise 18). Which of 0..i, a random number of 64 bits says: the one at i of
    the generator SplitMix64 (Steele et al. 2014), which has no state, so that a processor need not wait for one number
    before it begins with the next.
    """
    order = code.words(order)
    for i in code.range(count):
        z = key + i * 0x9E3779B97F4A7C15
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB
        z = z ^ (z >> 31)
        j = ((z >> 32) * (i + 1) + ((z & 0xFFFFFFFF) * (i + 1) >> 32)) >> 32  # z (i + 1) / 2^64
        order[i] = order[j]
        order[j] = i


def finite_in(real):
    """A phase around another one, or around none, that looks at the samples that are given: whether all numbers of a
    type are finite.

    It looks at those of a block when the other phase has read them, and they are in a cache. x - x is 0 for a finite
    number, and NaN for any other.
    """
    size = size_of(real)

    def finite(code, task, worker, table):
        t = code.words(table)
        rows, width, x, look = t[ROWS], t[WIDTH_GIVEN], t[GIVEN], code.words(t[LOOK])
        with code.when(look[INNER] != 0):
            code.call_at(look[INNER], task, worker, table)
        first, last = rows * task * width, code.smaller(rows * (task + 1), t[SAMPLES]) * width
        builder, fast = code.builder, ("reassoc", "contract")  # so that LLVM adds them in vectors
        with builder.goto_entry_block():
            total = builder.alloca(real)
            builder.store(real(0.0), total)
        for k in code.range(first, last):
            number = builder.load(code.pointer(x + size * k, real), align=size)
            difference = builder.fsub(number, number, flags=fast)
            builder.store(builder.fadd(builder.load(total), difference, flags=fast), total)
        strange = Truth(code, builder.fcmp_unordered("!=", builder.load(total), real(0.0)))
        with code.when(strange):
            look[STRANGE] = 1

    return finite


def compiled(name):
    """One of the driver's functions, compiled: those above by name, `finite_TYPE` and `product_TYPE`."""
    module, (what, _, dtype) = ir.Module(name), name.partition("_")
    reals = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
    if what == "product":
        write_product(module, reals[dtype], name)
    elif what == "finite":
        written(module, name, finite_in(reals[dtype]))
    else:
        written(module, name, {"alone": alone, "team": team, "shuffle": shuffle}[name])
    return Assembled(module, name)

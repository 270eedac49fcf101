"""The loops over steps, phases and blocks: alone, or by a team of threads.

    alone(control)          all blocks of all phases of all steps, in order
    team(worker, control)   the same by several threads: worker 0 leads, the others help

The leader opens a phase by giving every worker its share of the blocks, and opens the next one when all are done. A
worker takes blocks from its own share, in which its data are likely to be in its cache, then from the others' shares.
So nobody waits for a helper that the system has not woken yet: the leader does that share as well. What a block
computes depends on the block alone, so the result does not depend on who computes it.

Steps may run over several epochs: each has the same number of them, and a key of its own; at its end a copy of the
parameters may be kept.

A share is one number that is changed atomically: the serial number of the phase, the next block, the end.

Everything here is compiled once for a machine, with Numba; `native.py` keeps the machine code.
"""

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

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
    PHASE,
    PHASES,
    SHARES,
    SIZE,
    STRIDE,
    TABLE,
    TASKS,
    THREADS,
    TOTAL,
    WIDTH,
)  # fmt: skip
from .products import PRODUCT, product_of

WORD = ir.IntType(64)
ALONE, TEAM = types.void(types.int64), types.void(types.int64, types.int64)
LOOK = types.void(types.int64, types.int64, types.CPointer(types.int64))
SAMPLES, ROWS, GIVEN, WIDTH_GIVEN, STRANGE = 0, 6, 7, 8, 9  # in the table of a phase, as the emitter has it
SPINS = 4_000  # looks at the shares, some 30 us, before a worker offers its core to others
LINGERS = 400_000  # looks of a helper, some 0.3 ms, for the next call, before it sleeps: an epoch follows soon


# ---- instructions that Python lacks


@intrinsic
def load(context, address):
    """A number that other threads change: everything that they wrote before it is seen as well."""

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(context, address, value):
    """Write a number; whoever reads it sees everything that was written before."""

    def codegen(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], WORD.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(context, address, value):
    """Add to a number that others add to as well."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], WORD.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def exchange(context, address, expected, value):
    """Replace a number if it still is what is expected; whether it was."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], WORD.as_pointer())
        result = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def settle(context):
    """What was written before is there for all, before anything is read after it: even processors that keep the order
    of writes and that of reads let a read pass an earlier write."""

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def offer_core(context):
    """Let another thread run on this core."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call(context, address, task, worker, table):
    """Call a phase by its address."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [WORD, WORD, WORD.as_pointer()])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, [arguments[1], arguments[2], builder.inttoptr(arguments[3], WORD.as_pointer())])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def words(context, address):
    """Numbers that stand at an address."""
    kind = types.CPointer(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), codegen


# ---- the loops


def alone(control):
    """All blocks, one after the other."""
    c = words(control)
    table, addresses, tasks, sizes = words(c[TABLE]), words(c[ADDRESSES]), words(c[TASKS]), words(c[BLOCKS])
    keys, width, total, batch = words(c[KEYS]), c[WIDTH], c[TOTAL], c[BATCH]
    steps = (total + batch - 1) // batch
    for step in range(c[FIRST], c[LAST]):
        epoch, number = step // steps, step % steps
        start = number * batch
        samples = min(batch, total - start)
        table[0] = samples
        table[1] = epoch * total + start
        table[2] = step
        table[4] = keys[epoch] + 1000003 * number
        for phase in range(c[PHASES]):
            count = tasks[phase]
            for k in range(width):
                size = sizes[phase * width + k]
                if size > 0:
                    count += (samples + size - 1) // size
            for task in range(count):
                call(addresses[phase], task, 0, c[TABLE])
        if number + 1 == steps and c[KEPT] != 0:
            live, kept = words(c[LIVE]), words(c[KEPT] + 8 * c[SIZE] * epoch)
            for k in range(c[SIZE]):
                kept[k] = live[k]


def team(worker, control):
    """The part of one worker; the leader returns when all is done and all helpers have left."""
    c = words(control)
    if worker > 0:
        looks = 0
        while looks < LINGERS:
            looks += 1
            if load(control + 8 * OPEN) == 0:
                continue
            add(control + 8 * INSIDE, 1)
            settle()  # either it sees that all is over, or the leader sees that it is inside
            idle = 0
            while load(control + 8 * OPEN) != 0:
                found, threads = False, c[THREADS]
                for k in range(threads if worker < threads else 0):
                    other = (worker + k) % threads
                    place = control + 8 * (SHARES + STRIDE * other)
                    share = load(place)
                    while share & 0xFFFFF > (share >> 20) & 0xFFFFF:
                        if exchange(place, share, share + (1 << 20)):
                            call(c[PHASE], (share >> 20) & 0xFFFFF, worker, c[TABLE])
                            add(control + 8 * DONE, 1)
                            found = True
                        share = load(place)
                idle = 0 if found else idle + 1
                if idle > SPINS:
                    offer_core()
            add(control + 8 * INSIDE, -1)
            looks = 0
        return

    table, addresses, tasks, sizes = words(c[TABLE]), words(c[ADDRESSES]), words(c[TASKS]), words(c[BLOCKS])
    threads, width, total, batch = c[THREADS], c[WIDTH], c[TOTAL], c[BATCH]
    keys, steps, serial = words(c[KEYS]), (total + batch - 1) // batch, 0
    store(control + 8 * OPEN, 1)
    for step in range(c[FIRST], c[LAST]):
        epoch, number = step // steps, step % steps
        start = number * batch
        samples = min(batch, total - start)
        table[0] = samples
        table[1] = epoch * total + start
        table[2] = step
        table[4] = keys[epoch] + 1000003 * number
        for phase in range(c[PHASES]):
            count = tasks[phase]
            for k in range(width):
                size = sizes[phase * width + k]
                if size > 0:
                    count += (samples + size - 1) // size
            if count == 1:
                call(addresses[phase], 0, 0, c[TABLE])
                continue
            serial = (serial + 1) & 0x3FFFFF
            c[PHASE] = addresses[phase]
            store(control + 8 * DONE, 0)
            for other in range(threads):
                begin, end = count * other // threads, count * (other + 1) // threads
                store(control + 8 * (SHARES + STRIDE * other), (serial << 40) | (begin << 20) | end)
            for other in range(threads):
                place = control + 8 * (SHARES + STRIDE * other)
                share = load(place)
                while share & 0xFFFFF > (share >> 20) & 0xFFFFF:
                    if exchange(place, share, share + (1 << 20)):
                        call(addresses[phase], (share >> 20) & 0xFFFFF, 0, c[TABLE])
                        add(control + 8 * DONE, 1)
                    share = load(place)
            idle = 0
            while load(control + 8 * DONE) < count:
                idle += 1
                if idle > SPINS:
                    offer_core()
        if number + 1 == steps and c[KEPT] != 0:
            live, kept = words(c[LIVE]), words(c[KEPT] + 8 * c[SIZE] * epoch)
            for k in range(c[SIZE]):
                kept[k] = live[k]
    store(control + 8 * OPEN, 0)
    settle()
    while load(control + 8 * INSIDE) != 0:
        offer_core()


def finite_in(kind):
    """A phase that looks at the samples that are given: whether all numbers of a type are finite.

    x - x is 0 for a finite number, and NaN for any other.
    """
    numbers = types.CPointer(kind)

    @intrinsic
    def those(context, address):
        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(numbers))

        return numbers(types.int64), codegen

    def finite(task, worker, table):
        rows, width = table[ROWS], table[WIDTH_GIVEN]
        last = min(rows * (task + 1), table[SAMPLES])
        x = those(table[GIVEN])
        total = kind(0)
        for k in range(rows * task * width, last * width):
            total += x[k] - x[k]
        if total != 0:
            table[STRANGE] = 1

    return finite


def compiled(name, **options):
    """One of the driver's functions, compiled, with more options of Numba's."""
    made = {
        "alone": (ALONE, alone),
        "team": (TEAM, team),
        "finite_float32": (LOOK, finite_in(types.float32)),
        "finite_float64": (LOOK, finite_in(types.float64)),
        "product_float32": (PRODUCT, product_of(ir.FloatType(), 4)),
        "product_float64": (PRODUCT, product_of(ir.DoubleType(), 8)),
    }
    signature, function = made[name]
    fast = {"reassoc", "contract"} if name.startswith("finite") else False
    return cfunc(signature, error_model="numpy", fastmath=fast, **options)(function)

"""Kernels at work: arrays are laid out, a batch is cut into blocks, and phases run in parallel loops.

It needs NumPy alone, besides the machine code that `code` gives and the team of threads that runs it; `chainrule
generate` copies its text, and that of `given.py`, `evaluation.py` and `training.py`, which need no more.
"""

import math

import numpy as np

from .control import (
    ADDRESSES,
    BATCH,
    BLOCKS,
    DEEPEST,
    FIRST,
    FOR_ONE,
    KEPT,
    KEYS,
    LAST,
    LIVE,
    MOST_TURNED,
    PHASES,
    SIZE,
    TABLE,
    TASKS,
    TOTAL,
    WIDTH,
)  # fmt: skip

WORK_OF_A_BLOCK = 640_000  # operations: some 10 us of one core
WORTH_A_SECOND = 400_000  # operations that are worth a second block, and a thread more
FORWARD, LONGER = ("predict", "evaluate"), 4  # their blocks may be longer: a worker keeps what passes for one block
WIDE = 65_536  # multiplications of one sample in one product, above which a block needs more rows
FEWEST_ROWS, FEWEST_WIDE_ROWS, MOST_ROWS = 16, 64, 512  # turning the weights costs as much as some rows
MOST_WIDE_ROWS = 256  # with so many, turning wide weights costs next to nothing
MANY_BLOCKS = 8  # enough for the threads; then the blocks grow first
FEW_BLOCKS = 2  # of a batch with a wide product: one would leave all threads but one with nothing to do
MOST_OF_PART, FEWEST_OF_PART, FEW_PARTS = 256, 128, 4  # samples: adding parts up costs as much as some samples do


def rows_of_block(samples, operations, largest_product):
    """How many samples make a block: a function of the model and the batch alone, so that the bits are too.

    Enough work to be worth a thread, few enough samples to stay in a cache; blocks of the same size, as far as it goes,
    and as many as a power of two, as threads often are.
    """
    wide = largest_product > WIDE
    fewest = min(FEWEST_WIDE_ROWS, max(FEWEST_ROWS, samples // (FEW_BLOCKS if wide else MANY_BLOCKS)))
    if wide:
        fewest = max(fewest, min(MOST_WIDE_ROWS, samples // (2 * MANY_BLOCKS)))
    work = samples * operations
    blocks = 2 ** max(work >= WORTH_A_SECOND, (work // WORK_OF_A_BLOCK).bit_length() - 1)
    rows = min(MOST_ROWS, max(fewest, -(-samples // blocks)))
    count = -(-samples // rows)
    return -(-samples // count // 8) * 8


def rows_of_part(samples):
    """How many samples make a block that makes a part of the sums over samples."""
    blocks = max(-(-samples // MOST_OF_PART), min(FEW_PARTS, -(-samples // FEWEST_OF_PART)))
    blocks = 2 ** (blocks - 1).bit_length()
    return -(-samples // blocks // 8) * 8


def may_use_blas(work, batch):
    """Whether a product of a routine may be one of BLAS (`products.py`), for batches of so many samples."""
    bounds = ("depths", DEEPEST), ("turned", MOST_TURNED)
    return any(most * batch**power > bound for name, bound in bounds for power, most in work[name])


class Machine:
    """Kernels, compiled when they are first needed, and run on arrays given by name.

    kernels   the description KERNELS of a module
    code      `code.address(name)`: the machine code of a phase
    team      what runs phases in parallel loops
    """

    def __init__(self, kernels, code, team):
        self.kernels, self.code, self.team = kernels, code, team
        self.real = np.dtype(kernels["real"])
        self._phases = {}

    def phases(self, routine, batch):
        """A routine's phases for batches of so many samples."""
        key = routine, batch
        if key not in self._phases:
            self._phases[key] = Phases(self, routine, batch)
        return self._phases[key]

    def rows(self, routine, batch):
        """Samples in a block."""
        work = self.kernels["work"][routine]
        if "in_parts" in work:
            return rows_of_part(batch)
        operations = work["operations"] // (LONGER if routine in FORWARD else 1)
        return rows_of_block(batch, operations, work["largest_product"])

    def compile(self, routines):
        """Have the functions of some routines compiled, all of them at once where that can be."""
        self.code.prepare(p["function"] for routine in routines for p in self.kernels["routines"][routine])

    def workspace(self, routine, samples, threads=1, without=()):
        """Arrays for everything that a routine computes on a batch.

        Where the first extent is "rows" each worker has rows for a block, where it is "apart" all blocks have theirs; a
        gap is behind each.
        """
        kinds = {"real": self.real, "integer": np.dtype(np.int64)}
        rows = self.rows(routine, samples)
        blocks = -(-samples // rows)
        sizes = {"N": samples, "apart": samples, "rows": rows * threads, "blocks": blocks}
        gaps, made = {"apart": blocks, "rows": threads}, {}
        for name, (kind, shape) in self.kernels["workspace"][routine].items():
            if name in without:
                continue
            count, *rest = (sizes.get(size, size) for size in shape)
            row = math.prod(rest) * kinds[kind].itemsize
            count += -(-gaps.get(shape[0], 0) * self.kernels["gap"] // row)  # as many rows as the gaps take
            made[name] = aligned([count, *rest], kinds[kind])
        return made

    def together(self, routine, arrays, samples):
        """Arrays of a workspace with the samples in their order, also where blocks of them lie apart."""
        rows, shapes, found = self.rows(routine, samples), self.kernels["workspace"][routine], dict(arrays)
        for name in (name for name, (_, shape) in shapes.items() if shape[0] == "apart"):
            array = arrays[name]
            width, numbers = math.prod(array.shape[1:]), array.reshape(-1)
            apart = rows * width + self.kernels["gap"] // array.itemsize
            blocks = [numbers[apart * k :][: rows * width] for k in range(-(-samples // rows))]
            found[name] = np.concatenate(blocks)[: samples * width].reshape(samples, *array.shape[1:])
        return found

    def table(self, routine, arrays, gathering=0):
        """The table of addresses for a routine; the arrays must live as long as it is used.

        gathering   how many samples there are, of which those of a batch are gathered; 0: they are where they belong
        """
        slots = self.kernels["slots"]
        missing = [name for name in self.kernels["needs"][routine] if name not in arrays]
        if missing:
            raise ValueError(f"{missing[0]}: missing; {routine} needs it")
        table = np.zeros(len(slots), np.int64)
        for name, array in arrays.items():
            if name in slots:
                table[slots[name]] = array.ctypes.data
        table[slots["@gathering"]] = gathering
        return table

    def run(self, routine, table, total, batch, threads=1, first=0, last=1, **more):
        """Run the steps first..last-1 of a routine."""
        phases = self.phases(routine, batch)
        table[self.kernels["slots"]["@rows"]] = phases.rows
        self.team.run(phases, table.ctypes.data, first, last, total, batch, threads, **more)


class Phases:
    """What the driver is told of a routine for batches of some size: the functions and how many blocks each has.

    `look` is the address of one more function, by blocks of samples. It comes around the only one, `inner`, where that
    has such blocks as well, and else before all.
    """

    def __init__(self, machine, routine, batch, look=None):
        described = machine.kernels["routines"][routine]
        self.rows = machine.rows(routine, batch)
        sizes = [[size or self.rows for size in p["sample_blocks"]] for p in described]
        machine.code.prepare(p["function"] for p in described)
        machine.team.provide_products(machine.real.name)
        addresses = [machine.code.address(p["function"]) for p in described]
        tasks = [p["tasks"] for p in described]
        self.inner = 0
        if look is not None and (sizes, tasks) == ([[self.rows]], [0]):
            (self.inner,), addresses = addresses, [look]
        elif look is not None:
            sizes, addresses, tasks = [[self.rows], *sizes], [look, *addresses], [0, *tasks]
        width = max(1, *map(len, sizes)) if sizes else 1
        blocks = np.zeros((len(sizes), width), np.int64)
        for k, size in enumerate(sizes):
            blocks[k, : len(size)] = size
        self.kept = np.array(addresses, np.int64), np.array(tasks, np.int64), blocks, np.zeros(1, np.int64)
        counts = [t + sum(-(-batch // s) for s in z) for t, z in zip(tasks, sizes, strict=True)]
        self.most_blocks = max(counts, default=0)
        self.with_blas = may_use_blas(machine.kernels["work"][routine], batch)
        self.control = np.zeros(FOR_ONE, np.int64)
        self.place, self.words = self.control.ctypes.data, memoryview(self.control)
        self.words[PHASES], self.words[WIDTH] = len(addresses), width
        self.words[ADDRESSES], self.words[TASKS], self.words[BLOCKS], self.no_key = (a.ctypes.data for a in self.kept)

    def tell(self, table, first, last, total, batch, keys=None, kept=(0, 0, 0)):
        """Say what is to be run; the arguments are those of `Team.run`."""
        words = self.words
        words[FIRST], words[LAST], words[TOTAL], words[BATCH] = first, last, total, batch
        words[TABLE], words[KEYS] = table, keys or self.no_key
        words[KEPT], words[LIVE], words[SIZE] = kept


def aligned(shape, dtype):
    """An array, not filled, that begins at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    space = np.empty(size + 64, np.uint8)
    skipped = -space.ctypes.data % 64
    return space[skipped : skipped + size].view(dtype).reshape(shape)

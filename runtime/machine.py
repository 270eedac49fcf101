"""Kernels at work: arrays are checked and laid out, phases run in parallel loops, parameters are trained.

It needs NumPy alone, besides the machine code that `code` gives and the team of threads that runs it; `chainrule
generate` copies its text.
"""

import hashlib
import math
import threading

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
ROWS_OF_LINE = 16  # of numbers: so many rows keep what follows at the beginning of a cache line
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

        Where blocks make parts of sums, what is kept for a block has as many rows before and behind it as there are
        samples, which are never touched and cost nothing: compiled loops look whether arrays share memory, take it for
        an array of all samples, and add up in another order where they seem to.
        """
        kinds = {"real": self.real, "integer": np.dtype(np.int64)}
        rows = self.rows(routine, samples)
        sizes = {"N": samples, "apart": samples, "rows": rows * threads, "blocks": -(-samples // rows)}
        in_parts = "in_parts" in self.kernels["work"][routine]
        apart = -(-samples // ROWS_OF_LINE) * ROWS_OF_LINE if in_parts else 0
        made = {}
        for name, (kind, shape) in self.kernels["workspace"][routine].items():
            if name in without:
                continue
            count, *rest = (sizes.get(size, size) for size in shape)
            if shape[0] == "apart":
                made[name] = aligned([count + self._gaps(kinds[kind], rest, sizes["blocks"]), *rest], kinds[kind])
            elif shape[0] == "rows":
                count += self._gaps(kinds[kind], rest, threads)
                made[name] = aligned([apart + count + apart, *rest], kinds[kind])[apart : apart + count]
            else:
                made[name] = aligned([count, *rest], kinds[kind])
        return made

    def _gaps(self, dtype, row, blocks):
        """As many rows as the gaps behind so many blocks of samples take."""
        return -(-blocks * self.kernels["gap"] // (math.prod(row) * dtype.itemsize))

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

    `look` is the address of one more function, by blocks of samples, that comes first.
    """

    def __init__(self, machine, routine, batch, look=None):
        described = machine.kernels["routines"][routine]
        self.rows = machine.rows(routine, batch)
        sizes = [[size or self.rows for size in p["sample_blocks"]] for p in described]
        machine.code.prepare(p["function"] for p in described)
        machine.team.provide_products(machine.real.name)
        addresses = [machine.code.address(p["function"]) for p in described]
        tasks = [p["tasks"] for p in described]
        if look is not None:
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


# ---- from data to arrays that the kernels take


def conform(name, value, kind, shape, real, bound=None):
    """The value as a contiguous array of samples, or ValueError with the shape or the value that does not fit."""
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: values of type {array.dtype}; give numbers")
    if array.ndim == 1 and shape == (1,):
        array = array[:, None]
    if kind == "integer" and array.ndim == len(shape) + 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 0 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, ("samples", *shape)))
        raise ValueError(f"{name}: shape {array.shape}; the model takes ({wanted})")
    if kind != "integer":
        return np.ascontiguousarray(array, real)
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: {array[~np.isfinite(array)].flat[0]} is not an integer")
    if array.dtype.kind == "f" and not np.all(array == np.floor(array)):
        raise ValueError(f"{name}: {array[array != np.floor(array)].flat[0]} is not an integer")
    array = np.ascontiguousarray(array, np.int64)
    if array.size and (array.min() < 0 or (bound is not None and array.max() >= bound)):
        wrong = int(array.min() if array.min() < 0 else array.max())
        raise ValueError(f"{name}: the value {wrong}; integers are 0 to {'...' if bound is None else bound - 1}")
    return array


def draw(distribution, scale, shape, rng):
    """First values of a parameter: constant, normal, uniform in [-scale, scale), or orthogonal with this gain."""
    if distribution == "constant":
        return np.full(shape, scale)
    if distribution == "normal":
        return rng.standard_normal(shape) * scale
    if distribution == "uniform":
        return rng.uniform(-1.0, 1.0, shape) * scale
    rows, columns = shape[0], math.prod(shape[1:])
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)  # by BLAS: on one thread, or the bits depend on how many there are
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # then q is uniform (Mezzadri 2007, section 5)
    return np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape) * scale


def given_arrays(machine, x, y=None, sample_weight=None):
    """Inputs, targets and weights by the names that the kernels know them by. Several inputs come as a dict."""
    kernels, real = machine.kernels, machine.real
    arrays = {}
    for what, value in (("inputs", x), ("targets", y), ("weights", sample_weight)):
        if value is None:
            continue
        entries = kernels[what]
        values = value if isinstance(value, dict) else dict.fromkeys(entries, value)
        for name, (kind, shape) in entries.items():
            if name not in values:
                raise ValueError(f"{name}: missing; give a dict with {', '.join(entries)}")
            arrays[name] = conform(name, values[name], kind, tuple(shape), real, kernels["bounds"].get(name))
    counts = {name: len(a) for name, a in arrays.items()}
    if not counts and kernels["inputs"]:
        raise ValueError("x: missing; give the inputs")
    for name in kernels["weights"]:
        if name in arrays and arrays[name].size and not arrays[name].min() >= 0:
            raise ValueError(f"{name}: the weight {arrays[name].min()}; a weight is at least 0")
    if len(set(counts.values())) > 1:
        raise ValueError("different numbers of samples: " + ", ".join(f"{k} has {v}" for k, v in counts.items()))
    if 0 in counts.values():
        raise ValueError("x: no samples; give at least one")
    return arrays


def parameter_arrays(machine, parameters):
    """The parameters as contiguous arrays of the kernels' type, checked against their shapes."""
    arrays = {}
    if not hasattr(parameters, "keys"):
        raise ValueError(f"parameters: {type(parameters).__name__}; give a dict of name -> array")
    for name, shape in machine.kernels["parameters"].items():
        if name not in parameters:
            raise ValueError(f"parameter {name} is missing; the model has {', '.join(machine.kernels['parameters'])}")
        value = np.asarray(parameters[name])
        if value.dtype.kind not in "fiub":
            raise ValueError(f"parameter {name}: values of type {value.dtype}; give real numbers")
        if value.shape != tuple(shape):
            raise ValueError(f"parameter {name}: shape {value.shape}; the model takes {tuple(shape)}")
        arrays[name] = np.ascontiguousarray(value, machine.real).reshape(tuple(shape) or (1,))
    return arrays


def shaped(machine, arrays):
    """Arrays of the parameters' own shapes: kernels keep single numbers as arrays of one."""
    return {name: arrays[name].reshape(tuple(shape)) for name, shape in machine.kernels["parameters"].items()}


def initial_parameters(machine, seed=0):
    """First values of all parameters, drawn in their order from one generator."""
    rng = np.random.default_rng(seed)
    kernels = machine.kernels
    drawn = {}
    for name, shape in kernels["parameters"].items():
        distribution, scale = kernels["initial"][name]
        with machine.team.one_thread:
            drawn[name] = np.asarray(draw(distribution, scale, tuple(shape), rng), machine.real)
    return drawn


CHUNK = 4096  # samples at a time, where what is computed for a sample is kept beyond its block
FEW_NUMBERS = 8  # of a sample: losses, weights
FEW = 64  # samples that are copied to a place of their own, and back
MOST_KEPT = 2**24  # bytes that a prediction may keep for the next one of as many samples
WORTH_THREADS = 12 * WORK_OF_A_BLOCK  # operations: waking a thread takes as long as some blocks


def at_a_time(machine, routine, total):
    """How many samples to compute in one call: all of them, where little is kept of each."""
    if total <= CHUNK:
        return total
    shapes, outputs = machine.kernels["workspace"][routine].items(), machine.kernels["outputs"]
    kept = sum(math.prod(shape[1:]) for name, (_, shape) in shapes if shape[0] == "N" and name not in outputs)
    return total if kept <= FEW_NUMBERS else CHUNK


def threads_worth(machine, routine, samples, threads):
    """As many threads as there may be, where there is enough to do."""
    return threads if samples * machine.kernels["work"][routine]["operations"] >= WORTH_THREADS else 1


def run_forward(machine, routine, parameters, x, y=None, sample_weight=None, threads=1):
    """Run `predict` or `evaluate`, in chunks where the model needs it; yields (first, last, workspace)."""
    given = given_arrays(machine, x, y, sample_weight)
    known = parameter_arrays(machine, parameters)
    total = len(next(iter(given.values())))
    batch = at_a_time(machine, routine, total)
    threads = threads_worth(machine, routine, batch, threads)
    workspace = machine.workspace(routine, batch, threads)
    for first in range(0, total, batch):
        last = min(first + batch, total)
        part = {name: a[first:last] for name, a in given.items()}
        table = machine.table(routine, {**workspace, **known, **part})
        machine.run(routine, table, last - first, batch, threads)
        yield first, last, workspace


def run_predict(machine, parameters, x, threads=1):
    """The outputs of the model for all samples; a dict where it has several."""
    outputs = machine.kernels["outputs"]
    results = {name: [] for name in outputs}
    for first, last, workspace in run_forward(machine, "predict", parameters, x, threads=threads):
        for name in outputs:
            whole = last - first == len(workspace[name]) and first == 0
            results[name].append(workspace[name] if whole else workspace[name][: last - first].copy())
    joined = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in results.items()}
    return joined if len(outputs) > 1 else joined[outputs[0]]


class Prediction:
    """`predict` with parameters that stay where they are, for inputs that need no conversion.

    Called with such inputs it gives the outputs, or None where a number is not finite. It takes models of one input,
    real numbers, and one output.
    """

    def __init__(self, machine, parameters, threads=1):
        self.machine, self.threads, self.real = machine, threads, machine.real
        self.known = parameter_arrays(machine, parameters)
        kernels = machine.kernels
        ((self.input, (_, shape)),) = kernels["inputs"].items()
        (self.output,) = kernels["outputs"]
        self.shape, self.width = tuple(shape), math.prod(shape)
        self.outputs = tuple(kernels["workspace"]["predict"][self.output][1][1:])
        self.few, self.many, self.control = {}, None, machine.team.control

    @staticmethod
    def suits(machine):
        """Whether a model can be asked in this way."""
        kernels = machine.kernels
        inputs, outputs = list(kernels["inputs"].values()), kernels["outputs"]
        if len(inputs) != 1 or inputs[0][0] != "real" or len(outputs) != 1:
            return False
        return kernels["workspace"]["predict"].get(outputs[0], ("", ("",)))[1][0] == "N"

    def takes(self, x):
        """Whether inputs can be used as they lie."""
        if type(x) is not np.ndarray or x.dtype != self.real or x.shape[1:] != self.shape or not x.flags.carray:
            return False
        samples = len(x)
        return 0 < samples <= CHUNK or 0 < samples == at_a_time(self.machine, "predict", samples)

    def __call__(self, x):
        samples = len(x)
        if self.control is not self.machine.team.control:  # a fork: a thread that it does not have may hold a lock
            self.few, self.many, self.control = {}, None, self.machine.team.control
        if samples > FEW:
            prepared = self.many
            if prepared is None or prepared.samples != samples:
                prepared = _Prepared(self, samples)
                self.many = prepared if prepared.bytes <= MOST_KEPT else None
            out = np.empty((samples, *self.outputs), self.real)
            with prepared.lock:
                return out if prepared.run(x, out) else None
        prepared = self.few.get(samples)
        if prepared is None:
            prepared = self.few[samples] = _Few(self, samples)
        with prepared.lock:
            prepared.x[...] = x
            return prepared.out.copy() if prepared.again() else None


class _Prepared:
    """All that a call of `Prediction` for so many samples needs, but for the samples and the outputs."""

    def __init__(self, prediction, samples):
        machine, slots = prediction.machine, prediction.machine.kernels["slots"]
        self.team, self.samples, self.lock = machine.team, samples, threading.Lock()
        self.threads = threads_worth(machine, "predict", samples, prediction.threads)
        self.arrays = machine.workspace("predict", samples, self.threads, without=(prediction.output,))
        self.bytes = sum(array.nbytes for array in self.arrays.values())
        self.arrays |= prediction.known
        nowhere = dict.fromkeys((prediction.input, prediction.output), np.empty(0))
        self.table = machine.table("predict", {**self.arrays, **nowhere})
        self.phases = Phases(machine, "predict", samples, machine.team.address(f"finite_{machine.real.name}"))
        self.place, self.words = self.table.ctypes.data, memoryview(self.table)
        self.words[slots["@rows"]], self.words[slots["@width"]] = self.phases.rows, prediction.width
        self.input, self.output = slots[prediction.input], slots[prediction.output]
        self.given, self.strange = slots["@given"], slots["@strange"]

    def put(self, x, out):
        """Say where the samples are, and where the outputs go."""
        self.words[self.input] = self.words[self.given] = x.ctypes.data
        self.words[self.output] = out.ctypes.data

    def run(self, x, out):
        """Whether all numbers of the samples are finite; then the outputs are there."""
        self.put(x, out)
        self.words[self.strange] = 0
        self.team.run(self.phases, self.place, 0, 1, self.samples, self.samples, self.threads)
        return not self.words[self.strange]


class _Few(_Prepared):
    """For so few samples that to copy them costs less than to say where they are."""

    def __init__(self, prediction, samples):
        super().__init__(prediction, samples)
        self.x = np.empty((samples, *prediction.shape), prediction.real)
        self.out = np.empty((samples, *prediction.outputs), prediction.real)
        self.put(self.x, self.out)
        self.lock, self.repeat = self.team.repeating(self.phases, self.place, samples, self.threads)

    def again(self):
        """Run once more."""
        self.words[self.strange] = 0
        self.repeat()
        return not self.words[self.strange]


def run_gradients(machine, parameters, x, y=None, sample_weight=None, threads=1):
    """The loss and its gradient with respect to every parameter."""
    given = given_arrays(machine, x, y, sample_weight)
    known = parameter_arrays(machine, parameters)
    total = len(next(iter(given.values()))) if given else 1
    workspace = machine.workspace("gradients", total)
    table = machine.table("gradients", {**workspace, **known, **given})
    machine.run("gradients", table, total, total, threads)
    names = machine.kernels["gradients"]
    gradients = shaped(machine, {p: workspace[q] for p, q in names.items()})
    return float(workspace[machine.kernels["loss"]][0]), gradients


def order_of(team, seed, epoch, samples):
    """The order in which an epoch takes its samples, and the key of its random numbers: functions of seed and epoch."""
    drawn = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=13).digest()
    order = np.empty(samples, np.int64)
    team.shuffle(order, int.from_bytes(drawn[:8], "little", signed=True))
    return order, int.from_bytes(drawn[8:], "little")


def _room(array):
    """Numbers that an array takes where each begins at a cache line."""
    return -(-array.nbytes // 64) * 64 // array.itemsize


def parts(machine, live):
    """The parameters in an array like the `live` of a training, by name."""
    found, at = {}, 0
    for name, shape in machine.kernels["parameters"].items():
        size = math.prod(shape)
        found[name] = live[at : at + size].reshape(tuple(shape) or (1,))
        at += _room(found[name])
    return found


class Training:
    """The state of a training: parameters, the optimiser's states, and the arrays of one batch.

    All parameters lie in one array, `live`, with zeros between them; so what looks at all of them, or keeps them, does
    so at once.
    """

    def __init__(self, machine, parameters, batch_size, threads=1):
        rule = machine.kernels["optimiser"]
        self.machine, self.batch, self.threads = machine, batch_size, threads
        given = parameter_arrays(machine, parameters)
        self.live = aligned((sum(map(_room, given.values())),), machine.real)
        self.live[...] = 0
        self.parameters = parts(machine, self.live)
        for name, array in self.parameters.items():
            array[...] = given[name]
        self.states = {
            f"{name}@{state}": np.full_like(array, value)
            for name, array in self.parameters.items()
            for state, value in rule["states"].items()
        }
        self.scalars = np.array(list(rule["scalars"].values()), np.float64)
        self.batch_arrays = {**machine.workspace("train", batch_size), **self._given(batch_size)}
        self.batch_arrays["@squares"] = np.zeros(len(self.parameters))
        self._make_room(1)
        self._rows = np.empty((0, self.live.size), machine.real)
        self._known = {}

    @property
    def forgets(self):
        """Whether of what is computed of a batch only that of the last blocks is there in the end."""
        return "in_parts" in self.machine.kernels["work"]["train"]

    def clear_batch(self):
        """Forget what the last step computed."""
        for array in self.batch_arrays.values():
            array[...] = 0

    def of_batch(self):
        """What the last step computed, by name."""
        return self.machine.together("train", self.batch_arrays, self.batch)

    def copied_to(self, machine):
        """The same training in other kernels of the model, on one thread."""
        made = Training(machine, shaped(machine, self.parameters), self.batch)
        made.states = {name: array.copy() for name, array in self.states.items()}
        made.scalars = self.scalars.copy()
        return made

    def rows(self, count):
        """Room for so many copies of `live`."""
        if len(self._rows) < count:
            self._rows = np.empty((count, self.live.size), self.machine.real)
        return self._rows

    def _make_room(self, threads):
        """For what each of so many threads keeps for itself."""
        shapes = self.machine.kernels["workspace"]["train"].items()
        for_all = [name for name, (_, shape) in shapes if shape[0] != "rows"]
        self.batch_arrays |= self.machine.workspace("train", self.batch, threads, without=for_all)
        self.batch_arrays["@scratch"] = aligned((self.machine.kernels["scratch"] * threads,), np.uint8)
        self._room, self._addresses = threads, None

    def _given(self, samples):
        """Arrays for a batch that is gathered as a whole."""
        kernels, arrays = self.machine.kernels, {}
        by_blocks = kernels["workspace"]["train"]
        for what in ("inputs", "targets", "weights"):
            for name, (kind, shape) in kernels[what].items():
                dtype = np.int64 if kind == "integer" else self.machine.real
                if name not in by_blocks:
                    arrays[name] = aligned((samples, *shape), dtype)
        return arrays

    def run(self, given, order, rates, keys, first=0, last=None, kept=None):
        """Run the steps first..last-1 of some epochs on end; returns the loss of every step.

        order   of the samples of all these epochs, one after the other
        rates   of all steps
        keys    of the random numbers, one for each epoch
        kept    rows like `live`, one for each epoch: the parameters at its end are put there
        """
        last = len(rates) if last is None else last
        losses = np.empty(len(rates))
        if self._room < self.threads:
            self._make_room(self.threads)
        table, slots = self._table(given), self.machine.kernels["slots"]
        for name, array in (("@order", order), ("@losses", losses), ("@rates", rates)):
            table[slots[name]] = array.ctypes.data
        table[slots["@end"]] = len(order)
        copies = (0, 0, 0) if kept is None else (kept.ctypes.data, self.live.ctypes.data, self.live.nbytes // 8)
        samples, where = len(order) // len(keys), keys.ctypes.data
        self.machine.run("train", table, samples, self.batch, self.threads, first, last, keys=where, kept=copies)
        return losses[first:last]

    def _table(self, given):
        """The table of addresses, of which those of the epoch are still missing."""
        slots, places = self.machine.kernels["slots"], {f"@{name}": array for name, array in given.items()}
        samples = len(next(iter(given.values()))) if given else 1
        if self._addresses is None or places.keys() != self._known.keys():
            arrays = {**self.batch_arrays, **self.parameters, **self.states, "@scalars": self.scalars, **places}
            arrays |= dict.fromkeys(("@order", "@losses", "@rates"), self.scalars)  # until they are known
            self._addresses = self.machine.table("train", arrays, samples)
        elif any(places[name] is not self._known[name] for name in places):
            self._addresses[slots["@gathering"]] = samples
            for name in places.keys() & slots.keys():
                self._addresses[slots[name]] = places[name].ctypes.data
        self._known = places  # they live as long as their addresses are used
        return self._addresses

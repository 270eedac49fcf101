"""What emitted kernels stand on: BLAS by address, arrays behind addresses, random numbers, and the parallel loops.

It needs NumPy, Numba and SciPy only. A module of kernels imports from here, or holds a copy of this text
(`chainrule generate`), and so runs where chainrule is not installed.
"""

import ctypes
import math
import pathlib
import threading

import numba
import numpy as np
from llvmlite import binding, ir
from numba import carray, cfunc, get_thread_id, njit, prange, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}  # not nnan, ninf: a NaN must stay one
PHASE = types.void(types.int64, types.int64, types.CPointer(types.int64))


# ---- matrix products: the BLAS that SciPy brings, called by the address of its routines


def _add_blas_symbols():
    import scipy.linalg.cython_blas  # noqa: F401  loads the library

    for name in ("sgemm", "dgemm"):
        binding.add_symbol(f"chainrule_{name}", get_cython_function_address("scipy.linalg.cython_blas", name))


_add_blas_symbols()


def _gemm_intrinsic(routine, number):
    """xGEMM as Fortran has it, with alpha = 1 and beta = 0: column-major, everything by reference."""

    @intrinsic
    def call(typing_context, ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
        integers = [types.int64] * 3
        signature = types.void(
            types.boolean, types.boolean, *integers, types.int64, types.int64, types.int64, types.int64,
            types.int64, types.int64,
        )  # fmt: skip

        def codegen(context, builder, signature, arguments):
            ta, tb, m, n, k, a, lda, b, ldb, c, ldc = arguments
            byte, integer = ir.IntType(8), ir.IntType(32)

            def by_reference(value):
                place = cgutils.alloca_once(builder, value.type)
                builder.store(value, place)
                return place

            def letter(transposed):
                flag = builder.icmp_unsigned("!=", transposed, transposed.type(0))
                return by_reference(builder.select(flag, byte(ord("T")), byte(ord("N"))))

            def whole(value):
                return by_reference(builder.trunc(value, integer))

            pa, pb, pc = [builder.inttoptr(p, number.as_pointer()) for p in (a, b, c)]
            passed = [
                letter(ta), letter(tb), whole(m), whole(n), whole(k), by_reference(number(1.0)),
                pa, whole(lda), pb, whole(ldb), by_reference(number(0.0)), pc, whole(ldc),
            ]  # fmt: skip
            kind = ir.FunctionType(ir.VoidType(), [p.type for p in passed])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, f"chainrule_{routine}"), passed)
            return context.get_dummy_value()

        return signature, codegen

    return call


_sgemm = _gemm_intrinsic("sgemm", ir.FloatType())
_dgemm = _gemm_intrinsic("dgemm", ir.DoubleType())


@njit(error_model="numpy")
def gemm(left_transposed, right_transposed, rows, columns, depth, left, left_at, left_stride, right, right_at,
         right_stride, out, out_at, out_stride):  # fmt: skip
    """out = left right, row-major, on parts of arrays: each begins `_at` elements into its array and has rows `_stride`
    elements apart. What is row-major is the transpose to BLAS, so it is asked for out^T = right^T left^T."""
    size = out.itemsize
    a = right.ctypes.data + right_at * size
    b = left.ctypes.data + left_at * size
    c = out.ctypes.data + out_at * size
    if size == 4:
        _sgemm(
            right_transposed,
            left_transposed,
            columns,
            rows,
            depth,
            a,
            right_stride,
            b,
            left_stride,
            c,
            out_stride,
        )
    else:
        _dgemm(
            right_transposed,
            left_transposed,
            columns,
            rows,
            depth,
            a,
            right_stride,
            b,
            left_stride,
            c,
            out_stride,
        )


# ---- arrays behind addresses: no reference counts inside the parallel loops


@intrinsic
def _pointer(typing_context, address, dtype):
    pointer = types.CPointer(dtype.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64, dtype), codegen


@njit(error_model="numpy")
def view(address, shape, dtype):
    """The C-contiguous array of a shape and type at an address."""
    return carray(_pointer(address, dtype), shape)


# ---- elementary functions that Python's math lacks


@njit(fastmath=FAST, error_model="numpy")
def sign(z):
    """-1, 0 or 1; NaN stays NaN."""
    one = z**0  # of the type of z: an integer would make doubles of single precision
    return one if z > 0 else (-one if z < 0 else z)


@njit(fastmath=FAST, error_model="numpy")
def sigmoid(z):
    """1/(1 + exp(-z)), without overflow."""
    e = math.exp(-abs(z))
    one = e**0  # of the type of z
    return one / (one + e) if z >= 0 else e / (one + e)


@njit(fastmath=FAST, error_model="numpy")
def softplus(z):
    """log(1 + exp(z)), without overflow."""
    e = math.exp(-abs(z))
    return (z if z > 0 else e - e) + math.log1p(e)  # e - e is 0, and NaN where z is


@njit(fastmath=FAST, error_model="numpy")
def power(base, exponent):
    return base**exponent


@njit(error_model="numpy")
def uniform(key, position):
    """A number in [0, 1) from a key and a position: the finaliser of SplitMix64 (Steele et al. 2014), no state."""
    bits = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(position) * np.uint64(0xD1B54A32D192ED03)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return (bits >> np.uint64(40)) * (1.0 / 16777216.0)  # 24 bits: exact in float32, and so never rounded to 1


# ---- the parallel loops


@intrinsic
def _call(typing_context, address, task, worker, table):
    """Call a phase by its address."""

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word, word, word.as_pointer()])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, [arguments[1], arguments[2], builder.inttoptr(arguments[3], word.as_pointer())])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@njit(
    "void(int64, int64, int64[::1], int64[:, ::1], int64[::1], int64[::1], int64, int64, int64, int64)",
    parallel=True, cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def run_steps(first_step, last_step, addresses, sample_blocks, tasks, table, total, batch, threads, key):
    """Run all phases of some steps; step s has the samples batch*s ... of the order.

    table[0] samples of this step, [1] where they begin, [2] number of the step, [4] key of its random numbers
    """
    where = table.ctypes.data
    for step in range(first_step, last_step):
        start = step * batch
        samples = min(batch, total - start)
        table[0] = samples
        table[1] = start
        table[2] = step
        table[4] = key + 1000003 * step
        for phase in range(len(addresses)):
            count = tasks[phase]
            for k in range(sample_blocks.shape[1]):
                block = sample_blocks[phase, k]
                if block > 0:
                    count += (samples + block - 1) // block
            address = addresses[phase]
            if threads == 1 or count == 1:
                for task in range(count):
                    _call(address, task, 0, where)
            else:
                for task in prange(count):
                    _call(address, task, get_thread_id(), where)


_lock = threading.Lock()  # the workqueue layer aborts the process when two threads enter at once


class _Blas:
    """The number of threads of the BLAS that `gemm` calls: one, inside the parallel loops."""

    def __init__(self):
        import scipy

        folder = pathlib.Path(scipy.__file__).parent.parent / "scipy.libs"
        self.get = self.set = None
        for path in folder.glob("*openblas*"):
            library = ctypes.CDLL(str(path))
            for name in (
                "scipy_openblas_{}_num_threads",
                "scipy_openblas_{}_num_threads64_",
                "openblas_{}_num_threads",
            ):
                if self.set is None and hasattr(library, name.format("set")):
                    self.set = getattr(library, name.format("set"))
                    self.get = getattr(library, name.format("get"))

    def __enter__(self):
        self.before = self.get() if self.get else 1
        if self.before != 1:
            self.set(1)

    def __exit__(self, *error):
        if self.before != 1:
            self.set(self.before)


_blas = _Blas()


def compiled_phase(function, cache=True):
    """A phase as machine code; what a damaged cache holds of it is deleted and made anew."""
    options = {"fastmath": FAST, "error_model": "numpy"}
    if not cache:
        return cfunc(PHASE, **options)(function)
    try:
        return cfunc(PHASE, cache=True, **options)(function)
    except Exception:  # noqa: BLE001  a damaged cache raises nearly anything; what is really wrong is raised again
        path = pathlib.Path(function.__code__.co_filename)
        for entry in (path.parent / "__pycache__").glob(f"{path.stem}.*.nb*"):
            entry.unlink(missing_ok=True)
        try:
            return cfunc(PHASE, cache=True, **options)(function)
        except RuntimeError:  # no folder to cache in
            return cfunc(PHASE, **options)(function)


class Machine:
    """Kernels, compiled when they are first needed, and run on arrays given by name.

    `kernels` is the description KERNELS of a module, `functions` the module's functions by name.
    """

    def __init__(self, kernels, functions, cache=True):
        self.kernels, self.functions, self.cache = kernels, functions, cache
        self.real = np.dtype(kernels["real"])
        self._compiled = {}

    def phases(self, routine):
        """Addresses, sample blocks and numbers of tasks of a routine's phases."""
        if routine not in self._compiled:
            phases = self.kernels["routines"][routine]
            compiled = [compiled_phase(self.functions[p["function"]], self.cache) for p in phases]
            most = max([len(p["sample_blocks"]) for p in phases] + [1])
            blocks = np.zeros((len(phases), most), np.int64)
            for k, p in enumerate(phases):
                blocks[k, : len(p["sample_blocks"])] = p["sample_blocks"]
            addresses = np.array([c.address for c in compiled], np.int64)
            tasks = np.array([p["tasks"] for p in phases], np.int64)
            self._compiled[routine] = (addresses, blocks, tasks, compiled)
        return self._compiled[routine][:3]

    def workspace(self, routine, samples):
        """Arrays for everything that a routine computes on a batch."""
        kinds = {"real": self.real, "integer": np.dtype(np.int64)}
        made = {}
        for name, (kind, shape) in self.kernels["workspace"][routine].items():
            made[name] = np.empty([samples if size == "N" else size for size in shape], kinds[kind])
        return made

    def table(self, routine, arrays, gathering=False):
        """The table of addresses for a routine; the arrays must live as long as it is used."""
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

    def run(self, routine, table, total, batch, threads=1, first=0, last=1, key=0):
        """Run the steps first..last-1 of a routine."""
        addresses, blocks, tasks = self.phases(routine)
        with _lock, _blas:
            if threads > 1:
                numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            run_steps(first, last, addresses, blocks, tasks, table, total, batch, threads, key)


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
    q, r = np.linalg.qr(tall)
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
        drawn[name] = np.asarray(draw(distribution, scale, tuple(shape), rng), machine.real)
    return drawn


CHUNK = 4096  # samples at a time, where a whole data set is predicted


def run_forward(machine, routine, parameters, x, y=None, sample_weight=None, threads=1):
    """Run `predict` or `evaluate` in chunks; yields (first, last, workspace)."""
    given = given_arrays(machine, x, y, sample_weight)
    known = parameter_arrays(machine, parameters)
    total = len(next(iter(given.values())))
    batch = min(total, CHUNK)
    workspace = machine.workspace(routine, batch)
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
            results[name].append(workspace[name][: last - first].copy())
    joined = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in results.items()}
    return joined if len(outputs) > 1 else joined[outputs[0]]


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


class Training:
    """The state of a training: parameters, the optimiser's states, and the arrays of one batch."""

    def __init__(self, machine, parameters, batch_size, threads=1):
        rule = machine.kernels["optimiser"]
        self.machine, self.batch, self.threads = machine, batch_size, threads
        self.parameters = {k: v.copy() for k, v in parameter_arrays(machine, parameters).items()}
        self.states = {
            f"{name}@{state}": np.full_like(array, value)
            for name, array in self.parameters.items()
            for state, value in rule["states"].items()
        }
        self.scalars = np.array(list(rule["scalars"].values()), np.float64)
        self.batch_arrays = {**machine.workspace("train", batch_size), **self._given(batch_size)}
        self.batch_arrays["@squares"] = np.zeros(len(self.parameters))
        scratch = machine.kernels["scratch"] * max(1, numba.config.NUMBA_NUM_THREADS)
        self.batch_arrays["@scratch"] = np.empty(scratch + 64, np.uint8)

    def _given(self, samples):
        kernels, arrays = self.machine.kernels, {}
        for what in ("inputs", "targets", "weights"):
            for name, (kind, shape) in kernels[what].items():
                dtype = np.int64 if kind == "integer" else self.machine.real
                arrays[name] = np.empty((samples, *shape), dtype)
        return arrays

    def epoch(self, given, order, rates, key=0, first=0, last=None):
        """Run the steps first..last-1 of an epoch over the samples in this order; returns the loss of every step."""
        steps = -(-len(order) // self.batch)
        last = steps if last is None else last
        losses = np.zeros(steps)
        arrays = {
            **self.batch_arrays,
            **self.parameters,
            **self.states,
            "@scalars": self.scalars,
            "@rates": rates,
        }
        arrays |= {"@order": order, "@losses": losses} | {f"@{name}": a for name, a in given.items()}
        table = self.machine.table("train", arrays, gathering=True)
        scratch = self.machine.kernels["slots"]["@scratch"]
        table[scratch] += -table[scratch] % 64
        self.machine.run("train", table, len(order), self.batch, self.threads, first, last, key)
        return losses[first:last]

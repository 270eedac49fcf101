"""What kernels compute of given samples: outputs, losses, gradients."""

import math
import threading

import numpy as np

from .given import given_arrays, parameter_arrays, shaped
from .machine import WORK_OF_A_BLOCK, Phases

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
        self.given, self.looked = slots["@given"], np.array([self.phases.inner, 0], np.int64)
        self.words[slots["@look"]], self.strange = self.looked.ctypes.data, memoryview(self.looked)[1:]

    def put(self, x, out):
        """Say where the samples are, and where the outputs go."""
        self.words[self.input] = self.words[self.given] = x.ctypes.data
        self.words[self.output] = out.ctypes.data

    def run(self, x, out):
        """Whether all numbers of the samples are finite; then the outputs are there."""
        self.put(x, out)
        self.strange[0] = 0
        self.team.run(self.phases, self.place, 0, 1, self.samples, self.samples, self.threads)
        return not self.strange[0]


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
        self.strange[0] = 0
        self.repeat()
        return not self.strange[0]


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

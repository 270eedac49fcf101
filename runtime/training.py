"""Parameters that kernels change: the state of a training, and the orders in which it takes its samples."""

import hashlib
import math

import numpy as np

from .given import parameter_arrays, shaped
from .machine import aligned


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
            f"{name}@{state}": np.full(array.shape, value, array.dtype) if value else np.zeros(array.shape, array.dtype)
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
        """Whether of what is computed of a batch not all is there in the end: it was written over."""
        return not {"in_parts", "in_place"}.isdisjoint(self.machine.kernels["work"]["train"])

    def touch(self):
        """Have the memory of the states now, which zeros take only when they are written: not in the first step."""
        for array in self.states.values():
            array += 0

    def clear_batch(self):
        """Forget what the last step computed."""
        for array in self.batch_arrays.values():
            array[...] = 0

    def of_batch(self):
        """What the last step computed, by name."""
        return self.machine.together("train", self.batch_arrays, self.batch)

    def in_kernels(self, machine):
        """The same training in other kernels of the model, on one thread: steps of either change the same numbers."""
        made = Training(machine, shaped(machine, self.parameters), self.batch)
        made.live, made.parameters = self.live, self.parameters
        made.states, made.scalars = self.states, self.scalars
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

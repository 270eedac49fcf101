"""LLVM is told which arrays of a kernel share no memory: those that stand at different places of the table, and the
table itself.

Else it looks at run time, at the beginning of every loop, and keeps two versions of the loop, of which one computes
number by number. Each array is a scope of its own (LLVM Language Reference, "noalias and alias.scope metadata"): what
an instruction reads or writes lies in the scope of its array, and not in those of the others.

The array of an instruction is the one whose address it was made of. What is not understood is not marked.
"""

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from llvmlite.ir import instructions as ins


def mark(module: ir.Module) -> None:
    """Mark the loads and stores of all functions of a module."""
    for function in module.functions:
        accesses = list(_accesses(function))
        keys = sorted({key for _, key in accesses})
        if len(keys) < 2:
            continue
        domain = module.add_metadata([_text(module, function.name)])
        scopes = {key: module.add_metadata([_text(module, f"{function.name} {key}"), domain]) for key in keys}
        own = {key: module.add_metadata([scopes[key]]) for key in keys}
        others = {key: module.add_metadata([scopes[k] for k in keys if k != key]) for key in keys}
        for instruction, key in accesses:
            instruction.set_metadata("alias.scope", own[key])
            instruction.set_metadata("noalias", others[key])


def _text(module: ir.Module, text: str) -> Any:
    return ir.MetaDataString(module, text)


def _accesses(function: ir.Function) -> Iterator[tuple[Any, str]]:
    """Loads and stores of numbers of arrays, and a name for the address that each array was made of."""
    trace = _Trace(function)
    for block in function.blocks:
        for instruction in block.instructions:
            if isinstance(instruction, ins.LoadInstr):
                place = instruction.operands[0]
            elif isinstance(instruction, ins.StoreInstr):
                place = instruction.operands[1]
            else:
                continue
            key = trace.array_of(place)
            if key:
                yield instruction, key


class _Trace:
    """Where the values of a function come from. Numba keeps each variable in memory of its own, which it allocates."""

    def __init__(self, function: ir.Function) -> None:
        self.stored: dict[int, list[Any]] = {}
        for block in function.blocks:
            for instruction in block.instructions:
                if isinstance(instruction, ins.StoreInstr):
                    value, place = instruction.operands
                    self.stored.setdefault(id(place), []).append(value)
        self.known: dict[tuple[str, int], str] = {}

    def array_of(self, pointer: Any) -> str:
        """The array that a pointer points into; empty where that is not known."""
        return self._once(pointer, self._array_of)

    def _once(self, value: Any, find: Callable[[Any], str]) -> str:
        """What is found of a value; empty while it is looked for: a circle has no beginning."""
        key = find.__name__, id(value)
        if key not in self.known:
            self.known[key] = ""
            self.known[key] = find(value)
        return self.known[key]

    def _array_of(self, pointer: Any) -> str:
        if isinstance(pointer, ir.Argument):
            return str(pointer.name)
        if isinstance(pointer, ins.GEPInstr):
            return self.array_of(pointer.pointer)
        if isinstance(pointer, ins.CastInstr):
            (operand,) = pointer.operands
            return self._address(operand) if pointer.opname == "inttoptr" else self.array_of(operand)
        if isinstance(pointer, ins.ExtractValue):
            return self._field(pointer.operands[0], pointer.indices)
        if isinstance(pointer, ins.LoadInstr):
            place = pointer.operands[0]
            if isinstance(place, ins.AllocaInstr):
                return self._same(self.array_of(value) for value in self._values(place))
            if isinstance(place, ins.GEPInstr) and isinstance(place.pointer, ins.AllocaInstr):
                indices = tuple(getattr(k, "constant", None) for k in place.indices)
                return self._same(self._field(value, indices[1:]) for value in self._values(place.pointer))
        return ""

    def _field(self, structure: Any, indices: tuple[Any, ...]) -> str:
        """The array that a pointer in a structure points into."""
        while isinstance(structure, ins.InsertValue):
            inside, value = structure.operands
            if tuple(structure.indices) == tuple(indices):
                return self.array_of(value)
            structure = inside
        if isinstance(structure, ins.LoadInstr) and isinstance(structure.operands[0], ins.AllocaInstr):
            return self._same(self._field(value, indices) for value in self._values(structure.operands[0]))
        return ""

    def _address(self, word: Any) -> str:
        """The place in the table, or the argument, that an address begins with."""
        while isinstance(word, ins.Instruction) and word.opname == "add":
            word = word.operands[0]
        place = word.operands[0] if isinstance(word, ins.LoadInstr) else None
        if isinstance(place, ins.GEPInstr) and len(place.indices) == 1:
            table, (index,) = self._argument(place.pointer), place.indices
            return f"{table} {index.constant}" if table and isinstance(index, ir.Constant) else ""
        if isinstance(place, ins.AllocaInstr):
            return self._same(self._once(value, self._address) for value in self._values(place))
        return self._argument(word)

    def _argument(self, value: Any) -> str:
        """The name of the argument that a value is."""
        if isinstance(value, ins.LoadInstr) and isinstance(value.operands[0], ins.AllocaInstr):
            return self._same(self._once(stored, self._argument) for stored in self._values(value.operands[0]))
        return str(value.name) if isinstance(value, ir.Argument) else ""

    def _values(self, place: Any) -> list[Any]:
        """What is stored in memory of the function's own, but for the zeros that Numba begins with."""
        return [value for value in self.stored.get(id(place), []) if not isinstance(value, ir.Constant)]

    @staticmethod
    def _same(keys: Iterator[str]) -> str:
        """The one array that all point into."""
        found = set(keys)
        return found.pop() if len(found) == 1 else ""

"""LLVM is told of some loops how to make vectors of them: one by one, where its own options hold for a whole process.

A loop that is known to be short is written out by LLVM, number by number, before it thinks of vectors: good for some
numbers, bad for a few vectors of them, which take longer to compile and to compute.

An elementary function is one long chain: it waits for itself, unless there are others to go on with, side by side. What
is left over at the end is computed number by number, hence fewer side by side where more could be left.
"""

import operator
from collections.abc import Iterable, Iterator
from typing import Any, Final

from llvmlite.ir import IntType, MetaDataString
from llvmlite.ir.values import MDValue
from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.ir_utils import get_definition, guard

SOME_VECTORS: Final = range(16, 129)  # numbers, of which LLVM would make no vectors

Hint = tuple[Any, ...]  # the name of one of LLVM's, and its numbers


def hints_of(function: Any) -> Iterator[tuple[int, Hint]]:
    """Hints for loops of a function of Numba, by the last block of each."""
    blocks = function.blocks
    loops = list(compute_cfg_from_blocks(blocks).loops().values())
    for loop in loops:
        before = _calls(blocks[label] for label in loop.entries)
        lengths = [_length(function, call) for call in before if _value(function, call.func) is range]
        inside = {_value(function, call.func) for call in _calls(blocks[label] for label in loop.body)}
        innermost = sum(other.header in loop.body for other in loops) == 1
        for length, multiple in lengths[-1:]:
            hint = _hint(length, multiple, inside if innermost else ())
            if hint is not None:
                yield max(loop.body), hint


def give(module: Any, branch: Any, hint: Hint) -> None:
    """Tell LLVM something of a loop; its last branch bears it (LLVM Language Reference, "llvm.loop")."""
    name, *numbers = hint
    told = module.add_metadata([MetaDataString(module, name), *map(IntType(32), numbers)])
    loop = MDValue(module, (), name=str(len(module.metadata)))
    loop.operands = (loop, told)  # a loop is named by itself
    branch.set_metadata("llvm.loop", loop)


def _hint(length: int | None, multiple: int, called: Iterable[Any]) -> Hint | None:
    """What to tell LLVM of a loop, if anything."""
    if length is not None:
        return ("llvm.loop.unroll.disable",) if length in SOME_VECTORS else None
    modules = {getattr(getattr(function, "_defn", None), "__module__", "") for function in called}
    if not any("elementary_float" in module for module in modules):
        return None
    few = 2 if any("elementary_float32" in module for module in modules) else 4
    return "llvm.loop.interleave.count", few if multiple % 4 else 4


def _calls(blocks: Iterable[Any]) -> Iterator[Any]:
    """The calls in some blocks."""
    for block in blocks:
        for assigned in block.find_insts(ir.Assign):
            if isinstance(assigned.value, ir.Expr) and assigned.value.op == "call":
                yield assigned.value


def _definition(function: Any, variable: Any) -> Any:
    """What a variable is assigned; None where that depends."""
    return guard(get_definition, function, variable)


def _value(function: Any, variable: Any) -> Any:
    """What a variable is, where the source says it."""
    return getattr(_definition(function, variable), "value", None)


def _length(function: Any, of_range: Any) -> tuple[int | None, int]:
    """How long a `range` is, if the source says it, and else what it is a multiple of for all that is known."""
    if len(of_range.args) > 1:
        return None, 1
    length = _definition(function, of_range.args[0])
    if isinstance(length, ir.Const):
        return length.value, 1
    factor = _value(function, length.rhs) if getattr(length, "fn", None) is operator.mul else None
    return None, factor if isinstance(factor, int) else 1

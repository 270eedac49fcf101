"""From a kernel, typed by Numba, to LLVM's instructions.

Most of a kernel is arithmetic with two numbers of one type, single numbers of C-contiguous arrays, and loops that count
upwards. Numba looks up, for each of them, what writes it, and has more cases in mind: indices that count from the end,
arrays with owners, steps of a loop that are known when it runs. Here they are written at once, which halves what LLVM
is given. All else is Numba's.
"""

import operator
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

from llvmlite.ir import Constant, IntType, IRBuilder, MetaDataString, Undefined
from llvmlite.ir.values import MDValue
from numba import types
from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.cgutils import alloca_once
from numba.core.ir_utils import get_definition, guard
from numba.core.lowering import Lower

from .aliasing import mark

SOME_VECTORS: Final = range(16, 129)  # numbers, of which LLVM would make no vectors
INTEGERS: Final = {
    op: partial(written, flags=["nsw"])
    for op, written in ((operator.add, IRBuilder.add), (operator.sub, IRBuilder.sub), (operator.mul, IRBuilder.mul))
}
FLOATS: Final = {operator.add: IRBuilder.fadd, operator.sub: IRBuilder.fsub, operator.mul: IRBuilder.fmul}
COMPARED: Final = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}


def _written(op: Any, kind: Any) -> Any:
    """What writes an operator between two numbers of a type; None where that is left to Numba."""
    if isinstance(kind, types.Float):
        made, compare = FLOATS.get(op), IRBuilder.fcmp_ordered
    elif kind in types.signed_domain:
        made, compare = INTEGERS.get(op), IRBuilder.icmp_signed
    else:
        return None
    if op in COMPARED:
        return lambda builder, a, b: compare(builder, COMPARED[op], a, b)
    return made


def _each(index: Any) -> tuple[Any, ...]:
    """The types of the numbers that an index is made of."""
    return tuple(getattr(index, "types", (index,)))


def _calls(blocks: Any) -> Iterator[Any]:
    """The calls in some blocks."""
    for block in blocks:
        for assigned in block.find_insts(ir.Assign):
            if isinstance(assigned.value, ir.Expr) and assigned.value.op == "call":
                yield assigned.value


def _hint(length: int | None, multiple: int, called: Iterable[Any]) -> tuple[Any, ...] | None:
    """What to tell LLVM of a loop, if anything.

    One that is known to be short is written out by LLVM, number by number, before it thinks of vectors: good for some
    numbers, bad for a few vectors of them, which take longer to compile and to compute.

    An elementary function is one long chain: it waits for itself, unless there are others to go on with, side by side.
    What is left over at the end is computed number by number, hence fewer where more could be left.
    """
    if length is not None:
        return ("llvm.loop.unroll.disable",) if length in SOME_VECTORS else None
    modules = {getattr(getattr(function, "_defn", None), "__module__", "") for function in called}
    if not any("elementary_float" in module for module in modules):
        return None
    few = 2 if any("elementary_float32" in module for module in modules) else 4
    return "llvm.loop.interleave.count", few if multiple % 4 else 4


def _name_loop(module: Any, branch: Any, hint: tuple[Any, ...]) -> None:
    """Tell LLVM something of a loop; its last branch bears it (LLVM Language Reference, "llvm.loop")."""
    name, *numbers = hint
    told = module.add_metadata([MetaDataString(module, name), *map(IntType(32), numbers)])
    loop = MDValue(module, (), name=str(len(module.metadata)))
    loop.operands = (loop, told)  # a loop is named by itself
    branch.set_metadata("llvm.loop", loop)


class Lowering(Lower):
    """Numba's, but for what kernels mostly consist of; what reads and writes arrays is marked (`aliasing.py`)."""

    def lower_normal_function(self, description):  # type: ignore[no-untyped-def]
        self.hints = dict(self._hints())
        super().lower_normal_function(description)
        mark(self.module)

    def incref(self, *_):  # type: ignore[no-untyped-def]
        """Nothing: a kernel owns no memory, and counts no references."""

    decref = incref

    # operators

    def lower_binop(self, resty, expr, op):  # type: ignore[no-untyped-def]
        signature = self.fndesc.calltypes[expr]
        kind, other = signature.args
        written = _written(op, kind) if kind == other else None
        if written is None:
            return super().lower_binop(resty, expr, op)
        numbers = [self._number(variable, kind) for variable in (expr.lhs, expr.rhs)]
        return self.context.cast(self.builder, written(self.builder, *numbers), signature.return_type, resty)

    def _number(self, variable, kind):  # type: ignore[no-untyped-def]
        """A variable as a number of a type."""
        return self.context.cast(self.builder, self.loadvar(variable.name), self.typeof(variable.name), kind)

    # numbers of arrays

    def lower_getitem(self, resty, expr, value, index, signature):  # type: ignore[no-untyped-def]
        array = self.typeof(value.name)
        if not self._is_number(array, index):
            return super().lower_getitem(resty, expr, value, index, signature)
        number = self.context.unpack_value(self.builder, array.dtype, self._place(value, index))
        return self.context.cast(self.builder, number, array.dtype, resty)

    def lower_setitem(self, target_var, index_var, value_var, signature):  # type: ignore[no-untyped-def]
        array = self.typeof(target_var.name)
        if not self._is_number(array, index_var):
            return super().lower_setitem(target_var, index_var, value_var, signature)
        number = self._number(value_var, array.dtype)
        return self.context.pack_value(self.builder, array.dtype, number, self._place(target_var, index_var))

    def _is_number(self, array, index):  # type: ignore[no-untyped-def]
        """Whether an index is that of one number of a C-contiguous array, and nobody wants it checked."""
        kinds = _each(self.typeof(index.name))
        return (
            isinstance(array, types.Array) and array.layout == "C" and array.ndim == len(kinds)
            and all(kind in types.signed_domain or isinstance(kind, types.IntegerLiteral) for kind in kinds)
            and not self.context.enable_boundscheck
        )  # fmt: skip

    def _place(self, array, index):  # type: ignore[no-untyped-def]
        """The address of a number of an array: row after row."""
        where, kinds = self.loadvar(index.name), _each(self.typeof(index.name))
        numbers = [where] if len(kinds) == 1 else [self.builder.extract_value(where, k) for k in range(len(kinds))]
        at, *rest = (
            self.context.cast(self.builder, number, kind, types.intp)
            for number, kind in zip(numbers, kinds, strict=True)
        )
        shape = self._field(array, "shape")
        for k, number in enumerate(rest, 1):
            before = self.builder.mul(at, self.builder.extract_value(shape, k), flags=["nsw"])
            at = self.builder.add(before, number, flags=["nsw"])
        return self.builder.gep(self._field(array, "data"), [at])

    # loops

    def lower_expr(self, resty, expr):  # type: ignore[no-untyped-def]
        if expr.op == "call" and isinstance(resty, types.RangeType):
            return self._range(resty, expr)
        if expr.op == "getiter":
            return self._begin(resty, expr)
        if expr.op == "iternext":
            return self._next(resty, expr)
        if expr.op in ("pair_first", "pair_second"):
            return self._field(expr.value, expr.op.removeprefix("pair_"))
        return super().lower_expr(resty, expr)

    def _range(self, resty, expr):  # type: ignore[no-untyped-def]
        first, last, step = (None, *expr.args, None) if len(expr.args) == 1 else (*expr.args, None)[:3]
        if step is not None and not getattr(self.typeof(step.name), "literal_value", 0) > 0:
            raise NotImplementedError("a loop of a kernel counts upwards, by a number that stands in the source")
        constant = partial(self.context.get_constant, resty.dtype)
        return self._structure(
            resty,
            start=constant(0) if first is None else self._number(first, resty.dtype),
            stop=self._number(last, resty.dtype),
            step=constant(1) if step is None else self._number(step, resty.dtype),
        )

    def _begin(self, resty, expr):  # type: ignore[no-untyped-def]
        start, stop, step = (self._field(expr.value, name) for name in ("start", "stop", "step"))
        place = alloca_once(self.builder, start.type)
        self.builder.store(start, place)
        return self._structure(resty, iter=place, stop=stop, step=step)

    def _next(self, resty, expr):  # type: ignore[no-untyped-def]
        place, stop, step = (self._field(expr.value, name) for name in ("iter", "stop", "step"))
        number = self.builder.load(place)
        self.builder.store(self.builder.add(number, step, flags=["nsw"]), place)
        return self._structure(resty, first=number, second=self.builder.icmp_signed("<", number, stop))

    # what LLVM is told of loops

    def lower_block(self, block):  # type: ignore[no-untyped-def]
        super().lower_block(block)
        if id(block) in self.hints:
            _name_loop(self.module, self.builder.block.terminator, self.hints[id(block)])

    def _hints(self):  # type: ignore[no-untyped-def]
        """Hints by the last block of a loop."""
        loops = list(compute_cfg_from_blocks(self.blocks).loops().values())
        for loop in loops:
            before = _calls(self.blocks[label] for label in loop.entries)
            lengths = [self._length(call) for call in before if self._value(call.func) is range]
            inside = {self._value(call.func) for call in _calls(self.blocks[label] for label in loop.body)}
            innermost = sum(other.header in loop.body for other in loops) == 1
            for length, multiple in lengths[-1:]:
                hint = _hint(length, multiple, inside if innermost else ())
                if hint is not None:
                    yield id(self.blocks[max(loop.body)]), hint

    def _definition(self, variable):  # type: ignore[no-untyped-def]
        """What a variable is assigned; None where that depends."""
        return guard(get_definition, self.func_ir, variable)

    def _value(self, variable):  # type: ignore[no-untyped-def]
        """What a variable is, where the source says it."""
        return getattr(self._definition(variable), "value", None)

    def _length(self, of_range):  # type: ignore[no-untyped-def]
        """How long a `range` is, if the source says it, and else what it is a multiple of for all that is known."""
        if len(of_range.args) > 1:
            return None, 1
        length = self._definition(of_range.args[0])
        if isinstance(length, ir.Const):
            return length.value, 1
        factor = self._value(length.rhs) if getattr(length, "fn", None) is operator.mul else None
        return None, factor if isinstance(factor, int) else 1

    # Numba's structures

    def _structure(self, kind, **fields):  # type: ignore[no-untyped-def]
        """One put together, without memory."""
        model = self.context.data_model_manager[kind]
        made = Constant(model.get_value_type(), Undefined)
        for name, value in fields.items():
            made = self.builder.insert_value(made, value, model.get_field_position(name))
        return made

    def _field(self, variable, name):  # type: ignore[no-untyped-def]
        """Of a variable."""
        model = self.context.data_model_manager[self.typeof(variable.name)]
        return self.builder.extract_value(self.loadvar(variable.name), model.get_field_position(name))

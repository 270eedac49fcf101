"""From a kernel, typed by Numba, to LLVM's instructions.

Most of a kernel is arithmetic with two numbers of one type, single numbers of C-contiguous arrays, and loops that count
upwards. Numba looks up, for each of them, what writes it, and has more cases in mind: indices that count from the end,
arrays with owners, steps of a loop that are known when it runs. Here they are written at once, which halves what LLVM
is given. All else is Numba's.
"""

import operator
from functools import partial
from typing import Any, Final

from llvmlite.ir import Constant, IRBuilder, Undefined
from numba import types
from numba.core.cgutils import alloca_once
from numba.core.lowering import Lower

from .aliasing import mark
from .hints import give, hints_of

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


class Lowering(Lower):
    """Numba's, but for what kernels mostly consist of; LLVM is told of arrays and loops (`aliasing.py`, `hints.py`)."""

    def lower_normal_function(self, description):  # type: ignore[no-untyped-def]
        self.hints = {id(self.blocks[label]): hint for label, hint in hints_of(self.func_ir)}
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

    def lower_block(self, block):  # type: ignore[no-untyped-def]
        super().lower_block(block)
        hint = self.hints.get(id(block))
        if hint is not None:
            give(self.module, self.builder.block.terminator, hint)

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

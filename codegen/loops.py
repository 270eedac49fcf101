"""Steps of a plan -> loop nests and matrix products as lines of source.

Three ways to compute an equation:

    elementwise     for ...: out = expr                         fused with its neighbours over the same indices;
                                                                in one run over the block where all arrays lie alike
    accumulated     for ...: total += term;  out = expr(total)  where the sum's own index lies closest in memory
    spread          out = 0; for sum: for ...: out += term      where a free index lies closest, or a look-up says where
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp

from ..symbolic.functions import ArgMaxOver, MaxOver
from ..symbolic.language import SAMPLES, Equation, Index, Kind, Program, elements, name_of, where_of
from ..symbolic.normalise import free_indices
from .expression import FUNCTIONS, Names, condition_source, integer_source, read_source, source
from .layout import INDENT
from .plan import Product, Step


@dataclass(frozen=True)
class Scope:
    """What surrounds the lines: the program (with legal names), how they are written, over what the block runs.

    `leading` is the index whose values first..last-1 the function computes, where it computes a block.
    `changed_next` tells of a gradient where the arrays stand that its update changes, block by block.
    """

    program: Program
    names: Names
    leading: Index | None = None
    changed_next: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def bounds(self, index: Index) -> str:
        if self.leading is not None and index.symbol == self.leading.symbol:
            return "first, last"
        return self.extent(index.extent)

    def extent(self, extent: sp.Expr) -> str:
        bound = sp.sympify(extent).xreplace({k: sp.Integer(v) for k, v in self.program.sizes.items()})
        return integer_source(bound, self.names)

    def bind(self, expr: sp.Expr) -> sp.Expr:
        """The expression with all extents but N as numbers."""
        return expr.xreplace({k: sp.Integer(v) for k, v in self.program.sizes.items()})


def _is_led(indices: tuple[Index, ...], scope: Scope) -> bool:
    """Whether the block is a part of these indices."""
    return bool(indices) and scope.leading is not None and indices[0].symbol == scope.leading.symbol


@dataclass(frozen=True)
class Nest:
    """Statements under the same loops.

    before   what they read that is one number for each sample: under a local name `_name`, or no loop over a short row
             of a sample would be vectorised, since a statement might change it
    run      the same statements on arrays `_name` of all elements of the block in a row, where that is possible
    """

    indices: tuple[Index, ...]
    lines: tuple[str, ...]
    assigned: frozenset[str]
    elementwise: bool
    run: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()  # of the run
    before: tuple[str, ...] = ()


PLACE = sp.Symbol("_k", integer=True, nonnegative=True)  # in a run; no name of a model begins in this way
FEW_COLUMNS = 4  # of sums of rows: a loop adds them up
FEW_IN_A_ROW = 64  # elements of a sample: a vectorised loop over fewer spends much of its time on its rest


def block_lines(steps: Sequence[Step], scope: Scope) -> list[str]:
    """The body of a function that computes some steps for a block of `scope.leading`."""
    lines: list[str] = []
    nests: list[Nest] = []
    known: set[str] = set()

    def flush() -> None:
        lines.extend(_under_leading(nests, scope, known))
        nests.clear()

    for step in steps:
        equation = step.equation
        product = step.product
        if product is not None and not product.batch:
            flush()
            lines += product_lines(step, scope)
            finished = None if added_row(step, scope) else after_product(equation)
            if finished is not None:
                _append(nests, _elementwise(replace(step, equation=finished), scope), finished)
            continue
        matrix = rows_to_sum(equation, scope)
        if matrix is not None:
            flush()
            lines.append(cited(_sum_rows(equation, matrix, scope), step))
            finished = after_product(equation)
            if finished is not None:
                _append(nests, _elementwise(replace(step, equation=finished), scope), finished)
            continue
        for part in _parts(equation, scope):
            _append(nests, nest_of(replace(step, equation=part), scope), part)
    flush()
    return lines


def _parts(equation: Equation, scope: Scope) -> tuple[Equation, ...]:
    """An equation, or for a function of short rows of numbers: its argument row by row, then the function in a run."""
    value = equation.expr
    if equation.contraction is not None or type(value) not in FUNCTIONS or len(value.args) != 1:
        return (equation,)
    inner = FEW_IN_A_ROW
    if equation.indices and equation.indices[-1].extent != SAMPLES:
        inner = scope.program.size(equation.indices[-1].extent)
    function = replace(equation, expr=value.func(equation.element))
    if _run(equation, scope) is not None or _run(function, scope) is None or inner >= FEW_IN_A_ROW:
        return (equation,)
    return replace(equation, expr=value.args[0]), function


def _under_leading(nests: list[Nest], scope: Scope, known: set[str]) -> list[str]:
    """All nests that run over the block share one loop over it; runs need none. `known` are arrays in a row."""
    lines: list[str] = []
    pending: list[Nest] = []

    def close() -> None:
        if pending:
            assert scope.leading is not None
            lines.append(f"for {scope.leading.name} in range(first, last):")
            for nest in pending:
                lines.extend(_indented([*nest.before, *_loops(nest.indices[1:], nest.lines, scope)]))
            pending.clear()

    for nest in nests:
        if nest.run and not _is_led(nest.indices, scope):
            close()
            lines += _loops(nest.indices[:1], _in_a_row(nest, nest.indices[1:], scope, nest.arrays), scope)
        elif nest.run:
            close()
            fresh = [name for name in nest.arrays if name not in known]
            known.update(fresh)
            lines += _in_a_row(nest, nest.indices, scope, fresh)
        elif scope.leading is not None and nest.indices and nest.indices[0].symbol == scope.leading.symbol:
            pending.append(nest)
        else:
            close()
            inside = [*nest.before, *_loops(nest.indices[1:], nest.lines, scope)]
            lines += _loops(nest.indices[:1], inside, scope)
    close()
    return lines


def _in_a_row(nest: Nest, indices: tuple[Index, ...], scope: Scope, arrays: Iterable[str]) -> list[str]:
    """The run of a nest over the block, which is a part of the first of these indices; what is before them is fixed."""
    whole, before = replace(scope, leading=None), nest.indices[: len(nest.indices) - len(indices)]
    at = [_times(b.name, _count(nest.indices[k + 1 :], whole)) for k, b in enumerate(before)]
    at.append(_times("first", _count(indices[1:], whole)))
    lines = [f"_{name} = flat({name}, {' + '.join(at)})" for name in dict.fromkeys(arrays)]
    return [*lines, f"for {PLACE.name} in range({_count(indices, scope)}):", *_indented(nest.run)]


def _loops(indices: Iterable[Index], body: Iterable[str], scope: Scope) -> list[str]:
    lines = list(body)
    for index in reversed(tuple(indices)):
        lines = [f"for {index.name} in range({scope.bounds(index)}):", *_indented(lines)]
    return lines


def _indented(lines: Iterable[str]) -> list[str]:
    return [INDENT + line if line else line for line in lines]


def _append(nests: list[Nest], nest: Nest, equation: Equation) -> None:
    """Fuse an elementwise nest with the one before it, where it reads of that one only what the same pass made."""
    last = nests[-1] if nests else None
    alike = last is not None and last.elementwise and nest.elementwise and bool(last.run) == bool(nest.run)
    if last is not None and alike and last.indices == nest.indices:
        here = {r for r in elements(equation.expr) if name_of(r) in last.assigned}
        position = tuple(i.symbol for i in nest.indices)
        if all(where_of(r) == position[: len(where_of(r))] and len(where_of(r)) == len(position) for r in here):
            assigned, arrays = last.assigned | nest.assigned, last.arrays + nest.arrays
            before = tuple(dict.fromkeys(last.before + nest.before))
            nests[-1] = Nest(last.indices, last.lines + nest.lines, assigned, True, last.run + nest.run, arrays, before)
            return
    nests.append(nest)


def nest_of(step: Step, scope: Scope) -> Nest:
    """The loops of one step."""
    contraction = step.equation.contraction
    if step.product is not None:
        return _product_nest(step, scope)
    if contraction is None:
        return _elementwise(step, scope)
    if isinstance(contraction, (MaxOver, ArgMaxOver)):
        return _largest(step, scope)
    if _spreads(step.equation, scope):
        return _spread(step, scope)
    return _accumulated(step, scope)


def assignment(equation: Equation, expr: sp.Expr, scope: Scope) -> str:
    return f"{_target(equation, scope)} = {_value(equation, expr, scope)}"


def _target(equation: Equation, scope: Scope) -> str:
    return read_source(equation.element, scope.names)


def _value(equation: Equation, expr: sp.Expr, scope: Scope) -> str:
    bound = scope.bind(expr)
    return integer_source(bound, scope.names) if equation.kind is Kind.INTEGER else source(bound, scope.names)


def cited(line: str, step: Step) -> str:
    return f"{line}  # ({step.number})"


def _elementwise(step: Step, scope: Scope) -> Nest:
    equation = step.equation
    assigned, run = frozenset({equation.name}), _run(equation, scope)
    if run is None:
        local = _of_the_sample(equation, scope.program)
        names = replace(scope.names, scalars={**scope.names.scalars, **{s.name: s.name for s in local.values()}})
        value = equation.expr.xreplace(local)
        line = cited(assignment(equation, value, replace(scope, names=names)), step)
        before = tuple(f"{symbol.name} = {read_source(read, scope.names)}" for read, symbol in local.items())
        return Nest(equation.indices, (line,), assigned, elementwise=True, before=before)
    line = cited(assignment(equation, equation.expr, scope), step)
    return Nest(equation.indices, (line,), assigned, True, (cited(run[0], step),), run[1])


def _of_the_sample(equation: Equation, program: Program) -> dict[sp.Expr, sp.Symbol]:
    """What an equation reads that is one number for each sample, where it has more than one itself -> a local name."""
    if len(equation.indices) < 2 or equation.indices[0].extent != SAMPLES:
        return {}
    sample = (equation.indices[0].symbol,)
    reads = sorted((r for r in elements(equation.expr) if where_of(r) == sample), key=str)
    kinds = {read: program.by_name[name_of(read)].kind for read in reads}
    return {
        read: sp.Symbol(f"_{name_of(read)}", integer=True if kind is Kind.INTEGER else None, real=True)
        for read, kind in kinds.items()
    }


def _run(equation: Equation, scope: Scope) -> tuple[str, tuple[str, ...]] | None:
    """The statement on arrays of elements in a row, and the arrays; None where they do not all lie alike."""
    program, indices = scope.program, equation.indices
    by_samples = scope.leading is not None and scope.leading.extent == SAMPLES and _is_led(indices, scope)
    if not by_samples and (scope.leading is None or not _is_led(indices[1:], scope)):
        return None
    if len(indices) < 2 or equation.kind is not Kind.REAL:
        return None
    position, extents = tuple(i.symbol for i in indices), tuple(i.extent for i in indices)
    flat: dict[sp.Expr, sp.Expr] = {}
    for read in elements(equation.expr):
        tensor = program.by_name[name_of(read)]
        if not where_of(read):
            continue
        alike = where_of(read) == position and tuple(i.extent for i in tensor.indices) == extents
        if not alike or tensor.kind is not Kind.REAL:
            return None
        flat[read] = sp.Indexed(sp.IndexedBase(f"_{tensor.name}"), PLACE)
    value = equation.expr.xreplace(flat)
    if free_indices(value) & set(position):
        return None
    arrays = (*sorted(name_of(read) for read in flat), equation.name)
    return f"_{equation.name}[{PLACE.name}] = {source(scope.bind(value), scope.names)}", arrays


TOTAL = sp.Symbol("total", real=True)


def _finish(equation: Equation, total: str, scope: Scope) -> str:
    """The assignment, with the value of the contraction under a local name."""
    expr = equation.expr.xreplace({equation.contraction: TOTAL})
    names = replace(scope.names, scalars={**scope.names.scalars, "total": total})
    return assignment(equation, expr, replace(scope, names=names))


def _bound(contraction: sp.Expr) -> tuple[Index, ...]:
    return tuple(Index(s, high + 1) for s, _, high in contraction.limits)


def _accumulated(step: Step, scope: Scope) -> Nest:
    """A sum in a local variable; sums to a single number run in double precision."""
    equation = step.equation
    total = equation.contraction
    assert total is not None
    start, end = ("0.0", "real(total)") if not equation.indices else ("real(0)", "total")
    body = _guarded("total += {}", scope.bind(total.function), scope)
    lines = [
        f"total = {start}",
        *_loops(_bound(total), body, scope),
        cited(_finish(equation, end, scope), step),
    ]
    return Nest(equation.indices, tuple(lines), frozenset({equation.name}), elementwise=False)


def _guarded(template: str, body: sp.Expr, scope: Scope) -> list[str]:
    """The statement under its condition, where the term is zero outside of it."""
    if isinstance(body, sp.Piecewise) and len(body.args) == 2 and body.args[1] == (0, True):
        value, condition = body.args[0]
        return [
            f"if {condition_source(condition, scope.names)}:",
            INDENT + template.format(source(value, scope.names)),
        ]
    return [template.format(source(body, scope.names))]


def _largest(step: Step, scope: Scope) -> Nest:
    equation = step.equation
    contraction = equation.contraction
    assert contraction is not None
    (index,) = _bound(contraction)
    value = source(scope.bind(contraction.function), scope.names)
    name = index.name
    lines, inner = ["largest = real(-np.inf)"], [f"largest = maximum(largest, {value})"]
    if isinstance(contraction, ArgMaxOver):
        lines.append("position = 0")
        inner = [f"value = {value}", "if value > largest or value != value:"]
        inner += [INDENT + "largest = value", INDENT + f"position = {name}"]
    lines += _loops((index,), inner, scope)
    if isinstance(contraction, ArgMaxOver):
        expr = equation.expr.xreplace({contraction: sp.Symbol("position", integer=True)})
        names = replace(scope.names, scalars={**scope.names.scalars, "position": "position"})
        lines.append(cited(assignment(equation, expr, replace(scope, names=names)), step))
    else:
        lines.append(cited(_finish(equation, "largest", scope), step))
    return Nest(equation.indices, tuple(lines), frozenset({equation.name}), elementwise=False)


def _spreads(equation: Equation, scope: Scope) -> bool:
    """Whether the free indices belong inside: a look-up says where, or a free index lies closest in memory."""
    total = equation.contraction
    assert total is not None
    if _looked_up(equation):
        return True
    by_samples = _is_led(equation.indices, scope) and scope.leading is not None and scope.leading.extent == SAMPLES
    inner = equation.indices[1:] if by_samples else equation.indices
    if not inner:
        return False
    last_free = inner[-1].symbol
    last_bound = total.limits[-1][0]
    closest = [where_of(r)[-1] for r in elements(total.function) if where_of(r)]
    return closest.count(last_free) > closest.count(last_bound)


def _looked_up(equation: Equation) -> dict[sp.Symbol, sp.Expr]:
    """Free indices that a Kronecker delta in the sum fixes to a look-up: index -> position."""
    total = equation.contraction
    assert total is not None
    free = {i.symbol for i in equation.indices}
    found: dict[sp.Symbol, sp.Expr] = {}
    for factor in sp.Mul.make_args(total.function):
        if isinstance(factor, sp.KroneckerDelta):
            for symbol, other in (factor.args, factor.args[::-1]):
                if symbol in free and symbol not in found and not free_indices(other) & free:
                    found[symbol] = other
                    break
    return found


def _spread(step: Step, scope: Scope) -> Nest:
    """Zero first; then every term of the sum is added where it belongs."""
    equation = step.equation
    total = equation.contraction
    assert total is not None
    fixed = _looked_up(equation)
    leading = _is_led(equation.indices, scope)
    indices = (
        equation.indices[1:]
        if leading and scope.leading is not None and scope.leading.extent == SAMPLES
        else equation.indices
    )
    body = total.function
    for symbol, position in fixed.items():
        body = body.xreplace({sp.KroneckerDelta(symbol, position): sp.Integer(1)})
    free = [i for i in indices if i.symbol not in fixed]
    target = _target(equation, scope)
    inner = _loops(free, _guarded(f"{target} += {{}}", scope.bind(body), scope), scope)
    for index in (i for i in reversed(indices) if i.symbol in fixed):
        name, position = index.name, integer_source(scope.bind(fixed[index.symbol]), scope.names)
        low, high = ("first", "last") if scope.bounds(index) == "first, last" else ("0", scope.extent(index.extent))
        inner = [f"{name} = {position}", f"if {low} <= {name} < {high}:", *_indented(inner)]
    lines = [
        *_loops(indices, [f"{target} = real(0)"], scope),
        *_loops(_bound(total), inner, scope),
    ]
    if equation.expr != total:
        expr = equation.expr.xreplace({total: equation.element})
        lines += _loops(indices, [cited(assignment(equation, expr, scope), step)], scope)
    else:
        lines[0] = cited(lines[0], step)
    outer = equation.indices[: len(equation.indices) - len(indices)]
    return Nest(outer, tuple(lines), frozenset({equation.name}), elementwise=False)


def added_row(step: Step, scope: Scope) -> str | None:
    """The tensor that a matrix product is added to, where that is one number for each column of the product."""
    rest, product = step.equation.expr - step.equation.contraction, step.product
    if product is None or product.batch or not isinstance(rest, sp.Indexed):
        return None
    tensor = scope.program.by_name[name_of(rest)]
    alike = where_of(rest) == tuple(i.symbol for i in product.columns) and tensor.kind is Kind.REAL
    fits = tuple(i.extent for i in tensor.indices) == tuple(i.extent for i in product.columns)
    return tensor.name if alike and fits else None


def rows_to_sum(equation: Equation, scope: Scope) -> sp.Indexed | None:
    """The matrix whose rows are added up, where an equation does that: sum_n dz[n,i], say. No sum of few columns."""
    total = equation.contraction
    if not equation.indices or not isinstance(total, sp.Sum) or not isinstance(total.function, sp.Indexed):
        return None
    read, tensor = total.function, scope.program.by_name[name_of(total.function)]
    along = (*_bound(total), *equation.indices)
    alike = where_of(read) == tuple(i.symbol for i in along) and tensor.kind is equation.kind is Kind.REAL
    if not alike or tuple(i.extent for i in tensor.indices) != tuple(i.extent for i in along):
        return None
    columns = math.prod(scope.program.size(i.extent) for i in equation.indices)
    return read if columns >= FEW_COLUMNS else None


def _sum_rows(equation: Equation, matrix: sp.Indexed, scope: Scope) -> str:
    """sum_rows(rows, columns, matrix, offset, stride, out, offset)"""
    whole, free, bound = replace(scope, leading=None), equation.indices, _bound(equation.contraction)
    led, at, out_at = scope.leading, "0", "0"
    if led is not None and led.symbol == free[0].symbol:
        at = _times("first", _count(free[1:], whole))
        out_at = "0" if equation.name in scope.names.offsets else at
    elif led is not None and led.symbol == bound[0].symbol:
        at = _times("first", _count((*bound[1:], *free), whole))
    numbers = _count(bound, scope), _count(free, scope), name_of(matrix), at, _count(free, whole)
    return f"sum_rows({', '.join((*numbers, equation.name, out_at))})"


def after_product(equation: Equation) -> Equation | None:
    """What is left to do once the matrix product stands in the result, or None."""
    if equation.expr == equation.contraction:
        return None
    return replace(equation, expr=equation.expr.xreplace({equation.contraction: equation.element}))


def product_lines(step: Step, scope: Scope) -> list[str]:
    """One call for the block: rows or columns first..last of the result."""
    product = step.product
    assert product is not None
    row = added_row(step, scope)
    part = [] if row is None or not _is_led(product.columns, scope) else [_part_of_row(row, product, scope)]
    return [*part, cited(_gemm(step, scope), step)]


def _part_of_row(row: str, product: Product, scope: Scope) -> str:
    """What is added to the block's columns."""
    return f"_{row} = flat({row}, {_times('first', _count(product.columns[1:], replace(scope, leading=None)))})"


def _product_nest(step: Step, scope: Scope) -> Nest:
    """A product for every value of the batch indices."""
    product = step.product
    assert product is not None
    lines = [cited(_gemm(step, scope), step)]
    finished = after_product(step.equation)
    if finished is not None:
        line = cited(assignment(finished, finished.expr, scope), step)
        lines += _loops(finished.indices[len(product.batch) :], [line], scope)
    return Nest(product.batch, tuple(lines), frozenset({step.equation.name}), elementwise=False)


def _count(indices: Iterable[Index], scope: Scope) -> str:
    """How many elements some indices span; the leading index of the block counts its block."""
    numbers, words = 1, []
    for index in indices:
        if scope.leading is not None and index.symbol == scope.leading.symbol:
            words.append("(last - first)")  # a factor, or the whole
        elif index.extent == SAMPLES:
            words.append("samples")
        else:
            numbers *= scope.program.size(index.extent)
    if words == ["(last - first)"] and numbers == 1:
        return "last - first"
    return "*".join([*words, str(numbers)] if numbers != 1 or not words else words)


def _gemm(step: Step, scope: Scope) -> str:
    """gemm(left transposed, right transposed, rows, columns, depth, left, offset, stride, right, ..., out, ...)

    or affine(..., row), where the product is added to a row, or gemm_fetching(..., a, b, c), where what stands at some
    addresses is changed next.
    """
    p = step.product
    assert p is not None
    whole = replace(scope, leading=None)
    out = step.equation
    rows, columns, depth = (_count(g, scope) for g in (p.rows, p.columns, p.depth))
    left_stride = _count(p.rows if p.left_transposed else p.depth, whole)
    right_stride = _count(p.depth if p.right_transposed else p.columns, whole)
    arguments = [
        str(p.left_transposed), str(p.right_transposed), rows, columns, depth,
        name_of(p.left), _offset(p, p.left, p.rows, p.left_transposed, scope), left_stride,
        name_of(p.right), _offset(p, p.right, p.columns, not p.right_transposed, scope), right_stride,
        out.name, _out_offset(p, out, scope), _count(p.columns, whole),
    ]  # fmt: skip
    row = added_row(step, scope)
    if row is not None and _is_led(p.columns, scope):
        row = f"_{row}"
    if row is not None:
        return f"affine({', '.join([*arguments, row])})"
    others = scope.changed_next.get(out.name, ())
    return f"gemm_fetching({', '.join([*arguments, *others])})" if others else f"gemm({', '.join(arguments)})"


def _offset(p: Product, read: sp.Expr, free: tuple[Index, ...], inside: bool, scope: Scope) -> str:
    """Where the block of an operand begins: past its batch, and past the free indices, or the depth, before the block.

    inside   whether these lie closest in memory, and not the depth
    """
    whole = replace(scope, leading=None)
    terms = _batch_terms(p, read, scope)
    if _is_led(free, scope):
        terms.append(_times("first", _count(free[1:] if inside else (*free[1:], *p.depth), whole)))
    if _is_led(p.depth, scope):
        terms.append(_times("first", _count((*p.depth[1:], *free) if inside else p.depth[1:], whole)))
    return " + ".join(terms) or "0"


def _out_offset(p: Product, out: Equation, scope: Scope) -> str:
    whole = replace(scope, leading=None)
    terms = _batch_terms(p, out.element, scope)
    if _is_led(p.rows, scope) and out.name not in scope.names.offsets:
        terms.append(_times("first", _count((*p.rows[1:], *p.columns), whole)))
    if _is_led(p.columns, scope):
        terms.append(_times("first", _count(p.columns[1:], whole)))
    return " + ".join(terms) or "0"


def _batch_terms(p: Product, read: sp.Expr, scope: Scope) -> list[str]:
    whole = replace(scope, leading=None)
    indices = scope.program.by_name[name_of(read)].indices
    return [_times(b.name, _count(indices[k + 1 :], whole)) for k, b in enumerate(p.batch)]


def _times(name: str, count: str) -> str:
    return name if count == "1" else f"{name}*{count}"


def arrays_of(steps: Iterable[Step]) -> list[str]:
    """Names of all tensors that some steps read or assign, in a fixed order."""
    found: dict[str, None] = {}
    for step in steps:
        for name in (*step.equation.reads, step.equation.name):
            found.setdefault(name)
    return list(found)


def scalar_names(program: Program, names: Iterable[str], assigned: Iterable[str]) -> Mapping[str, str]:
    """Tensors without indices that a function only reads: they are read once, into a local name."""
    made = set(assigned)
    return {n: f"{n}_value" for n in names if not program.by_name[n].indices and n not in made}

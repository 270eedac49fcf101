"""Program -> plan: what is computed when, in which blocks, and which sums are matrix products. Decides; writes nothing.

A plan is a tuple of phases, with a barrier between any two. A phase holds

- rows: equations of one sample each, run for a block of samples after the other, all of them for one block at once;
- tasks: equations that need all samples of the batch (gradients, batch statistics, the loss), or none.

For large batches a block of samples also makes its part of the sums over samples, while what it has computed is in a
cache and then forgotten; the tasks add the parts up.

The blocks are a function of the model alone, never of the number of threads, so every number is computed in the same
order whatever runs beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp

from ..symbolic.choices import as_larger
from ..symbolic.functions import expm1, log1p
from ..symbolic.language import (
    SAMPLE,
    SAMPLE_INDEX,
    SAMPLES,
    Equation,
    Index,
    Kind,
    Program,
    Role,
    elements,
    name_of,
    where_of,
)  # fmt: skip

FEWEST_ROWS = 32  # of a task by samples
PARTS, FEWEST_ELEMENTS = 8, 1_024  # a gradient is cut into so many parts, and not into smaller ones
FEW_PARTS, LARGE = 4, 2**16  # one of so many numbers into fewer: what all parts read is packed for each
FEWEST_OF_VECTOR = 2**14  # the same of one with one index: a loop over a part of it is not vectorised as well
FEWEST_LINES = 6  # of a part that is a matrix product, which is computed in tiles of so many or more
FEWEST_LEFT = 4  # lines of the last part: fewer are added to the others
MOST_ELEMENTS, MANY_LINES = 2**15, 96  # of a part, so that it stays in a cache, unless it has fewer lines then
MOST_IN_PARTS = 2**17  # numbers that each block of samples may make a part of
WIDE, UNITS = 250_000, 128  # multiplications of one sample in a product that is cut into blocks of so many units

NEAR_IDENTITY = (sp.asinh, sp.atanh, sp.sin, sp.sinh, sp.tan, expm1, log1p)  # which are their argument near 0

GIVEN = (Role.INPUT, Role.STATE, Role.TARGET, Role.WEIGHT)  # of every sample

Growth = tuple[tuple[int, int], ...]  # (k, c), ...: the most are c N^k for a batch of N samples


@dataclass(frozen=True)
class Product:
    """A contraction that is a matrix product: out[batch, rows, columns] = sum_depth left * right.

    `left` is stored as (batch, rows, depth), or (batch, depth, rows) where it is transposed; `right` as
    (batch, depth, columns), or (batch, columns, depth).
    """

    left: sp.Indexed
    right: sp.Indexed
    batch: tuple[Index, ...]
    rows: tuple[Index, ...]
    columns: tuple[Index, ...]
    depth: tuple[Index, ...]
    left_transposed: bool
    right_transposed: bool


@dataclass(frozen=True)
class Step:
    """One equation, with the number under which it is printed and cited."""

    number: int
    equation: Equation
    product: Product | None


@dataclass(frozen=True)
class Task:
    """Equations that run one after the other, in blocks of `block` values of the first equation's first index.

    `gradient_of` names the parameter, where the task is its gradient.
    """

    steps: tuple[Step, ...]
    leading: Index | None
    block: int
    gradient_of: str | None = None

    @property
    def name(self) -> str:
        return self.steps[-1].equation.name

    @property
    def by_samples(self) -> bool:
        """Whether the blocks are blocks of samples, as many as the batch needs."""
        return self.leading is not None and self.leading.extent == SAMPLES


@dataclass(frozen=True)
class Phase:
    rows: tuple[Step, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Plan:
    """What a program becomes.

    operations        of one sample
    largest_product   multiplications of one sample in one matrix product
    depths            products that are added up for one number in a matrix product
    turned            multiplications of one matrix product whose left side is turned; both as `Growth`
    separate          parameters whose update must wait until everything else is done
    passing           what is of use only within a block of samples: it is kept for a block at a time
    apart             the same, but all of it is kept, in blocks that lie apart
    in_parts          sums over samples of which each block of the first phase makes a part
    in_place          what is not read again, and the array that takes its place
    """

    program: Program
    phases: tuple[Phase, ...]
    operations: int
    largest_product: int
    depths: Growth
    turned: Growth
    separate: frozenset[str]
    passing: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    in_parts: tuple[Step, ...] = ()
    in_place: Mapping[str, str] = field(default_factory=dict)


def plan(
    program: Program, numbers: Mapping[str, int], gradients: Mapping[str, str], passing: bool = False,
    in_parts: bool = False, apart: bool = False, in_place: bool = False,
) -> Plan:  # fmt: skip
    """Decide phases, blocks and products.

    numbers      equation -> the number that it is cited by
    gradients    name of an equation -> the parameter that it is the gradient of
    passing      whether what is no output may be forgotten
    in_parts     whether sums over samples may be made in parts; then what is no output may be forgotten, too
    apart        whether blocks of samples may lie apart, where only they use them
    in_place     whether what is not read again may be written over
    """
    phase = _phases(program, gradients)
    row_names = {e.name for e in program.equations if by_rows(e, program)}
    steps = {e.name: Step(numbers[e.name], e, product_of(e, program)) for e in program.equations}
    phases = []
    for number in range(max(phase.values(), default=-1) + 1):
        here = [e for e in program.equations if phase[e.name] == number]
        rows = tuple(steps[e.name] for e in here if e.name in row_names)
        others = [e for e in here if e.name not in row_names]
        tasks = _tasks(others, steps, program, gradients)
        phases += [Phase(rows, tasks)] if passing else _by_units(rows, tasks, program)
    sums = _sums_in_parts(phases, program) if in_parts else ()
    within = _within_blocks(phases, program)
    operations = sum(operations_of(e, program) for e in program.equations if e.name in row_names)
    by_sample = [s.product for p in phases for s in p.rows if s.product is not None]
    products = [*by_sample, *(s.product for p in phases for t in p.tasks for s in t.steps if s.product is not None)]
    return Plan(
        program,
        tuple(phases),
        operations,
        max((_multiplications(p, program) for p in by_sample), default=0),
        _growth((p.depth for p in products), program),
        _growth((_loops_of(p) for p in products if p.left_transposed), program),
        _separate(program, phase, gradients),
        _all_rows(program, phases[0]) if sums else within if passing else frozenset(),
        within if apart and not sums else frozenset(),
        sums,
        _in_place(row_names, program) if in_place else {},
    )


def by_rows(equation: Equation, program: Program) -> bool:
    """Whether an equation computes each sample from that sample alone."""
    if not equation.indices or equation.indices[0].symbol != SAMPLE or equation.indices[0].extent != SAMPLES:
        return False
    if equation.contraction is not None and any(high + 1 == SAMPLES for _, _, high in equation.contraction.limits):
        return False
    for read in elements(equation.expr):
        tensor = program.by_name[name_of(read)]
        for position, index in zip(where_of(read), tensor.indices, strict=True):
            if index.extent == SAMPLES and position != SAMPLE:
                return False
    return True


def _phases(program: Program, gradients: Mapping[str, str]) -> dict[str, int]:
    """Phase of every equation: rows follow rows at once, everything else waits for a barrier."""
    phase: dict[str, int] = {}
    rows = {e.name for e in program.equations if by_rows(e, program)}
    scalars = {e.name for e in program.equations if not e.indices and e.name not in gradients}  # they share a task
    for equation in program.equations:
        at = 0
        for name in equation.reads:
            if name not in phase:
                continue
            together = (name in rows and equation.name in rows) or (name in scalars and equation.name in scalars)
            at = max(at, phase[name] + (not together))
        phase[equation.name] = at
    return phase


def _tasks(
    equations: Iterable[Equation], steps: Mapping[str, Step], program: Program, gradients: Mapping[str, str]
) -> tuple[Task, ...]:
    """One task an equation; single numbers share a task, since they are cheap and may need one another."""
    tasks, scalars = [], []
    for equation in equations:
        if not equation.indices and equation.name not in gradients:
            scalars.append(steps[equation.name])
            continue
        leading = equation.indices[0] if equation.indices else None
        block = 1 if leading is None else _block(equation, program)
        tasks.append(Task((steps[equation.name],), leading, block, gradients.get(equation.name)))
    return (*tasks, Task(tuple(scalars), None, 1)) if scalars else tuple(tasks)


def _by_units(rows: tuple[Step, ...], tasks: tuple[Task, ...], program: Program) -> list[Phase]:
    """Rows and tasks, with a phase of its own for each wide product and what is computed of it number by number.

    Such a phase is cut into blocks of units: every weight is read, and put in order for the product, once a step and
    not once for each block of samples.
    """
    phases: list[Phase] = []
    for step in rows:
        last = phases[-1] if phases else None
        wide = _wide_product(step, program)
        if wide is not None:
            phases.append(Phase((), (Task((step,), wide.columns[0], UNITS),)))
        elif last is not None and last.tasks and _continues(step, last.tasks[0].steps):
            phases[-1] = Phase((), (replace(last.tasks[0], steps=(*last.tasks[0].steps, step)),))
        elif last is not None and last.rows:
            phases[-1] = Phase((*last.rows, step), ())
        else:
            phases.append(Phase((step,), ()))
    if not phases:
        return [Phase((), tasks)]
    last = phases[-1]
    return [*phases[:-1], Phase(last.rows, (*last.tasks, *tasks))]


def _wide_product(step: Step, program: Program) -> Product | None:
    product = step.product
    wide = product is not None and not product.batch and _multiplications(product, program) > WIDE
    return product if wide else None


def _continues(step: Step, before: tuple[Step, ...]) -> bool:
    """Whether an equation reads of some others only the number that stands where its own will."""
    equation, made = step.equation, {s.equation.name for s in before}
    position = tuple(i.symbol for i in equation.indices)
    if equation.contraction is not None or equation.indices != before[0].equation.indices:
        return False
    return all(where_of(read) == position for read in elements(equation.expr) if name_of(read) in made)


def _block(equation: Equation, program: Program) -> int:
    if equation.indices[0].extent == SAMPLES:
        return FEWEST_ROWS
    others, first = max(1, _extent(equation.indices[1:], program)), program.size(equation.indices[0].extent)
    smallest = FEWEST_OF_VECTOR if len(equation.indices) == 1 else FEWEST_ELEMENTS
    fewest = max(-(-smallest // others), 1 if product_of(equation, program) is None else FEWEST_LINES)
    most = max(MANY_LINES, MOST_ELEMENTS // others)
    parts = PARTS if first * others <= LARGE else FEW_PARTS
    block = max(1, min(first, max(fewest, min(-(-first // parts), most))))
    return -(-first // (first // block)) if 0 < first % block < FEWEST_LEFT else block


def _separate(program: Program, phase: Mapping[str, int], gradients: Mapping[str, str]) -> frozenset[str]:
    """Parameters that something else still reads when their gradient is known."""
    known = {parameter: phase[name] for name, parameter in gradients.items() if name in phase}
    late = set()
    for equation in program.equations:
        for name in equation.reads:
            if name in known and phase[equation.name] >= known[name] and gradients.get(equation.name) != name:
                late.add(name)
    return frozenset(late)


def _within_blocks(phases: Sequence[Phase], program: Program) -> frozenset[str]:
    """Rows that only rows of their own phase read."""
    made = {s.equation.name: number for number, phase in enumerate(phases) for s in phase.rows}
    kept = set(program.outputs)
    for number, phase in enumerate(phases):
        for step in phase.rows:
            kept |= {name for name in step.equation.reads if made.get(name) != number}
        kept |= {name for task in phase.tasks for step in task.steps for name in step.equation.reads}
    return frozenset(made.keys() - kept)


def _in_place(rows: Container[str], program: Program) -> dict[str, str]:
    """What may be written over, and the array that will stand there in the end.

    That is what one equation alone reads, and that only where it writes: x[n,i] = tanh(z[n,i]) leaves nothing of z.
    """
    readers = Counter(name for e in program.equations for name in set(e.reads))
    found: dict[str, str] = {}
    for equation in reversed(program.equations):
        if equation.name not in rows or equation.contraction is not None or _may_keep(equation.expr):
            continue
        position = tuple(i.symbol for i in equation.indices)
        for name in dict.fromkeys(equation.reads):
            tensor = program.by_name[name]
            alike = name in rows and (tensor.indices, tensor.kind) == (equation.indices, equation.kind)
            once = readers[name] == 1 and name not in program.outputs
            if alike and once and _reads_at(equation, name, position):
                found[name] = found.get(equation.name, equation.name)
                break
    return found


def _may_keep(expr: sp.Expr) -> bool:
    """Whether it may be the very number that it reads: LLVM would have a store ask each time whether it is needed."""
    if isinstance(expr, sp.Piecewise):
        return as_larger(expr) is None and any(_may_keep(value) for value, _ in expr.args)
    return isinstance(expr, sp.Indexed) or (expr.func in NEAR_IDENTITY and _may_keep(expr.args[0]))


def _reads_at(equation: Equation, name: str, position: tuple[sp.Basic, ...]) -> bool:
    """Whether an equation reads only one number of an array, at a position."""
    return all(where_of(read) == position for read in elements(equation.expr) if name_of(read) == name)


def _sums_in_parts(phases: Sequence[Phase], program: Program) -> tuple[Step, ...]:
    """The sums of the second of two phases, if nothing else there needs samples and they are few numbers."""
    if len(phases) != 2 or not phases[0].rows or phases[1].rows:
        return ()
    before = {s.equation.name for t in phases[0].tasks for s in t.steps}
    steps = [s for t in phases[1].tasks for s in t.steps]
    sums = tuple(s for s in steps if _goes_over_samples(s.equation, program))
    numbers = sum(_extent(s.equation.indices, program) for s in sums)
    fit = all(_has_parts(s.equation, program, before) for s in sums)
    return sums if fit and numbers <= MOST_IN_PARTS and not any(t.by_samples for t in phases[0].tasks) else ()


def _goes_over_samples(equation: Equation, program: Program) -> bool:
    """Whether an equation reads what every sample has one of, or sums over samples."""
    limits = () if equation.contraction is None else equation.contraction.limits
    of_samples = (i.extent for name in (equation.name, *equation.reads) for i in program.by_name[name].indices)
    return SAMPLES in (*of_samples, *(high + 1 for _, _, high in limits))


def _has_parts(equation: Equation, program: Program, before: Container[str]) -> bool:
    """Whether an equation is a sum over samples, each by itself, of what the blocks know; `before` they do not."""
    total = equation.contraction
    if not isinstance(total, sp.Sum) or equation.kind is not Kind.REAL:
        return False
    symbols = [symbol for symbol, _, high in total.limits if high + 1 == SAMPLES]
    rest = replace(equation, expr=equation.expr.xreplace({total: sp.Integer(0)}))
    if symbols != [SAMPLE] or _goes_over_samples(rest, program):
        return False
    term = Equation(equation.name, (SAMPLE_INDEX, *equation.indices), total.function)
    return by_rows(term, program) and not any(name in before for name in term.reads)


def _all_rows(program: Program, phase: Phase) -> frozenset[str]:
    """What is computed by rows, and the samples themselves where only rows read them."""
    gathered = given_names(program) if gathered_by_rows(phase, program) else ()
    return frozenset((*(s.equation.name for s in phase.rows), *gathered))


def given_names(program: Program) -> list[str]:
    """What every sample has."""
    return [t.name for t in program.tensors if t.role in GIVEN]


def gathered_by_rows(phase: Phase, program: Program) -> bool:
    """Whether the rows of the first phase can gather their own samples: no task beside them reads any."""
    given = set(given_names(program))
    read = any(given & set(s.equation.reads) for t in phase.tasks for s in t.steps)
    return bool(phase.rows) and not read and not any(t.by_samples for t in phase.tasks)


def _multiplications(product: Product, program: Program) -> int:
    """Multiplications of one sample in a matrix product."""
    return _extent(_loops_of(product), program)


def _loops_of(product: Product) -> tuple[Index, ...]:
    return (*product.batch, *product.rows, *product.columns, *product.depth)


def _growth(loops: Iterable[tuple[Index, ...]], program: Program) -> Growth:
    """The largest extents of some loops, by the power of the samples that they go over."""
    most: dict[int, int] = {}
    for indices in loops:
        power = sum(index.extent == SAMPLES for index in indices)
        most[power] = max(most.get(power, 0), _extent(indices, program))
    return tuple(sorted(most.items()))


def _extent(indices: Iterable[Index], program: Program) -> int:
    return math.prod(1 if index.extent == SAMPLES else program.size(index.extent) for index in indices)


def operations_of(equation: Equation, program: Program) -> int:
    """Floating-point operations of an equation for one sample: operations of the right side times its loops."""
    loops = 1
    for index in equation.indices:
        loops *= 1 if index.extent == SAMPLES else program.size(index.extent)
    contraction = equation.contraction
    if contraction is None:
        return loops * (int(equation.expr.count_ops()) or 1)
    inner = 1
    for _, _, high in contraction.limits:
        inner *= 1 if high + 1 == SAMPLES else program.size(high + 1)
    return loops * inner * (1 + int(contraction.function.count_ops()))


def product_of(equation: Equation, program: Program) -> Product | None:
    """The matrix product that an equation's sum is, or None.

    dense     sum_j W[i,j] x[n,j]               (n x j) (i x j)^T
    gradient  sum_n dz[n,i] x[n,j]              (n x i)^T (n x j)
    attention sum_d q[n,s,d] k[n,t,d]           for every n  (s x d) (t x d)^T
    """
    total = equation.contraction
    if not isinstance(total, sp.Sum) or equation.kind is not Kind.REAL:
        return None
    factors = sp.Mul.make_args(total.function)
    if len(factors) != 2 or not all(_plain(f, program) for f in factors):
        return None
    extents = {i.symbol: i for i in equation.indices} | {s: Index(s, high + 1) for s, _, high in total.limits}
    first, second = (tuple(extents[w] for w in where_of(f)) for f in factors)
    for left, right, a, b in (
        (factors[0], factors[1], first, second),
        (factors[1], factors[0], second, first),
    ):
        found = _matched(left, right, a, b, equation.indices, {s for s, _, _ in total.limits})
        if found is not None and _stays_inside(found, program):
            return found
    return None


def _plain(factor: sp.Expr, program: Program) -> bool:
    where = where_of(factor)
    symbols = all(isinstance(w, sp.Symbol) and not w.is_positive for w in where) and len(set(where)) == len(where)
    return isinstance(factor, sp.Indexed) and symbols and program.by_name[name_of(factor)].kind is Kind.REAL


def _matched(
    left: sp.Expr, right: sp.Expr, a: tuple[Index, ...], b: tuple[Index, ...], out: tuple[Index, ...],
    summed: set[sp.Symbol],
) -> Product | None:  # fmt: skip
    def in_order(indices: tuple[Index, ...], keep) -> tuple[Index, ...]:  # type: ignore[no-untyped-def]
        return tuple(i for i in indices if keep(i))

    a_symbols, b_symbols = {i.symbol for i in a}, {i.symbol for i in b}
    batch = in_order(out, lambda i: i.symbol in a_symbols and i.symbol in b_symbols)
    rows = in_order(out, lambda i: i.symbol in a_symbols and i.symbol not in b_symbols)
    columns = in_order(out, lambda i: i.symbol in b_symbols and i.symbol not in a_symbols)
    depth = in_order(a, lambda i: i.symbol in summed)
    if not rows or not columns or {i.symbol for i in depth} != summed or not summed <= b_symbols:
        return None
    if out != (*batch, *rows, *columns):
        return None
    left_transposed = {(*batch, *rows, *depth): False, (*batch, *depth, *rows): True}.get(a)
    right_transposed = {(*batch, *depth, *columns): False, (*batch, *columns, *depth): True}.get(b)
    if left_transposed is None or right_transposed is None:
        return None
    return Product(left, right, batch, rows, columns, depth, left_transposed, right_transposed)


def _stays_inside(product: Product, program: Program) -> bool:
    """Whether a tensor's own extents are those of the loops, so that its rows lie close together."""
    for read in (product.left, product.right):
        tensor = program.by_name[name_of(read)]
        extents = {i.symbol: i.extent for i in (*product.batch, *product.rows, *product.columns, *product.depth)}
        if any(extents[w] != i.extent for w, i in zip(where_of(read), tensor.indices, strict=True)):
            return False
    return True

"""Plan -> source: one readable Python module of Numba kernels. Writes; decides nothing.

A module holds one function for every phase of every routine (`predict`, `evaluate`, `gradients`, `train`): it finds the
arrays of its block in a table of addresses, and computes the block in statements that cite their formulas. Last comes
`KERNELS`, a description by which the runtime allocates the arrays and runs the phases. Few and long functions, because
what Numba needs for a function does not depend much on its length (docs/performance.md).
"""

from __future__ import annotations

import pprint
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

from ..symbolic.language import SAMPLE_INDEX, SAMPLES, Index, Kind, Role
from .arrays import BLOCKS, GAP, LINE_BYTES, Arrays, Slots
from .batch import Batch
from .expression import Names
from .layout import INDENT, plain_text, wrapped
from .loops import Scope, arrays_of, block_lines, scalar_names
from .parts import ARGUMENTS, COMMENT, COUNT, COUNT_BLOCKS, Parts
from .plan import Phase, Plan, Step, Task, gathered_by_rows
from .request import Update
from .rule import Rule

OPTIONS = 'fastmath={"reassoc", "contract", "nsz", "arcp", "afn"}, error_model="numpy"'
HELPER = f"@njit({OPTIONS}, no_cpython_wrapper=True, no_cfunc_wrapper=True)"
ROWS = 0  # among the sizes of blocks of samples: the size that fits the model and the batch, table[6]
VIEW = re.compile(r"\w+ = view\(table\[\d+\], ")  # of a whole array, which has this name wherever it is read
MANY_ELEMENTS = 2**16  # of a parameter: with its states and its gradient, more than a core's own cache holds
FEW_ELEMENTS = 512  # of gradients that are one task together


@dataclass(frozen=True)
class Routine:
    """One thing that the module can do: a plan under a name; `update` where it trains."""

    name: str
    plan: Plan
    gradients: Mapping[str, str] = field(default_factory=dict)  # equation -> parameter
    original: Mapping[str, str] = field(default_factory=dict)  # a name in the source -> the model's own
    update: Update | None = None

    @property
    def gathers(self) -> bool:
        return self.update is not None


@dataclass
class Module:
    """The module while it is written."""

    lines: list[str] = field(default_factory=list)
    slots: Slots = field(default_factory=Slots)
    phases: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    written: dict[object, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def function(self, decorator: str, name: str, arguments: Sequence[str], comment: str, body: Iterable[str]) -> str:
        """Write a function, unless the same one stands here already; returns its name, which no other function has."""
        body = [line for given in body for line in wrapped(given)]
        key = (decorator, tuple(arguments), tuple(body))
        if decorator and key in self.written:
            return self.written[key]
        used = set(self.written.values())
        name = next(n for n in chain([name], (f"{name}_{k}" for k in count(2))) if n not in used)
        self.written[key] = name
        head = f"def {name}({', '.join(arguments)}):"
        if len(head) > 110:
            inner = textwrap.wrap(", ".join(arguments) + ",", 100, break_long_words=False)
            head = "\n".join([f"def {name}(", *(INDENT + line for line in inner), "):"])
        lines = [decorator] if decorator else []
        lines += [head, *([f'{INDENT}"""{comment}"""'] if comment else []), *(INDENT + line for line in body)]
        self.lines += ["", "", *lines]
        return name


def module_source(
    banner: str, imports: str, routines: Sequence[Routine], real: str, description: dict[str, object]
) -> str:
    """The whole module. `imports` brings in `gemm`, `view`, `uniform` and the elementary functions."""
    module = Module()
    writers = [RoutineWriter(module, routine, real) for routine in routines]
    for writer in writers:
        writer.write()
    description = {
        **description,
        "real": real,
        "slots": module.slots.places,
        "scratch": max(writer.scratch_bytes() for writer in writers),
        "gap": GAP,
        "routines": module.phases,
        "needs": module.needs,
        "workspace": {writer.routine.name: writer.workspace() for writer in writers},
    }
    shown = pprint.pformat(description, width=110, sort_dicts=False)
    parts = [
        f'"""{banner}"""',
        imports,
        f"OPTIONS = dict({OPTIONS})",
        f"real = np.{real}",
        *module.lines,
        "",
        "",
        f"KERNELS = {shown}",
    ]
    return "\n".join(parts) + "\n"


class RoutineWriter:
    """Writes the functions and phases of one routine."""

    def __init__(self, module: Module, routine: Routine, real: str) -> None:
        self.module, self.routine, self.real = module, routine, real
        self.plan, self.program = routine.plan, routine.plan.program
        self.prefix = routine.name
        self.arrays = Arrays(self.plan, routine.original, module.slots, real)
        self.batch = Batch(self.plan, self.arrays)
        self.parts = None
        if self.plan.in_parts:
            self.parts = Parts(self.plan, self.arrays.item, self.arrays.slot("@parts"))

    def write(self) -> None:
        phases = list(self.plan.phases)
        update = self.routine.update
        descriptions: list[dict[str, object]] = []
        if self.routine.gathers and phases and not gathered_by_rows(phases[0], self.program):
            descriptions.append(self._gather_phase())
        noise_phase = self._noise_phase()
        if noise_phase is not None:
            descriptions.append(noise_phase)
        for number, phase in enumerate(phases):
            descriptions.append(self._phase(number, phase))
        if update is not None:
            descriptions += self._separate_updates(update)
        self.module.phases[self.routine.name] = descriptions
        self.module.needs[self.routine.name] = tuple(self.arrays.needs)

    def workspace(self) -> dict[str, object]:
        """Types and shapes of everything that the runtime allocates."""
        program, own, passing = self.program, self.routine.original, self.plan.passing
        gathered = [t for t in program.tensors if t.name in passing]
        made = {
            own.get(t.name, t.name): ("integer" if t.kind is Kind.INTEGER else "real", self.arrays.shape(t))
            for t in (*program.role(Role.NOISE), *gathered, *(e.tensor for e in program.equations))
            if t.name not in self.plan.in_place
        }
        parts = {} if self.parts is None else {"@parts": ("real", (BLOCKS, self.parts.numbers))}
        return {**made, **parts}

    # which parameters are updated when

    def _fused(self, parameter: str) -> bool:
        update = self.routine.update
        if update is None or update.clip_norm is not None or parameter in self.plan.separate:
            return False
        return all(task.gradient_of != parameter for task in (self.plan.phases[0].tasks if self.plan.phases else ()))

    # functions over named arrays

    def _names(self, steps: Sequence[Step], offsets: Mapping[str, str]) -> tuple[Names, list[str]]:
        """Names for a function, and the lines that read its single numbers."""
        assigned = [s.equation.name for s in steps]
        scalars = scalar_names(self.program, self._arrays(steps), assigned)
        head = [f"{local} = {name}[0]" for name, local in scalars.items()]
        return Names(offsets, scalars, {SAMPLES: "samples", COUNT: str(COUNT)}), head

    def _arrays(self, steps: Sequence[Step]) -> list[str]:
        """What some steps read or assign of the program."""
        return [name for name in arrays_of(steps) if name in self.program.by_name]

    def _body(
        self, steps: Sequence[Step], leading: Index | None, offsets: Mapping[str, str],
        changed_next: Mapping[str, tuple[str, ...]] | None = None,
    ) -> tuple[list[str], list[str]]:  # fmt: skip
        """The lines that compute some steps for a block, and the arrays they stand on."""
        names, head = self._names(steps, offsets)
        scope = Scope(self.program, names, leading, changed_next or {})
        return [*head, *block_lines(steps, scope)], self._arrays(steps)

    # phases

    def _phase(self, number: int, phase: Phase) -> dict[str, object]:
        body: list[str] = []
        sample_blocks: list[int] = []
        if phase.rows:
            sample_blocks.append(ROWS)
            body += self._guard_sample_blocks(ROWS, self._row_calls(number, phase.rows))
        count = 0
        calls = {task.name: self._task_calls(task) for task in phase.tasks}
        for task in (t for t in phase.tasks if t.by_samples):
            sample_blocks.append(task.block)
            body += self._guard_sample_blocks(task.block, calls[task.name])
        for tasks in self._together([t for t in phase.tasks if not t.by_samples]):
            blocks = self._blocks(tasks[0])
            body += self._guard_blocks(blocks, [(task, calls[task.name]) for task in tasks])
            count += blocks
        if number == 0 and self.routine.gathers:
            body = ["if task == 0:  # once a step", *(INDENT + line for line in self._step_call()), *body]
            count += not (count or sample_blocks)
        name = f"{self.prefix}_phase_{number}"
        self._wrapper(name, body)
        return {"function": name, "sample_blocks": tuple(sample_blocks), "tasks": count}

    def _wrapper(self, name: str, body: Sequence[str]) -> None:
        self.module.function("", name, ["task", "worker", "table"], "", ["samples = table[0]", *body])

    def _guard_sample_blocks(self, block: int, calls: Sequence[str]) -> list[str]:
        size = "rows" if block == ROWS else str(block)
        return [
            *(["rows = table[6]"] if block == ROWS else []),
            f"blocks = (samples + {size} - 1)//{size}",
            "if task < blocks:",
            f"{INDENT}first = natural({size}*task)",
            f"{INDENT}last = first + {size} if first + {size} < samples else samples",
            *(INDENT + line for line in calls),
            f"{INDENT}return",
            "task -= blocks",
        ]

    def _together(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Tasks that are too small to be handed out one by one go together."""
        groups: list[list[Task]] = []
        elements = FEW_ELEMENTS
        for task in tasks:
            size = 1 if task.leading is None else self.program.size(task.leading.extent)
            size *= self.arrays.row(task.steps[0].equation.name)
            elements += size
            if elements > FEW_ELEMENTS or self._blocks(task) > 1:
                groups.append([])
                elements = size if self._blocks(task) == 1 else FEW_ELEMENTS
            groups[-1].append(task)
        return groups

    def _blocks(self, task: Task) -> int:
        return 1 if task.leading is None else -(-self.program.size(task.leading.extent) // task.block)

    def _guard_blocks(self, blocks: int, tasks: Sequence[tuple[Task, Sequence[str]]]) -> list[str]:
        """The lines of a task that has several blocks, or of some that have one."""
        lines: list[str] = []
        for task, written in tasks:
            calls = [line for line in written if not (line in lines and VIEW.match(line))]
            size = 1 if task.leading is None else self.program.size(task.leading.extent)
            if blocks == 1:
                lines += ["first = 0", f"last = {size}", *calls]
                continue
            rest = f" if task < {blocks - 1} else {size}" if size % task.block else ""
            lines += [f"first = natural({task.block}*task)", f"last = first + {task.block}{rest}", *calls]
        condition = "if task == 0:" if blocks == 1 else f"if task < {blocks}:"
        return [condition, *(INDENT + line for line in lines), f"{INDENT}return", f"task -= {blocks}"]

    def _row_calls(self, number: int, steps: Sequence[Step]) -> list[str]:
        parts = self.parts if number == 0 else None
        body, arrays = self._body((*steps, *(parts.steps() if parts else ())), SAMPLE_INDEX, {})
        views = [parts.address()] if parts else []
        views += [self.arrays.view(a, parts.place(a) if parts and a in parts.places else None) for a in arrays]
        fills = []
        if number == 0 and self.routine.gathers and gathered_by_rows(self.plan.phases[0], self.program):
            fills += self.batch.gather(arrays)
        for k, noise in self.batch.noises:
            if noise.name in arrays and self.batch.drawn_by_rows(noise.name) == number:
                fills += self.batch.draw(noise, k, arrays)
        return [*views, *fills, *body]

    def _task_calls(self, task: Task) -> list[str]:
        parameter = task.gradient_of
        first, leading = task.steps[0].equation, task.leading
        offsets = {first.name: "first"} if parameter is not None and leading is not None else {}
        if parameter is not None:
            fused = self._fused(parameter)
            address = self._gradient_address(first.name, parameter, fused)
            body, arrays = self._gradient(task, parameter, address, offsets)
            views = [self.arrays.view(a) for a in arrays if a != first.name]
            if first.name in arrays:
                views.append(self._gradient_view(first.name, parameter, fused))
            lines = [*views, *body]
            if fused:
                lines += self._update_calls(parameter, address)
            return lines
        lines = self._numbers(task)
        if self.routine.update is not None and any(
            self.routine.original.get(s.equation.name) == "L" for s in task.steps
        ):
            lines += [
                f"losses = view(table[{self.arrays.slot('@losses')}], (table[2] + 1,), np.float64)",
                "losses[table[2]] = L[0]",
            ]
        return lines

    def _gradient(
        self, task: Task, parameter: str, address: str, offsets: Mapping[str, str]
    ) -> tuple[list[str], list[str]]:
        """The lines that compute a block of a gradient, and the arrays they stand on."""
        (step,) = task.steps
        if self.parts is None or step not in self.parts:
            return self._body(task.steps, task.leading, offsets, self._changed_next(task, parameter))
        self.module.function(HELPER, "summed", ARGUMENTS, COMMENT, self.parts.function())
        line = self.parts.sum_of_an_array(step, *self._elements(parameter), address)
        rest = self.parts.after_sum(step)
        body, arrays = ([], []) if rest is None else self._body([rest], task.leading, offsets)
        return [line, *body], arrays

    def _numbers(self, task: Task) -> list[str]:
        """The lines of a task that is no gradient."""
        parts = self.parts
        steps = [parts.sum_of_a_number(s) if parts and s in parts else s for s in task.steps]
        body, arrays = self._body(steps, task.leading, {})
        head = [COUNT_BLOCKS, parts.view()] if parts and steps != list(task.steps) else []
        return [*map(self.arrays.view, arrays), *head, *body]

    # arrays behind addresses

    def _gradient_address(self, gradient: str, parameter: str, fused: bool) -> str:
        """Where the block of a gradient stands: in the worker's scratch where the update follows at once."""
        if fused:
            return f"table[5] + worker*{self.scratch_bytes()}"
        return f"table[{self.arrays.slot(gradient)}] + first*{self.arrays.row(parameter) * self.arrays.item}"

    def _gradient_view(self, gradient: str, parameter: str, fused: bool) -> str:
        others = [str(self.program.size(i.extent)) for i in self.arrays.tensor(parameter).indices[1:]]
        shape = f"({', '.join(['last - first', *others])}{',' if not others else ''})"
        return f"{gradient} = view({self._gradient_address(gradient, parameter, fused)}, {shape}, real)"

    def scratch_bytes(self) -> int:
        """The largest gradient block, in whole cache lines."""
        largest = 0
        for phase in self.plan.phases:
            for task in phase.tasks:
                if task.gradient_of is not None:
                    largest = max(largest, task.block * self.arrays.row(task.gradient_of) * self.arrays.item)
        return -(-largest // LINE_BYTES) * LINE_BYTES + LINE_BYTES

    # the batch: gathering, noise

    def _noise_phase(self) -> dict[str, object] | None:
        """A phase that draws what no rows can draw for themselves."""
        noises = [(k, t) for k, t in self.batch.noises if self.batch.drawn_by_rows(t.name) is None]
        if not noises:
            return None
        name = f"{self.prefix}_noise"
        lines = [line for k, t in noises for line in self.batch.draw(t, k, ())]
        self._wrapper(name, self._guard_sample_blocks(ROWS, lines))
        return {"function": name, "sample_blocks": (ROWS,), "tasks": 0}

    def _gather_phase(self) -> dict[str, object]:
        given = self.batch.given
        name = f"{self.prefix}_gather"
        views = [self.arrays.view(n) for n in given]
        self._wrapper(name, self._guard_sample_blocks(ROWS, [*views, *self.batch.gather(given)]))
        return {"function": name, "sample_blocks": (ROWS,), "tasks": 0}

    # updates

    @property
    def _rule(self) -> Rule:
        assert self.routine.update is not None
        return Rule(self.routine.update, self.arrays.item, self.arrays.slot("@scalars"))

    def _step_call(self) -> list[str]:
        rule = self._rule
        rates = f"rates = view(table[{self.arrays.slot('@rates')}], (table[2] + 1,), np.float64)"
        return [rule.scalars_view(), rates, *rule.once_a_step()]

    def _update_function(self) -> str:
        """The optimiser's rule for some elements of any parameter, one after the other; returns its name."""
        rule = self._rule
        name = rule.update.optimiser.name
        comment = plain_text(f"{name}, for some elements of a parameter, which stands where the addresses say")
        return self.module.function(HELPER, "update", rule.arguments(), comment, rule.for_elements())

    def _update_calls(self, parameter: str, gradient_address: str) -> list[str]:
        """Apply the update to a block, as one row of numbers."""
        rule, name = self._rule, self._update_function()
        slots = [self.arrays.slot(parameter, after=after) for after in ("", *(f"@{s}" for s in rule.states))]
        arguments = ["table", *self._elements(parameter), gradient_address, *(f"table[{slot}]" for slot in slots)]
        if rule.update.clip_norm is not None:
            arguments.append("scale")
        return [f"{name}({', '.join(arguments)})"]

    def _changed_next(self, task: Task, parameter: str) -> dict[str, tuple[str, ...]]:
        """Where the weights and the first states stand that the update of a large gradient changes, block by block."""
        if task.leading is None or not self._fused(parameter):
            return {}
        row = self.arrays.row(parameter)
        if row * self.program.size(task.leading.extent) < MANY_ELEMENTS:
            return {}
        names = ["", *(f"@{state}" for state in self._rule.states), "", ""][:3]
        slots = [self.arrays.slot(parameter, after=name) for name in names]
        at = f"first*{row * self.arrays.item}"
        return {task.steps[0].equation.name: tuple(f"table[{slot}] + {at}" for slot in slots)}

    def _elements(self, parameter: str) -> tuple[str, str]:
        """The elements of a block of a parameter: the first, and how many."""
        row = self.arrays.row(parameter)
        return ("first", "last - first") if row == 1 else (f"first*{row}", f"(last - first)*{row}")

    def _separate_updates(self, update: Update) -> list[dict[str, object]]:
        """Updates that wait for all gradients: where a norm is clipped, or a parameter is still read."""
        waiting = [
            task for phase in self.plan.phases for task in phase.tasks
            if task.gradient_of is not None and not self._fused(task.gradient_of)
        ]  # fmt: skip
        if not waiting:
            return []
        descriptions = []
        if update.clip_norm is not None:
            descriptions.append(self._norm_phase(waiting))
        body: list[str] = []
        count = 0
        for task in waiting:
            parameter = task.gradient_of
            assert parameter is not None
            gradient = task.steps[0].equation.name
            calls = []
            if update.clip_norm is not None:
                calls += self._scale_lines(len(waiting), update.clip_norm)
            calls += self._update_calls(parameter, self._gradient_address(gradient, parameter, fused=False))
            blocks = self._blocks(task)
            body += self._guard_blocks(blocks, [(task, calls)])
            count += blocks
        name = f"{self.prefix}_updates"
        self._wrapper(name, body)
        descriptions.append({"function": name, "sample_blocks": (), "tasks": count})
        return descriptions

    def _norm_phase(self, waiting: Sequence[Task]) -> dict[str, object]:
        """Sum of squares of every gradient, each in a fixed order."""
        body: list[str] = []
        for k, task in enumerate(waiting):
            gradient = task.steps[0].equation.name
            parameter = task.gradient_of
            assert parameter is not None
            size = self.arrays.row(parameter) * (self.program.size(task.leading.extent) if task.leading else 1)
            body += [
                f"if task == {k}:",
                f"{INDENT}gradient = view(table[{self.arrays.slot(gradient)}], ({size},), real)",
                f"{INDENT}squares = view(table[{self.arrays.slot('@squares')}], ({len(waiting)},), np.float64)",
                f"{INDENT}total = 0.0",
                f"{INDENT}for i in range({size}):",
                f"{INDENT * 2}total += gradient[i]**2",
                f"{INDENT}squares[{k}] = total",
                f"{INDENT}return",
            ]
        name = f"{self.prefix}_norm"
        self._wrapper(name, body)
        return {"function": name, "sample_blocks": (), "tasks": len(waiting)}

    def _scale_lines(self, count: int, limit: float) -> list[str]:
        return [
            f"squares = view(table[{self.arrays.slot('@squares')}], ({count},), np.float64)",
            "total = 0.0",
            f"for i in range({count}):",
            f"{INDENT}total += squares[i]",
            f"scale = real(min(1.0, {limit!r}/(sqrt(total) + 1e-6)))  # clip by the global norm",
        ]

"""Every derived equation against the program as the user wrote it, at tiny extents, at several points.

Three programs are computed in 60 digits, entry by entry:

    written    what the user wrote, before any pass; with the derivative of the loss by every entry of every tensor,
               carried back through its scalar operations one by one (`exact.RULES`, not SymPy)
    prepared   after the passes before deriving; with derivatives likewise
    derived    what is printed, and what runs: forward and backward

A forward equation is held against the written one of the same name, else the prepared one; the adjoint of a parameter
or an input against the derivative of the written loss; any other adjoint against that of the prepared program. Values
that a pass shares between equations are proven by the equations that read them. Points are drawn until each condition
in the written program has been true and false.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import mpmath
import sympy as sp
from mpmath import mp

from .derivation import Derivation, derived_program, prepared
from .derive import Derived, derive
from .exact import Compiled, Entry, Where, compiled, slopes_in, value_in
from .language import SAMPLES, Equation, Kind, Program, Role
from .optimisers import Optimiser
from .prove import random_point, tiny_sizes
from .running import positions
from .text import equation_text, expression_text

DIGITS: Final = 60
MORE_DIGITS: Final = (DIGITS, 600, 4000)  # what is written may cancel: log(1 - sigmoid(200)) has none of 60 left
TOLERANCE: Final = mpmath.mpf("1e-25")
SCALES: Final = (1, 1, 0.2, 6)  # of parameters and inputs, point by point
MORE_SCALES: Final = (2, 20, 0.05, 3, 60, 10)  # for sides of kinks that were not met
PROVEN_BY: Final = {True: "the written program", False: "the prepared program"}

MANY: Final = 800  # entries of all equations

Table = dict[tuple[int, ...], Any]
Values = dict[str, Table]
Found = tuple[dict[str, Any], dict[str, str], dict[str, int]]


@dataclass(frozen=True)
class Proof:
    """What was found of one equation.

    formula   as it is printed
    against   what it was held against
    error     the largest difference, relative to the larger of 1 and the value
    fault     where it differs by too much, and by how much; empty where it holds
    """

    name: str
    formula: str
    against: str
    error: float
    points: int
    fault: str = ""

    @property
    def holds(self) -> bool:
        return not self.fault


@dataclass(frozen=True)
class Proofs:
    """All that was proven of a model, and the sides of kinks that no point was on."""

    rows: tuple[Proof, ...]
    unseen: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.rows)


class Tape:
    """A program computed entry by entry, and the derivatives of its loss by all of them."""

    def __init__(self, program: Program, given: Values, samples: int, loss: str = "L") -> None:
        self.sizes = {**program.sizes, SAMPLES: samples}
        self.values: Values = {name: dict(table) for name, table in given.items()}
        self.local: dict[Entry, Mapping[Entry, Any]] = {}
        self.sides: dict[str, set[bool]] = {}
        for equation in program.equations:
            function = compiled(equation.expr)
            table = self.values[equation.name] = {}
            for position in positions(program, equation.name, samples):
                made = function(self._where(equation.indices, position))
                table[position] = int(value_in(made)) if equation.kind is Kind.INTEGER else mp.mpf(value_in(made))
                if not equation.constant:
                    self.local[equation.name, position] = slopes_in(made)
        self.slopes = self._swept(loss)

    def _where(self, indices: Iterable[Any], position: tuple[int, ...]) -> Where:
        at = {i.symbol: k for i, k in zip(indices, position, strict=True)}
        return Where({**self.sizes, **at}, self.values, slopes=True, sides=self.sides)

    def _swept(self, loss: str) -> dict[Entry, Any]:
        slopes: dict[Entry, Any] = {(loss, ()): mp.mpf(1)}
        for entry in reversed(self.local):
            seed = slopes.get(entry)
            if seed:
                for read, slope in self.local[entry].items():
                    slopes[read] = slopes.get(read, 0) + seed * slope
        return slopes


def proofs(derivation: Derivation, samples: int = 2, seed: int = 0) -> Proofs:
    """Prove every equation of a derivation, and the derivatives by its inputs."""
    written = derivation.model.program(derivation.variant)
    return proofs_of_program(written, derivation.derived, samples, seed)


def proofs_of_program(written: Program, derived: Derived, samples: int = 2, seed: int = 0) -> Proofs:
    """Prove every equation that was derived from a program, and the derivatives by its inputs."""
    sizes = tiny_sizes(written)
    inputs = [t.name for t in written.role(Role.INPUT) if t.kind is Kind.REAL]
    wrt = (*(p.name for p in written.parameters), *inputs)
    by_inputs = derived_program(written, wrt=wrt) if inputs else derived
    middle = prepared(written)
    ledger = _Ledger(
        replace(written, sizes=sizes), _sized(derive(middle, wrt=wrt), sizes).forward, _sized(derived, sizes), samples
    )
    inputs_ledger = _Ledger(ledger.written, ledger.prepared, _sized(by_inputs, sizes), samples, set(inputs))
    rng = random.Random(seed)
    sides: dict[str, set[bool]] = {}
    with mp.workdps(DIGITS):
        for count, scale in enumerate((*SCALES, *MORE_SCALES)):
            enough = 2 if ledger.large else len(SCALES)
            if count >= enough and all(len(seen) == 2 for seen in sides.values()):
                break
            given = scaled(random_point(ledger.written, samples, rng), written, scale)
            for digits in MORE_DIGITS:
                before = ledger.found(), inputs_ledger.found()
                with mp.workdps(digits):
                    tapes = Tape(ledger.written, given, samples), Tape(ledger.prepared, given, samples)
                    known = ledger.compare(*tapes, given)
                    inputs_ledger.compare(*tapes, given, known)
                if digits == MORE_DIGITS[-1] or not (ledger.fails(before[0]) or inputs_ledger.fails(before[1])):
                    break
                ledger.restore(before[0])
                inputs_ledger.restore(before[1])
            for condition, seen in tapes[0].sides.items():
                sides.setdefault(condition, set()).update(seen)
    unseen = tuple(condition for condition, seen in sides.items() if len(seen) < 2)
    return Proofs((*ledger.rows(), *inputs_ledger.rows()), unseen)


def _short(number: Any) -> str:
    """A number in 12 digits, however many it has."""
    with mp.workdps(15):
        return str(mp.nstr(+mp.mpf(number), 12))


def _sized(derived: Derived, sizes: Mapping[sp.Symbol, int]) -> Derived:
    return replace(derived, forward=replace(derived.forward, sizes=sizes))


def scaled(point: Values, program: Program, scale: float) -> Values:
    """The same point with larger or smaller parameters and inputs."""
    kept = {t.name for t in program.tensors if t.kind is Kind.INTEGER or t.role not in (Role.INPUT, Role.PARAMETER)}
    factor = mp.mpf(scale)
    return {n: t if n in kept else {p: v * factor for p, v in t.items()} for n, t in point.items()}


class _Ledger:
    """What the equations of a derived program were held against, and the largest difference of each."""

    def __init__(
        self, written: Program, prepared: Program, derived: Derived, samples: int, inputs: Iterable[str] = ()
    ) -> None:
        self.written, self.prepared, self.derived, self.samples = written, prepared, derived, samples
        self.program = derived.program
        self.functions: dict[str, Compiled] = {e.name: compiled(e.expr) for e in self.program.equations}
        self.owner = {adjoint: name for name, adjoint in derived.adjoint.items()}
        self.inputs = {derived.adjoint[name] for name in inputs}  # of these alone, where some are given
        self.worst: dict[str, Any] = {e.name: mp.mpf(0) for e in self.program.equations}
        self.faults: dict[str, str] = {}
        self.points = dict.fromkeys(self.worst, 0)

    @property
    def large(self) -> bool:
        """Whether there is much to compute, so that fewer points have to do."""
        return sum(len(positions(self.program, name, self.samples)) for name in self.program.defined) > MANY

    def found(self) -> Found:
        """What was found so far, to come back to."""
        return dict(self.worst), dict(self.faults), dict(self.points)

    def fails(self, before: Found) -> bool:
        """Whether something fails that did not before."""
        return len(self.faults) > len(before[1])

    def restore(self, before: Found) -> None:
        """Come back to what was found before."""
        self.worst, self.faults, self.points = before

    def compare(
        self, written: Tape, middle: Tape, given: Values, known: Mapping[Equation, Table] | None = None
    ) -> dict[Equation, Table]:
        """Look at every equation at one point; `known` are values of equations that stand in another program, too."""
        values: Values = {name: dict(table) for name, table in given.items()}
        made: dict[Equation, Table] = {}
        sizes = {**self.program.sizes, SAMPLES: self.samples}
        for equation in self.program.equations:
            table = (known or {}).get(equation) or self._table(equation, values, sizes)
            values[equation.name] = made[equation] = table
            if not self.inputs or equation.name in self.inputs:
                self._held(equation.name, table, written, middle)
        return made

    def _table(self, equation: Equation, values: Values, sizes: Mapping[sp.Symbol, int]) -> Table:
        table: Table = {}
        for position in positions(self.program, equation.name, self.samples):
            at = {i.symbol: k for i, k in zip(equation.indices, position, strict=True)}
            number = value_in(self.functions[equation.name](Where({**sizes, **at}, values)))
            table[position] = int(number) if equation.kind is Kind.INTEGER else mp.mpf(number)
        return table

    def _held(self, name: str, table: Mapping[tuple[int, ...], Any], written: Tape, middle: Tape) -> None:
        for position, found in table.items():
            right = self._right(name, position, written, middle)
            if right is None or not mp.isfinite(right):
                continue
            error = abs(found - right) / max(1, abs(right))
            self.points[name] += 1
            if not error <= self.worst[name]:
                self.worst[name] = error
            if not error <= TOLERANCE and name not in self.faults:
                entry = f"{name}[{','.join(map(str, position))}]" if position else name
                said = f"{_short(found)} where {self.against(name)} gives {_short(right)}"
                self.faults[name] = f"{entry} is {said}"

    def _right(self, name: str, position: tuple[int, ...], written: Tape, middle: Tape) -> Any:
        """What an entry should be; None where only its readers tell."""
        if name in self.derived.forward.defined:
            tape = written if name in written.values else middle
            return tape.values[name].get(position) if name in tape.values else None
        if name in self.owner:
            owner = self.owner[name]
            tape = written if self._given(owner) else middle
            return tape.slopes.get((owner, position), mp.mpf(0)) if owner in tape.values else None
        piece = self._piece(name)
        if piece is None:
            return None
        owner, through = piece
        read = owner, position
        parts = [
            middle.slopes.get((through, at), mp.mpf(0)) * middle.local[through, at].get(read, 0)
            for at in middle.values[through]
            if (through, at) in middle.local
        ]
        return sum(parts, mp.mpf(0))

    def _given(self, owner: str) -> bool:
        return owner in {t.name for t in self.written.tensors}

    def _piece(self, name: str) -> tuple[str, str] | None:
        """The tensor and the equation of one term of an adjoint, `dt_q`."""
        for adjoint, owner in self.owner.items():
            through = name.removeprefix(f"{adjoint}_")
            if through != name and through in self.prepared.defined:
                return owner, through
        return None

    def against(self, name: str) -> str:
        if name in self.derived.forward.defined:
            return PROVEN_BY[name in self.written.by_name]
        if name in self.owner and self._given(self.owner[name]):
            return f"dL/d{self.owner[name]} of {PROVEN_BY[True]}"
        return f"dL/d{self.owner.get(name, name)} of {PROVEN_BY[False]}"

    def rows(self) -> list[Proof]:
        made = []
        for equation in self.program.equations:
            name = equation.name
            if self.inputs and name not in self.inputs:
                continue
            fault, against = self.faults.get(name, ""), self.against(name)
            if not self.points[name]:
                readers = [e.name for e in self.program.equations if name in e.reads]
                against = f"{', '.join(readers)}, which read it"
                failed = [r for r in readers if r in self.faults]
                fault = f"read by {failed[0]}: {self.faults[failed[0]]}" if failed else ""
                fault = fault or ("" if readers else "no point in its domain was found")
            error = float(self.worst[name])
            made.append(Proof(name, equation_text(equation), against, error, self.points[name], fault))
        return made


def proofs_of_update(rule: Optimiser, seed: int = 0, points: int = 6) -> tuple[Proof, ...]:
    """The update with numbers for its hyperparameters, as it runs, against the formulas of its table."""
    rng = random.Random(seed)
    bound = rule.bound
    written = dict([*rule.scalar_updates, *rule.updates])
    made = dict([*bound.scalar_updates, *bound.updates])
    worst: dict[str, Any] = dict.fromkeys(made, mp.mpf(0))
    faults: dict[str, str] = {}
    with mp.workdps(DIGITS):
        for point in range(points):
            start = _update_point(rule, rng, point)
            right = _computed([*rule.scalar_updates, *rule.updates], start)
            found = _computed([*bound.scalar_updates, *bound.updates], start)
            for name in made:
                if name in right:
                    error = abs(found[name] - right[name]) / max(1, abs(right[name]))
                    worst[name] = max(worst[name], error)
                    if not error <= TOLERANCE:
                        said = f"{mp.nstr(found[name], 12)} where the table's formula gives {mp.nstr(right[name], 12)}"
                        faults.setdefault(name, f"{name} is {said}")
    return tuple(
        Proof(name, f"{name} = {expression_text(expr)}", "the optimiser's formulas" if name in written else "w",
              float(worst[name]), points, faults.get(name, ""))
        for name, expr in made.items()
    )  # fmt: skip


def _update_point(rule: Optimiser, rng: random.Random, point: int) -> dict[str, Any]:
    """Values for all that an update reads; states that are squares are positive."""
    start = {name: mp.mpf(rng.randint(1, 10**6)) / 10**6 for name in (*rule.states, *rule.scalars)}
    start |= {name: mp.mpf(rng.randint(-(10**6), 10**6)) / 10**6 for name in ("w", "g")}
    numbers = {name: mp.mpf(str(float(value))) for name, value in rule.hyperparameters.items()}
    return {**numbers, **start, "t": mp.mpf(point + 1)}


def _computed(lines: Iterable[tuple[str, sp.Expr]], start: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = dict(start)
    for name, expr in lines:
        function = compiled(expr)
        values[name] = mp.mpf(value_in(function(Where({}, {n: {(): v} for n, v in values.items()}))))
    return values

"""An optimiser's rule as lines of source: what is computed once a step, and what for each element of a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from .expression import Names, source
from .layout import INDENT
from .legal import legal_names
from .request import Update


@dataclass(frozen=True)
class Rule:
    """The lines of an update.

    item   bytes of a number of a parameter
    slot   of the numbers that all elements share, in the table of addresses
    """

    update: Update
    item: int
    slot: int

    @property
    def states(self) -> list[str]:
        return list(self.update.optimiser.states)

    @cached_property
    def scalars(self) -> list[str]:
        """What all elements share: t, lr, the optimiser's scalar states and what is computed from them."""
        rule = self.update.optimiser
        return list(dict.fromkeys(["t", "lr", *rule.scalars, *(name for name, _ in rule.scalar_updates)]))

    @cached_property
    def names(self) -> dict[str, str]:
        """What the optimiser's names are in the source."""
        computed = [name for name, _ in self.update.optimiser.updates]
        names = ["w", "g", "t", "lr", *self.states, *self.scalars, *computed]
        return legal_names(names, arrays=self.states, taken=("k", "scale"))

    @property
    def places(self) -> list[str]:
        """Of what an element is updated with; arguments `_at` say where they stand."""
        return ["gradients", "weights", *(self.names[s] for s in self.states)]

    def scalars_view(self) -> str:
        return f"scalars = view(table[{self.slot}], ({len(self.scalars)},), np.float64)"

    def once_a_step(self) -> list[str]:
        """The step's number, its learning rate, the optimiser's scalars."""
        names, known = self.names, Names(scalars=self.names, cast="")
        lines = ["t = scalars[0] + 1.0", "scalars[0] = t", "lr = rates[table[2]]", "scalars[1] = lr"]
        lines += [f"{names[n]} = scalars[{self.scalars.index(n)}]" for n in self.update.optimiser.scalars]
        for name, expr in self.update.optimiser.scalar_updates:
            lines += [
                f"{names[name]} = {source(expr, known)}",
                f"scalars[{self.scalars.index(name)}] = {names[name]}",
            ]
        return lines

    def arguments(self) -> list[str]:
        """Of the function for some elements of any parameter."""
        scale = [] if self.update.clip_norm is None else ["scale"]
        return ["table", "first", "count", *(f"{place}_at" for place in self.places), *scale]

    def for_elements(self) -> list[str]:
        """The rule for some elements of any parameter, one after the other."""
        starts = ["gradients_at", *(f"{place}_at + first*{self.item}" for place in self.places[1:])]
        arrays = ["gradients", "weights", *(f"{self.names[s]}_of" for s in self.states)]
        return [
            self.scalars_view(),
            *(f"{array} = view({start}, (count,), real)" for array, start in zip(arrays, starts, strict=True)),
            *(f"{self.names[n]} = real(scalars[{k}])" for k, n in enumerate(self.scalars) if self._reads(n)),
            "for k in range(count):",
            *(INDENT + line for line in self._for_each()),
        ]

    def _for_each(self) -> list[str]:
        update, names = self.update, self.names
        lines = ["g = gradients[k]" + ("*scale" if update.clip_norm is not None else "")]
        if update.clip_value is not None:
            limit = f"real({update.clip_value!r})"
            lines.append(f"g = min(max(g, -{limit}), {limit})")
        lines.append("w = weights[k]")
        lines += [f"{names[s]} = {names[s]}_of[k]" for s in self.states]
        known = Names(scalars=names)
        lines += [f"{names[name]} = {source(expr, known)}" for name, expr in update.optimiser.updates]
        lines += [f"{names[s]}_of[k] = {names[s]}" for s in self.states]
        return [*lines, "weights[k] = w"]

    def _reads(self, name: str) -> bool:
        symbol = sp.Symbol(name, real=True)
        return any(symbol in expr.free_symbols for _, expr in self.update.optimiser.updates)

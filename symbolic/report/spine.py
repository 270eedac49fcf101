"""The spine of a program: the tensors through which everything on the way between two others must pass.

For a chain of layers these are the layers' results. Between two neighbours of the spine the program may
branch (the softmax, a residual sum); the chain rule still multiplies the derivatives along the spine.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..language import Kind, Program


def depending_on(program: Program, names: Iterable[str]) -> frozenset[str]:
    """The named tensors and all whose value changes with theirs, smoothly: not positions of maxima."""
    found = set(names)
    for equation in program.equations:
        if equation.kind is Kind.REAL and not equation.constant and found.intersection(equation.reads):
            found.add(equation.name)
    return frozenset(found)


def needed_for(program: Program, name: str) -> frozenset[str]:
    """The named tensor and all that it is computed from."""
    found = {name}
    for equation in reversed(program.equations):
        if equation.name in found:
            found.update(equation.reads)
    return frozenset(found)


def spine(program: Program, source: str, sink: str, without: Iterable[str] = ()) -> tuple[str, ...]:
    """The tensors on every path from source to sink, in order, both ends included; empty if there is no path.

    `without` names equations to leave out.

    >>> from ..layers import Dense
    >>> from ..model import Model
    >>> spine(Model(2, [Dense(3, "tanh"), Dense(3, "softmax")]).program(), "x", "y_hat")
    ('x', 'z1', 'x1', 'zo', 'y_hat')
    """
    between = (depending_on(program, [source]) & needed_for(program, sink)) - set(without)
    if sink not in between:
        return ()
    order = [source, *(e.name for e in program.equations if e.name in between and e.name != source)]
    place = {name: k for k, name in enumerate(order)}
    last_reader = dict.fromkeys(order, 0)
    for name in order[1:]:
        for read in program.defined[name].reads:
            if read in last_reader:
                last_reader[read] = place[name]
    found, reach = [], 0
    for k, name in enumerate(order):
        if k >= reach:  # nothing before it is read beyond it
            found.append(name)
        reach = max(reach, last_reader[name])
    return tuple(found)

"""Is a program well formed? The checker of the language in `language.py`; every pass ends with it."""

from __future__ import annotations

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.logic.boolalg import BooleanAtom, BooleanFunction

from .errors import SpecError, nearest
from .functions import CONTRACTIONS, erfc, expm1, log1p, sigmoid, softplus
from .language import Equation, Index, Program, Tensor, is_index, name_of, where_of
from .positions import check_positions

ELEMENTARY = (
    sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.asin, sp.acos, sp.atan, sp.asinh,
    sp.acosh, sp.atanh, sp.erf, sp.erfc, erfc, sp.Abs, sp.sign, sp.floor, sp.ceiling, expm1, log1p, sigmoid, softplus,
)  # fmt: skip
STRUCTURE = (
    sp.Add, sp.Mul, sp.Pow, sp.Piecewise, sp.functions.elementary.piecewise.ExprCondPair, sp.KroneckerDelta,
    sp.Number, sp.NumberSymbol, sp.Symbol, sp.core.relational.Relational, BooleanFunction, BooleanAtom,
)  # fmt: skip


def check(program: Program, *, normal: bool = True) -> Program:
    """Return the program, or raise `SpecError` naming the equation, what stands there and the rule that it breaks.

    Rules: a name is assigned once and not also given; everything read is given or assigned before; a read has as many
    indices as its tensor; every index is bound, by the left side or by a contraction; the same index has one extent;
    functions from the language only; all outputs exist. In normal form (`normalise`) besides: at most one contraction
    an equation, over one index if it is a maximum.
    """
    known: dict[str, Tensor] = {}
    for tensor in program.tensors:
        _require(
            tensor.name not in known,
            tensor.name,
            f"'{tensor.name}' is declared twice",
            "give it another name",
        )
        known[tensor.name] = tensor
    for equation in program.equations:
        place = f"equation of '{equation.name}'"
        _require(equation.name not in known, place, f"'{equation.name}' has a value already", "assign a new name")
        _check_expression(equation, known, place, normal)
        check_positions(equation, known, program, place)
        known[equation.name] = equation.tensor
    for name in program.outputs:
        if name not in known:
            _require(False, "outputs", f"'{name}' is not computed", nearest(name, known))
    return program


def _require(condition: bool, place: str, problem: str, advice: str) -> None:
    if not condition:
        raise SpecError(f"{place}: {problem}; {advice}")


def _check_expression(equation: Equation, known: dict[str, Tensor], place: str, normal: bool) -> None:
    names = [i.name for i in equation.indices]
    _require(
        len(set(names)) == len(names),
        place,
        f"an index stands twice in [{','.join(names)}]",
        "name each once",
    )
    if normal:
        found = [e for e in sp.preorder_traversal(equation.expr) if isinstance(e, CONTRACTIONS)]
        _require(
            len(found) <= 1,
            place,
            f"{len(found)} sums or maxima in one equation",
            "give each its own equation",
        )
        flat = all(len(e.limits) == 1 or isinstance(e, sp.Sum) for e in found)
        _require(flat, place, "a maximum over several indices", "take one index after the other")
    _check_nodes(equation.expr, {i.symbol: i.extent for i in equation.indices}, known, place)


def _check_nodes(node: sp.Basic, bound: dict[sp.Symbol, sp.Expr], known: dict[str, Tensor], place: str) -> None:
    """Check a node and what is in it, with the indices that are bound there; not an element's own base and label."""
    inside: tuple[sp.Basic, ...] = node.args
    if isinstance(node, sp.Indexed) or (isinstance(node, sp.Symbol) and not is_index(node)):
        _check_read(node, known, place)
        inside = where_of(node)
    elif isinstance(node, CONTRACTIONS):
        for symbol, low, high in node.limits:
            _require(symbol not in bound, place, f"index '{symbol}' is bound twice", "rename the inner one")
            _require(low == 0, place, f"index '{symbol}' starts at {low}", "let indices start at 0")
            bound = {**bound, symbol: high + 1}
        inside = (node.function,)
    elif is_index(node):
        _require(node.is_positive or node in bound, place, f"index '{node}' is not bound",
                 "put it on the left side or under a sum")  # fmt: skip
    elif node in (sp.nan, sp.zoo, sp.oo, -sp.oo):
        _require(False, place, f"a constant is not finite: {node}", "look for a division by zero")
    elif not isinstance(node, (*STRUCTURE, *ELEMENTARY)) or isinstance(node, AppliedUndef):
        _require(False, place, f"'{node}' is not in the language", "use the elementary functions")
    for argument in inside:
        _check_nodes(argument, bound, known, place)


def _check_read(read: sp.Expr, known: dict[str, Tensor], place: str) -> None:
    name, where = name_of(read), where_of(read)
    if name not in known:  # the nearest name is looked for only now: it takes as long as there are names
        _require(False, place, f"'{name}' has no value yet", nearest(name, known))
    rank = len(known[name].indices)
    _require(len(where) == rank, place, f"{read} has {len(where)} indices", f"'{name}' has {rank}")


def index_of(symbol: sp.Symbol, equation: Equation) -> Index:
    """The index, free or bound, that a symbol stands for in an equation."""
    for free in equation.indices:
        if free.symbol == symbol:
            return free
    if equation.contraction is not None:
        for bound, _, high in equation.contraction.limits:
            if bound == symbol:
                return Index(bound, high + 1)
    raise SpecError(f"equation of '{equation.name}': index '{symbol}' is not bound; put it under a sum")

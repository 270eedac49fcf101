"""Formulas and equations as text -> SymPy, through a whitelist. Nothing in a formula is ever evaluated as code.

    formula    ::= Python's arithmetic:  + - * / **  numbers  names  calls  a[i,j]  comparisons  and or not
    functions  ::= exp log log1p expm1 sqrt abs sign sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh
                   erf erfc floor ceil sigmoid softplus relu min max where heaviside clip
    contraction::= sum(j, expr)  mean(j, expr)  max(j, expr)  argmax(j, expr)         over one or several indices
                   sum(expr)  max(expr)        over all units, in the formula of an activation
    constants  ::= pi e
    equations  ::= (name[i,j] = formula) line by line;  # starts a comment

`max(a, b)` and `min(a, b)` become Piecewise; where both are equal the slope is that of the constant, or of `b`.

Three steps: `syntax.py` lets a syntax tree pass or refuses it, `reader.py` makes SymPy of it, `bounds.py` and
`choices.py` keep what SymPy is asked to do small (`limits.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy as sp

from .bounds import FAULTS
from .errors import SpecError
from .limits import LONGEST_TEXT
from .reader import FUNCTIONS, Names, Reader
from .syntax import checked_name, checked_title, in_quotes, syntax_tree

__all__ = [
    "FUNCTIONS", "Names", "checked_name", "checked_title", "parse_expression", "parse_formula", "split_equations",
]  # fmt: skip


def parse_formula(text: str, symbols: Mapping[str, sp.Expr], place: str = "formula", *, units: bool = False) -> sp.Expr:
    """A formula in the given symbols.

    >>> z = sp.Symbol("z", real=True)
    >>> parse_formula("z/(1 + exp(-1.702*z))", {"z": z})
    z/(1 + exp(-851*z/500))
    >>> parse_formula("y + 1", {"z": z})
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: formula: 'y' in "y + 1" is not known. Known: e, pi, z.
    """
    return parse_expression(text, Names(dict(symbols), {}, {}, units), place)


def parse_expression(text: str, names: Names, place: str) -> sp.Expr:
    """A formula in the language of equations: tensors with indices, contractions."""
    result = _read(text, names, place)
    if not isinstance(result, sp.Expr):
        raise SpecError(f"{place}: {in_quotes(text)} is a condition, not a number; use where(condition, a, b)")
    if result.has(sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I):
        raise SpecError(f"{place}: {in_quotes(text)} has no finite real value; look for a division by zero")
    return result


def _read(text: str, names: Names, place: str) -> object:
    """What the tree of a formula means; whatever SymPy cannot do is said of the formula."""
    tree = syntax_tree(text, place)
    try:
        return Reader(text, names, place).read(tree)
    except SpecError as error:
        message = str(error)
        if message.startswith(f"{place}: "):
            raise
        problem, _, advice = message.partition("; ")
        raise SpecError(f"{place}: {problem} in {in_quotes(text)}; {advice}") from None
    except FAULTS as error:
        raise SpecError(
            f"{place}: {in_quotes(text)} cannot be worked out ({type(error).__name__}); write it in simpler parts"
        ) from None


def split_equations(text: str, place: str) -> list[tuple[str, tuple[str, ...], str, str]]:
    """Lines `name[i,j] = formula` as (name, indices, formula, place); a formula may go on inside brackets.

    >>> split_equations("h[n] = 2*x[n]  # twice", "layer 1")
    [('h', ('n',), '2*x[n]', 'layer 1, line 1')]
    """
    if not isinstance(text, str):
        raise SpecError(f"{place}: equations are text, not {type(text).__name__}; put them in quotes")
    if len(text) > LONGEST_TEXT:
        raise SpecError(
            f"{place}: the equations have {len(text)} characters; at most {LONGEST_TEXT}; use several layers"
        )
    equations = []
    for number, line in _logical_lines(text):
        where = f"{place}, line {number}"
        left, equals, right = line.partition("=")
        head = re.fullmatch(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*(?:\[([^\]]*)\])?\s*", left)
        if not equals or not head or right.startswith("="):
            raise SpecError(f"{where}: {in_quotes(line)} is not an equation; write name[indices] = formula")
        indices = tuple(part.strip() for part in (head[2] or "").split(",") if part.strip())
        equations.append((checked_name(head[1], where), indices, right.strip(), where))
    if not equations:
        raise SpecError(f"{place}: there is no equation; write at least one line name[indices] = formula")
    return equations


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, list[str]]] = []
    depth = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if depth > 0 and lines:
            lines[-1][1].append(line)
        elif line:
            lines.append((number, [line]))
        depth += line.count("(") + line.count("[") - line.count(")") - line.count("]")
    return [(number, " ".join(parts)) for number, parts in lines]

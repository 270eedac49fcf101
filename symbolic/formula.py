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

from collections.abc import Mapping

import sympy as sp

from .bounds import FAULTS
from .errors import SpecError
from .reader import FUNCTIONS, Names, Reader
from .syntax import checked_name, checked_title, in_quotes, split_equations, syntax_tree

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

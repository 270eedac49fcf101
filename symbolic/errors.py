"""Three classes of error, one per culprit; every message gives the place, the value, the rule and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChainruleError(Exception):
    """Whatever chainrule raises on purpose; the command line prints it in a line and exits with 2."""


class SpecError(ChainruleError):
    """The model or its specification is wrong."""


class DataError(ChainruleError):
    """The data do not fit: their shape, their type, a NaN."""


class InternalError(ChainruleError):
    """chainrule itself is wrong: a formula that does not prove, a pass that broke what it promised to keep."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is known, and what was probably meant.

    >>> nearest("rleu", ["tanh", "relu"])
    "Known: relu, tanh. Did you mean 'relu'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    return f"Known: {', '.join(names) if names else '(none)'}.{guess}"

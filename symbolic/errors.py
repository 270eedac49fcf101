"""Three classes of error, one per culprit; every message gives the place, the value, the rule and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

LONGEST_MESSAGE: Final = 2_000
LONGEST_GUESS: Final = 60  # letters of a name that is compared with what is known
MOST_NAMES: Final = 60  # that a message lists


class ChainruleError(Exception):
    """Whatever chainrule raises on purpose; the command line prints it in a line and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


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
    close = difflib.get_close_matches(name[:LONGEST_GUESS], names, n=1, cutoff=0.5)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    return f"Known: {shown if names else '(none)'}.{guess}"


def one_line(text: str) -> str:
    r"""A message without what a terminal would obey or a log would take for a line of its own.

    >>> one_line("the name 'a\nb'\x1b[2J")
    "the name 'a\\nb'\\x1b[2J"
    """
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: LONGEST_MESSAGE - 300]} ... {text[-295:]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

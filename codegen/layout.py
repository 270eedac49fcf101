"""Long lines of source on several lines, where Python allows a break."""

from __future__ import annotations

import re
import textwrap

INDENT = "    "
LINE_LENGTH = 106


def plain_text(text: str) -> str:
    """Text as it may stand in a docstring: nothing in it ends the docstring or begins an escape.

    >>> plain_text('a "name" \\\\ of a user')
    "a 'name' / of a user"
    """
    return text.replace("\\", "/").replace('"', "'")


def plain_name(name: str) -> str:
    """The name of a model as it may stand anywhere in a file: letters, digits and a few signs of ASCII.

    >>> plain_name("digits <script>")
    'digits _script_'
    """
    return re.sub(r"[^A-Za-z0-9_ .+-]", "_", name)


def wrapped(line: str) -> list[str]:
    """A line that is too long, on several: the arguments of a call, or a right side in brackets of its own."""
    code, comment = (line.partition("  # ")[::2]) if "  # " in line else (line, "")
    if len(code) <= LINE_LENGTH or code.lstrip().startswith(("for ", "if ")):
        return [line]
    indent = code[: len(code) - len(code.lstrip())]
    parts = re.match(r"(\s*[\w\[\], -]+? [+]?= )(.*)\Z", code)
    if parts:
        head, inner = f"{parts[1]}(", parts[2]
    elif _is_one_call(code):
        head, inner = f"{code.partition('(')[0]}(", code.partition("(")[2][:-1]
    else:
        return [line]
    width = LINE_LENGTH - len(indent) - len(INDENT)
    body = textwrap.wrap(inner, width, break_long_words=False, break_on_hyphens=False)
    return [head, *(f"{indent}{INDENT}{part}" for part in body), f"{indent})" + (f"  # {comment}" if comment else "")]


def _is_one_call(code: str) -> bool:
    """Whether the first bracket is closed by the last character."""
    depth = 0
    for at, character in enumerate(code):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return at == len(code) - 1
    return False

"""The text of a formula -> its syntax tree, through a whitelist. No SymPy here: what is refused is refused at once.

Names that may become symbols match NAME; every other name, every attribute, string, lambda, comprehension, keyword
or assignment has no place in a formula.
"""

from __future__ import annotations

import ast
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Final

from .errors import SpecError
from .limits import (
    DEEPEST_BRACKETS,
    DEEPEST_FORMULA,
    LARGEST_EXPONENT,
    LARGEST_LITERAL,
    LONGEST_FORMULA,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_EQUATIONS,
    MOST_NODES,
)

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
TITLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_ .+-]*\Z")

ARITHMETIC: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
SIGNS: Final = (ast.USub, ast.UAdd, ast.Not)
COMPARISONS: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
TREES: Final = (
    ast.Constant, ast.Name, ast.Subscript, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.Compare, ast.BoolOp, ast.IfExp,
    ast.Call,
)  # fmt: skip
LEAVES: Final = (ast.Load, ast.And, ast.Or, *ARITHMETIC, *SIGNS, *COMPARISONS)
ADVICE: Final = "; use arithmetic, comparisons and functions"


def syntax_tree(text: object, place: str) -> ast.expr:
    """The tree of a formula in which only what the whitelist names occurs, within the limits; or `SpecError`.

    >>> ast.dump(syntax_tree("z + 1", "here"))
    "BinOp(left=Name(id='z', ctx=Load()), op=Add(), right=Constant(value=1))"
    >>> syntax_tree("z.__class__", "here")
    Traceback (most recent call last):
    chainrule.symbolic.errors.SpecError: here: Attribute is not allowed in "z.__class__"; use arithmetic, comparisons and functions
    """  # noqa: E501  an expected message stands on one line
    if not isinstance(text, str):
        raise SpecError(f"{place}: a formula is text, not {type(text).__name__}; put it in quotes")
    _check_text(text, place)
    tree = _parsed(text, place)
    nodes = []
    for node, depth in _nodes(tree):
        nodes.append(node)
        if depth > DEEPEST_FORMULA:
            rule = "is nested too deeply; name its parts in equations of their own"
            raise SpecError(f"{place}: {in_quotes(text)} {rule}")
        if len(nodes) > MOST_NODES:
            rule = f"has more than {MOST_NODES} parts; name some of them in equations of their own"
            raise SpecError(f"{place}: {in_quotes(text)} {rule}")
    for node in nodes:
        problem = _problem(node)
        if problem:
            raise SpecError(f"{place}: {problem[0]} in {in_quotes(text)}{problem[1]}")
    return tree


def _check_text(text: str, place: str) -> None:
    """Length, characters and brackets: all that can be said before Python reads it."""
    if len(text) > LONGEST_FORMULA:
        raise SpecError(f"{place}: the formula has {len(text)} characters; at most {LONGEST_FORMULA}; name its parts")
    written = re.sub(r"#[^\n]*", "", text)
    if not written.isascii():  # Python folds look-alikes into plain letters: not what was written would be read
        strange = next(c for c in written if not c.isascii())
        name = unicodedata.name(strange, f"U+{ord(strange):04X}")
        raise SpecError(f"{place}: the character {name} in {in_quotes(text)} is not allowed; write it in ASCII")
    if deepest_bracket(text) > DEEPEST_BRACKETS:
        rule = f"more than {DEEPEST_BRACKETS} brackets in one another; name its parts in equations of their own"
        raise SpecError(f"{place}: {in_quotes(text)} has {rule}")


def deepest_bracket(text: str) -> int:
    """How many brackets are open at once.

    >>> deepest_bracket("f(a[i], (b))")
    2
    """
    depth = deepest = 0
    for bracket in re.findall(r"[()\[\]{}]", text):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


def _parsed(text: str, place: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, SyntaxWarning, ValueError, MemoryError, RecursionError) as error:
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise SpecError(f"{place}: {in_quotes(text)} cannot be read{where}; write it as in Python") from None


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    """Every node and its depth, without recursion; a node before what is in it."""
    todo = [(tree, 1)]
    while todo:
        node, depth = todo.pop()
        yield node, depth
        todo += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


def _problem(node: ast.AST) -> tuple[str, str] | None:
    """What is wrong with one node: the problem, and the advice."""
    match node:
        case ast.Constant():
            return _number_problem(node.value)
        case ast.Name():
            return None if len(node.id) <= LONGEST_NAME else (f"a name has {len(node.id)} letters", "; shorten it")
        case ast.BinOp(op=ast.BitXor()):
            return "'^' is not a power", "; write **"
        case ast.BinOp() if not isinstance(node.op, ARITHMETIC):
            return f"the operator {type(node.op).__name__} is not allowed", "; use + - * / **"
        case ast.BinOp(op=ast.Pow()):
            return _power_problem(node)
        case ast.UnaryOp() if not isinstance(node.op, SIGNS):
            return f"the operator {type(node.op).__name__} is not allowed", "; use + - and not"
        case ast.Compare():
            wrong = [op for op in node.ops if not isinstance(op, COMPARISONS)]
            return (
                (f"the comparison {type(wrong[0]).__name__} is not allowed", "; use < <= > >= == !=") if wrong else None
            )
        case ast.Call():
            return _call_problem(node)
    return None if isinstance(node, (*TREES, *LEAVES)) else (f"{type(node).__name__} is not allowed", ADVICE)


def _number_problem(value: object) -> tuple[str, str] | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_short(value)} is not a number", "; use numbers and names"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number is too large", "; stay below 1e308"
    if isinstance(value, int) and value > LARGEST_LITERAL:
        return "an integer is too large", "; write it as a decimal number"
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _power_problem(node: ast.BinOp) -> tuple[str, str] | None:
    """An exponent of numbers alone that is too large: 9**9**9 is refused before anything computes it."""
    exponent = rough_value(node.right)
    if exponent is not None and not abs(exponent) <= LARGEST_EXPONENT:
        shown = f" {exponent:.15g}" if math.isfinite(exponent) else ""
        return f"the exponent{shown} is too large", f"; at most {LARGEST_EXPONENT}"
    return None


def rough_value(node: ast.expr) -> float | None:
    """What an expression of numbers alone comes to, as a double (infinite if larger); None for any other.

    >>> rough_value(ast.parse("9**9**9", mode="eval").body), rough_value(ast.parse("z", mode="eval").body)
    (inf, None)
    """
    match node:
        case ast.Constant(value=int() | float() as value):
            return math.inf if abs(value) > 1e308 else float(value)
        case ast.UnaryOp(op=ast.USub()):
            inner = rough_value(node.operand)
            return None if inner is None else -inner
        case ast.BinOp():
            left, right = rough_value(node.left), rough_value(node.right)
            return None if left is None or right is None else _rough_result(node.op, left, right)
    return None


def _rough_result(op: ast.operator, left: float, right: float) -> float | None:
    try:
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.Pow():
                power = left**right
                return power if isinstance(power, float) else None
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return None
    return None


def _call_problem(node: ast.Call) -> tuple[str, str] | None:
    name = node.func.id if isinstance(node.func, ast.Name) else type(node.func).__name__
    if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
        return f"{name}() with named or starred arguments", "; give plain arguments"
    if not isinstance(node.func, ast.Name):
        return f"a call of {name} is not allowed", ADVICE
    return None


def in_quotes(text: str) -> str:
    """A formula as it stands in a message: short, on one line, nothing in it that a terminal would obey."""
    text = " ".join(text[:200].split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def checked_name(name: object, place: str) -> str:
    """A name that may become a symbol, or `SpecError`."""
    if not isinstance(name, str) or not NAME.match(name) or len(name) > LONGEST_NAME:
        raise SpecError(f"{place}: {_short(name)} is not a name; begin with a letter, go on with letters, digits and _")
    return name


def checked_title(title: object, what: str) -> str:
    """The name of a table's row: it stands in comments of generated code, so it is letters and digits."""
    if not isinstance(title, str) or len(title) > LONGEST_NAME or not TITLE.match(title):
        rule = "begin with a letter, go on with letters, digits, _ and -"
        raise SpecError(f"{what}: the name {_short(title)} is not allowed; {rule}")
    return title


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
    if len(equations) > MOST_EQUATIONS:
        raise SpecError(f"{place}: there are {len(equations)} equations; at most {MOST_EQUATIONS}")
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

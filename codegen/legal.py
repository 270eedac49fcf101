"""Names of the model that would mean something else in the source get an underscore."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

import sympy as sp

from ..symbolic.functions import CONTRACTIONS
from ..symbolic.language import Index, Program, Tensor, element, elements, is_index, name_of, where_of

WORDS = """
    KERNELS OPTIONS abs acos acosh affine array asin asinh atan atanh blocks ceil cos cosh count erf erfc erfinv exp
    expm1 fetch first flat float floor gemm gemm_fetching gradients gradients_at int largest last len log log1p
    losses math max maximum min natural njit np part parts position power print range rates real rows samples
    scalars sigmoid sign sin sinh softplus sqrt sum_rows summed table tan tanh task total uniform update value view
    weights weights_at worker
"""
RESERVED = frozenset(keyword.kwlist) | frozenset(WORDS.split())


OF_FUNCTIONS = re.compile(r"(forward|train|predict|evaluate|gradients?|update)_")


def legal(name: str, taken: Container[str] = RESERVED) -> str:
    """A name that is not taken, and that no function of the module has.

    >>> legal("lambda"), legal("W1")
    ('lambda_', 'W1')
    """
    if OF_FUNCTIONS.match(name):
        name = f"the_{name}"
    while name in taken:
        name += "_"
    return name


def legal_names(names: Iterable[str], arrays: Container[str] = (), taken: Iterable[str] = ()) -> dict[str, str]:
    """Names for the variables of a function, no two the same; of each of `arrays`, name_of and name_at are its own too.

    >>> legal_names(["m", "m_of", "first", "first_"], arrays=["m"])
    {'m': 'm', 'm_of': 'm_of_', 'first': 'first_', 'first_': 'first__'}
    """
    made: dict[str, str] = {}
    used = {*RESERVED, *taken}
    for name in dict.fromkeys(names):
        own, endings = legal(name), ("", "_of", "_at") if name in arrays else ("",)
        while any(f"{own}{ending}" in used for ending in endings):
            own += "_"
        used.update(f"{own}{ending}" for ending in endings)
        made[name] = own
    return made


def legalised(program: Program) -> tuple[Program, Mapping[str, str]]:
    """The program under names that the source can have, and the model's own name of every tensor."""
    renamed: dict[str, str] = {}
    fine = {name for name in program.by_name if legal(name) == name}
    for name in program.by_name:
        renamed[name] = name if name in fine else legal(name, RESERVED | fine | set(renamed.values()))
    local = {f"{renamed[name]}_value" for name, tensor in program.by_name.items() if not tensor.indices}
    symbols = sorted(_index_symbols(program), key=str)
    taken = {*RESERVED, *renamed.values(), *local}
    other = {}
    for symbol in symbols:
        if legal(symbol.name, taken) != symbol.name:
            new = legal(symbol.name, taken | {s.name for s in symbols})
            taken.add(new)
            other[symbol] = sp.Symbol(new, integer=True, nonnegative=True)
    back = {new: old for old, new in renamed.items()}
    if not other and all(old == new for old, new in renamed.items()):
        return program, back

    def indices(given: tuple[Index, ...]) -> tuple[Index, ...]:
        return tuple(Index(other.get(i.symbol, i.symbol), i.extent) for i in given)

    def expr(given: sp.Expr) -> sp.Expr:
        return _renamed(given, program.by_name, renamed).xreplace(other)

    tensors = tuple(replace(t, name=renamed[t.name], indices=indices(t.indices)) for t in program.tensors)
    equations = tuple(
        replace(e, name=renamed[e.name], indices=indices(e.indices), expr=expr(e.expr)) for e in program.equations
    )
    outputs = tuple(renamed[name] for name in program.outputs)
    return replace(program, tensors=tensors, equations=equations, outputs=outputs), back


def _index_symbols(program: Program) -> set[sp.Symbol]:
    found = {i.symbol for t in program.by_name.values() for i in t.indices}
    for equation in program.equations:
        for contraction in equation.expr.atoms(*CONTRACTIONS):
            found |= {symbol for symbol, _, _ in contraction.limits}
    return {s for s in found if is_index(s)}


def _renamed(expr: sp.Expr, tensors: Mapping[str, Tensor], renamed: Mapping[str, str]) -> sp.Expr:
    """All reads under their new names, innermost first."""
    pending = {r for r in elements(expr) if renamed[name_of(r)] != name_of(r)}
    for read in sorted(pending, key=lambda r: r.count_ops()):
        name = name_of(read)
        expr = expr.xreplace({read: element(renamed[name], where_of(read), tensors[name].kind)})
    return expr

"""The machine code of emitted kernels: their loops run on vectors, and call no function of the mathematics library."""

import platform
import re

import pytest
from llvmlite import binding
from numba import config

import chainrule as cr
from chainrule.runtime.assembly import target_machine

LIBRARY = re.compile(
    r"\b_?(exp|expm1|log|log1p|tanh|sin|cos|tan|sinh|cosh|erf|erfc|atan|asin|acos|a\w+h|max|maximum)f?\b"
)


def assembly(model: cr.Model, dtype: str) -> str:
    """Of the rows of a training step: gather, forward, loss, backward."""
    machine = cr.Trainer(model, cr.SGD(0.1), 32, dtype).kernels.machine()
    rows = machine.kernels["routines"]["train"][0]["function"]
    module = binding.parse_assembly(machine.code.compiled(rows).inspect_llvm())
    text: str = target_machine().emit_assembly(module)
    return text


@pytest.mark.skipif(bool(config.BOUNDSCHECK), reason="a loop that checks its positions is not vectorised")
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="there is no machine code")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize(
    ("activation", "last", "loss", "dtype"),
    [
        ("tanh", "identity", "squared_error", "float32"),
        ("gelu", "softmax", "cross_entropy", "float32"),
        ("mish", "sigmoid", "binary_cross_entropy", "float64"),
    ],
)
def test_elementwise_loops_are_vectors(activation: str, last: str, loss: str, dtype: str) -> None:
    text = assembly(cr.Model(20, [cr.Dense(70, activation), cr.Dense(30, last)], loss), dtype)
    letter = "s" if dtype == "float32" else "d"
    assert len(re.findall(rf"\tv?(?:mul|fn?m(?:add|sub)\d+)p{letter}\t[^\n]*[yz]mm", text)) > 10
    called = re.findall(r"(?:callq?\t|movabsq\t\$)\s*([A-Za-z_]\w*)", text)
    assert not [name for name in called if LIBRARY.fullmatch(name)]

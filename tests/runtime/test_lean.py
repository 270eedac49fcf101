"""Numba with less to do gives the same functions."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numba import cfunc, config, njit, types

import chainrule as cr
from chainrule.codegen.request import Update
from chainrule.runtime import kernels
from chainrule.runtime.kernels import Kernels
from chainrule.runtime.lean import Lean, slim
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.optimisers import OPTIMISERS
from chainrule.symbolic.reader import FUNCTIONS

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="it compiles")


def test_a_helper_is_compiled_once() -> None:
    """Also where one call has a number and another a variable."""

    @njit
    def after(first: int, count: int) -> int:
        return first + count

    def called(n: int) -> int:
        return after(0, n) + 100 * after(n, 7)  # type: ignore[no-any-return]

    helper: Any = after
    module = ModuleType("tried")
    module.after, module.called = after, called  # type: ignore[attr-defined]
    slim(module)
    function = cfunc(types.int64(types.int64), pipeline_class=Lean)(called)
    assert function.ctypes(5) == 1205
    assert helper.signatures == [(types.int64, types.int64)]


EXAMPLES = Path(__file__).parents[2] / "examples"
COMPILED = """
import re, sys
from pathlib import Path
from chainrule.runtime import native, workshop
if sys.argv[1] == "few":
    workshop.warm()
for name in sys.argv[2:]:
    path, _, function = name.rpartition(":")
    code = native.kernels(Path(path), Path(path).read_text("utf-8"), checked=True)
    print(re.sub(r"_ZN[\\w$.]+|object at 0x\\w+", "", code.compiled(function)._library.get_asm_str()))
"""


def process(tables: str, functions: Iterable[str]) -> subprocess.Popen[str]:
    """A process with all of Numba's tables or with few, which says the machine code of functions."""
    return subprocess.Popen([sys.executable, "-W", "error", "-c", COMPILED, tables, *functions], stdout=-1, text=True)


def functions_of(made: Kernels) -> Iterator[str]:
    """What trains or, where nothing does, what computes gradients."""
    phases = made.machine().kernels["routines"]["gradients" if made.update is None else "train"]
    yield from (f"{made.path}:{phase['function']}" for phase in phases)


def of_all(dtype: str) -> Iterator[Kernels]:
    """Kernels with every function of the language, every loss and every optimiser."""
    calls = {"min": "min(z, 1)", "max": "max(z, 1)", "clip": "clip(z, 0, 1)", "where": "where(z < 0 or z > 1, z, 1)"}
    functions = cr.Activation("all", " + ".join(calls.get(name, f"{name}(z)") for name in FUNCTIONS))
    layers = [cr.Dense(2, functions), cr.Dropout(0.5), cr.Dense(2, "softmax")]
    yield Kernels(cr.Model(2, layers, "cross_entropy"), dtype, Update(cr.Adam(0.01)))
    for path in sorted((EXAMPLES / "own").glob("*.toml")):
        yield Kernels(cr.load(path), dtype)
    for name in LOSSES:
        yield Kernels(cr.Model(2, [cr.Dense(2, "sigmoid")], name), dtype)
    for name in OPTIMISERS:
        yield Kernels(cr.Model(2, [cr.Dense(2)]), dtype, Update(cr.optimiser(name)))


def test_few_tables_are_enough_for_every_kernel_and_make_the_same_code() -> None:
    some, *others = (list(functions_of(made)) for made in of_all("float32"))
    with process("all", some) as all_tables, process("few", [*some, *chain(*others)]) as few:
        (code, _), (codes, _) = all_tables.communicate(timeout=300), few.communicate(timeout=300)
    assert all_tables.returncode == few.returncode == 0
    assert codes.startswith(code)
    assert "chainrule_product_float32" in code


def test_machine_code_is_kept_by_all_that_shapes_it() -> None:
    """And by what that imports of ours: else old machine code would be found after a change of it."""
    folder, texts = Path(kernels.__file__).parent, kernels.support_source()
    named = re.findall(r"^from \.(\w+) import", texts, re.MULTILINE)
    assert {"lowering", "aliasing"} <= set(named)
    for name in named:
        assert (folder / f"{name}.py").read_text("utf-8") in texts, name

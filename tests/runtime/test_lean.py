"""Numba with less to do gives the same functions."""

from types import ModuleType
from typing import Any

import pytest
from numba import cfunc, config, njit, types

from chainrule.runtime.lean import Lean, slim

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

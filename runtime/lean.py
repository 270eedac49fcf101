"""Numba with less to do: for kernels, which hold little of what it can compile, and for a process that compiles alone.

Kernels hold no closures, comprehensions, `with` blocks, `prange`, branches on types or literal unrolling. Each of the
passes for them walks over the whole function, and most of the time that a compilation takes is spent in such walks.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from numba import types
from numba.core import typed_passes, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.lowering import Lower

from .aliasing import mark


class Marked(Lower):
    """From what is typed to LLVM's instructions, of which those that read and write arrays are marked."""

    def lower_normal_function(self, description):  # type: ignore[no-untyped-def]
        super().lower_normal_function(description)
        mark(self.module)


@register_pass(mutates_CFG=True, analysis_only=False)
class MarkedLowering(typed_passes.BaseNativeLowering):
    """The pass that does so."""

    _name = "marked_lowering"  # type: ignore[assignment]

    @property
    def lowering_class(self):  # type: ignore[no-untyped-def]
        return Marked


PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    MarkedLowering,
    typed_passes.NoPythonBackend,
)


class Lean(CompilerBase):
    """For `pipeline_class`."""

    def define_pipelines(self):  # type: ignore[no-untyped-def]
        manager = PassManager("lean")
        for step in PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


def slim(module: ModuleType) -> None:
    """Let the functions that kernels call be compiled by `Lean`, too, and once: a 0 is a number as any other."""
    for helper in vars(module).values():
        compiler: Any = getattr(helper, "_compiler", None)  # of a function that `njit` has made
        if getattr(compiler, "pipeline_class", Lean) is not Lean:
            compiler.pipeline_class = Lean
            helper.get_call_template = partial(_for_any_number, helper.get_call_template)


def _for_any_number(template: Callable[..., Any], arguments: Any, named: Any) -> Any:
    """What a function is called as, not for one number that the source has in its place."""
    return template(tuple(map(types.unliteral, arguments)), {k: types.unliteral(kind) for k, kind in named.items()})


def remember_types(context: Any) -> None:
    """Let a typing context of Numba find the type of a call once: `+` of two integers is asked for in every line."""
    find = context.resolve_function_type
    known: dict[Any, Any] = {}

    def found(function: Any, arguments: Any, named: Any) -> Any:
        try:
            key = function, arguments, tuple(named.items())
            if key in known:
                return known[key]
        except (TypeError, AttributeError):  # not what can be looked up
            return find(function, arguments, named)
        signature = find(function, arguments, named)
        if signature is not None:
            known[key] = signature
        return signature

    context.resolve_function_type = found

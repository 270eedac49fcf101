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
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass

from .lowering import Lowering


class Once(JITCodeLibrary):
    """Machine code, for which LLVM's passes over single functions are left out: those over modules do their work."""

    def _optimize_functions(self, ll_module):  # type: ignore[no-untyped-def]
        ll_module.data_layout = self._codegen._data_layout


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(typed_passes.BaseNativeLowering):
    """The pass from types to LLVM's instructions, by `Lowering`."""

    _name = "kernel_lowering"  # type: ignore[assignment]

    def run_pass(self, state):  # type: ignore[no-untyped-def]
        if state.library is None:
            state.library = Once(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        return super().run_pass(state)

    @property
    def lowering_class(self):  # type: ignore[no-untyped-def]
        return Lowering


PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    KernelLowering,
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


def fill_tables_for_kernels() -> None:
    """Let Numba fill the tables that kernels are looked up in, not those of strings, sets, linear algebra and so on,
    which take most of the time of a process's first function; nor compile and link what counts references.

    This process can compile kernels from here on, and little else.
    """
    from llvmlite.binding import add_symbol
    from numba import typed
    from numba.core import fastmathpass
    from numba.core.cpu import CPUContext
    from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]
    from numba.core.typing import cffi_utils  # noqa: F401
    from numba.core.typing.context import Context

    def fill(context: Any) -> None:
        from numba.cpython import builtins, mathimpl, numbers, tupleobj  # noqa: F401

        context.install_registry(mathimpl.registry)

    def fill_types(context: Any) -> None:
        from numba.core.typing import mathdecl

        context.install_registry(mathdecl.registry)

    def rewrite(context: Any, module: Any, _library: Any) -> None:
        if context.fastmath:
            fastmathpass.rewrite_module(module, context.fastmath)

    for name, address in _nrt_python.c_helpers.items():
        add_symbol(name if name.startswith("_") else f"NRT_{name}", address)  # of reports of errors, which nobody makes
    replaced: Any = CPUContext, Context
    replaced[0].load_additional_registries, replaced[0].post_lowering = fill, rewrite
    replaced[1].load_additional_registries = fill_types
    vars(typed).update(Dict=(), List=(), Set=())  # which names of types are compared with

"""Numba's pipeline without the passes that have nothing to do in kernels and in the driver.

They hold no closures, comprehensions, `with` blocks, `prange`, branches on types or literal unrolling. Each of those
passes walks over the whole function, and most of the time that a compilation takes is spent in such walks.
"""

from numba.core import typed_passes, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager

PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.NativeLowering,
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

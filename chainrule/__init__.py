"""Write the equation of a model, read its gradient, run it fast on a CPU.

The public names; each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_HOMES = {
    "symbolic.model": ("Model", "Variant"),
    "symbolic.layers": ("Activation", "Dense", "Dropout", "Equations"),
    "symbolic.losses": ("Loss",),
    "symbolic.penalties": ("ElasticNet", "L1", "L2", "Penalty"),
    "symbolic.optimisers": (
        "AMSGrad", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Momentum", "NAdam", "Nesterov",
        "Optimiser", "RMSprop", "SGD", "custom_optimiser", "optimiser",
    ),
    "symbolic.schedules": (
        "Constant", "Cosine", "Exponential", "InverseTime", "OneCycle", "ReduceOnPlateau", "Schedule", "StepDecay",
        "WarmUp", "schedule",
    ),
    "symbolic.initialisers": ("Initialiser", "initialiser"),
    "symbolic.derivation": ("Derivation", "derived_program"),
    "symbolic.language": ("Equation", "Index", "Program", "Role", "Tensor", "index"),
    "symbolic.errors": ("ChainruleError", "DataError", "InternalError", "SpecError"),
    "runtime.kernels": ("Kernels", "compile"),
    "runtime.certify": ("check",),
    "runtime.certificate": ("Certificate",),
    "runtime.trainer": ("Trainer",),
    "runtime.lbfgs": ("LBFGS",),
    "runtime.callbacks": ("EarlyStopping",),
    "runtime.keeping": ("Checkpoint",),
    "runtime.divergence": ("Divergence", "DivergenceError"),
    "runtime.history": ("History",),
    "runtime.metrics": ("Metric", "metric"),
    "runtime.spec": ("Spec", "load", "read_spec"),
    "runtime.standalone": ("generate_source",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_TO_COMPILE = ("Dense", "Model", "Trainer", "compile", "load")  # who asks for one of these is about to compile

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .runtime.callbacks import EarlyStopping as EarlyStopping
    from .runtime.certificate import Certificate as Certificate
    from .runtime.certify import check as check
    from .runtime.divergence import Divergence as Divergence
    from .runtime.divergence import DivergenceError as DivergenceError
    from .runtime.keeping import Checkpoint as Checkpoint
    from .runtime.kernels import Kernels as Kernels
    from .runtime.kernels import compile as compile
    from .runtime.spec import load as load
    from .runtime.trainer import Trainer as Trainer
    from .symbolic.layers import Activation as Activation
    from .symbolic.layers import Dense as Dense
    from .symbolic.layers import Dropout as Dropout
    from .symbolic.layers import Equations as Equations
    from .symbolic.model import Model as Model


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("chainrule")
    if name in _HOME:
        from importlib import import_module

        if name in _TO_COMPILE:
            import_module(".runtime.native", __name__).expect_compiling()
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

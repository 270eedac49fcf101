"""`chainrule generate`: kernels and all that they stand on in one file, which needs NumPy, Numba and SciPy only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..codegen.generate import model_source
from ..codegen.request import Request, Update
from ..symbolic.errors import SpecError
from ..symbolic.model import Model, Variant
from .kernels import DTYPES

USE = '''

# ---- using the kernels

from numba import cfunc


class _Compiled:
    """Machine code of the functions of this file, which Numba keeps in its cache."""

    def __init__(self, compiled):
        self.compiled, self.known = compiled, {}

    def prepare(self, names):
        """They are compiled where they are linked."""

    def address(self, name):
        if name not in self.known:
            self.known[name] = self.compiled(name)
        return self.known[name].address


def _phase(name):
    signature = types.void(types.int64, types.int64, types.CPointer(types.int64))
    try:
        return cfunc(signature, cache=True, **OPTIONS)(globals()[name])
    except Exception:  # noqa: BLE001  no folder to cache in, or a damaged cache; what is really wrong is raised again
        return cfunc(signature, **OPTIONS)(globals()[name])


MACHINE = Machine(KERNELS, _Compiled(_phase), Team(_Compiled(compiled)))


def init(seed=0):
    """First values of all parameters: dict of name -> array."""
    return initial_parameters(MACHINE, seed)


def predict(parameters, x, threads=1):
    """The model's output for every sample."""
    return run_predict(MACHINE, parameters, x, threads)


def loss_and_gradients(parameters, x, y, sample_weight=None, threads=1):
    """The loss, penalties included, and its gradient with respect to every parameter."""
    return run_gradients(MACHINE, parameters, x, y, sample_weight, threads)


def train(parameters, x, y, sample_weight=None, epochs=20, batch_size=32, lr=None, seed=0, threads=1, report=None):
    """Train with the model's optimiser; returns the trained parameters and the loss of every epoch.

    `report(epoch, loss)` is called after every epoch.
    """
    rate = float(KERNELS["optimiser"]["lr"] if lr is None else lr)
    if epochs < 1 or batch_size < 1 or not 0 < rate < math.inf:
        raise ValueError("epochs and batch_size are at least 1, and lr is a number above 0")
    given = given_arrays(MACHINE, x, y, sample_weight)
    samples = len(next(iter(given.values())))
    batch_size = min(batch_size, samples)
    training = Training(MACHINE, parameters, batch_size, threads)
    steps = -(-samples // batch_size)
    sizes = np.full(steps, float(batch_size))
    sizes[-1] = samples - batch_size * (steps - 1)
    rates = np.full(steps, rate)
    losses = []
    for epoch in range(epochs):
        order, key = order_of(MACHINE.team, seed, epoch, samples)
        losses.append(float(np.average(training.run(given, order, rates, np.array([key])), weights=sizes)))
        if report is not None:
            report(epoch + 1, losses[-1])
    return shaped(MACHINE, training.parameters), losses


def main(arguments=None):
    """Train on an .npz file with the arrays x and y, and write the weights to another."""
    import argparse
    import zipfile

    parser = argparse.ArgumentParser(description=f"Train {KERNELS['model']} on an .npz file with the arrays x and y.")
    parser.add_argument("data", help=".npz file with the arrays x (samples, features) and y")
    parser.add_argument("-o", "--output", default="weights.npz", help="where the trained weights go (%(default)s)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=KERNELS["optimiser"]["lr"], help="learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        with open(options.data, "rb") as file:
            data = np.load(file, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError(f"{options.data}: one array without a name; give an .npz file with the arrays x and y")
            missing = [name for name in ("x", "y") if name not in data.files]
            if missing:
                raise ValueError(f"{options.data}: there is no array {missing[0]!r}; it has {', '.join(data.files)}")
            x, y = data["x"], data["y"]
            weight = data["sample_weight"] if KERNELS["weighted"] and "sample_weight" in data.files else None
        trained, losses = train(
            init(options.seed), x, y, weight, options.epochs, options.batch_size, options.lr, options.seed,
            options.threads, report=lambda epoch, loss: print(f"epoch {epoch}/{options.epochs}  loss {loss:.6g}"),
        )  # fmt: skip
        output = options.output if options.output.endswith(".npz") else f"{options.output}.npz"
        np.savez(output, **trained)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        parser.exit(2, f"error: {error}\\n")
    print(f"loss {losses[-1]:.6g}; weights in {output}")


if __name__ == "__main__":
    main()
'''


def generate_source(
    model: Model, optimiser: Any, dtype: str = "float32", *, clip_value: float | None = None,
    clip_norm: float | None = None, weighted: bool = False,
) -> str:  # fmt: skip
    """One file that initialises, predicts, gives loss and gradients, takes training steps, and trains on an .npz file.

    weighted   make `loss_and_gradients` and `train` take sample weights
    """
    if dtype not in DTYPES:
        raise SpecError(f"dtype = {dtype!r}; choose one of {', '.join(DTYPES)}")
    variant = Variant(model.loss.classes, weighted)
    request = Request(variant, Update(optimiser, clip_value, clip_norm), dtype)
    return model_source(model, request, _inlined(dtype)) + USE


def _inlined(dtype: str) -> str:
    """The text of all that kernels stand on, in the order of its imports, without what imports it from chainrule."""
    folder = Path(__file__).parent
    before, after = (
        f"elementary_{dtype} linking assembly control tiles",
        "products driver blas team support machine given evaluation training",
    )
    names = f"{before} {after}".split()
    return "\n\n".join(_text((folder / f"{name}.py").read_text(encoding="utf-8")) for name in names) + "\n"


def _text(module: str) -> str:
    module = re.sub(r'\A""".*?"""\n', "", module, count=1, flags=re.DOTALL)
    return re.sub(r"^from \.\w* import (\([^)]*\)|[^\n]*)(  # fmt: skip)?\n", "", module, flags=re.MULTILINE).strip()

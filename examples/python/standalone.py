"""Kernels in one file that needs NumPy, Numba and SciPy, not chainrule: python examples/python/standalone.py [epochs]

On the command line the same file is made by `chainrule generate examples/digits.toml -o digits_kernels.py`, and
`python digits_kernels.py examples/data/digits.npz` trains with it.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

import chainrule as cr

DATA = Path(__file__).parent.parent / "data" / "digits.npz"


def written(folder: Path) -> Path:
    """Write the file."""
    model = cr.Model(64, [cr.Dense(32, "relu"), cr.Dense(10, "softmax")], loss="cross_entropy", name="digits")
    path = folder / "digits_kernels.py"
    path.write_text(cr.generate_source(model, cr.Adam(3e-3)))
    return path


def imported(path: Path) -> ModuleType:
    """Import a file, as any program would that has it beside itself."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(epochs: int = 20) -> float:
    """Train with the file alone; returns the accuracy on the last 297 images."""
    with np.load(DATA) as data:
        x, y = data["x"] / 16, data["y"]
    with tempfile.TemporaryDirectory() as folder:
        kernels = imported(written(Path(folder)))
        parameters, losses = kernels.train(kernels.init(seed=0), x[:1500], y[:1500], epochs=epochs)
        loss, gradients = kernels.loss_and_gradients(parameters, x[1500:], y[1500:])
        accuracy = float((kernels.predict(parameters, x[1500:]).argmax(axis=1) == y[1500:]).mean())
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {epochs} epochs")
    print(f"loss on what it has not seen {loss:.3f}, accuracy {accuracy:.3f}")
    print("gradients:", ", ".join(f"{name} {array.shape}" for name, array in gradients.items()))
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""The generated file alone: neither chainrule nor SymPy is there, and it gives what the package gives."""

import ast
import gc
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr

RNG = np.random.default_rng(0)
X = RNG.normal(size=(65, 3))
Y = np.tanh(X @ RNG.normal(size=(3, 2))) * X[:, :1]
W = RNG.random(65)
MODEL = cr.Model(3, [cr.Dense(4, "swish"), cr.Dropout(0.25), cr.Dense(2)], penalties=[cr.L2(0.01)], name="small")

# Any import of these raises, whatever is installed.
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("chainrule", "sympy", "pydantic", "click", "safetensors", "symbolic", "codegen", "runtime"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocked())
"""  # noqa: E501
USE = """
import importlib.util, json
import numpy as np
try:
    import sympy
except ImportError:
    pass
else:
    raise SystemExit("the block does not block")
spec = importlib.util.spec_from_file_location("small_kernels", sys.argv[1])
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)
data = np.load(sys.argv[2])
x, y, w = data["x"], data["y"], data["sample_weight"]
parameters = kernels.init(5)
loss, gradients = kernels.loss_and_gradients(parameters, x, y, w)
trained, losses = kernels.train(parameters, x, y, w, epochs=12, batch_size=16, lr=0.02, seed=1)
again, same = kernels.train(parameters, x, y, w, epochs=12, batch_size=16, lr=0.02, seed=1, threads=2)
other, _ = kernels.train(parameters, x, y, w, epochs=12, batch_size=16, lr=0.02, seed=2)
assert losses == same
assert all(np.array_equal(trained[k], again[k]) for k in trained)
assert not all(np.array_equal(trained[k], other[k]) for k in trained)
assert not {"chainrule", "sympy"} & set(sys.modules)
problems = []
for wrong in (dict(x=x[:, :2]), dict(y=y[:3]), dict(parameters={})):
    try:
        kernels.loss_and_gradients(**{"parameters": parameters, "x": x, "y": y, "sample_weight": w, **wrong})
    except ValueError as error:
        problems.append(str(error))
np.savez(sys.argv[3], predicted=kernels.predict(parameters, x), loss=loss, **{f"d{k}": v for k, v in gradients.items()})
print(json.dumps({"losses": losses, "problems": problems, "after": kernels.loss_and_gradients(trained, x, y, w)[0]}))
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "small_kernels.py"
    path.write_text(text, "utf-8")
    return path


def python(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the file says and computes in a process where nothing else can be imported."""
    folder = tmp_path_factory.mktemp("alone")
    path = write(folder, cr.generate_source(MODEL, cr.Adam(1e-3), "float64", weighted=True))
    np.savez(folder / "data.npz", x=X, y=Y, sample_weight=W)
    made = python("-W", "error", "-c", BLOCK + USE, path, folder / "data.npz", folder / "out.npz", folder=folder)
    assert made.returncode == 0, made.stderr
    with np.load(folder / "out.npz") as arrays:
        return json.loads(made.stdout), dict(arrays)


def test_same_numbers_as_the_package(used: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    _, arrays = used
    kernels = cr.compile(MODEL)
    parameters = kernels.init(5)
    loss, gradients = kernels.loss_and_gradients(parameters, X, Y, W)
    assert arrays["loss"] == pytest.approx(loss, rel=1e-13)
    assert {k[1:] for k in arrays if k.startswith("d")} == set(gradients)
    for name, gradient in gradients.items():
        assert gradient.any()
        np.testing.assert_allclose(arrays[f"d{name}"], gradient, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(arrays["predicted"], kernels.predict(parameters, X), rtol=1e-13)


def test_training_reduces_the_loss(used: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    said, arrays = used
    assert len(said["losses"]) == 12
    assert said["losses"][-1] < 0.8 * said["losses"][0]
    assert said["after"] < 0.8 * float(arrays["loss"])


def test_what_is_wrong_is_named(used: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    features, samples, missing = used[0]["problems"]
    assert "(65, 2)" in features
    assert "different numbers of samples" in samples
    assert "W1 is missing" in missing


def test_file_reads_well() -> None:
    text = cr.generate_source(MODEL, cr.Adam(1e-3), "float64")
    compile(text, "small_kernels.py", "exec")  # Python's own: it is well formed
    assert text.startswith('"""Kernels generated')
    assert text.count('\n"""\n') == 1  # one banner
    imports = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    assert set(imports) <= {
        "contextlib",
        "ctypes",
        "functools",
        "hashlib",
        "inspect",
        "itertools",
        "math",
        "operator",
        "os",
        "pathlib",
        "sys",
        "threading",
        "types",
        "numba",
        "numpy",
        "llvmlite",
    }
    assert text == cr.generate_source(MODEL, cr.Adam(1e-3), "float64")
    assert text != cr.generate_source(MODEL, cr.Adam(1e-3), "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_defined_twice(dtype: str) -> None:
    """The texts of several modules share one space of names."""
    tree = ast.parse(cr.generate_source(MODEL, cr.Adam(1e-3), dtype))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    names += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


# As a program


SMALLEST = cr.Model(2, [cr.Dense(1)], name="line")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x1 - 2 x2 + 1, and the file of a model that can learn it."""
    folder = tmp_path_factory.mktemp("line")
    x = np.random.default_rng(1).normal(size=(60, 2))
    y = x @ [[1.0], [-2.0]] + 1
    np.savez(folder / "good.npz", x=x, y=y)
    np.savez(folder / "no_y.npz", x=x)
    np.savez(folder / "wide.npz", x=np.ones((60, 3)), y=y)
    np.savez(folder / "text.npz", x=np.full((60, 2), "a"), y=y)
    np.savez(folder / "object.npz", x=np.array([1, None]), y=y)
    np.savez(folder / "none.npz", x=x[:0], y=y[:0])
    with (folder / "one.npz").open("wb") as file:
        np.save(file, x)
    good = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(good[: len(good) // 2])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "words.npz").write_text("hello")
    return write(folder, cr.generate_source(SMALLEST, cr.SGD(0.1), "float64"))


def test_program_trains_and_writes_weights(line: Path) -> None:
    made = python(line, "good.npz", "-o", "made.npz", "--epochs", "40", "--batch-size", "7", folder=line.parent)
    assert made.returncode == 0, made.stderr
    lines = made.stdout.splitlines()
    assert len(lines) == 41
    assert lines[0].startswith("epoch 1/40  loss ")
    assert lines[-1].endswith("made.npz")
    with np.load(line.parent / "made.npz") as weights:
        np.testing.assert_allclose(weights["Wo"], [[1, -2]], atol=1e-6)
        np.testing.assert_allclose(weights["bo"], [1], atol=1e-6)


WRONG = {
    "no_y.npz": "'y'", "wide.npz": "(60, 3)", "text.npz": "numbers", "object.npz": "", "none.npz": "no samples",
    "one.npz": "", "cut.npz": "", "empty.npz": "", "words.npz": "", "missing.npz": "missing.npz",
}  # fmt: skip


def test_wrong_file_ends_the_program(line: Path) -> None:
    made = python(line, "no_y.npz", folder=line.parent)
    assert made.returncode == 2, made.stderr
    assert made.stdout == ""
    assert made.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def main(line: Path) -> Any:
    """The program as a function."""
    spec = importlib.util.spec_from_file_location("line_kernels", line)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def exit_code(main: Any, arguments: list[str]) -> object:
    try:
        main(arguments)
    except SystemExit as end:
        return end.code
    return None


@pytest.mark.parametrize("file", WRONG)
def test_wrong_file_is_one_line(main: Any, line: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(main, [str(line.parent / file), "--epochs", "1", "-o", str(line.parent / "never.npz")]) == 2
    gc.collect()  # a file that was left open warns now, which is an error in tests
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ")
    assert WRONG[file] in said.err
    assert not (line.parent / "never.npz").exists()


@pytest.mark.parametrize("option", [("--epochs", "0"), ("--batch-size", "0"), ("--lr", "nan"), ("--epochs", "x")])
def test_wrong_option(main: Any, line: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(main, [str(line.parent / "good.npz"), *option, "-o", str(line.parent / "never.npz")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (line.parent / "never.npz").exists()

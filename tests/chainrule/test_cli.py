"""The command line: what is printed, what is written, and what is said when something is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from chainrule import bench, commands, doctor
from chainrule.cli import main
from chainrule.runtime import store
from chainrule.runtime.signals import Terminated
from chainrule.runtime.spec import spec_to_dict

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.toml"
SPEC = """
[model]
inputs = 2
loss = "cross_entropy"

[[layer]]
type = "dense"
units = 3
activation = "softmax"

[training]
epochs = 3
validation = 0.25
metrics = ["accuracy"]

[data]
file = "flowers.csv"
targets = "kind"
scale = "standard"
test = 0.25
"""
FLOWERS = "a,b,kind\n" + "".join(f"{k},{k * k % 7},{('iris', 'rose', 'tulip')[k % 3]}\n" for k in range(40))


class FakeTrainer:
    """Keeps what it is told, and saves that; its predictions depend on the data alone."""

    interrupted: BaseException | None = None
    left = 0  # epochs that it does not come to

    def __init__(self, classes: int, epochs: int = 0, unfinished: int = 0) -> None:
        self.classes, self.epochs, self.unfinished = classes, epochs, unfinished
        self.given: dict[str, Any] = {}
        self.spec: Any = None

    def fit(self, x: np.ndarray, y: np.ndarray, **given: Any) -> None:
        self.given = {"x": x, "y": y, **given}
        self.epochs += given["epochs"] - self.left
        directory = Path(given["checkpoint"].directory)
        if given["checkpoint"].again and store.numbers(directory):
            store.set_aside(directory)
        tables = spec_to_dict(self.spec, directory / "checkpoint" / "spec.json")
        state = json.dumps([self.classes, self.epochs, self.left])
        store.write(directory, [("spec.json", json.dumps(tables).encode()), ("weights.json", state.encode())], "me", {})
        if self.interrupted is not None:
            raise self.interrupted

    def predict(self, x: np.ndarray) -> np.ndarray:
        scores = np.abs(x[:, :1] - np.arange(self.classes))
        return scores / scores.sum(axis=1, keepdims=True)

    def evaluate(self, x: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> dict[str, float]:
        return {"loss": 0.5, "accuracy": float((self.predict(x).argmax(axis=1) == y).mean())}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec and its data, in which the commands run with the fake trainer."""
    (tmp_path / "net.toml").write_text(SPEC, "utf-8")
    (tmp_path / "flowers.csv").write_text(FLOWERS, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "new_trainer", lambda spec, **_: FakeTrainer(3))
    monkeypatch.setattr(bench, "new_trainer", lambda spec, **_: BenchedTrainer())
    monkeypatch.setattr(commands, "restored", lambda saved: FakeTrainer(*saved.table_of_numbers()))
    monkeypatch.setattr(
        store.Saved, "table_of_numbers", lambda saved: json.loads(saved.content("weights.json")), raising=False
    )
    return tmp_path


class BenchedTrainer:
    def fit(self, x: np.ndarray, y: np.ndarray, **given: Any) -> None:
        pass


def state(run: str | Path) -> list[int]:
    """Classes, epochs, and epochs still to do, of the newest checkpoint."""
    made: list[int] = json.loads(store.latest(Path(run)).content("weights.json"))
    return made


def spec_of(run: str | Path) -> dict[str, Any]:
    return store.latest(Path(run)).table("spec.json")


def run(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result


# --- what works


def test_check() -> None:
    output = run("check", DIGITS).stdout
    assert "dense, softmax" in output
    assert "85,002" in output
    assert output.endswith("digits.toml is ok\n")


@pytest.mark.parametrize(
    ("form", "start", "part"),
    [
        ("text", "", "softmax"),
        ("latex", "\\documentclass", "\\end{document}"),
        ("html", "<!DOCTYPE html>", "</math>"),
    ],
)
def test_formulas(tmp_path: Path, form: str, start: str, part: str) -> None:
    printed = run("formulas", DIGITS, "--format", form).stdout
    assert printed.lower().startswith(start.lower())
    assert part in printed
    run("formulas", DIGITS, "--format", form, "-o", tmp_path / "formulas")
    assert (tmp_path / "formulas").read_text("utf-8") == printed


def test_formulas_hold_the_update() -> None:
    assert "adam" in run("formulas", DIGITS).stdout
    assert "lion" in run("formulas", DIGITS, "--set", "training.optimiser=lion").stdout


def test_train(folder: Path) -> None:
    result = run("train", "net.toml")
    assert "samples: 22 for training, 8 for validation, 10 for test" in result.stdout
    assert "saved in runs/net\n" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("test accuracy 0.")
    written = spec_of("runs/net")
    assert written["run"]["classes"] == ["iris", "rose", "tulip"]
    assert written["run"]["inputs"]["kind"] == "standard"
    assert written["data"]["file"] == "../../../flowers.csv"
    assert written["data"]["inputs"] == ["a", "b"]


def test_training_gets_what_the_spec_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = FakeTrainer(3)
    monkeypatch.setattr(commands, "new_trainer", lambda spec, **_: trainer)
    run("train", "net.toml", "-q", "--set", "training.epochs=9", "-o", "here")
    assert len(store.numbers(folder / "here")) == 1
    assert (trainer.given["epochs"], trainer.given["verbose"]) == (9, 0)
    assert np.allclose(trainer.given["x"].mean(axis=0), 0, atol=1e-6)
    assert trainer.given["y"].dtype == np.int64
    assert len(trainer.given["validation"][0]) == 8


def test_a_second_training_does_not_overwrite_the_first(folder: Path) -> None:
    run("train", "net.toml")
    line = run("train", "net.toml", "--set", "training.seed=7", code=2).stderr
    assert "SpecError: runs/net holds a run already; go on with it (chainrule resume" in line
    run("train", "net.toml", "--set", "training.seed=7", "--again")
    assert spec_of("runs/net")["training"]["seed"] == 7
    assert spec_of("runs/net/earlier-1")["training"]["seed"] == 0


def test_resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", "net.toml")
    run("resume", "runs/net", "--epochs", "5")
    assert state("runs/net") == [3, 8, 0]
    monkeypatch.setattr(FakeTrainer, "left", 2)
    run("resume", "runs/net", "--epochs", "9")
    assert state("runs/net") == [3, 15, 2]
    monkeypatch.setattr(FakeTrainer, "left", 0)
    result = run("resume", "runs/net")  # to the planned end
    assert "epochs to do: 2" in result.stdout
    assert state("runs/net") == [3, 17, 0]
    done = run("resume", "runs/net").stdout.splitlines()  # nothing is left to do
    assert done[1] == "all its epochs are done; --epochs asks for more"
    assert done[2:] == result.stdout.splitlines()[-4:]
    assert state("runs/net") == [3, 17, 0]


def test_resume_counts_from_what_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTrainer, "left", 1)
    run("train", "net.toml")
    run("resume", "runs/net", "--set", "training.epochs=7")
    assert state("runs/net") == [3, 2 + 6, 1]


def test_resume_says_what_is_damaged_and_what_is_another_version(folder: Path) -> None:
    run("train", "net.toml")
    run("resume", "runs/net", "--epochs", "1")
    (folder / "runs/net/checkpoint-000002/weights.json").write_text("[3, 9, 0]")
    lines = run("resume", "runs/net", "--epochs", "1").stderr.splitlines()
    assert lines[0] == (
        "warning: runs/net/checkpoint-000002: weights.json is not what was written (its sha256 is another one); "
        "checkpoint-000001, the one before it, is used"
    )
    saved = store.latest(folder / "runs/net")
    store.write(folder / "runs/net", saved.files.items(), "me", {"numba": "0.1"})
    assert "note: this run was made with numba 0.1, here 0." in run("resume", "runs/net").stderr


def test_evaluate(folder: Path) -> None:
    trained = run("train", "net.toml").stdout.splitlines()[-4:]
    assert run("evaluate", "runs/net").stdout.splitlines() == trained
    assert run("evaluate", "runs/net", "flowers.csv").stdout.startswith("flowers loss 0.5")


def test_predict(folder: Path) -> None:
    run("train", "net.toml")
    (folder / "new.csv").write_text("b,a\n1,60\n", "utf-8")
    printed = run("predict", "runs/net", "new.csv").stdout.splitlines()
    assert printed[0] == "class,iris,rose,tulip"
    assert printed[1].split(",")[0] == "iris"
    run("predict", "runs/net", "new.csv", "-o", "out.csv")
    assert (folder / "out.csv").read_text("utf-8").splitlines() == printed
    run("predict", "runs/net", "flowers.csv", "-o", "out.npz")
    with np.load(folder / "out.npz") as made:
        assert made["y_hat"].shape == (40, 3)
        assert set(made["class"]) <= {"iris", "rose", "tulip"}
    run("predict", "runs/net", "flowers.csv", "-o", "out.npy")
    assert np.load(folder / "out.npy").shape == (40, 3)


def test_bench(folder: Path) -> None:
    output = run("bench", "net.toml", "--seconds", "0.01").stdout
    assert "samples/s" in output
    assert output.splitlines()[2].split()[0] == "1"


def test_doctor_says_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(doctor, "LOOKS", {"versions": doctor.versions, "kernel": broken})
    output = run("doctor", code=1).stdout
    assert "numpy" in output
    assert "kernel     FAILS: RuntimeError: no compiler" in output
    monkeypatch.setattr(doctor, "LOOKS", {"versions": doctor.versions, "cores": doctor.cores})
    assert run("doctor").stdout.endswith("all is well\n")


# --- what is wrong


@pytest.mark.parametrize(
    ("signal", "code", "word"),
    [
        (KeyboardInterrupt("saved in runs/net"), 130, "interrupted"),
        (Terminated("saved in runs/net"), 143, "terminated"),
    ],
)
def test_an_interrupted_training_says_where_the_weights_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, signal: BaseException, code: int, word: str
) -> None:
    monkeypatch.setattr(FakeTrainer, "interrupted", signal)
    result = run("train", "net.toml", code=code)
    assert result.stderr.splitlines()[-1] == f"{word}; saved in runs/net; go on with: chainrule resume runs/net"


def test_a_full_disk_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(28, "No space left on device", "runs/net/weights")
    error.add_note("the checkpoints before it are whole")
    monkeypatch.setattr(FakeTrainer, "interrupted", error)
    (line,) = run("train", "net.toml", code=2).stderr.splitlines()
    assert line == "error: runs/net/weights: No space left on device; the checkpoints before it are whole"


Change = Callable[[Path], object]


def spec_with(old: str, new: str) -> Change:
    return lambda folder: (folder / "net.toml").write_text(SPEC.replace(old, new), "utf-8")


def nothing(folder: Path) -> None:
    pass


# (what is done to the folder, the command, what the one line on stderr must hold)
WRONG: list[tuple[Change, list[str], list[str]]] = [
    (nothing, ["check", "nett.toml"], ["SpecError: nett.toml does not exist", "Did you mean 'net.toml'?"]),
    (nothing, ["check", "flowers.csv"], ["SpecError: flowers.csv: the ending '.csv'", "Known: .json, .toml"]),
    (nothing, ["check", "."], ["SpecError: . is a directory"]),
    (spec_with("softmax", "softmx"), ["check", "net.toml"],
     ["SpecError: net.toml: layer 1: activation 'softmx'", "Did you mean 'softmax'?"]),
    (spec_with("softmax", "softmx"), ["formulas", "net.toml"], ["layer 1: activation 'softmx'"]),
    (spec_with("softmax", "softmx"), ["generate", "net.toml"], ["layer 1: activation 'softmx'"]),
    (spec_with("softmax", "softmx"), ["train", "net.toml"], ["layer 1: activation 'softmx'"]),
    (spec_with("softmax", "softmx"), ["bench", "net.toml"], ["layer 1: activation 'softmx'"]),
    (spec_with("[model]", "[model"), ["check", "net.toml"], ["SpecError: net.toml: is not TOML", "line 2"]),
    (spec_with("units = 3", "units = 0"), ["check", "net.toml"], ["layer 1: units = 0", "at least 1"]),
    (nothing, ["check", "net.toml", "--set", "layer.0.unit=3"], ["the key 'unit'", "Did you mean 'units'?"]),
    (nothing, ["check", "net.toml", "--set", "nonsense"], ["--set nonsense", "key=value"]),
    (spec_with("[data]", "[dat]"), ["train", "net.toml"], ["the key 'dat'", "Did you mean 'data'?"]),
    (lambda f: (f / "net.toml").write_text(SPEC.split("[data]")[0], "utf-8"), ["train", "net.toml"],
     ["SpecError: net.toml: there is no [data]"]),
    (spec_with("flowers.csv", "flower.csv"), ["train", "net.toml"],
     ["DataError: flower.csv does not exist", "Did you mean 'flowers.csv'?"]),
    (spec_with('"kind"', '"knd"'), ["train", "net.toml"], ["flowers.csv: targets", "Did you mean 'kind'?"]),
    (spec_with("units = 3", "units = 2"), ["train", "net.toml"], ["(iris, rose, tulip)", "tells 2 apart"]),
    (spec_with("inputs = 2", "inputs = 5"), ["train", "net.toml"], ["shape (40, 2)", "(samples, 5)"]),
    (lambda f: (f / "flowers.csv").write_text(FLOWERS.replace("\n3,", "\n,"), "utf-8"), ["train", "net.toml"],
     ["DataError: flowers.csv: line 5, column 'a': ''"]),
    (nothing, ["train", "net.toml", "-o", "."], ["SpecError: . is not empty and no run"]),
    (nothing, ["train", "net.toml", "-o", "flowers.csv"], ["flowers.csv is a file"]),
    (nothing, ["formulas", "net.toml", "-o", "no/formulas.txt"], ["there is no folder no"]),
    (nothing, ["formulas", "net.toml", "-o", "."], ["is a directory"]),
    (nothing, ["resume", "net.toml"], ["SpecError: net.toml is not a directory"]),
    (nothing, ["evaluate", "."], ["SpecError: . is no run", "checkpoint"]),
    (nothing, ["predict", "runs/net", "flowers.csv"], ["runs/net is not a directory"]),
    (nothing, ["predict", "runs/net", "flowers.csv", "-o", "out.xlsx"], ["'.xlsx'", "Known: .csv"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words", "parts"), WRONG)
def test_what_is_wrong_is_said_in_a_line(folder: Path, change: Change, words: list[str], parts: list[str]) -> None:
    change(folder)
    before = sorted(folder.iterdir())
    result = run(*words, code=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert sorted(folder.iterdir()) == before


def test_a_wrong_word_is_clicks_to_say() -> None:
    assert "No such command 'trian'" in run("trian", code=2).stderr
    assert "Missing argument 'SPEC'" in run("train", code=2).stderr


def chainrule(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # the package as it is installed, in a process of its own
        [sys.executable, "-m", "chainrule", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = "import sys; from chainrule.cli import main; main(['-h'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    for name in (
        "check",
        "formulas",
        "generate",
        "train",
        "resume",
        "predict",
        "evaluate",
        "bench",
        "doctor",
    ):
        assert f"  {name} " in done.stdout
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"numpy", "numba", "sympy", "scipy", "tqdm", "chainrule.symbolic.errors"}


def test_there_is_no_traceback(tmp_path: Path) -> None:
    done = chainrule("check", "no.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: SpecError: no.toml does not exist; look at the path\n"
    assert done.stdout == ""


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "chainrule", "formulas", str(DIGITS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(60)


def test_a_run_of_the_digits(tmp_path: Path) -> None:
    """Nothing is faked: the example is trained, goes on, is measured and predicts."""
    directory = tmp_path / "digits"
    trained = run("train", DIGITS, "-q", "-o", directory, "--set", "training.epochs=3").stdout.splitlines()
    name, accuracy = trained[-1].rsplit(maxsplit=1)
    assert name == "test accuracy"
    assert float(accuracy) > 0.8
    assert run("evaluate", directory).stdout.splitlines() == trained[-2:]
    resumed = run("resume", directory, "-q", "--epochs", "3").stdout.splitlines()
    assert float(resumed[-1].split()[-1]) > float(accuracy)
    data = ROOT / "examples" / "data" / "digits.npz"
    predicted = run("predict", directory, data).stdout.splitlines()
    assert predicted[0] == "class,0,1,2,3,4,5,6,7,8,9"
    with np.load(data) as arrays:
        right = sum(int(line.split(",")[0]) == y for line, y in zip(predicted[1:], arrays["y"], strict=True))
    assert right > 0.9 * 1797


def test_generate(tmp_path: Path) -> None:
    run("generate", DIGITS, "-o", tmp_path / "kernels.py", "--dtype", "float64")
    text = (tmp_path / "kernels.py").read_text("utf-8")
    compile(text, "kernels.py", "exec")
    assert "float64" in text
    assert "import sympy" not in text
    assert "'lbfgs'" in run("generate", DIGITS, "--set", "training.optimiser=lbfgs", code=2).stderr

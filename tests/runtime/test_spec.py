"""Whole specs: files, overrides, the sections of the training and the data, and back to tables."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.runtime.data import Fitted, Selection
from chainrule.runtime.scaling import Scaler
from chainrule.runtime.spec import Spec, Stopping, read_spec, spec_from_dict, spec_to_dict
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.layers import Dense, Dropout
from chainrule.symbolic.model import Model
from chainrule.symbolic.optimisers import custom_optimiser, optimiser
from chainrule.symbolic.schedules import ReduceOnPlateau, schedule

ROOT = Path(__file__).parents[2]
HEAD = '[model]\ninputs = 2\n\n[[layer]]\ntype = "dense"\nunits = 1\n\n'


def written(folder: Path, text: str, name: str = "net.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def again(spec: Spec) -> Spec:
    return spec_from_dict(json.loads(json.dumps(spec_to_dict(spec, spec.path))), spec.path)


def test_the_digits() -> None:
    spec = read_spec(ROOT / "examples" / "digits.toml")
    layers = [Dense(256, "relu"), Dropout(0.3), Dense(256, "relu"), Dropout(0.3), Dense(10, "softmax")]
    assert spec.model == Model(64, layers, loss="cross_entropy")
    assert spec.training.optimiser == optimiser("adam", lr=2e-3)
    assert spec.data is not None
    assert spec.data.file.is_file()
    assert spec.data.scale == "minmax"
    assert spec.data.test == 0.2


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = read_spec(written(tmp_path, HEAD + "[training]\nepochs = 3\n"))
    tables = {"model": {"inputs": 2}, "layer": [{"type": "dense", "units": 1}], "training": {"epochs": 3}}
    made = read_spec(written(tmp_path, json.dumps(tables), "net.json"))
    assert (made.model, made.training) == (toml.model, toml.training)


TRAINING = {
    "nothing": "",
    "optimiser by name": 'optimiser = "lion"',
    "optimiser with numbers": 'optimiser = { name = "sgd", lr = 0.1, momentum = 0.9, nesterov = true }',
    "own optimiser": """optimiser.updates = { m = "0.9*m + g", w = "w - lr*sign(m)" }
        optimiser.states = { m = 0.0 }
        optimiser.lr = 0.05""",
    "own optimiser with all": """[training.optimiser]
        name = "mine"
        hyperparameters = { lr = 0.1, k = 0.5 }
        states = { m = 0.0 }
        scalars = { c = 1.0 }
        scalar_updates = { c = "c*k" }
        updates = { m = "m + c*g**2", w = "w - lr*g/sqrt(m + 1e-8)" }""",
    "full batch": 'optimiser = { name = "lbfgs", history = 5 }',
    "schedule by name": 'schedule = "cosine"',
    "schedule with numbers": 'schedule = { name = "step", step_size = 5, warm_up = 10 }',
    "schedule as a formula": 'schedule = "lr/(1 + e)"',
    "schedule with symbols": 'schedule = { formula = "lr/(1 + k*e)", k = 0.5 }',
    "plateau": 'schedule = { name = "reduce_on_plateau", factor = 0.5, patience = 2 }',
    "validation": "validation = 0.2",
    "validation in a file": 'validation = "held_out.npz"',
    "stopping": "validation = 0.2\nearly_stopping = 7",
    "stopping on a metric": """validation = 0.2
        metrics = ["accuracy", "abs(y - y_hat)"]
        early_stopping = { monitor = "val_accuracy", min_delta = 1e-3 }""",
    "the rest": """batch_size = 7\nepochs = 3\nseed = 5\ndtype = "float64"\nthreads = 2
        clip_value = 1\nclip_norm = 0.5""",
    "kept": "checkpoint = 5\ndivergence = 'raise'",
    "kept by time": """checkpoint = { epochs = 2, seconds = 1.5, keep = 4 }
        divergence = { policy = "roll_back", factor = 0.5, attempts = 7 }""",
    "not kept by time": "checkpoint = { seconds = false }",
}
DATA = {
    "file": "",
    "columns": 'inputs = ["a", "2:4", -1]\ntargets = "y"\nsample_weight = "w"',
    "places": "inputs = '0:2'\ntargets = 2\nsample_weight = 3",
    "scales": 'scale = "minmax"\nscale_targets = "standard"\ntest = 0.1',
    "test in a file": 'test = "../test.csv"',
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_is_read_again(tmp_path: Path, name: str) -> None:
    spec = read_spec(written(tmp_path, f"{HEAD}[training]\n{TRAINING[name]}\n"))
    assert again(spec) == spec


@pytest.mark.parametrize("name", DATA)
def test_data_are_read_again(tmp_path: Path, name: str) -> None:
    spec = read_spec(written(tmp_path, f'{HEAD}[data]\nfile = "d.csv"\n{DATA[name]}\n'))
    read = again(spec)
    assert read.data is not None
    assert spec.data is not None
    test = read.data.test
    resolved = replace(
        read.data, file=read.data.file.resolve(), test=test.resolve() if isinstance(test, Path) else test
    )
    first = spec.data.test
    assert resolved == replace(
        spec.data, file=spec.data.file.resolve(), test=first.resolve() if isinstance(first, Path) else first
    )


def test_values(tmp_path: Path) -> None:
    def training(name: str) -> Any:
        return read_spec(written(tmp_path, f"{HEAD}[training]\n{TRAINING[name]}\n")).training

    mine = custom_optimiser(
        "custom", {"m": "0.9*m + g", "w": "w - lr*sign(m)"}, {"m": 0.0}, hyperparameters={"lr": 0.05}
    )
    assert training("own optimiser").optimiser == mine
    assert training("schedule with numbers").schedule == schedule("step", warm_up=10, step_size=5)
    assert training("plateau").schedule == ReduceOnPlateau(factor=0.5, patience=2)
    assert training("validation in a file").validation == tmp_path / "held_out.npz"
    assert training("stopping").early_stopping == Stopping(patience=7)
    assert training("the rest").clip_value == 1.0


def test_columns(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, f'{HEAD}[data]\nfile = "d.csv"\n{DATA["columns"]}\nstandardise = true\n'))
    assert spec.data is not None
    assert spec.data.selection == Selection(("a", "2:4", -1), ("y",), "w")
    assert spec.data.scale == "standard"
    assert spec.data.file == tmp_path / "d.csv"


def test_files_are_named_from_where_the_spec_is(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, f'{HEAD}[data]\nfile = "d.csv"\n'))
    tables = spec_to_dict(spec, tmp_path / "runs" / "net" / "spec.json")
    assert tables["data"]["file"] == "../../d.csv"


def test_scalers_are_kept(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, HEAD))
    scaler = Scaler("minmax", np.array([0.1, 0.2]), np.array([3.0, 1 / 3]))
    read = again(replace(spec, fitted=Fitted(scaler, Scaler(), ("no", "yes"))))
    assert read.fitted is not None
    assert read.fitted.classes == ("no", "yes")
    assert (read.fitted.inputs.scale == scaler.scale).all()


OVERRIDES: list[tuple[str, Any]] = [
    ("training.epochs=5", lambda s: s.training.epochs == 5),
    ("layer.0.units=64", lambda s: s.model.layers[0].units == 64),
    ("layer.0.activation=tanh", lambda s: s.model.layers[0].activation.name == "tanh"),
    ("layer.0.activation=z*tanh(z)", lambda s: s.model.layers[0].activation.name == "formula"),
    ("layer.0.bias=false", lambda s: not s.model.layers[0].bias),
    ("training.optimiser.lr=0.5", lambda s: s.training.optimiser.hyperparameters["lr"] == 0.5),
    ("training.optimiser=sgd", lambda s: s.training.optimiser.name == "sgd"),
    ('training.metrics=["r2"]', lambda s: s.training.metrics == ("r2",)),
    ("data.file=e.npz", lambda s: s.data.file.name == "e.npz"),
    ("model.loss={name='huber', delta=2.0}", lambda s: s.model.loss.hyperparameters["delta"] == 2.0),
]


@pytest.mark.parametrize(("text", "holds"), OVERRIDES)
def test_overrides(tmp_path: Path, text: str, holds: Any) -> None:
    path = written(tmp_path, HEAD + '[training]\noptimiser = "adam"\n')
    assert holds(read_spec(path, [text]))


WRONG_OVERRIDES = [
    ("training.epochs", ["--set training.epochs", "key=value"]),
    ("=3", ["--set =3"]),
    ("a..b=3", ["--set a..b=3"]),
    ("layer.1.units=3", ["--set layer.1.units=3", "'1' is not a position", "there are 1"]),
    ("layer.x=3", ["'x' is not a position"]),
    ("model.inputs.x=3", ["2 has no key 'x'"]),
    ("training.epoch=3", ["net.toml: training: the key 'epoch'", "Did you mean 'epochs'?"]),
    ("training.epochs=many", ["net.toml: training: epochs = 'many'"]),
    ("training.epochs=3\nseed=1", ["epochs = '3\\nseed=1'"]),
]


@pytest.mark.parametrize(("text", "parts"), WRONG_OVERRIDES)
def test_wrong_overrides(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(written(tmp_path, HEAD), [text])
    for part in parts:
        assert part in str(caught.value)


# (lines of [training] or [data], what the message must hold)
WRONG_TRAINING = [
    ("epoch = 3", ["training: the key 'epoch'", "Did you mean 'epochs'?"]),
    ("epochs = 0", ["training: epochs = 0", "at least 1"]),
    ("epochs = 2.5", ["epochs = 2.5", "whole number"]),
    ("batch_size = -1", ["batch_size = -1"]),
    ("seed = -1", ["seed = -1", "at least 0"]),
    ('dtype = "float16"', ["dtype 'float16'", "Known: float32, float64"]),
    ("threads = 0", ["threads = 0"]),
    ("clip_norm = 0", ["clip_norm = 0", "above 0"]),
    ("checkpoint = 0", ["training: checkpoint: epochs = 0", "at least 1"]),
    ("checkpoint = 'a'", ["checkpoint: epochs = 'a'"]),
    ("checkpoint = { second = 1 }", ["the key 'second'", "Did you mean 'seconds'?"]),
    ("checkpoint = { seconds = -1 }", ["checkpoint: seconds = -1"]),
    ("checkpoint = { directory = 'x' }", ["the key 'directory'"]),
    ("checkpoint = { keep = 1 }", ["checkpoint: keep = 1", "at least 2"]),
    ("divergence = 'stopp'", ["training: divergence: policy 'stopp'", "Did you mean 'stop'?"]),
    ("divergence = 3", ["divergence = 3", "stop, raise, roll_back"]),
    ("divergence = { policy = 'stop', factor = 2 }", ["divergence: factor = 2"]),
    ("divergence = { policy = ['stop'] }", ["divergence: policy ['stop'] is not known"]),
    ("divergence = { attempt = 2 }", ["the key 'attempt'", "Did you mean 'attempts'?"]),
    ("clip_value = nan", ["clip_value = nan"]),
    ("validation = 1.5", ["validation = 1.5", "a share of the samples"]),
    ("validation = true", ["validation = true"]),
    ('verbose = "yes"', ["verbose = 'yes'"]),
    ('metrics = ["acuracy"]', ["training: metric 'acuracy'", "Did you mean 'accuracy'?"]),
    ('metrics = "accuracy"', ["metrics = 'accuracy'", '["accuracy"]']),
    ('metrics = ["y - yhat"]', ["metric", "'yhat'", "Did you mean 'y_hat'?"]),
    ('optimiser = "adm"', ["training: optimiser 'adm'", "Did you mean 'adam'?"]),
    ('optimiser = "lbfgz"', ["Did you mean 'lbfgs'?"]),
    ('optimiser = { name = "lbfgs", lr = 1 }', ["the key 'lr'", "Known: history, name, tolerance"]),
    ("optimiser = 3", ["training: optimiser: 3 is not a table"]),
    ("optimiser = { lr = 0.1 }", ["optimiser: name is missing", "There is: lr"]),
    ('optimiser = { name = "adam", learning_rate = 0.1 }', ["'learning_rate'", "Known: beta1"]),
    ('optimiser = { name = "adam", lr = -1 }', ["lr", "-1 is not a number above 0"]),
    ('optimiser = { name = "adam", lr = "1e-3" }', ["'1e-3' is not a number above 0"]),
    ('optimiser = { updates = { w = "w - lr*gg" } }', ["updates: w", "'gg'", "Did you mean 'g'?"]),
    ('optimiser = { updates = { v = "g" } }', ["the last of the updates must be w"]),
    ('optimiser = { updates = { w = "w" }, state = {} }', ["the key 'state'", "Did you mean 'states'?"]),
    ('schedule = "cosin"', ["training: schedule 'cosin'", "Did you mean 'cosine'?"]),
    ("schedule = 3", ["schedule: 3 is not a table"]),
    ('schedule = { name = "step", stepsize = 3 }', ["'stepsize'", "Did you mean 'step_size'?"]),
    ('schedule = { name = "reduce_on_plateau", patiance = 3 }', ["'patiance'", "Did you mean 'patience'?"]),
    ('schedule = { name = "reduce_on_plateau", factor = 2 }', ["factor: 2 is not a number in (0, 1)"]),
    ('schedule = "lr*q"', ["schedule", "'q'"]),
    ("early_stopping = 5", ["watches 'val_loss'", "no validation part", "validation = 0.2"]),
    ("early_stopping = 0", ["early_stopping = 0"]),
    ('validation = 0.1\nearly_stopping = { monitor = "val_los" }', ["'val_los'", "Did you mean 'val_loss'?"]),
    ('validation = 0.1\nearly_stopping = { monitor = "val_accuracy" }', ["Known: loss, val_loss"]),
]
WRONG_DATA = [
    ("", ["data: file is missing", ".npz, .npy or .csv"]),
    ("file = 3", ["data: file = 3"]),
    ('file = "d.csv"\nfiles = 3', ["data: the key 'files'", "Did you mean 'file'?"]),
    ('file = "d.csv"\nscale = "minmx"', ["data: scale 'minmx'", "Did you mean 'minmax'?"]),
    ('file = "d.csv"\nscale = "none"\nstandardise = true', ["scale and standardise are both there"]),
    ('file = "d.csv"\ninputs = []', ["data: inputs = []", '"0:4"']),
    ('file = "d.csv"\ninputs = [1.5]', ["data: inputs = [1.5]"]),
    ('file = "d.csv"\nsample_weight = ["w"]', ["sample_weight = ['w']", "one column"]),
    ('file = "d.csv"\ntest = -0.1', ["data: test = -0.1", "share"]),
]
CASES = [(f"{HEAD}[training]\n{lines}\n", parts) for lines, parts in WRONG_TRAINING] + [
    (f"{HEAD}[data]\n{lines}\n", parts) for lines, parts in WRONG_DATA
]


@pytest.mark.parametrize(("text", "parts"), CASES)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.count(str(path)) == 1
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_targets_of_two_heads_cannot_be_scaled(tmp_path: Path) -> None:
    text = HEAD.replace("inputs = 2", 'inputs = 2\nloss = "gaussian_nll"').replace("units = 1", "units = 2")
    with pytest.raises(SpecError, match="scale_targets does not fit the loss 'gaussian_nll'"):
        read_spec(written(tmp_path, text + '[data]\nfile = "d.npz"\nscale_targets = "standard"\n'))


# (name of the file, content, what the message must hold)
FILES: list[tuple[str, bytes | None, list[str]]] = [
    ("net.toml", b"[model\n", ["is not TOML", "line 1"]),
    ("net.toml", b"a = 1\na = 2\n", ["is not TOML", "line 2"]),
    ("net.toml", b"\xff\xfe\x00", ["byte 0 is not text", "UTF-8"]),
    ("net.toml", b"PK\x03\x04\xff", ["is not text"]),
    ("net.toml", b"", ["model: inputs is missing"]),
    ("net.toml", b"#" * 1_000_001, ["at most 1000000 bytes"]),
    ("net.toml", b"a = " + b"[" * 50_000, ["nested too deeply"]),
    ("net.json", b"{", ["is not JSON", "line 1"]),
    ("net.json", b"[1]", ["holds [1]", "table of sections"]),
    ("net.json", b'{"model": {"inputs": NaN}}', ["is not JSON", "NaN"]),
    ("net.json", b'{"model": {}, "model": {}}', ["is not JSON", "'model' is there twice"]),
    ("net.json", b"[" * 100_000, ["nested too deeply"]),
    ("net.yaml", b"a: 1", ["'.yaml' is not known", "Known: .json, .toml"]),
    ("net", b"", ["the ending ''"]),
    ("nett.toml", None, ["does not exist", "Did you mean", "net.toml"]),
]


@pytest.mark.parametrize(("name", "content", "parts"), FILES)
def test_files_that_are_no_specs(tmp_path: Path, name: str, content: bytes | None, parts: list[str]) -> None:
    if content is None:
        written(tmp_path, HEAD)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path / name)
    for part in parts:
        assert part in str(caught.value)


def test_a_directory_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a directory"):
        read_spec(tmp_path)
    (tmp_path / "net.toml").mkdir()
    with pytest.raises(SpecError, match="is not a file"):
        read_spec(tmp_path / "net.toml")

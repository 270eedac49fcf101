"""The benchmark: that everybody computes the same, that turns are taken, and what is said. Times are not tested."""

import json
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from chainrule.benchmarks import measure, report, scaling, startup, suite, worker
from chainrule.benchmarks.contestant import Contestant
from chainrule.benchmarks.environment import environment
from chainrule.benchmarks.measure import Row, Timing, Worker, WorkerError
from chainrule.benchmarks.products import products
from chainrule.benchmarks.workloads import ALL, CLASSES, Workload, data, first_weights, order, question
from chainrule.cli import main

# Networks of the table, whose kernels the last test and whoever measures need as well.
SMALL = {"sgd": replace(ALL["tiny"], samples=128), "adam": replace(ALL["classifier"], samples=128)}
THREE = Workload("three", (3, 4, 5, 3), "relu", *CLASSES, batch=8, samples=64)
ROW = Row(
    ALL["tiny"],
    {
        "chainrule": Timing([1e-6, 2e-6, 3e-6], 1.0, "fit", {"fit": 1e-6}, 0.0),
        "jax": Timing([8e-6, 8e-6, 9e-6], 1.3, "jit", {}, 1e-7),
        "products": Timing([1e-6, 1e-6, 1e-6], 2.0, "BLAS", {}),
    },
    {"torch": "ended with code 1: no such library"},
)
START = startup.Start("chainrule", "classifier", [2.0, 1.5], [0.5, 0.6, 0.7], 100e6)
RESULTS = report.Results(environment(), [ROW], [START], {"width": {8: ROW, 32: ROW}}, {"jax": "not there"})


def bench(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["bench", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


# --- what is measured


@pytest.mark.parametrize("workload", [*ALL.values(), *(w for _, _, w in scaling.points())], ids=lambda w: w.name)
def test_an_epoch_is_whole_batches(workload: Workload) -> None:
    assert workload.samples % workload.batch == 0
    assert workload.steps >= 1
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload


@pytest.mark.parametrize("name", ["tiny", "classifier", "auto-encoder", "float64"])
def test_data_are_the_same_every_time(name: str) -> None:
    workload = replace(ALL[name], samples=96)
    x, y = data(workload)
    again = data(workload)
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, again[1])
    assert x.shape == (96, workload.sizes[0])
    assert x.dtype == workload.dtype
    assert np.isfinite(x).all()
    assert len(np.unique(y)) > 3


# --- that everybody computes the same


def first_epoch(workload: Workload) -> tuple[float, list[tuple[np.ndarray, np.ndarray]]]:
    """The mean loss of the first epoch and the weights after it: plain NumPy, in float64."""
    x, y = data(workload)
    weights = [(w.astype(float), b.astype(float)) for w, b in first_weights(workload)]
    moments = [[(np.zeros_like(a), np.zeros_like(a)) for a in pair] for pair in weights]
    losses = []
    for t, rows in enumerate(order(workload, 0).reshape(-1, workload.batch), 1):
        value, gradients = loss_and_gradients(workload, weights, x[rows].astype(float), y[rows])
        losses.append(value)
        for k, pair in enumerate(gradients):
            steps = [adam_step(moments[k][i], g, t) if workload.optimiser == "adam" else g for i, g in enumerate(pair)]
            weights[k] = (weights[k][0] - workload.lr * steps[0], weights[k][1] - workload.lr * steps[1])
    return float(np.mean(losses)), weights


def adam_step(moments: tuple[np.ndarray, np.ndarray], g: np.ndarray, t: int) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1, without the learning rate."""
    m, v = moments
    m += 0.1 * (g - m)
    v += 0.001 * (g * g - v)
    return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def forward(workload: Workload, weights: Any, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of all layers, the inputs first."""
    outputs = [x]
    for (w, b), name in zip(weights, workload.activations, strict=True):
        z = outputs[-1] @ w.T + b
        e = np.exp(z - z.max(axis=1, keepdims=True))
        made = {"tanh": np.tanh(z), "relu": np.maximum(z, 0), "identity": z, "softmax": e / e.sum(1, keepdims=True)}
        outputs.append(made[name])
    return outputs


def loss_and_gradients(workload: Workload, weights: Any, x: np.ndarray, y: np.ndarray) -> tuple[float, list[Any]]:
    """Backpropagation for tanh and relu, squared error and cross-entropy."""
    outputs = forward(workload, weights, x)
    if workload.loss == "squared_error":
        value, delta = float(np.mean((outputs[-1] - y) ** 2)), 2 * (outputs[-1] - y) / y.size
    else:
        chosen = np.eye(workload.sizes[-1])[y]
        value, delta = float(-np.log(outputs[-1][chosen == 1]).mean()), (outputs[-1] - chosen) / len(y)
    gradients = []
    for (w, _), a in zip(reversed(weights), reversed(outputs[:-1]), strict=True):
        gradients.append((delta.T @ a, delta.sum(axis=0)))
        delta = (delta @ w) * ((1 - a**2) if workload.activation == "tanh" else (a > 0))
    return value, gradients[::-1]


@pytest.mark.filterwarnings("default")  # those of the peers are their own
@pytest.mark.parametrize("rule", SMALL)
@pytest.mark.parametrize("name", [name for name in worker.CONTESTANTS if name not in ("products", "torch compiled")])
def test_the_first_epoch_is_that_of_plain_numpy(name: str, rule: str) -> None:
    module, variants, _ = worker.CONTESTANTS[name]
    if name not in suite.OURS:
        pytest.importorskip({"jax": "jax", "torch": "torch", "scikit-learn": "sklearn"}[name])
    workload = SMALL[rule]
    expected, weights = first_epoch(workload)
    bound = measure.LOOSER.get(name, measure.TOLERANCE[workload.dtype])
    x = question(replace(workload, asked=6))
    answer = forward(workload, weights, x)[-1]
    for build in getattr(import_module(f"chainrule.benchmarks.{module}"), variants)(workload).values():
        network = build(workload, *data(workload), first_weights(workload))
        assert network.fit(1) == pytest.approx([expected], rel=bound)
        asked = network.predict(x)
        assert np.asarray(asked).reshape(answer.shape) == pytest.approx(answer, abs=10 * bound)
        assert len(network.fit(2)) == 2


def test_the_products_are_those_of_the_layers() -> None:
    made = products(THREE)
    assert [product().shape for product in made] == [(8, 4), (4, 3), (8, 5), (5, 4), (8, 4), (8, 3), (3, 5), (8, 5)]
    assert [float(product()[0, 0]) for product in made] == [3, 8, 4, 8, 5, 5, 8, 3]
    assert [product().shape for product in products(replace(THREE, asked=6))] == [(6, 4), (6, 5), (6, 3)]


# --- taking turns


class Fake:
    """A contestant that notes its turns."""

    def __init__(self, name: str, turns: list[str], fails: str = "") -> None:
        self.name, self.turns, self.fails = name, turns, fails

    def ask(self, **command: Any) -> dict[str, Any]:
        if self.fails in command:
            raise WorkerError("out of luck")
        if "prepare" in command:
            return {"variant": "only", "tried": {"only": 1.0}, "result": [1.0 if self.name == "chainrule" else 1.01]}
        self.turns.append(self.name)
        return {"seconds": float(len(self.turns)), "cores": 1.0}


def test_turns_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SETTLE_SECONDS", 0)
    turns: list[str] = []
    some = [Fake("chainrule", turns), Fake("a", turns), Fake("b", turns, "run"), Fake("c", turns, "prepare")]
    row = measure.measure(SMALL["sgd"], some, rounds=3, seconds=0.1)  # type: ignore[arg-type]
    assert turns == ["chainrule", "a"] * 3
    assert row.timings["chainrule"].rounds == [1, 3, 5]
    assert row.timings["a"].median == 4
    assert row.timings["a"].difference == pytest.approx(0.01)
    assert not row.timings["a"].agrees("a", "float32")
    assert row.failures == {"b": "out of luck", "c": "out of luck"}
    assert any("NOT THE SAME RESULTS as ours: a by 1.0e-02" in line for line in report.lines(row))


class Asleep:
    """A network without weights."""

    def fit(self, epochs: int) -> list[float]:
        time.sleep(1e-4 * epochs)
        return [2.0] * epochs

    def predict(self, x: np.ndarray) -> np.ndarray:
        time.sleep(1e-4)
        return x[:, :2]


@pytest.mark.parametrize("workload", [SMALL["sgd"], replace(SMALL["sgd"], asked=6)], ids=["train", "predict"])
def test_a_contestant_runs_its_fastest_variant(workload: Workload) -> None:
    them = Contestant(lambda _: {"one": lambda *_: Asleep(), "other": lambda *_: Asleep()})
    said = them.prepare(workload)
    assert said["variant"] in said["tried"]
    assert len(said["result"]) == (2 if workload.asked else 1)
    assert list(said["tried"]) == ["one", "other"]
    assert list(them.prepare(workload, quick=True)["tried"]) == ["one"]
    run = them.run(0.001)
    assert run["seconds"] > 0


def test_a_worker_answers_until_it_ends() -> None:
    them = Worker("products")
    assert them.ask(prepare=THREE.to_dict(), quick=True)["products"] == 8
    assert them.ask(run=0.01)["seconds"] > 0
    with pytest.raises(WorkerError, match="KeyError"):
        them.ask(wrong=1)
    them.process.kill()
    for _ in range(2):
        with pytest.raises(WorkerError, match="ended with code"):
            them.ask(run=0.01)
    them.close()


def test_a_contestant_that_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worker.CONTESTANTS, "absent", ("absent_peer", "variants", "surely-not-there"))
    workers, failures = measure.start(["absent"])
    assert not workers
    assert list(failures) == ["absent"]
    there, missing = suite.installed(["absent"])
    assert not there
    assert missing["absent"].startswith("surely-not-there is not installed; pip install")


# --- what is said


def test_results_survive_json() -> None:
    again = report.Results.from_dict(json.loads(json.dumps(RESULTS.to_dict())))
    assert again == RESULTS


def test_a_row_says_what_follows() -> None:
    text = "\n".join(report.lines(ROW))
    assert "tiny: 2-16-1 tanh, squared error, batch 32, sgd; a step" in text
    assert "4 times as fast as the best peer, jax (aim: 12)" in text
    assert "the matrix products alone take 50% of our time" in text
    assert "results differ by at most 1.0e-07 (jax)" in text
    assert "torch           not measured: ended with code 1" in text


def test_markdown_is_a_table() -> None:
    table = report.markdown(RESULTS).splitlines()
    assert table[0].startswith("| workload | chainrule | jax | times as fast")
    assert table[2] == "| 2-16-1 tanh, squared error, batch 32, sgd | 2 us | 8 us | 4 | 50% |"
    assert "| chainrule | 2 s | 600 ms | 100 MB |" in table


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "results.json").write_text(json.dumps(RESULTS.to_dict()), "utf-8")
    bench("--from", tmp_path / "results.json", "--plot", tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_earlier_results_are_shown_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS.to_dict()), "utf-8")
    assert "4 times as fast" in bench("--from", path).stdout
    assert bench("--from", path, "--markdown").stdout == report.markdown(RESULTS)
    path.write_text("{}", "utf-8")
    assert "not what --json writes" in bench("--from", path, code=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workload", "tinny"], "Did you mean 'tiny'?"),
        (["--peer", "numpy"], "--peer 'numpy' is not known"),
        (["--json", "no/such/folder.json"], "there is no such folder"),
        (["--set", "training.epochs=3"], "--set needs a SPEC"),
        (["net.toml", "--quick"], "with SPEC, bench takes --set and --seconds only"),
    ],
)
def test_wrong_options_are_explained(words: list[str], said: str) -> None:
    assert said in bench(*words, code=2).stderr


def test_what_is_wanted_by_default() -> None:
    full, quick = (suite.wanted((), (), False, q, False, None) for q in (False, True))
    assert full.workloads == (*suite.WORKLOADS, "start")
    assert full.peers == suite.PEERS
    assert quick.workloads == tuple(suite.WORKLOADS)
    assert "torch compiled" not in quick.peers
    assert not suite.wanted((), ("none",), False, False, True, 1.0).workloads


def test_one_workload_without_peers(tmp_path: Path) -> None:
    """Nothing is faked: three processes, one of them with a kernel of ours."""
    path = tmp_path / "results.json"
    said = bench("--workload", "tiny", "--peer", "none", "--quick", "--seconds", "0.03", "--json", path).stdout
    assert "the matrix products alone take" in said
    found = report.Results.from_dict(json.loads(path.read_text("utf-8")))
    assert list(found.rows[0].timings) == ["chainrule", "one thread", "products"]
    assert found.rows[0].timings["one thread"].difference == 0
    assert found.environment["python"] == ".".join(map(str, sys.version_info[:3]))

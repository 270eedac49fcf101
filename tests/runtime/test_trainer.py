import itertools
import math
import os
import pkgutil
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime import trainer as trainer_module
from chainrule.runtime.evaluation import FEW
from chainrule.runtime.trainer import FIRST_STEPS, Trainer
from chainrule.symbolic.optimisers import OPTIMISERS, first_state, optimiser, step
from chainrule.symbolic.schedules import SCHEDULES, schedule

Arrays = dict[str, np.ndarray]

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]
WEIGHT = RNG.integers(0, 4, 50).astype(float)

MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
SLOPE = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])  # compiled often, so as small as can be
LINE = cr.Model(2, [cr.Dense(1)], penalties=[cr.L2(0.1)])
MOMENTUM = optimiser("momentum")
DROPPED = cr.Model(2, [cr.Dense(4, "tanh"), cr.Dropout(0.4), cr.Dense(1)])
CLASSES = cr.Model(2, [cr.Dense(3, "softmax")], "cross_entropy")
LABELS = (X[:, 0] > 0) + (X[:, 1] > 0).astype(int)


def new(
    model: cr.Model = MODEL, rule: Any = None, batch_size: int = 16, dtype: str = "float64", **more: Any
) -> Trainer:
    return Trainer(model, cr.Adam(lr=0.02) if rule is None else rule, batch_size, dtype, **more)


def same(a: Mapping[str, np.ndarray] | None, b: Mapping[str, np.ndarray] | None) -> bool:
    """Bit by bit."""
    assert a is not None
    assert b is not None
    assert a.keys() == b.keys()
    return all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def furthest(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)


def rows(history: cr.History) -> list[dict[str, Any]]:
    """What of a history is the same in every run."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


# --- each step is the optimiser's rule, on the gradient that the kernels give


def by_the_rule(
    model: cr.Model,
    rule: cr.Optimiser,
    data: Sequence[np.ndarray],
    rates: Sequence[float],
    clipped: Callable[[Arrays], Arrays] = lambda g: g,
) -> Arrays:
    """Full-batch steps, element by element, as the formulas stand."""
    kernels = cr.compile(model)
    w = kernels.init(0)
    states = {name: [first_state(rule) for _ in range(array.size)] for name, array in w.items()}
    for t, rate in enumerate(rates, start=1):
        gradients = clipped(kernels.loss_and_gradients(w, *data)[1])
        for name, array in w.items():
            flat, slopes = array.ravel(), gradients[name].ravel()
            for i, state in enumerate(states[name]):
                flat[i], states[name][i] = step(rule, float(flat[i]), float(slopes[i]), state, t, rate)
            w[name] = flat.reshape(array.shape)
    return w


def constant(rule: cr.Optimiser, steps: int) -> list[float]:
    return [rule.hyperparameters["lr"]] * steps


MORE: Mapping[str, Mapping[str, float]] = {  # where defaults leave most of a rule out
    "sgd": {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    "rmsprop": {"momentum": 0.5, "centered": True, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_is_its_formula(name: str) -> None:
    rule = optimiser(name, **MORE.get(name, {}))
    trainer = new(SLOPE, rule, batch_size=50)
    trainer.fit(X, Y, epochs=22, verbose=0)
    assert furthest(trainer.parameters, by_the_rule(SLOPE, rule, (X, Y), constant(rule, 22))) < 1e-12


def test_a_rule_of_the_users_own() -> None:
    rule = cr.custom_optimiser(
        "mine",
        {"m": "beta*m + g*c", "w": "w - lr*m/(1 + abs(m))"},
        states={"m": 0.5},
        scalars={"c": 1.0},
        scalar_updates={"c": "c*0.9 + 0.01*t"},
        hyperparameters={"lr": 0.1, "beta": 0.5},
    )
    trainer = new(LINE, rule=rule, batch_size=50)
    trainer.fit(X, Y, epochs=20, verbose=0)
    assert furthest(trainer.parameters, by_the_rule(LINE, rule, (X, Y), constant(rule, 20))) < 1e-12


def by_norm(limit: float) -> Callable[[Arrays], Arrays]:
    def clipped(gradients: Arrays) -> Arrays:
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        return {k: g * min(1.0, limit / (norm + 1e-6)) for k, g in gradients.items()}

    return clipped


def by_value(limit: float) -> Callable[[Arrays], Arrays]:
    return lambda gradients: {k: np.clip(g, -limit, limit) for k, g in gradients.items()}


@pytest.mark.parametrize(
    ("bounds", "clipped"),
    [
        ({"clip_value": 0.05}, by_value(0.05)),
        ({"clip_norm": 0.3, "clip_value": 0.05}, lambda g: by_value(0.05)(by_norm(0.3)(g))),
    ],
)
def test_clipping(bounds: dict[str, float], clipped: Callable[[Arrays], Arrays]) -> None:
    rule = cr.Momentum(lr=0.3)
    trainer = new(LINE, rule=rule, batch_size=50, **bounds)
    trainer.fit(X, Y, epochs=20, verbose=0)
    wanted = by_the_rule(LINE, rule, (X, Y), constant(rule, 20), clipped)
    assert furthest(trainer.parameters, wanted) < 1e-12
    assert furthest(wanted, by_the_rule(LINE, rule, (X, Y), constant(rule, 20))) > 1e-3, "nothing was clipped"


def test_penalties_are_in_the_gradient() -> None:
    model = cr.Model(1, [cr.Dense(1)], penalties=[cr.L1(0.3), cr.L2(0.5, on="all")])
    trainer = new(model, cr.SGD(lr=0.1))
    trainer.set_parameters({"Wo": [[-2.0]], "bo": [4.0]})
    assert trainer.fit([[1.0]], [[2.0]], epochs=1, verbose=0)["loss"] == [0.3 * 2 + 0.25 * (4 + 16)]
    assert trainer.parameters["Wo"].item() == pytest.approx(-2 - 0.1 * (-0.3 + 0.5 * -2), abs=1e-15)
    assert trainer.parameters["bo"].item() == pytest.approx(4 - 0.1 * 0.5 * 4, abs=1e-15)


# --- rates


TWINS = (np.tile(X[:1], (10, 1)), np.tile(Y[:1], (10, 1)))  # the same sample: batches in any order are the same


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warm_up", [0, 7])
def test_schedules_give_each_step_its_rate(name: str, warm_up: int) -> None:
    rule, plan = MOMENTUM, schedule(name, warm_up=warm_up)
    trainer = new(SLOPE, rule, batch_size=2, schedule=plan)
    history = trainer.fit(*TWINS, epochs=4, verbose=0)
    rates = [plan.rate(0.01, t, 20, t // 5, 4) for t in range(20)]
    assert history["rate"] == rates[4::5]
    assert furthest(trainer.parameters, by_the_rule(SLOPE, rule, TWINS, rates)) < 1e-12


def test_a_schedule_as_a_formula() -> None:
    trainer = new(SLOPE, MOMENTUM, batch_size=2, schedule="lr/(1 + t + E)")
    assert trainer.fit(*TWINS, epochs=2, verbose=0)["rate"] == pytest.approx([0.01 / 7, 0.01 / 12])


def test_reduce_on_plateau_watches_the_loss() -> None:
    plan = cr.ReduceOnPlateau(factor=0.5, patience=1, threshold=0.5)
    trainer = new(SLOPE, MOMENTUM, batch_size=50, schedule=plan)
    history = trainer.fit(X, Y, epochs=8, verbose=0, validation=(X[:9], Y[:9]))
    rates = []
    for loss in history["val_loss"]:
        rates.append(plan.rate(0.01))
        plan, _ = plan.next(loss)
    assert history["rate"] == rates
    assert rates[-1] < 0.01
    assert furthest(trainer.parameters, by_the_rule(SLOPE, MOMENTUM, (X, Y), rates)) < 1e-12


# --- batches


def test_an_epoch_takes_every_sample_once_in_its_own_order() -> None:
    model = cr.Model(11, [cr.Dense(1, bias=False)])
    x, y = np.eye(11), np.arange(11.0)[:, None]

    def in_short_batch(trainer: Trainer) -> list[int]:
        """The samples of the last batch: of three, where the others have four. Weight j is moved by sample j only."""
        before = trainer.parameters["Wo"][0]
        trainer.fit(x, y, epochs=1, verbose=0)
        moved = (trainer.parameters["Wo"][0] - before) / (y[:, 0] - before)
        assert np.allclose(np.sort(moved), [0.2 / 4] * 8 + [0.2 / 3] * 3, rtol=1e-12)
        return np.flatnonzero(moved > 0.06).tolist()

    trainer, twin, other = (new(model, cr.SGD(lr=0.1), 4, seed=seed) for seed in (3, 3, 4))
    epochs = [in_short_batch(trainer) for _ in range(4)]
    assert epochs == [in_short_batch(twin) for _ in range(4)]
    assert epochs[:2] != [in_short_batch(other) for _ in range(2)]
    assert len({tuple(e) for e in epochs}) > 1


def test_the_order_does_not_depend_on_the_model() -> None:
    """Only on seed and epoch: the same batches reach another model, too."""
    x = np.arange(40.0).reshape(20, 2)
    seen = []
    for model in (MODEL, CLASSES):
        trainer = new(model, batch_size=20, seed=5)
        orders: list[np.ndarray] = []
        trainer._steps = lambda given, plan, *rest, orders=orders: orders.append(plan.order) or np.zeros(1)  # type: ignore[method-assign]
        trainer.fit(x, Y[:20] if model is MODEL else LABELS[:20], epochs=3, verbose=0)
        seen.append(np.array(orders))
    assert (seen[0] == seen[1]).all()
    assert (np.sort(seen[0]) == np.arange(20)).all()
    assert not (seen[0][0] == seen[0][1]).all()


def test_a_batch_larger_than_the_data() -> None:
    large, exact = new(batch_size=10**12), new(batch_size=50)
    large.fit(X[:9], Y[:9], epochs=2, verbose=0)
    large.fit(X, Y, epochs=1, verbose=0)  # more data than before: the batch grows with them
    exact.fit(X[:9], Y[:9], epochs=2, verbose=0)
    exact.fit(X, Y, epochs=1, verbose=0)
    assert same(large.parameters, exact.parameters)


def test_one_sample() -> None:
    trainer = new()
    history = trainer.fit(X[:1], Y[:1], epochs=200, verbose=0)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples() -> None:
    """At the rate 0 the weights stay, and batches of any size give the loss of the whole."""
    for weight in (None, WEIGHT):
        trainer = new(batch_size=7, schedule="0*lr")
        first = trainer.evaluate(X, Y, weight)["loss"]
        history = trainer.fit(X, Y, epochs=1, sample_weight=weight, verbose=0)
        assert history["loss"][0] == pytest.approx(first, rel=1e-12)


# --- the same bits


def test_fit_in_two_halves_is_one_fit() -> None:
    whole, halves = (new(DROPPED, batch_size=7, schedule=cr.StepDecay(step_size=2)) for _ in range(2))
    whole.fit(X, Y, epochs=5, validation=0.2, verbose=0)
    halves.fit(X, Y, epochs=2, validation=0.2, verbose=0)
    halves.fit(X, Y, epochs=3, validation=0.2, verbose=0)
    assert same(whole.parameters, halves.parameters)
    assert same(whole.best_parameters, halves.best_parameters)
    assert rows(whole.history) == rows(halves.history)


THREADS = """
import numpy as np, chainrule as cr
from chainrule.runtime.threads import ThreadChoice

BATCH_NORM = '''
m[j] = mean(n, x[n,j])
v[j] = mean(n, (x[n,j] - m[j])**2)
h[n,j] = g[j]*(x[n,j] - m[j])/sqrt(v[j] + 0.001)
'''
norm = cr.Equations(BATCH_NORM, "h", {}, {"g": ["j"]}, {"g": 1.0})
model = cr.Model(40, [cr.Dense(300, "tanh", bias=False), norm, cr.Dropout(0.3), cr.Dense(2, bias=False)])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(700, 40)), rng.normal(size=(700, 2))
for dtype, more in (("float32", {"clip_norm": 0.5}), ("float64", {})):
    results = []
    for threads in (1, 2, 4, None):
        trainer = cr.Trainer(model, cr.Adam(lr=0.01), 300, dtype, threads=threads, **more)
        if threads is not None:
            assert trainer._choice.most == threads
            trainer._choice.best = threads
            trainer._choice.times = {1: [1e9, 1e9]}  # so slow with one thread that it does not look again
        history = trainer.fit(x, y, epochs=2, verbose=0)
        weights = b"".join(w.tobytes() for w in trainer.parameters.values())
        results.append((weights, history["loss"]))
    assert all(r == results[0] for r in results), (dtype, more)
    assert np.isfinite(results[0][1]).all() and results[0][1][-1] < results[0][1][0]
print("same")
"""


def test_the_bits_do_not_depend_on_the_threads() -> None:
    """In a process of its own, with more threads than there may be cores."""
    made = subprocess.run(
        [sys.executable, "-c", THREADS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.stdout == "same\n", made.stderr


# --- dropout


def test_dropout_is_inverted_and_reproducible() -> None:
    """With the loss y_hat the gradient of W[0,j] is the input that was let through, one mask an epoch."""
    width = 2000
    model = cr.Model(width, [cr.Dropout(0.3), cr.Dense(1, bias=False, initialiser="zeros")], "y*y_hat")

    def masks(seed: int) -> list[np.ndarray]:
        trainer, made = new(model, cr.SGD(lr=1.0), seed=seed), []
        for _ in range(3):
            before = trainer.parameters["Wo"][0]
            trainer.fit(np.ones((1, width)), [[1.0]], epochs=1, verbose=0)
            made.append(before - trainer.parameters["Wo"][0])
        assert trainer.predict(np.ones((1, width))).item() == pytest.approx(trainer.parameters["Wo"].sum(), rel=1e-12)
        return made

    first = masks(1)
    for mask in first:
        kept = mask > 0.5
        assert np.allclose(mask[kept], 1 / 0.7, rtol=1e-12)
        assert np.allclose(mask[~kept], 0, atol=1e-12)
        assert abs(mask.mean() - 1) < 4 * math.sqrt(0.3 / 0.7 / width)
    assert not np.allclose(first[0], first[1])
    assert all((a == b).all() for a, b in zip(first, masks(1), strict=True))
    assert not np.allclose(first[0], masks(2)[0])


# --- weights of samples


def test_integer_weights_are_repetitions_and_zero_is_absence() -> None:
    weighted, repeated = new(batch_size=1000), new(batch_size=1000)
    times = WEIGHT.astype(int)
    weighted.fit(X, Y, epochs=20, sample_weight=WEIGHT, verbose=0)
    repeated.fit(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0), epochs=20, verbose=0)
    assert furthest(weighted.parameters, repeated.parameters) < 1e-12
    assert np.allclose(weighted.history["loss"], repeated.history["loss"], rtol=1e-12)
    wanted = repeated.evaluate(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0))
    assert weighted.evaluate(X, Y, WEIGHT)["loss"] == pytest.approx(wanted["loss"], rel=1e-11)


def test_weights_come_and_go_between_fits() -> None:
    trainer, plain = new(), new()
    trainer.fit(X, Y, epochs=2, sample_weight=np.full(50, 3.0), verbose=0)
    trainer.fit(X, Y, epochs=2, verbose=0)
    plain.fit(X, Y, epochs=4, verbose=0)
    assert furthest(trainer.parameters, plain.parameters) < 1e-12


# --- validation, metrics, history


def test_a_share_for_validation() -> None:
    trainer = new(metrics=["mean_absolute_error"])
    history = trainer.fit(X, Y, epochs=3, validation=0.2, verbose=0)
    shuffled = np.random.default_rng([0, 2**31]).permutation(50)
    aside, rest = shuffled[:10], np.sort(shuffled[10:])
    assert trainer.evaluate(X[aside], Y[aside])["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-12)
    given = new(metrics=["mean_absolute_error"])
    given.fit(X[rest], Y[rest], epochs=3, validation=(X[np.sort(aside)], Y[np.sort(aside)]), verbose=0)
    assert same(given.parameters, trainer.parameters)
    assert rows(given.history) == rows(history)


def test_the_columns_of_the_history() -> None:
    trainer = new(CLASSES, metrics=["accuracy", "abs(y - y_hat)", lambda y, y_hat: 2.0][:1])
    history = trainer.fit(X, LABELS, epochs=2, validation=(X[:5], LABELS[:5], np.ones(5)), verbose=0)
    assert list(history.epochs[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "rate", "seconds"]
    assert history["epoch"] == [1, 2]
    assert history["rate"] == [0.02, 0.02]
    measured = trainer.evaluate(X, LABELS)
    assert measured["accuracy"] == history["accuracy"][-1] == np.mean(trainer.predict(X).argmax(1) == LABELS)
    assert history["val_accuracy"][-1] == np.mean(trainer.predict(X[:5]).argmax(1) == LABELS[:5])
    assert all(s > 0 for s in history["seconds"])
    assert trainer.larger_is_better("val_accuracy")
    assert not trainer.larger_is_better("val_loss")


def test_functions_as_metrics() -> None:
    def worst(y: np.ndarray, y_hat: np.ndarray) -> float:
        return float(np.abs(y - y_hat).max())

    trainer = new(metrics=[worst])
    history = trainer.fit(X, Y, epochs=1, verbose=0)
    assert history["worst"][0] == np.abs(Y - trainer.predict(X)).max()


def test_classes_and_one_hot_targets_are_the_same() -> None:
    one_hot = np.eye(3)[LABELS]
    integer, hot, mixed = (new(CLASSES) for _ in range(3))
    integer.fit(X, LABELS, epochs=4, verbose=0)
    hot.fit(X, one_hot, epochs=4, verbose=0)
    mixed.fit(X, LABELS[:, None], epochs=2, verbose=0)
    mixed.fit(X, one_hot.astype(int), epochs=2, validation=(X, LABELS.astype(float)), verbose=0)
    assert furthest(integer.parameters, hot.parameters) < 1e-12
    assert furthest(integer.parameters, mixed.parameters) < 1e-12


def test_the_best_weights_are_kept() -> None:
    trainer = new(SLOPE, MOMENTUM, schedule="30*lr")
    seen: list[tuple[float, Arrays]] = []
    history = trainer.fit(
        X,
        Y,
        epochs=12,
        validation=(X[:9], Y[:9] + 1),
        verbose=0,
        callbacks=[lambda t, row: seen.append((row["val_loss"], t.parameters))],
    )
    best = int(np.argmin(history["val_loss"]))
    assert best < 11, "the last epoch is the best: the test shows nothing"
    assert same(trainer.best_parameters, seen[best][1])
    assert same(trainer.parameters, seen[-1][1])
    trainer.fit(X, Y, epochs=1, verbose=0)  # without a validation part another loss is watched
    assert same(trainer.best_parameters, trainer.parameters)


# --- what ends a training


def test_a_loss_that_is_not_finite_stops(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = new(SLOPE, MOMENTUM, batch_size=50, schedule="1e200*lr")
    history = trainer.fit(X, Y, epochs=9, verbose=0)
    assert len(history) < 9
    assert not math.isfinite(history["loss"][-1])
    assert history.stopped.startswith("the loss is not finite: epoch 2, step 1 of 1: l is inf at [0]; Wo has grown")
    assert f"{history.stopped}. Stopped; the weights are those before this step" in capsys.readouterr().err
    assert np.isfinite(trainer.best_parameters["Wo"]).all()  # type: ignore[index]


def test_silent_and_not(capsys: pytest.CaptureFixture[str]) -> None:
    new().fit(X, Y, epochs=2, verbose=0)
    assert capsys.readouterr() == ("", "")
    new().fit(X, Y, epochs=2)
    assert capsys.readouterr().err.startswith("epoch 1/2  loss ")


def test_ctrl_c_keeps_last_and_best_weights() -> None:
    trainer, plain = new(), new()

    def interrupt(trainer: Trainer, row: Mapping[str, Any]) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"epoch 4; trainer\.parameters are the last .*best_parameters"):
        trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[interrupt])
    plain.fit(X, Y, epochs=3, verbose=0)
    assert trainer.history.stopped == "interrupted"
    assert rows(trainer.history) == rows(plain.history)
    assert same(trainer.parameters, plain.parameters)
    assert same(trainer.best_parameters, plain.best_parameters)
    trainer.fit(X, Y, epochs=2, verbose=0)
    plain.fit(X, Y, epochs=2, verbose=0)
    assert trainer.history.stopped == ""
    assert same(trainer.parameters, plain.parameters)


SIGNALLED = """
import sys, numpy as np, chainrule as cr

class Ready:
    def start(self, trainer):
        print("ready", flush=True)

    def __call__(self, trainer, row):
        pass

x = np.random.default_rng(0).normal(size=(1_000_000, 2))
model = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
trainer = cr.Trainer(model, cr.Adam(lr=0.02), 1, "float64", threads=1)
trainer.fit(x[:20], x[:20, :1], epochs=1, verbose=0)
first = trainer.parameters
try:
    trainer.fit(x, x[:, :1], epochs=1000, verbose=0, callbacks=[Ready()])
except KeyboardInterrupt as interruption:
    trainer.save(sys.argv[1])
    moved = any((first[k] != trainer.parameters[k]).any() for k in first)
    restored = cr.Trainer.restore(sys.argv[1])
    print(interruption, moved, trainer.history.stopped, restored.parameters.keys() == first.keys())
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_a_real_signal_is_heard_within_an_epoch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    told = r"stopped in epoch \d+; trainer.parameters are the last weights, trainer.best_parameters .*"
    assert re.fullmatch(told + " True interrupted True", out.strip()), out + err


# --- weights, given and taken


def test_parameters_are_copies() -> None:
    trainer = new()
    for _ in range(2):  # before and after the first fit
        before = trainer.parameters
        before["W1"][...] = 7
        assert not (trainer.parameters["W1"] == 7).any()
        trainer.fit(X, Y, epochs=1, verbose=0)
    given = trainer.parameters
    trainer.set_parameters(given)
    given["W1"][...] = 7
    assert not (trainer.parameters["W1"] == 7).any()


def test_set_parameters_reaches_kernels_and_training() -> None:
    trainer, other = new(), new(seed=1)
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.set_parameters(other.parameters)
    assert same(trainer.parameters, other.parameters)
    assert (trainer.predict(X) == other.predict(X)).all()
    assert trainer.evaluate(X, Y) == other.evaluate(X, Y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W1": np.ones((2, 3))}, r"parameter W1: shape \(2, 3\); the model takes \(3, 2\)"),
        ({"w1": np.ones((3, 2))}, r"parameter 'w1' is not one of the model's\. Known: W1, Wo, b1, bo\. Did you mean"),
        ({"W1": [["a", "b"]] * 3}, "parameter W1: <U1 is no type of numbers"),
        ({"W1": np.ones((3, 2), complex)}, "parameter W1: complex128 is no type of numbers"),
        ({"W1": None}, "parameter W1"),
    ],
)
def test_wrong_parameters(change: dict[str, Any], message: str) -> None:
    trainer = new()
    before = trainer.parameters
    with pytest.raises(cr.DataError, match=message):
        trainer.set_parameters({**before, **change})
    assert same(before, trainer.parameters)


def test_missing_parameters() -> None:
    trainer = new()
    with pytest.raises(cr.DataError, match="parameter bo is missing; the model has W1, b1, Wo, bo"):
        trainer.set_parameters({k: v for k, v in trainer.parameters.items() if k != "bo"})
    with pytest.raises(cr.DataError, match="parameters are of the type list; give a dict"):
        trainer.set_parameters([1.0])  # type: ignore[arg-type]


# --- wrong data, wrong arguments: place, value, rule, next step


NAN = np.where(np.arange(100).reshape(50, 2) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("model", "data", "more", "message"),
    [
        (MODEL, (NAN, Y), {}, r"x\[3, 1\] is nan; every value must be finite"),
        (MODEL, (X, NAN[:, 1:]), {}, r"y\[3, 0\] is nan; every value must be finite"),
        (MODEL, (X * 1e300, Y), {"dtype": "float32"}, r"x as float32\[0, 0\] is -?inf"),
        (MODEL, (X[:, :1], Y), {}, r"x has the shape \(50, 1\); the model takes \(samples, 2\)"),
        (MODEL, (X, Y[:40]), {}, "x has 50 samples and y 40; give one target a sample"),
        (MODEL, (X, X), {}, r"y has the shape \(50, 2\); the loss 'squared_error' takes \(samples, 1\)"),
        (MODEL, (X[:0], Y[:0]), {}, r"x has the shape \(0, 2\): there are no samples; give at least one"),
        (MODEL, (X, [["a"]] * 50), {}, "y is text; give numbers"),
        (CLASSES, (X, LABELS + 1), {}, r"y\[\d+\] is 3; a class is a whole number from 0 to 2"),
        (CLASSES, (X, LABELS + 0.5), {}, r"y\[0\] is \d.5; a class is a whole number from 0 to 2"),
        (MODEL, (X, Y), {"sample_weight": -WEIGHT}, r"sample_weight\[\d+\] is -\d.0; a weight is at least 0"),
        (
            MODEL,
            (X, Y),
            {"sample_weight": WEIGHT * 1e300, "dtype": "float32"},
            r"sample_weight as float32\[\d+\] is inf",
        ),
        (MODEL, (X, Y), {"sample_weight": WEIGHT * 1e-99, "dtype": "float32"}, "as float32 all weights are 0; divide"),
        (MODEL, (X, Y), {"sample_weight": WEIGHT * 0}, "all weights are 0; give at least one sample a weight"),
        (MODEL, (X, Y), {"sample_weight": WEIGHT[:9]}, r"sample_weight has the shape \(9,\); .*: \(50,\)"),
        (MODEL, (X[:1], Y[:1]), {"validation": 0.9}, "validation = 0.9 of 1 samples leaves none to train with"),
        (MODEL, (X, Y), {"validation": (X, X)}, r"validation: y has the shape \(50, 2\)"),
        (MODEL, (X[:2], Y[:2]), {"validation": 0.5, "sample_weight": [0, 1]}, "sample_weight: all weights of the"),
    ],
)
def test_wrong_data(model: cr.Model, data: tuple[Any, Any], more: dict[str, Any], message: str) -> None:
    trainer = new(model, dtype=more.pop("dtype", "float64")) if more.get("dtype") else new(model)
    before = trainer.parameters
    with pytest.raises(cr.DataError, match=message):
        trainer.fit(*data, epochs=1, verbose=0, **more)
    assert same(before, trainer.parameters)
    assert len(trainer.history) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"epochs": 0}, "epochs = 0; give a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs = 1.5; give a whole number"),
        ({"validation": 1}, "validation = 1; give a share of at least 0 and less than 1"),
        ({"validation": -0.1}, "validation = -0.1; give a share"),
        ({"validation": math.nan}, "validation = nan; give a share"),
        ({"validation": True}, "validation is of the type bool; give a share"),
        ({"validation": (X,)}, "validation: 1 arrays; give a share .* or .x, y, sample_weight"),
        ({"validation": X}, "validation is of the type ndarray"),
        ({"callbacks": 3}, "callbacks = 3; give a list"),
        ({"callbacks": [3]}, "callbacks: 3 is none; give a function"),
        ({"callbacks": [cr.EarlyStopping]}, "callbacks: .* is none; give a function"),
    ],
)
def test_wrong_arguments_of_fit(more: dict[str, Any], message: str) -> None:
    with pytest.raises(cr.SpecError, match=message):
        new().fit(X, Y, **{"epochs": 1, "verbose": 0, **more})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": "digits"}, "trainer: 'digits' is not a model; give a Model"),
        ({"rule": "adm"}, "optimiser 'adm' is not known.*Did you mean 'adam'"),
        ({"rule": cr.Adam}, "optimiser = .*; give Adam"),
        ({"batch_size": 0}, "batch_size = 0; give a whole number of at least 1"),
        ({"batch_size": True}, "batch_size = True"),
        ({"dtype": "float16"}, "dtype = 'float16'; choose one of float32, float64"),
        ({"seed": -1}, "seed = -1; give a whole number of at least 0"),
        ({"seed": "a"}, "seed = 'a'; give a whole number"),
        ({"threads": 0}, "threads = 0"),
        ({"clip_norm": 0.0}, "clip_norm = 0.0; give a number above 0, or leave it out"),
        ({"clip_value": math.inf}, "clip_value = inf"),
        ({"clip_value": True}, "clip_value = True"),
        ({"schedule": "cosin"}, "schedule 'cosin' is not known.*Did you mean 'cosine'"),
        ({"schedule": cr.Cosine}, "schedule = .*; give a name"),
        ({"schedule": cr.ReduceOnPlateau(larger_is_better=True)}, "leave larger_is_better out"),
        ({"metrics": "accuracy"}, "metrics = 'accuracy'; give a list"),
        ({"metrics": ["acuracy"]}, "metric 'acuracy' is not known.*Did you mean 'accuracy'"),
        ({"model": cr.Model(2, [cr.Activation("tanh")])}, "the model has no parameters; there is nothing to train"),
    ],
)
def test_wrong_arguments_of_the_trainer(more: dict[str, Any], message: str) -> None:
    with pytest.raises(cr.SpecError, match=message):
        new(**more)


def test_predictions_of_many_samples_share_nothing() -> None:
    """What a call prepares serves the next one of as many samples, whatever was between them."""
    trainer = new()
    x = np.random.default_rng(5).normal(size=(3 * FEW, X.shape[1]))
    first, kept = trainer.predict(x), trainer.predict(-x)
    strange = x.copy()
    strange[-1] = np.nan
    with pytest.raises(cr.DataError, match="finite"):
        trainer.predict(strange)
    shorter = trainer.predict(x[:-1])
    assert (trainer.predict(x.copy()) == first).all()
    assert (trainer.predict(-x) == kept).all()
    np.testing.assert_allclose(shorter, first[:-1], rtol=1e-12)
    assert (kept != first).any()


SQUARED = cr.Equations("V[i,j] = A[i,j]**2\nh[n,i] = tanh(sum(j, V[i,j]*x[n,j]))", "h", {"i": 3}, {"A": "ij"})


@pytest.mark.parametrize("layer", [cr.Dense(3, "tanh"), SQUARED], ids=["by samples", "after what is the same for all"])
@pytest.mark.parametrize("samples", [1, FEW, 3 * FEW])
def test_infinity_is_refused_where_the_outputs_would_be_finite(layer: Any, samples: int) -> None:
    """It is looked for when the samples have been read."""
    trainer = cr.Trainer(cr.Model(2, [layer, cr.Dense(1)]), dtype="float64")
    x = np.random.default_rng(5).normal(size=(samples, 2))
    assert np.isfinite(trainer.predict(x)).all()
    for place in {0, samples // 2, samples - 1}:
        strange = x.copy()
        strange[place, 1] = np.inf
        with pytest.raises(cr.DataError, match=rf"x\[{place}, 1\] is inf"):
            trainer.predict(strange)
    assert np.isfinite(trainer.predict(x)).all()


def test_predict_checks_its_data() -> None:
    with pytest.raises(cr.DataError, match=r"x\[3, 1\] is nan"):
        new().predict(NAN)
    with pytest.raises(cr.DataError, match=r"x as float32\[0, 0\]"):
        new(dtype="float32").predict(X * 1e300)


# --- the host


def calls_of(trainer: Trainer) -> list[tuple[int, int]]:
    """Steps of each call of the compiled loop from now on, and epochs of its plan."""
    training = trainer._training
    assert training is not None
    run, calls = training.run, []

    def counted(given: Any, order: Any, rates: Any, keys: Any, first: int, last: int, kept: Any) -> Any:
        calls.append((last - first, len(keys)))
        return run(given, order, rates, keys, first, last, kept)

    training.run = counted
    return calls


def test_a_later_epoch_is_one_call_of_the_compiled_loop() -> None:
    trainer = new(batch_size=1, threads=1)
    assert FIRST_STEPS == 1
    trainer.fit(X, Y, epochs=1, verbose=0)
    calls = calls_of(trainer)
    trainer.fit(X, Y, epochs=3, verbose=0)
    assert sum(steps for steps, _ in calls) == 150  # the pace of a step was measured by the `fit` before
    assert len(calls) < 8, textwrap.shorten(f"{calls}", 200)


ON_END = {
    "plain": {},
    "noise and a clipped norm": {
        "model": cr.Model(2, [cr.Dense(5, "tanh"), cr.Dropout(0.5), cr.Dense(1)]),
        "clip_norm": 0.1,
    },
    "a schedule": {"schedule": cr.Cosine(warm_up=5), "dtype": "float32"},
    "too large a rate": {"rule": cr.SGD(0.9), "threads": None},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("more", ON_END.values(), ids=ON_END)
def test_epochs_on_end_are_those_that_are_looked_at_one_by_one(more: dict[str, Any], weighted: bool) -> None:
    """In one call of the compiled loop or in many: the same bits of weights, losses and best weights."""
    weight = np.linspace(0.5, 2, len(X)) if weighted else None
    together, alone = new(batch_size=7, **more), new(batch_size=7, **more)
    calls = []
    for trainer, called in ((together, ()), (alone, [lambda *_: calls.append(together)])):
        for epochs in (3, 20, 40):
            trainer.fit(X, Y, epochs=epochs, sample_weight=weight, verbose=0, callbacks=called)
    assert calls
    assert together.history.stopped == alone.history.stopped
    assert [{**row, "seconds": 0} for row in together.history] == [{**row, "seconds": 0} for row in alone.history]
    assert same(together.parameters, alone.parameters)
    assert same(together.best_parameters, alone.best_parameters)


def paced(steps: int, **more: Any) -> Trainer:
    """A trainer that takes so many steps before it looks, and a tenth of them in epochs on end, on any machine."""
    trainer = new(batch_size=7, threads=1, **more)
    trainer._pace.steps, trainer._pace.took = steps, lambda *_: None  # type: ignore[method-assign]
    return trainer


def test_epochs_on_end_are_one_call_of_the_compiled_loop() -> None:
    trainer = paced(160)
    trainer.fit(X, Y, epochs=5, verbose=0)
    calls = calls_of(trainer)
    trainer.fit(X, Y, epochs=30, verbose=0)
    assert sum(steps for steps, _ in calls) == 30 * 8
    assert all(steps == 8 * epochs for steps, epochs in calls)
    assert max(epochs for _, epochs in calls) == 10  # half of the pace
    trainer.fit(X, Y, epochs=3, verbose=0, callbacks=[lambda *_: None])
    assert calls[-3:] == [(8, 1)] * 3


@pytest.mark.parametrize("steps", [3, 800])
def test_the_seconds_of_the_epochs_are_those_that_passed(steps: int) -> None:
    trainer = paced(steps)
    trainer.fit(X, Y, epochs=2, verbose=0)
    started = time.perf_counter()
    trainer.fit(X, Y, epochs=60, verbose=0)
    passed = time.perf_counter() - started
    seconds = trainer.history["seconds"][2:]
    assert min(seconds) > 0
    assert sum(seconds) <= passed


ENDED = {
    "after the steps": "chainrule.runtime.divergence.is_finite",
    "between two epochs of a call": "chainrule.runtime.trainer.mean_loss",
    "in the display": "chainrule.runtime.progress.Progress.epoch",
}


@pytest.mark.parametrize("place", ENDED.values(), ids=ENDED)
def test_a_second_ctrl_c_loses_no_step(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come anywhere, also where the steps of many epochs were taken, and are not yet noted."""
    plain, trainer, called = paced(800), paced(800), itertools.count(1)
    plain.fit(X, Y, epochs=60, verbose=0)
    owner, name = place.rsplit(".", 1)
    before = pkgutil.resolve_name(place)

    def interrupted(*arguments: Any) -> Any:
        if next(called) in (4, 9):
            raise KeyboardInterrupt
        return before(*arguments)

    trainer.fit(X, Y, epochs=2, verbose=0)
    monkeypatch.setattr(pkgutil.resolve_name(owner), name, interrupted)
    epochs = 58
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=epochs, verbose=0)
        epochs = trainer.unfinished
        assert len(trainer.history) == 60 - epochs
    trainer.fit(X, Y, epochs=epochs, verbose=0)
    assert rows(trainer.history) == rows(plain.history)
    assert same(trainer.parameters, plain.parameters)
    assert same(trainer.best_parameters, plain.best_parameters)


@pytest.mark.parametrize("called", [1, 3])
def test_a_metric_that_fails_leaves_the_end_of_an_epoch_to_do(called: int) -> None:
    count = itertools.count(1)

    def strange(y: Any, y_hat: Any) -> float:
        if next(count) == called:
            raise ArithmeticError
        return 1.0

    plain, trainer = new(), new(metrics=[strange])
    with pytest.raises(ArithmeticError):
        trainer.fit(X, Y, epochs=5, verbose=0)
    assert trainer.unfinished == 6 - called
    trainer.fit(X, Y, epochs=trainer.unfinished, verbose=0)
    plain.fit(X, Y, epochs=5, verbose=0)
    assert trainer.history["loss"] == plain.history["loss"]
    assert same(trainer.parameters, plain.parameters)


def test_who_reads_the_best_weights_does_not_hide_better_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may read them while another one trains."""
    trainer = new()
    trainer.fit(X, Y, epochs=3, verbose=0)
    parts = trainer_module.parts

    def while_it_trains(*arguments: Any) -> Any:
        monkeypatch.setattr(trainer_module, "parts", parts)
        trainer._watch({"loss": 0.0}, None)
        return parts(*arguments)

    monkeypatch.setattr(trainer_module, "parts", while_it_trains)
    read, last = trainer.best_parameters, trainer.parameters
    trainer.set_parameters({name: array + 1 for name, array in last.items()})
    assert trainer._best[1] == 0
    assert read is not None
    assert same(trainer.best_parameters, last)

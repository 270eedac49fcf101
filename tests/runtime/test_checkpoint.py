import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import chainrule as cr
from chainrule.runtime.trainer import Trainer
from chainrule.symbolic.optimisers import optimiser

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]
MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
SLOPE = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])
LINE = cr.Model(2, [cr.Dense(1)], penalties=[cr.L2(0.1)])
DROPPED = cr.Model(2, [cr.Dense(4, "tanh"), cr.Dropout(0.4), cr.Dense(1)])


def new(model: cr.Model = MODEL, rule: Any = None, dtype: str = "float64", **more: Any) -> Trainer:
    return Trainer(model, cr.Adam(lr=0.02) if rule is None else rule, 7, dtype, **more)


def same(a: Mapping[str, np.ndarray] | None, b: Mapping[str, np.ndarray] | None) -> bool:
    assert a is not None
    assert b is not None
    assert a.keys() == b.keys()
    return all((a[k].dtype, a[k].shape, a[k].tobytes()) == (b[k].dtype, b[k].shape, b[k].tobytes()) for k in a)


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


@pytest.mark.parametrize(
    "make",
    [
        lambda: new(DROPPED, schedule=cr.StepDecay(step_size=2), metrics=["r2"], seed=3),
        lambda: new(SLOPE, optimiser("nadam"), schedule=cr.Cosine(warm_up=9), threads=1),
        lambda: new(schedule=cr.ReduceOnPlateau(factor=0.5, patience=0, threshold=0.9, cooldown=1)),
    ],
)
def test_restored_it_goes_on_bit_by_bit(make: Callable[[], Trainer], tmp_path: Path) -> None:
    trainer = make()
    trainer.fit(X, Y, epochs=3, validation=0.2, verbose=0)
    trainer.save(tmp_path / "run")
    restored = Trainer.restore(tmp_path / "run")
    for _ in range(2):  # as it was saved; then after going on
        assert same(trainer.parameters, restored.parameters)
        assert same(trainer.best_parameters, restored.best_parameters)
        assert rows(trainer) == rows(restored)
        assert trainer.schedule == restored.schedule
        assert (trainer.predict(X) == restored.predict(X)).all()
        for each in (trainer, restored):
            each.fit(X, Y, epochs=3, validation=0.2, verbose=0)
    assert len(rows(restored)) == 9


def test_weights_of_samples_and_kinds_of_targets_may_differ_from_the_usual(tmp_path: Path) -> None:
    model = cr.Model(2, [cr.Dense(3, "softmax")], "cross_entropy")
    one_hot, weight = np.eye(3)[RNG.integers(0, 3, 50)], RNG.uniform(size=50)
    trainer = new(model)
    trainer.fit(X, one_hot, epochs=2, sample_weight=weight, verbose=0)
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    for each in (trainer, restored):
        each.fit(X, one_hot, epochs=2, sample_weight=weight, verbose=0)
    assert same(trainer.parameters, restored.parameters)


def test_every_setting_is_kept(tmp_path: Path) -> None:
    rule = cr.custom_optimiser("mine", {"m": "0.9*m + g", "w": "w - lr*sign(m)"}, states={"m": 0.0})
    trainer = new(LINE, rule, "float32", seed=5, threads=1, clip_value=0.5, clip_norm=2, schedule="lr/(1 + e)",
                  metrics=["r2", "abs(y - y_hat)"])  # fmt: skip
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    names = ("model", "optimiser", "dtype", "batch_size", "seed", "threads", "clip_value", "clip_norm", "schedule")
    assert [getattr(restored, n) for n in names] == [getattr(trainer, n) for n in names]
    assert [m.name for m in restored.metrics] == ["r2", "abs(y - y_hat)"]


def test_before_the_first_fit(tmp_path: Path) -> None:
    trainer = new()
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert same(trainer.parameters, restored.parameters)
    assert restored.best_parameters is None
    for each in (trainer, restored):
        each.fit(X, Y, epochs=2, verbose=0)
    assert same(trainer.parameters, restored.parameters)


def test_lbfgs(tmp_path: Path) -> None:
    trainer = new(rule=cr.LBFGS(history=5, tolerance=1e-7))
    trainer.fit(X, Y, epochs=3, verbose=0)
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert restored.optimiser == trainer.optimiser
    for each in (trainer, restored):
        each.fit(X, Y, epochs=3, verbose=0)
    assert same(trainer.parameters, restored.parameters)
    assert same(trainer.best_parameters, restored.best_parameters)
    assert rows(trainer) == rows(restored)
    assert len(rows(restored)) == 6


def test_after_ctrl_c(tmp_path: Path) -> None:
    def interrupt(trainer: Trainer, row: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    trainer = new()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[interrupt])
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert restored.history.stopped == "interrupted"
    assert same(trainer.parameters, restored.parameters)


def test_the_files_are_plain(tmp_path: Path) -> None:
    """Readable without chainrule: JSON as the standard has it, safetensors by name."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    trainer = new(LINE, optimiser("momentum"), schedule="1e200*lr")
    trainer.fit(X, Y, epochs=9, verbose=0)
    assert not math.isfinite(trainer.history["loss"][-1])
    trainer.save(tmp_path)
    for name in ("spec.json", "history.json"):
        json.loads((tmp_path / name).read_text("utf-8"), parse_constant=refuse)
    assert str(Trainer.restore(tmp_path).history["loss"]) == str(trainer.history["loss"])
    assert same(load_file(tmp_path / "weights.safetensors"), trainer.parameters)
    state = load_file(tmp_path / "state.safetensors")
    assert sorted(array.size for array in state.values()) == [1, 2, 2]  # m of bo, m of Wo, the scalars t and lr
    assert state["scalars"][0] == 8 * len(trainer.history)  # t: steps so far
    names = {"history.json", "spec.json", "state.safetensors", "weights.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == names  # and no best.safetensors: the first epoch was too much


def test_saving_again_replaces_all(tmp_path: Path) -> None:
    trainer = new()
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    fresh = new(LINE, optimiser("momentum"))
    fresh.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert same(restored.parameters, fresh.parameters)
    assert restored.best_parameters is None
    assert len(restored.history) == 0


def test_what_cannot_be_saved_is_said_before_anything_is_written(tmp_path: Path) -> None:
    trainer = new(metrics=[lambda y, y_hat: 0.0])
    with pytest.raises(cr.SpecError, match="metric '<lambda>' is a function and cannot be saved; leave it out of"):
        trainer.save(tmp_path / "run")
    better = new(metrics=[cr.metric("y*y_hat", larger_is_better=True)])
    with pytest.raises(cr.SpecError, match="cannot be saved"):
        better.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(cr.SpecError, match="file is a file; give a directory"):
        new().save(tmp_path / "file")


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("weights.safetensors", Path.unlink, "weights.safetensors is missing; the directory is no saved run"),
        ("weights.safetensors", damaged, "weights.safetensors: cannot be read as safetensors"),
        ("weights.safetensors", lambda p: save_file({"Wo": np.ones((1, 3))}, p), "Wo: shape .1, 3.; the model takes"),
        (
            "best.safetensors",
            lambda p: save_file({"Wo": np.ones((1, 2))}, p),
            "best.safetensors: parameter bo is missing",
        ),
        (
            "state.safetensors",
            lambda p: save_file({"Wo_m": np.ones((1, 2))}, p),
            "the optimiser's state '.*' is missing",
        ),
        ("state.safetensors", Path.unlink, "state.safetensors is missing"),
        ("history.json", damaged, "history.json: cannot be read .*; delete it to start a new history"),
        ("history.json", lambda p: p.write_text("[]"), "history.json: cannot be read"),
        ("spec.json", Path.unlink, "holds no spec.json; give a directory that Trainer.save has written"),
    ],
)
def test_damage_is_named(file: str, change: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    trainer = new(LINE, optimiser("momentum"))
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    change(tmp_path / file)
    with pytest.raises(cr.DataError, match=message):
        Trainer.restore(tmp_path)


def test_without_a_history_it_begins_a_new_one(tmp_path: Path) -> None:
    trainer = new(LINE, optimiser("momentum"))
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    (tmp_path / "history.json").unlink()
    restored = Trainer.restore(tmp_path)
    assert len(restored.history) == 0
    assert same(trainer.parameters, restored.parameters)

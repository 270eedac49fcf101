import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.numpy import save as serialised

import chainrule as cr
from chainrule.runtime import store
from chainrule.runtime.checkpoint import trainer_from
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


def newest(folder: Path) -> Path:
    return store.latest(folder).path


def test_the_files_are_plain(tmp_path: Path) -> None:
    """Readable without chainrule: JSON as the standard has it, safetensors by name."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    trainer = new(LINE, optimiser("momentum"), schedule="1e200*lr")
    trainer.fit(X, Y, epochs=9, verbose=0)
    assert not math.isfinite(trainer.history["loss"][-1])
    trainer.save(tmp_path)
    saved = newest(tmp_path)
    for name in ("spec.json", "history.json", "progress.json", "manifest.json"):
        json.loads((saved / name).read_text("utf-8"), parse_constant=refuse)
    restored = Trainer.restore(tmp_path)
    assert str(restored.history["loss"]) == str(trainer.history["loss"])
    assert restored.history.stopped == trainer.history.stopped
    assert same(load_file(saved / "weights.safetensors"), trainer.parameters)
    state = load_file(saved / "state.safetensors")
    assert sorted(array.size for array in state.values()) == [1, 2, 2]  # m of bo, m of Wo, the scalars t and lr
    assert state["scalars"][0] == trainer._position.step  # t: steps so far
    names = {"history.json", "manifest.json", "progress.json", "progress.safetensors", "spec.json"}
    names |= {"state.safetensors", "weights.safetensors"}
    assert {p.name for p in saved.iterdir()} == names  # and no best.safetensors: the first epoch was too much


def test_arrays_that_do_not_lie_in_order(tmp_path: Path) -> None:
    trainer = new()
    given = {name: np.asfortranarray(w) for name, w in trainer.parameters.items()}
    given["W1"] = np.arange(12.0).reshape(6, 2)[::2]
    trainer.set_parameters(given)
    trainer.best_parameters = given  # as somebody may have put it
    trainer.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert same(restored.parameters, trainer.parameters)
    assert restored.best_parameters is not None
    assert (restored.best_parameters["W1"] == given["W1"]).all()


def test_saving_again_keeps_the_one_before(tmp_path: Path) -> None:
    trainer = new()
    for _ in range(4):
        trainer.fit(X, Y, epochs=1, verbose=0)
        trainer.save(tmp_path)
    assert sorted(store.numbers(tmp_path)) == [3, 4]
    assert len(Trainer.restore(tmp_path).history) == 4
    assert len(Trainer.restore(tmp_path / "checkpoint-000003").history) == 3


def test_another_training_is_put_aside_not_overwritten(tmp_path: Path) -> None:
    trainer = new()
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    fresh = new(LINE, optimiser("momentum"))
    with pytest.warns(UserWarning, match="held another training; its checkpoints are in .*earlier-1 now"):
        fresh.save(tmp_path)
    restored = Trainer.restore(tmp_path)
    assert same(restored.parameters, fresh.parameters)
    assert restored.best_parameters is None
    assert len(restored.history) == 0
    assert same(Trainer.restore(tmp_path / "earlier-1").parameters, trainer.parameters)
    restored.save(tmp_path)  # is the same training, and needs no place of its own
    assert sorted(store.numbers(tmp_path)) == [1, 2]


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


# --- what is wrong with it is said


Files = dict[str, bytes]


def replaced(name: str, content: bytes | None) -> Callable[[Files], Files]:
    """The files of a checkpoint with one of them replaced, or without it."""
    return lambda files: {k: v for k, v in (files | {name: content}).items() if v is not None}


def tensors(name: str, **arrays: Any) -> Callable[[Files], Files]:
    return replaced(name, serialised({k: np.asarray(a) for k, a in arrays.items()}))


def changed(name: str, *path: Any, value: Any) -> Callable[[Files], Files]:
    """One value in a file of JSON changed."""

    def change(files: Files) -> Files:
        table = json.loads(files[name])
        inner = table
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return files | {name: json.dumps(table).encode()}

    return change


WRONG: list[tuple[Callable[[Files], Files], str]] = [
    (replaced("weights.safetensors", None), "weights.safetensors: there is no weights.safetensors"),
    (replaced("weights.safetensors", b"\x08" + bytes(30)), "weights.safetensors cannot be read as safetensors"),
    (replaced("weights.safetensors", b"\xff" * 40), "weights.safetensors cannot be read as safetensors"),
    (replaced("weights.safetensors", b""), "weights.safetensors cannot be read as safetensors"),
    (tensors("weights.safetensors", Wo=np.ones((1, 3))), r"parameter bo is missing|Wo: shape \(1, 3\)"),
    (tensors("weights.safetensors", Wo=np.ones((1, 2)), bo=np.ones(1, "float32")), "bo is float32, and the spec says"),
    (tensors("weights.safetensors", Wo=np.ones((1, 2)), bo=[np.nan]), "parameter bo is not finite"),
    (tensors("weights.safetensors", Wo=np.ones((1, 2)), bo=[1.0], V=[1.0]), "'V' is not one of the model's"),
    (tensors("best.safetensors", Wo=np.ones((1, 2))), "best.safetensors: parameter bo is missing"),
    (tensors("state.safetensors", Wo_m=np.ones((1, 2))), "state.safetensors: the optimiser's state '.*' is missing"),
    (replaced("state.safetensors", None), "there is no state.safetensors"),
    (replaced("history.json", b"{"), "history.json: does not hold what it must"),
    (replaced("history.json", b"[]"), "history.json: is no table"),
    (replaced("history.json", b"[" * 100_000), "history.json: is nested too deeply"),
    (replaced("history.json", b'{"epochs": [], "epochs": []}'), "the key 'epochs' is there twice"),
    (replaced("history.json", b'{"epochs": 3, "stopped": ""}'), "history.json: does not hold"),
    (changed("history.json", "epochs", 0, "epoch", value=7), "row 1 is not that of epoch 1"),
    (changed("history.json", "epochs", 0, "loss", value="much"), "history.json: does not hold"),
    (changed("history.json", "epochs", 0, "loss", value=[1]), "is no number"),
    (changed("history.json", "epochs", value=[]), "progress.json: the position, the losses and the history do not"),
    (changed("progress.json", "position", "step", value=3), "the position, the losses and the history do not"),
    (changed("progress.json", "position", "epoch", value=-1), "epoch = -1; give a whole number of at least 0"),
    (changed("progress.json", "position", "scale", value=0), "scale = 0"),
    (changed("progress.json", "position", value=None), "is not a table"),
    (changed("progress.json", "best", value=[1]), "progress.json: does not hold"),
    (changed("progress.json", "callbacks", value=[{"name": "a"}]), "progress.json: does not hold"),
    (changed("spec.json", "model", "loss", value="absolut"), "loss 'absolut' is not known"),
    (changed("spec.json", "model", value=1), "1 is not a table|model"),
    (replaced("spec.json", b"\xff"), "spec.json: does not hold what it must"),
    (replaced("spec.json", None), "there is no spec.json"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> store.Saved:
    """A checkpoint that is as it should be."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = new(LINE, optimiser("momentum"))
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(folder)
    return store.latest(folder)


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_wrong_is_named(
    whole: store.Saved, change: Callable[[Files], Files], message: str, tmp_path: Path
) -> None:
    """Also where all hashes are right: somebody made it so."""
    store.write(tmp_path, change(dict(whole.files)).items(), whole.run, whole.made)
    with pytest.raises((cr.DataError, cr.SpecError), match=message) as caught:
        Trainer.restore(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@settings(max_examples=40)
@given(st.data())
def test_nothing_but_our_own_errors(whole: store.Saved, data: st.DataObject) -> None:
    """Whatever a checkpoint holds, it is a trainer or an error of ours."""
    name = data.draw(st.sampled_from(sorted(whole.files)))
    content = bytearray(whole.files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        content = content or bytearray(b" ")
    saved = store.Saved(whole.path, whole.run, whole.made, {**whole.files, name: bytes(content)})
    with contextlib.suppress(cr.ChainruleError):
        trainer_from(saved)


def test_a_directory_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(cr.DataError, match="holds no checkpoint; give a directory that a training was saved in"):
        Trainer.restore(tmp_path)
    with pytest.raises(cr.DataError, match="holds no checkpoint"):
        Trainer.restore(tmp_path / "no")


# --- damage: named, and the one before it used


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", [Path.unlink, flipped, lambda p: p.write_bytes(p.read_bytes()[:-1])])
@pytest.mark.parametrize("name", ["weights.safetensors", "state.safetensors", "progress.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    name: str, change: Callable[[Path], object], tmp_path: Path
) -> None:
    trainer = new(LINE, optimiser("momentum"))
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    before = trainer.parameters
    trainer.fit(X, Y, epochs=1, verbose=0)
    trainer.save(tmp_path)
    change(tmp_path / "checkpoint-000002" / name)
    with pytest.warns(UserWarning, match=rf"checkpoint-000002: {name} .*; checkpoint-000001, the one before it, is"):
        restored = Trainer.restore(tmp_path)
    assert same(restored.parameters, before)
    restored.fit(X, Y, epochs=1, verbose=0, checkpoint=tmp_path)
    assert same(restored.parameters, trainer.parameters)
    assert (tmp_path / "damaged-000002").is_dir()  # to be looked at; no longer counted among those that are kept
    assert len(store.numbers(tmp_path)) == 2
    assert same(Trainer.restore(tmp_path).parameters, trainer.parameters)


def test_where_all_are_damaged_all_are_named(tmp_path: Path) -> None:
    trainer = new(LINE, optimiser("momentum"))
    for _ in range(2):
        trainer.save(tmp_path)
    for path in tmp_path.glob("checkpoint-*/weights.safetensors"):
        flipped(path)
    with pytest.raises(cr.DataError, match=r"no checkpoint is whole: .*000002: weights.*000001: weights"):
        Trainer.restore(tmp_path)

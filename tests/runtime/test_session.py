"""A training that ends early, anywhere, goes on to the bits of one that does not."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime import keeping, store
from chainrule.runtime.keeping import Checkpoint
from chainrule.runtime.session import Session
from chainrule.runtime.signals import Terminated
from chainrule.runtime.trainer import Trainer, _Pace
from chainrule.symbolic.optimisers import optimiser

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]
WEIGHT = RNG.integers(1, 4, 50).astype(float)
MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
SLOPE = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])
DROPPED = cr.Model(2, [cr.Dense(4, "tanh"), cr.Dropout(0.4), cr.Dense(1)])
MOMENTUM = optimiser("momentum")


def new(model: cr.Model = MODEL, rule: Any = None, batch_size: int = 7, **more: Any) -> Trainer:
    return Trainer(model, cr.Adam(lr=0.02) if rule is None else rule, batch_size, "float64", **more)


def state(trainer: Trainer) -> dict[str, Any]:
    """All that a training has come to, times aside."""
    training = trainer._training
    best = trainer.best_parameters
    at = trainer._position
    return {
        "weights": {k: v.tobytes() for k, v in trainer.parameters.items()},
        "best": None if best is None else {k: v.tobytes() for k, v in best.items()},
        "states": None if training is None else {k: v.tobytes() for k, v in training.states.items()},
        "scalars": None if training is None else training.scalars.tobytes(),
        "history": str([{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]),
        "stopped": trainer.history.stopped,
        "schedule": trainer.schedule,
        "position": (at.epoch, at.step, at.planned, at.scale, at.rolled_back),
        "pending": str(trainer._pending),
    }


@contextmanager
def interrupted_after(pauses: int) -> Iterator[None]:
    """Ctrl-C at the so many-th pause between two steps, where every call of the compiled loop is one step."""
    seen = [0]

    def pause(session: Session) -> None:
        session.keeper.after_steps()
        seen[0] += 1
        if seen[0] == pauses:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Pace, "took", lambda pace, steps, seconds: None)
        patch.setattr(Session, "pause", pause)
        yield


Made = Callable[[], tuple[Trainer, dict[str, Any]]]
TRAININGS: dict[str, Made] = {
    "dropout, a schedule by steps": lambda: (new(DROPPED, schedule=cr.Cosine(warm_up=9), metrics=["r2"], seed=3), {}),
    "weights, clipped": lambda: (new(SLOPE, MOMENTUM, clip_norm=0.5), {"sample_weight": WEIGHT}),
    "plateau": lambda: (
        new(SLOPE, MOMENTUM, schedule=cr.ReduceOnPlateau(factor=0.5, patience=0, threshold=0.9)), {}
    ),
    "early stopping": lambda: (
        new(SLOPE, MOMENTUM, schedule="30*lr"),
        {"validation": (X[:9], Y[:9] + 1), "callbacks": [cr.EarlyStopping(patience=2)]},
    ),
    "rolled back": lambda: (
        new(SLOPE, MOMENTUM, schedule="1e100*lr", divergence=cr.Divergence("roll_back", factor=1e-50, attempts=5)), {}
    ),
}  # fmt: skip
PLANNED = 5


def on_to_the_end(trainer: Trainer, more: dict[str, Any]) -> Trainer:
    trainer.fit(X, Y, epochs=trainer.unfinished, verbose=0, **more)
    return trainer


@pytest.mark.parametrize("name", TRAININGS)
def test_interrupted_anywhere_it_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    """After each of several steps, in memory and from the disk; twice in a row."""
    whole, more = TRAININGS[name]()
    whole.fit(X, Y, epochs=PLANNED, verbose=0, **more)
    for pauses in (1, 6, 11, 19):
        trainer, more = TRAININGS[name]()
        folder = tmp_path / f"{pauses}"
        with (
            interrupted_after(pauses),
            pytest.raises(KeyboardInterrupt, match=f"stopped in epoch .*; saved in {folder}"),
        ):
            trainer.fit(X, Y, epochs=PLANNED, verbose=0, checkpoint=folder, **more)
        assert trainer.unfinished
        assert trainer._position.step
        assert trainer.history.stopped == "interrupted"
        restored = Trainer.restore(folder)
        assert state(restored) == state(trainer)
        fresh = TRAININGS[name]()[1]  # callbacks that know nothing
        with interrupted_after(2), pytest.raises(KeyboardInterrupt):
            restored.fit(X, Y, epochs=restored.unfinished, verbose=0, checkpoint=folder, **fresh)
        again = Trainer.restore(folder)
        assert state(on_to_the_end(again, TRAININGS[name]()[1])) == state(whole)
        assert state(on_to_the_end(trainer, more)) == state(whole)
        assert state(on_to_the_end(restored, fresh)) == state(whole)


def test_lbfgs_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """What SciPy remembers is not kept: the iterations are taken again."""
    whole, trainer = new(rule=cr.LBFGS()), new(rule=cr.LBFGS())
    whole.fit(X, Y, epochs=8, verbose=0)

    def interrupt(_: Trainer, row: Mapping[str, Any]) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="saved in"):
        trainer.fit(X, Y, epochs=8, verbose=0, callbacks=[interrupt], checkpoint=tmp_path)
    restored = Trainer.restore(tmp_path)
    assert restored.unfinished == 5
    assert state(on_to_the_end(restored, {})) == state(whole)
    assert state(on_to_the_end(trainer, {})) == state(whole)


@pytest.mark.parametrize("name", [*TRAININGS, "best weights, back at the end", "L-BFGS"])
def test_every_checkpoint_leads_to_the_same_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever a kill leaves as the newest one, `resume` comes to the state of a run that nobody killed."""
    make = {
        **TRAININGS,
        "best weights, back at the end": lambda: (
            new(SLOPE, MOMENTUM, schedule="30*lr"),
            {"validation": (X[:9], Y[:9] + 1), "callbacks": [cr.EarlyStopping(patience=9)]},
        ),
        "L-BFGS": lambda: (new(rule=cr.LBFGS()), {"callbacks": [cr.EarlyStopping()]}),
    }[name]
    monkeypatch.setattr(keeping, "SHARE", 1e9)
    monkeypatch.setattr(_Pace, "took", lambda *_: setattr(_[0], "steps", 4))
    whole, more = make()
    often = Checkpoint(tmp_path, epochs=1, seconds=0, keep=1000)
    whole.fit(X, Y, epochs=PLANNED, verbose=0, checkpoint=often, **more)
    written = store.numbers(tmp_path)
    assert len(written) >= PLANNED
    for number in written:
        restored = Trainer.restore(tmp_path / f"checkpoint-{number:06d}")
        if restored.unfinished:
            on_to_the_end(restored, make()[1])
        assert state(restored) == state(whole), number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("patience", [1, 9])
def test_a_signal_in_the_last_epoch_changes_nothing(number: int, patience: int, tmp_path: Path) -> None:
    """There is nothing left to stop: the training ends as it would have, is saved, and then the signal is raised."""

    def late(_: Trainer, row: Mapping[str, Any]) -> None:
        if row["epoch"] == len(whole.history):
            signal.raise_signal(number)

    given = {"validation": (X[:9], Y[:9] + 1), "callbacks": [cr.EarlyStopping(patience=patience), late]}
    whole, trainer = new(SLOPE, MOMENTUM, schedule="30*lr"), new(SLOPE, MOMENTUM, schedule="30*lr")
    whole.fit(X, Y, 5, verbose=0, **(given | {"callbacks": given["callbacks"][:1]}))
    assert len(whole.history) == (5 if patience == 9 else 2)
    with pytest.raises((KeyboardInterrupt, Terminated)) as caught:
        trainer.fit(X, Y, 5, verbose=0, checkpoint=tmp_path, **given)
    said = getattr(caught.value, "message", str(caught.value))
    assert said == f"the training had ended; saved in {tmp_path}"
    assert state(trainer) == state(Trainer.restore(tmp_path)) == state(whole)


def test_other_samples_begin_the_epoch_anew(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = new(SLOPE, MOMENTUM)
    with interrupted_after(10), pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=3, verbose=0)
    assert (trainer._position.epoch, trainer._position.step) == (1, 3)
    trainer.fit(X[:20], Y[:20], epochs=1, verbose=0)
    assert "the samples are not those of before: epoch 2 begins anew" in capsys.readouterr().err
    assert len(trainer.history) == 2
    assert trainer._position.step == 0


def test_more_or_fewer_epochs_than_were_planned() -> None:
    trainer, plain = new(SLOPE, MOMENTUM), new(SLOPE, MOMENTUM)
    with interrupted_after(10), pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=3, verbose=0)
    trainer.fit(X, Y, epochs=7, verbose=0)
    plain.fit(X, Y, epochs=8, verbose=0)
    assert state(trainer)["weights"] == state(plain)["weights"]
    assert trainer.unfinished == 0


def test_a_callback_that_fails_loses_nothing(tmp_path: Path) -> None:
    def broken(_: Trainer, row: Mapping[str, Any]) -> None:
        if row["epoch"] == 3:
            raise RuntimeError("no")

    trainer, plain = new(SLOPE, MOMENTUM), new(SLOPE, MOMENTUM)
    with pytest.raises(RuntimeError, match="no"):
        trainer.fit(X, Y, epochs=6, verbose=0, callbacks=[broken], checkpoint=tmp_path)
    restored = Trainer.restore(tmp_path)
    assert (len(restored.history), restored.unfinished) == (3, 3)
    plain.fit(X, Y, epochs=6, verbose=0)
    assert state(on_to_the_end(restored, {}))["weights"] == state(plain)["weights"]


@pytest.mark.parametrize(("called", "at"), [([lambda trainer, row: None], 3), ([], 2)])  # epoch by epoch; on end
def test_a_step_that_raises_leaves_a_state_that_was(called: list[Any], at: int, tmp_path: Path) -> None:
    """A second Ctrl-C comes anywhere: the training goes back to a state whose place it knows."""
    trainer, plain = new(SLOPE, MOMENTUM), new(SLOPE, MOMENTUM)
    trainer.fit(X, Y, epochs=2, verbose=0)
    training = trainer._training
    assert training is not None
    run = training.run

    def half(given: Any, order: Any, rates: Any, keys: Any, first: int, last: int, kept: Any) -> Any:
        run(given, order, rates, keys, first, last, kept)
        if trainer._position.epoch == at:
            raise KeyboardInterrupt  # the steps are done, and nobody was told
        return np.zeros(last - first)

    training.run = half
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=4, verbose=0, checkpoint=tmp_path, callbacks=called)
    training.run = run
    plain.fit(X, Y, epochs=6, verbose=0)
    assert state(on_to_the_end(Trainer.restore(tmp_path), {}))["weights"] == state(plain)["weights"]
    assert state(on_to_the_end(trainer, {}))["weights"] == state(plain)["weights"]


def test_one_fit_at_a_time() -> None:
    def train_again(trainer: Trainer, row: Mapping[str, Any]) -> None:
        trainer.fit(X, Y, epochs=1, verbose=0)

    trainer = new(SLOPE, MOMENTUM)
    with pytest.raises(cr.SpecError, match="`fit` is running already, around this call or in another thread"):
        trainer.fit(X, Y, epochs=1, verbose=0, callbacks=[train_again])
    assert trainer.fit(X, Y, epochs=1, verbose=0)["epoch"] == [1, 2]


def test_what_a_callback_kept_must_be_what_it_keeps() -> None:
    trainer = new(SLOPE, MOMENTUM)
    trainer._pending = [("EarlyStopping", {"best": 1.0}, {})]
    trainer._position.planned = 3
    with pytest.raises(cr.DataError, match="EarlyStopping: what it kept cannot be read"):
        trainer.fit(X, Y, epochs=1, verbose=0, callbacks=[cr.EarlyStopping()])
    assert math.isinf(cr.EarlyStopping().best)

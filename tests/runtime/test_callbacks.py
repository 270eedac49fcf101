import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime.trainer import Trainer

MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]


def new(**more: Any) -> Trainer:
    return Trainer(MODEL, cr.Adam(lr=0.02), 16, "float64", **more)


class Recorder:
    """Writes down when it is called."""

    def __init__(self, stop_after: int = 99) -> None:
        self.calls: list[Any] = []
        self.stop_after = stop_after

    def start(self, trainer: Trainer) -> None:
        self.calls.append("start")

    def __call__(self, trainer: Trainer, row: Mapping[str, Any]) -> bool:
        self.calls.append(row["epoch"])
        return bool(row["epoch"] >= self.stop_after)

    def end(self, trainer: Trainer) -> None:
        self.calls.append(("end", trainer.history.stopped))


def test_an_object_is_called_at_start_epochs_and_end() -> None:
    recorder = Recorder()
    new().fit(X, Y, epochs=2, verbose=0, callbacks=[recorder])
    assert recorder.calls == ["start", 1, 2, ("end", "")]


def test_a_function_is_called_with_the_row_and_the_weights_of_its_epoch() -> None:
    seen: list[Any] = []

    def note(trainer: Trainer, row: Mapping[str, Any]) -> None:
        assert trainer.evaluate(X, Y)["loss"] == row["val_loss"]
        seen.append(row)

    history = new().fit(X, Y, epochs=3, validation=(X, Y), verbose=0, callbacks=iter([note]))
    assert seen == history.epochs


def test_whatever_is_true_stops() -> None:
    def enough(trainer: Trainer, row: Mapping[str, Any]) -> int:
        return int(row["epoch"] == 2)

    trainer, recorder = new(), Recorder()
    history = trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[enough, recorder])
    assert (len(history), history.stopped) == (2, "enough")
    assert recorder.calls == ["start", 1, 2, ("end", "enough")]  # the others still see the last epoch
    history = trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[Recorder(stop_after=4)])
    assert (len(history), history.stopped) == (4, "Recorder")


def test_the_end_is_told_when_a_callback_fails() -> None:
    def broken(trainer: Trainer, row: Mapping[str, Any]) -> None:
        raise RuntimeError("no")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="no"):
        new().fit(X, Y, epochs=2, verbose=0, callbacks=[recorder, broken])
    assert recorder.calls == ["start", 1, ("end", "")]


# --- early stopping


class Scripted:
    """A trainer that went through given rows."""

    def __init__(self, larger: bool = False) -> None:
        self.history, self.parameters, self.larger = cr.History(), {"w": 0}, larger

    def larger_is_better(self, column: str) -> bool:
        return self.larger

    def set_parameters(self, parameters: dict[str, int]) -> None:
        self.parameters = parameters


def epochs_until_stop(
    stopping: cr.EarlyStopping, values: list[float], column: str = "loss", larger: bool = False
) -> tuple[int, int]:
    """After which epoch it stops (0: never), and the epoch whose weights are there in the end."""
    trainer: Any = Scripted(larger)
    stopping.start(trainer)
    stopped = 0
    for epoch, value in enumerate(values, start=1):
        trainer.parameters = {"w": epoch}
        if stopping(trainer, {"epoch": epoch, column: value}):
            stopped = epoch
            break
    stopping.end(trainer)
    return stopped, trainer.parameters["w"]


@pytest.mark.parametrize(
    ("stopping", "values", "wanted"),
    [
        (cr.EarlyStopping(patience=2), [5, 4, 4, 3, 3, 3, 1], (6, 4)),
        (cr.EarlyStopping(patience=1), [5, 4, 4, 3], (3, 2)),
        (cr.EarlyStopping(patience=0), [5, 4, 4, 3], (3, 2)),
        (cr.EarlyStopping(patience=2, restore_best=False), [5, 4, 4, 4, 3], (4, 4)),
        (cr.EarlyStopping(patience=2, min_delta=1.5), [5, 4, 3, 2, 1], (0, 5)),
        (cr.EarlyStopping(patience=2, min_delta=1.5), [5, 4, 3.6, 2], (3, 1)),
        (cr.EarlyStopping(patience=2), [math.nan, math.nan, 1], (2, 2)),
        (cr.EarlyStopping(patience=9), [3, 2, 4], (0, 2)),  # the best weights come back at the planned end, too
    ],
)
def test_early_stopping(stopping: cr.EarlyStopping, values: list[float], wanted: tuple[int, int]) -> None:
    assert epochs_until_stop(stopping, values) == wanted
    assert epochs_until_stop(stopping, values) == wanted, "a second fit begins anew"


def test_a_score_is_to_rise() -> None:
    stopping = cr.EarlyStopping(patience=2, monitor="val_accuracy")
    assert epochs_until_stop(stopping, [0.5, 0.7, 0.6, 0.6], "val_accuracy", larger=True) == (4, 2)


def test_early_stopping_restores_the_best_weights() -> None:
    trainer, seen = new(schedule="5*lr"), {}

    def keep(trainer: Trainer, row: Mapping[str, Any]) -> None:
        seen[row["epoch"]] = trainer.parameters

    stopping = cr.EarlyStopping(patience=4)
    history = trainer.fit(X, Y, epochs=200, validation=(X[:9], Y[:9] + 1), verbose=0, callbacks=[keep, stopping])
    best = int(np.argmin(history["val_loss"])) + 1
    assert history.stopped == "EarlyStopping"
    assert len(history) == best + 4
    assert stopping.best_epoch == best
    assert all((trainer.parameters[k] == v).all() for k, v in seen[best].items())


def test_ctrl_c_leaves_the_last_weights() -> None:
    trainer, seen = new(), []

    def interrupt(trainer: Trainer, row: Mapping[str, Any]) -> None:
        seen.append(trainer.parameters)
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=9, validation=(X, Y + 100), verbose=0, callbacks=[cr.EarlyStopping(), interrupt])
    assert all((trainer.parameters[k] == v).all() for k, v in seen[-1].items())


def test_what_is_not_recorded_cannot_be_watched() -> None:
    with pytest.raises(cr.SpecError, match=r"monitor 'val_los' is not recorded.*Did you mean 'val_loss'"):
        new().fit(X, Y, epochs=1, validation=0.2, verbose=0, callbacks=[cr.EarlyStopping(monitor="val_los")])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"patience": -1}, "patience = -1; give a whole number of epochs"),
        ({"patience": 1.5}, "patience = 1.5"),
        ({"patience": True}, "patience = True"),
        ({"monitor": 3}, "monitor = 3; give the name of a column"),
        ({"min_delta": -0.1}, "min_delta = -0.1; give a number of at least 0"),
        ({"min_delta": math.nan}, "min_delta = nan"),
        ({"min_delta": "a"}, "min_delta = 'a'"),
    ],
)
def test_wrong_early_stopping(more: dict[str, Any], message: str) -> None:
    with pytest.raises(cr.SpecError, match=f"early stopping: {message}"):
        cr.EarlyStopping(**more)

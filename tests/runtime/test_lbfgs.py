import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime.lbfgs import LBFGS, minimise
from chainrule.runtime.trainer import Trainer

RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 4))
Y = X @ RNG.normal(size=(4, 2)) + 0.3 * RNG.normal(size=(30, 2))
LINE = cr.Model(4, [cr.Dense(2)])
CURVED = cr.Model(4, [cr.Dense(3, "tanh"), cr.Dense(2)], penalties=[cr.L2(0.01)])


def least_squares() -> tuple[np.ndarray, np.ndarray]:
    found = np.linalg.lstsq(np.hstack([X, np.ones((30, 1))]), Y, rcond=None)[0]
    return found[:-1].T, found[-1]


def new(model: cr.Model = LINE, **more: Any) -> Trainer:
    return Trainer(model, LBFGS(), dtype="float64", **more)


def test_a_quadratic_is_minimised() -> None:
    trainer = new()
    history = trainer.fit(X, Y, epochs=100, verbose=0)
    W, b = least_squares()
    assert np.abs(trainer.parameters["Wo"] - W).max() < 1e-8
    assert np.abs(trainer.parameters["bo"] - b).max() < 1e-8
    assert (len(history) < 40, history.stopped) == (True, "converged")
    assert history["epoch"] == list(range(1, len(history) + 1))
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1], rel=1e-12)
    assert trainer.best_parameters is not None


def test_epochs_are_iterations_and_fit_goes_on() -> None:
    trainer = new(CURVED)
    assert len(trainer.fit(X, Y, epochs=3, verbose=0)) == 3
    assert trainer.history.stopped == ""
    first = trainer.history["loss"][-1]
    history = trainer.fit(X, Y, epochs=4, verbose=0)
    assert history["epoch"] == [1, 2, 3, 4, 5, 6, 7]
    assert history["loss"][-1] < first


def test_the_name_is_enough_and_float32_works() -> None:
    trainer = Trainer(LINE, "lbfgs", dtype="float32")
    assert trainer.optimiser == LBFGS()
    trainer.fit(X, Y, epochs=50, verbose=0)
    assert np.abs(trainer.parameters["Wo"] - least_squares()[0]).max() < 1e-3


def test_weights_validation_metrics_and_callbacks() -> None:
    trainer = new(metrics=["r2"])
    weight = np.r_[np.ones(20), np.zeros(10)]
    history = trainer.fit(X, Y, 100, (X[20:], Y[20:]), weight, [cr.EarlyStopping(patience=100)], verbose=0)
    assert list(history.epochs[0]) == ["epoch", "loss", "r2", "val_loss", "val_r2", "rate", "seconds"]
    plain = new()
    plain.fit(X[:20], Y[:20], epochs=100, verbose=0, callbacks=[lambda trainer, row: row["epoch"] == 2])
    assert (len(plain.history), plain.history.stopped) == (2, "<lambda>")
    assert plain.parameters.keys() == trainer.parameters.keys()


def test_ctrl_c_keeps_the_weights() -> None:
    def interrupt(trainer: Trainer, row: Any) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    trainer, plain = new(CURVED), new(CURVED)
    with pytest.raises(KeyboardInterrupt, match=r"trainer\.parameters are the last weights"):
        trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[interrupt])
    plain.fit(X, Y, epochs=2, verbose=0)
    assert all((trainer.parameters[k] == v).all() for k, v in plain.parameters.items())
    assert all((trainer.best_parameters[k] == v).all() for k, v in plain.parameters.items())  # type: ignore[index]


def test_a_loss_that_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = new()
    trainer.set_parameters({"Wo": np.full((2, 4), 1e200), "bo": np.zeros(2)})
    trainer.fit(X, Y, epochs=9, verbose=0)
    assert trainer.history.stopped.startswith("the loss is not finite: after epoch 0; look at the data")
    assert "Stopped; the weights are the last finite ones" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_may_raise() -> None:
    trainer = new(divergence="raise")
    trainer.set_parameters({"Wo": np.full((2, 4), 1e200), "bo": np.zeros(2)})
    with pytest.raises(cr.DivergenceError, match="the loss is not finite: after epoch 0"):
        trainer.fit(X, Y, epochs=9, verbose=0)
    assert (trainer.parameters["Wo"] == 1e200).all()


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (LINE, {"schedule": "cosine"}, "lbfgs finds its own steps; leave schedule out"),
        (LINE, {"clip_norm": 1.0}, "leave clip_norm out"),
        (LINE, {"clip_value": 1.0}, "leave clip_value out"),
        (LINE, {"divergence": "roll_back"}, "lbfgs has no rate to make smaller"),
        (cr.Model(4, [cr.Dropout(0.5), cr.Dense(2)]), {}, "dropout makes another function of every step"),
    ],
)
def test_what_does_not_go_with_it(model: cr.Model, more: dict[str, Any], message: str) -> None:
    with pytest.raises(cr.SpecError, match=message):
        new(model, **more)


@pytest.mark.parametrize("more", [{"history": 0}, {"history": 1.5}, {"history": True}, {"tolerance": -1.0},
                                  {"tolerance": math.nan}, {"tolerance": "a"}, {"tolerance": True}])  # fmt: skip
def test_wrong_arguments(more: dict[str, Any]) -> None:
    with pytest.raises(cr.SpecError, match=f"lbfgs: {next(iter(more))} = "):
        LBFGS(**more)


def test_minimise_splits_and_joins() -> None:
    """(a - 1)**2 + sum (B - 2)**2, from parameters of two shapes."""

    def measured(p: Any) -> tuple[float, dict[str, np.ndarray]]:
        return float((p["a"] - 1) ** 2 + ((p["B"] - 2) ** 2).sum()), {"a": 2 * (p["a"] - 1), "B": 2 * (p["B"] - 2)}

    told: list[float] = []
    start = {"a": np.zeros(()), "B": np.zeros((2, 3))}
    found, reason = minimise(LBFGS(), measured, start, 50, lambda p, loss: bool(told.append(loss)))
    assert (found["a"].shape, found["B"].shape, reason) == ((), (2, 3), "converged")
    assert np.allclose(found["B"], 2, atol=1e-9)
    assert told[-1] < 1e-15
    assert (start["B"] == 0).all()

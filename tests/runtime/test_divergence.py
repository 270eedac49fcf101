"""What is not finite is found in its step, said, and undone."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime import divergence
from chainrule.runtime.divergence import Divergence, as_divergence, largest, not_finite
from chainrule.runtime.orders import Orders
from chainrule.runtime.trainer import Trainer
from chainrule.symbolic.optimisers import optimiser

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 2))
Y = X[:, :1] * X[:, 1:]
MODEL = cr.Model(2, [cr.Dense(3, "tanh"), cr.Dense(1)], penalties=[cr.L2(0.01)])
SLOPE = cr.Model(2, [cr.Dense(1, bias=False)], penalties=[cr.L2(0.1)])
ABSOLUTE = cr.Model(2, [cr.Dense(1, bias=False)], "absolute_error")
MOMENTUM = optimiser("momentum")


def new(
    model: cr.Model = SLOPE, rule: Any = MOMENTUM, batch_size: int = 7, dtype: str = "float64", **more: Any
) -> Trainer:
    return Trainer(model, rule, batch_size, dtype, threads=1, **more)


def step_by_step(make: Any, x: np.ndarray, y: np.ndarray) -> tuple[int, int, dict[str, np.ndarray]]:
    """The step that fails and the weights before it, by a look at all after every single step."""
    trainer = make()
    given = trainer._prepared(trainer._parts(x, y, None, None)[0])
    training = trainer._training
    assert training is not None
    trainer._position.planned = EPOCHS
    for epoch in range(trainer._position.planned):
        plan = trainer._plan(epoch, len(x), Orders())
        for step in range(plan.steps):
            before = trainer.parameters
            (loss,) = training.run(given, plan.order, plan.rates, plan.keys, step, step + 1)
            if not math.isfinite(loss) or not_finite(training.parameters) or not_finite(training.states):
                return epoch, step, before
    raise AssertionError("nothing failed")


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return all(a[k].tobytes() == b[k].tobytes() for k in b)


EPOCHS = 40
FAILING = {
    "at once": lambda: new(schedule="1e300*lr"),
    "slowly": lambda: new(schedule="600*lr"),
    "in a state, not in the loss": lambda: new(ABSOLUTE, cr.Adam(lr=0.02)),
    "in single precision": lambda: new(MODEL, cr.SGD(lr=50.0), dtype="float32"),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("share", [1.0, 0.01, 1e-30])
def test_the_step_is_the_one_that_failed(name: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom the state is kept, it is found by its steps taken again."""
    x = X * (1e160 if "state" in name else 1)
    epoch, step, weights = step_by_step(FAILING[name], x, Y)
    monkeypatch.setattr(divergence, "SHARE", share)
    trainer = FAILING[name]()
    history = trainer.fit(x, Y, epochs=EPOCHS, verbose=0)
    what = "a weight or a state of the optimiser" if "state" in name else "the loss"
    assert history.stopped.startswith(f"{what} is not finite: epoch {epoch + 1}, step {step + 1} of 8: ")
    assert same(trainer.parameters, weights)
    assert (trainer._position.epoch, trainer._position.step) == (epoch, step)
    assert not_finite(trainer.parameters) == ""
    assert len(history) == epoch + 1
    assert trainer.unfinished == EPOCHS - epoch


@pytest.mark.parametrize("place", ["_fine", "_failing", "_cause"])
def test_who_breaks_the_search_off_finds_the_same_step_later(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state that is gone back to is not that of the search."""
    plain, trainer = FAILING["slowly"](), FAILING["slowly"]()
    message = plain.fit(X, Y, epochs=EPOCHS, verbose=0).stopped

    def interrupted(*_: Any) -> Any:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(divergence.Guard, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=EPOCHS, verbose=0)
    assert trainer.fit(X, Y, epochs=trainer.unfinished, verbose=0).stopped == message
    assert same(trainer.parameters, plain.parameters)
    assert repr(trainer.history["loss"]) == repr(plain.history["loss"])


def test_the_message_names_the_tensor_and_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = new(MODEL, cr.SGD(lr=50.0), dtype="float32")
    message = trainer.fit(X, Y, epochs=20, verbose=0).stopped
    assert re.search(r"(l is inf at \[\d\]|E is inf); Wo has grown to ", message)
    assert "probably the rate 50 is too large; take a smaller one, or clip_norm=1.0" in message
    assert f"{message}. Stopped; the weights are those before this step" in capsys.readouterr().err
    large = new(SLOPE, dtype="float32").fit(X * 1e30, Y, epochs=3, verbose=0).stopped
    assert "x reaches 2" in large
    assert large.endswith("probably it should be scaled")
    root = cr.Model(2, [cr.Dense(1, "sqrt(z)", bias=False)])
    message = new(root, MOMENTUM).fit(X, Y, epochs=3, verbose=0).stopped
    assert "epoch 1, step 1 of 8: y_hat is nan at [" in message
    assert "at these values y_hat[n,i] = sqrt(zo[n,i]) leaves the numbers of float64" in message


def test_policies() -> None:
    trainer = new(schedule="600*lr", divergence="raise")
    with pytest.raises(cr.DivergenceError, match=r"the loss is not finite: epoch .*, step .*: "):
        trainer.fit(X, Y, epochs=EPOCHS, verbose=0)
    stopped = new(schedule="600*lr")
    stopped.fit(X, Y, epochs=EPOCHS, verbose=0)
    assert same(trainer.parameters, stopped.parameters)
    assert trainer.history.stopped == stopped.history.stopped


def test_rolled_back_it_trains_with_a_smaller_rate(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = new(schedule="600*lr", divergence=Divergence("roll_back", factor=0.001))
    history = trainer.fit(X, Y, epochs=60, verbose=0)
    plain = new().fit(X, Y, epochs=60, verbose=0)
    assert history.stopped == ""
    assert history["epoch"] == list(range(1, 61))
    assert history["loss"][-1] < 1.2 * plain["loss"][-1]
    assert history["rate"][-1] == pytest.approx(0.006)
    assert "Back to before the best epoch, with 0.001 of the rate" in capsys.readouterr().err


def test_rolled_back_it_begins_where_the_best_epoch_began() -> None:
    seen: list[dict[str, np.ndarray]] = []
    trainer = new(schedule="600*lr", divergence=Divergence("roll_back", factor=1e-300, attempts=1))
    first = trainer.parameters
    trainer.fit(X, Y, epochs=60, verbose=0, callbacks=[lambda t, row: seen.append(t.parameters)])
    assert trainer.history["rate"].index(6e-300) > 9, "it failed long after the best epoch, which was the first"
    assert same(trainer.parameters, first)  # the rate is too small to move them


def test_attempts_end() -> None:
    trainer = new(schedule="1e300*lr", divergence=Divergence("roll_back", factor=0.5, attempts=2))
    assert trainer.fit(X, Y, epochs=5, verbose=0).stopped.startswith("the loss is not finite: epoch 1, step ")
    assert trainer._position.rolled_back == 2


def test_after_a_failure_it_may_be_rolled_back() -> None:
    trainer = new(schedule=cr.StepDecay(step_size=2, gamma=0.5))
    trainer.fit(X, Y, epochs=3, verbose=0)
    best = trainer.best_parameters
    assert best is not None
    trainer.schedule = cr.schedule("1e300*lr")
    trainer.fit(X, Y, epochs=3, verbose=0)
    assert trainer.unfinished == 3
    assert not same(trainer.parameters, best)
    trainer.divergence = Divergence("roll_back", factor=1e-305)
    trainer.fit(X, Y, epochs=trainer.unfinished, verbose=0)
    assert len(trainer.history) == 6
    assert np.abs(trainer.parameters["Wo"] - best["Wo"]).max() < 1e-4


def test_weights_that_a_callback_sets_are_gone_back_to() -> None:
    """Steps taken again begin after it."""

    def reset(trainer: Trainer, row: Mapping[str, Any]) -> None:
        trainer.set_parameters({"Wo": np.full((1, 2), 3.0)})
        if row["epoch"] == 4:
            trainer.schedule = cr.schedule("1e300*lr")

    trainer = new()
    history = trainer.fit(X, Y, epochs=9, verbose=0, callbacks=[reset])
    assert "epoch 5, step 2 of 8" in history.stopped
    one = new(schedule="1e300*lr")
    one.set_parameters({"Wo": np.full((1, 2), 3.0)})
    assert np.isfinite(trainer.parameters["Wo"]).all()
    assert np.abs(trainer.parameters["Wo"]).max() > 1e290


def test_weights_that_are_not_finite_before_the_first_step() -> None:
    trainer = new()
    trainer.set_parameters({"Wo": [[np.nan, 1.0]]})
    with pytest.raises(cr.DataError, match="parameter Wo is not finite before the first step"):
        trainer.fit(X, Y, epochs=1, verbose=0)


def test_data_that_change_meanwhile_are_suspected() -> None:
    x = X.copy()
    trainer = new()
    training_epoch: list[Any] = []

    def spoil(t: Trainer, row: Mapping[str, Any]) -> None:
        training = t._training
        assert training is not None
        run = training.run
        training_epoch.append(run)

        def once(*given: Any) -> Any:
            losses = run(*given)
            training.run = run
            return np.where(np.arange(len(losses)) == 0, np.nan, losses)

        training.run = once

    assert "were the data changed meanwhile?" in trainer.fit(x, Y, epochs=3, verbose=0, callbacks=[spoil]).stopped


def test_finite_and_largest() -> None:
    fine = {"a": np.full(5, 1e308), "b": np.zeros((2, 0)), "c": np.ones((2, 3), "float32")}
    assert not_finite(fine) == ""  # its sum overflows, and it is finite all the same
    assert not_finite({**fine, "d": np.array([[1.0, -np.inf], [np.inf, 0.0]])}) == "d"
    assert not_finite({"e": np.array([np.nan])}) == "e"
    large = np.full((100, 100), 1e305)
    assert not_finite({"f": large}) == ""
    large[50, 50] = np.inf
    assert not_finite({"f": large}) == "f"
    assert largest({"a": np.array([1.0, -3.0]), "b": np.array([2.0])}) == ("a", 3.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rollback", "policy 'rollback' is not known.*Did you mean 'roll_back'"),
        (3, "divergence = 3; give one of stop, raise, roll_back"),
        (None, "divergence = None"),
    ],
)
def test_wrong_policies(given: Any, message: str) -> None:
    with pytest.raises(cr.SpecError, match=message):
        as_divergence(given)


@pytest.mark.parametrize("more", [{"factor": 1}, {"factor": 0}, {"factor": True}, {"factor": "a"}, {"factor": math.nan},
                                  {"attempts": 0}, {"attempts": 1.5}, {"attempts": True}])  # fmt: skip
def test_wrong_numbers(more: dict[str, Any]) -> None:
    with pytest.raises(cr.SpecError, match=f"divergence: {next(iter(more))} = "):
        Divergence("roll_back", **more)

"""Trainers in threads, in forked and in spawned processes, and one that is interrupted as a notebook does it.

Each runs in a process of its own with a time limit: a deadlock or a crash is a failure, not the end of the tests. What
is trained there must be, bit by bit, what is trained by one trainer after another.
"""

import hashlib
import os
import subprocess
import sys
from typing import Any

import pytest

MODEL = """
import hashlib, sys
import numpy as np, chainrule as cr

def trained(seed=0, threads=2, epochs=3, trainer=None):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 40))
    if trainer is None:
        model = cr.Model(40, [cr.Dense(300, "tanh"), cr.Dense(2)])
        trainer = cr.Trainer(model, cr.Adam(lr=0.01), 100, "float64", seed=seed, threads=threads)
        if threads > 1:
            trainer._choice.best = trainer._choice.most  # whatever is faster here
            trainer._choice.times = {1: [1e9, 1e9]}
    trainer.fit(x, x[:, :2], epochs=epochs, verbose=0)
    trainer.evaluate(x, x[:, :2])
    return trainer

def bits(trainer):
    return hashlib.sha256(b"".join(w.tobytes() for w in trainer.parameters.values())).hexdigest()
"""


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")


def printed(script: str, *words: str, seconds: float = 120) -> list[str]:
    """What a script prints, line by line, in a process with two threads that sleep while they wait."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-c", MODEL + script, *words],
        env=environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The bits that seeds 0 to 3 come to, one after another, once the kernels are compiled."""
    script = "for seed in range(4): print(bits(trained(seed)))"
    printed(script)
    return printed(script)


def test_two_trainers_in_two_threads(alone: list[str]) -> None:
    """Made one after another, trained at once."""
    script = """
import threading
trainers = [trained(seed, epochs=1) for seed in range(4)]
threads = [threading.Thread(target=lambda t=t: trained(trainer=t, epochs=2)) for t in trainers]
for t in threads: t.start()
for t in threads: t.join()
for t in trainers: print(bits(t))
"""
    assert printed(script) == alone


def test_one_trainer_in_two_threads_is_refused(alone: list[str]) -> None:
    script = """
import threading
first = trained(0)
refused, inside = [], threading.Event()
def again():
    try:
        trained(trainer=first)
    except cr.SpecError as error:
        refused.append(str(error))
def once(trainer, row):
    if not refused:
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
x = np.random.default_rng(5).normal(size=(600, 40))
first.fit(x, x[:, :2], epochs=1, verbose=0, callbacks=[once])
print(len(refused), "running already" in refused[0])
"""
    assert printed(script) == ["1 True"]


def test_predicting_in_a_thread_while_another_trains(alone: list[str]) -> None:
    script = """
import threading
other = trained(1)
x = np.random.default_rng(5).normal(size=(600, 40))
first = other.predict(x)
stop, wrong = threading.Event(), []
def predict():
    while not stop.is_set():
        if not (other.predict(x) == first).all():
            wrong.append(1)
thread = threading.Thread(target=predict)
thread.start()
print(bits(trained(0, epochs=3)))
stop.set()
thread.join()
print(len(wrong))
"""
    assert printed(script) == [alone[0], "0"]


SPAWNED = """
if __name__ == "__main__":
    import multiprocessing, pathlib, tempfile
    context = multiprocessing.get_context("spawn")
    print(bits(trained(0)), flush=True)
    with context.Pool(2) as pool:
        for made in pool.map(train, [1, 2, 3]):
            print(made)
"""


def test_a_pool_of_spawned_processes(alone: list[str], tmp_path: Any) -> None:
    """In a file: a spawned process reads it again."""
    script = tmp_path / "script.py"
    script.write_text(MODEL + "\ndef train(seed):\n    return bits(trained(seed))\n" + SPAWNED, "utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.stdout.splitlines() == alone, done.stderr


# --- forks

FORKS = """
import os, signal, tempfile, threading, time
x = np.random.default_rng(5).normal(size=(600, 40))

def in_a_fork(what):
    mine, its = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            said = what()
        except cr.SpecError as error:
            said = error
        os.write(its, str(said).encode())
        os._exit(0)
    os.close(its)
    said = os.read(mine, 1000).decode()
    os.close(mine)
    os.waitpid(child, 0)
    return said or "nothing, for a minute"
"""


@forking
def test_a_fork_after_training_trains_and_predicts(alone: list[str]) -> None:
    """The child has none of the threads; it makes its own."""
    script = """
first = trained(0, epochs=1)
print(in_a_fork(lambda: bits(trained(1))))
print(in_a_fork(lambda: bits(trained(trainer=first, epochs=2))))
wanted = first.predict(x)
print(in_a_fork(lambda: (first.predict(x) == wanted).all()))
print(in_a_fork(lambda: in_a_fork(lambda: bits(trained(2)))))
print(bits(trained(trainer=first, epochs=2)))
"""
    assert printed(FORKS + script) == [alone[1], alone[0], "True", alone[2], alone[0]]


@forking
def test_a_fork_while_threads_compute(alone: list[str]) -> None:
    """A lock that a thread of the parent has is not waited for."""
    script = """
first, one = trained(0, epochs=1), np.ascontiguousarray(x[:1])
wanted, over = first.predict(one), []
def predict():
    while not over:
        first.predict(one)
def train():
    trained(3, epochs=1000)
threads = [threading.Thread(target=predict), threading.Thread(target=train, daemon=True)]
for t in threads: t.start()
print({in_a_fork(lambda: (first.predict(one) == wanted).all()) for _ in range(8)})
print({in_a_fork(lambda: bits(trained(1))) for _ in range(3)})
over.append(1)
os._exit(0)
""".replace("os._exit", "sys.stdout.flush(); os._exit")
    assert printed(FORKS + script) == ["{'True'}", f"{{'{alone[1]}'}}"]


@forking
def test_a_trainer_that_was_forked_while_it_trained_is_refused(alone: list[str]) -> None:
    """Its weights are those of half a step, and its `fit` is not there."""
    script = """
trainer = trained(0, epochs=1)
said = []
def once(_, row):
    said.append(in_a_fork(lambda: trained(trainer=trainer)))
trainer.fit(x, x[:, :2], epochs=1, verbose=0, callbacks=[once])
print(*said)
"""
    (line,) = printed(FORKS + script)
    assert line == (
        "trainer: this process was forked while `fit` ran, and has half a step of it; "
        "make another Trainer, or restore one from a checkpoint"
    )


@forking
def test_a_forked_process_does_not_keep_the_directory_of_its_parent(alone: list[str]) -> None:
    """It may live on when the training has ended, or was killed; and if it comes out of `fit`, it writes nothing."""
    script = """
folder = tempfile.mkdtemp()
living, leaving = [], []
def worker(_, row):
    child = os.fork()
    if child == 0:
        if row["epoch"] == 1:
            raise KeyboardInterrupt
        time.sleep(60)
        os._exit(0)
    if row["epoch"] == 1:
        os.waitpid(child, 0)
    else:
        living.append(child)
trainer = cr.Trainer(cr.Model(40, [cr.Dense(2)]), cr.Adam(lr=0.01), 100)
parent = os.getpid()
try:
    trainer.fit(x, x[:, :2], epochs=2, verbose=0, callbacks=[worker], checkpoint=folder)
except KeyboardInterrupt as error:
    assert os.getpid() != parent, error
    os._exit(0)
print(len(os.listdir(folder)) - (".lock" in os.listdir(folder)), "checkpoints")
print(len(cr.Trainer.restore(folder).fit(x, x[:, :2], epochs=1, verbose=0, checkpoint=folder)), "epochs")
for child in living:
    os.kill(child, signal.SIGKILL)
"""
    assert printed(FORKS + script) == ["2 checkpoints", "3 epochs"]


@forking
def test_a_pool_of_forked_processes(alone: list[str]) -> None:
    script = """
import multiprocessing
def train(seed):
    return bits(trained(seed))
print(train(0), flush=True)
with multiprocessing.get_context("fork").Pool(2) as pool:
    for made in pool.map(train, [1, 2, 3]):
        print(made)
"""
    assert printed(script) == alone


# --- the end of a process, and interrupts


def test_the_interpreter_ends_while_a_daemon_thread_trains(alone: list[str]) -> None:
    script = """
import threading, time
trainer = trained(0, epochs=1)
x = np.random.default_rng(5).normal(size=(3000, 40))
begun = threading.Event()
def fit():
    trainer.fit(x, x[:, :2], epochs=10**6, verbose=0, callbacks=[lambda *_: begun.set()])
threading.Thread(target=fit, daemon=True).start()
begun.wait()
print("leaving")
"""
    assert printed(script) == ["leaving"]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_ctrl_c_while_a_worker_thread_trains(alone: list[str]) -> None:
    """It is for the main thread; the training goes on to the same bits."""
    script = """
import os, signal, threading
trainer, begun = trained(0, epochs=1), threading.Event()
x = np.random.default_rng(5).normal(size=(600, 40))
def fit():
    trainer.fit(x, x[:, :2], epochs=2, verbose=0, callbacks=[lambda *_: begun.wait() and None])
thread = threading.Thread(target=fit)
thread.start()
try:
    os.kill(os.getpid(), signal.SIGINT)
    thread.join()
except KeyboardInterrupt:
    print("interrupted", thread.is_alive())
begun.set()
thread.join()
print(bits(trainer))
"""
    assert printed(script) == ["interrupted True", alone[0]]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_interrupted_as_a_notebook_does_it(alone: list[str]) -> None:
    """The kernel of a notebook gets SIGINT, shows the KeyboardInterrupt, and runs the next cell."""
    script = """
import os, signal, threading
for round in range(3):
    trainer = trained(round, epochs=1)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        trained(trainer=trainer, epochs=100_000)
    except KeyboardInterrupt as interruption:
        print(str(interruption).startswith("stopped in epoch"))
    timer.join()
print(bits(trained(3)))
"""
    assert printed(script) == ["True"] * 3 + [alone[3]]


def test_the_seeds_differ(alone: list[str]) -> None:
    assert len(set(alone)) == 4
    assert all(len(line) == len(hashlib.sha256(b"").hexdigest()) for line in alone)

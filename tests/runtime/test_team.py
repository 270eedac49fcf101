"""The threads of our own."""

import ctypes
import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime import control, driver, native, team


def test_more_blocks_than_a_share_can_count_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = cr.compile(cr.Model(40, [cr.Dense(90, "tanh"), cr.Dense(2)]), threads=2)
    rng = np.random.default_rng(0)
    x, y, parameters = rng.normal(size=(300, 40)), rng.normal(size=(300, 2)), kernels.init(0)
    wanted = kernels.loss_and_gradients(parameters, x, y)
    phases = kernels.machine().phases("gradients", 300)
    assert phases.most_blocks > 1
    monkeypatch.setattr(team, "MOST_BLOCKS", phases.most_blocks - 1)
    loss, gradients = kernels.loss_and_gradients(parameters, x, y)
    assert loss == wanted[0]
    assert all((gradients[name] == gradient).all() for name, gradient in wanted[1].items())


def test_two_threads_of_python_that_compute_at_once_take_turns() -> None:
    kernels = cr.compile(cr.Model(40, [cr.Dense(90, "tanh"), cr.Dense(2)]), threads=2)
    rng = np.random.default_rng(0)
    x, y, parameters = rng.normal(size=(300, 40)), rng.normal(size=(300, 2)), kernels.init(0)
    wanted = kernels.loss_and_gradients(parameters, x, y)
    results: list[bool] = []

    def compute() -> None:
        for _ in range(20):
            loss, gradients = kernels.loss_and_gradients(parameters, x, y)
            results.append(loss == wanted[0] and all((gradients[k] == g).all() for k, g in wanted[1].items()))

    workers = [threading.Thread(target=compute) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert results == [True] * 60


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(1e-4)


def test_a_helper_reads_what_to_run_after_it_has_seen_its_share() -> None:
    """A helper that was stopped when it came in must not go on with the table of the call before."""
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(native.team().address("team"))
    space = np.zeros(control.WORDS + 16, np.int64)
    words = space[-(space.ctypes.data // 8) % 16 :]
    called: list[tuple[int, ...]] = []
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(lambda *given: called.append(given))
    words[control.THREADS], words[control.TABLE], words[control.OPEN] = 1, 111, 1  # of the call before
    helper = threading.Thread(target=run, args=(1, words.ctypes.data))
    helper.start()
    try:
        until(lambda: words[control.INSIDE] == 1)
        words[control.THREADS], words[control.TABLE] = 2, 222
        own = control.SHARES + control.STRIDE
        words[own + 1] = ctypes.cast(function, ctypes.c_void_p).value
        words[own] = 1 << driver.SERIAL_AT | 0 << driver.NEXT | 3
        until(lambda: words[control.DONE] == 3)
    finally:
        words[control.OPEN] = 0
        helper.join(20)
    assert called == [(block, 1, 222) for block in range(3)]


@pytest.mark.skipif(team._core is None or len(os.sched_getaffinity(0)) < 2, reason="there is one core, or no choice")
def test_helpers_stay_off_the_core_of_the_leader() -> None:
    kernels = cr.compile(cr.Model(40, [cr.Dense(90, "tanh"), cr.Dense(2)]), threads=2)
    x, y = np.zeros((300, 40)), np.zeros((300, 2))
    own, made = os.sched_getaffinity(0), kernels.machine().team
    try:
        for core in sorted(own):
            os.sched_setaffinity(0, {core})  # the leader moves there
            kernels.loss_and_gradients(kernels.init(0), x, y)
            os.sched_setaffinity(0, own)
            kernels.loss_and_gradients(kernels.init(0), x, y)
            allowed = os.sched_getaffinity(made._helpers[0].native_id)
            assert allowed == own - {made._apart_from}
    finally:
        os.sched_setaffinity(0, own)

"""The threads of our own."""

import threading

import numpy as np

import chainrule as cr
from chainrule.runtime.team import most_blocks


def test_most_blocks_of_a_phase() -> None:
    tasks, blocks = np.array([3, 5]), np.array([[16, 0], [0, 0]])
    assert most_blocks(tasks, blocks, 33) == 3 + 3
    assert most_blocks(tasks, blocks, 16) == 5


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

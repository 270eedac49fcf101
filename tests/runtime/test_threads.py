import pytest

from chainrule.runtime.threads import FEW_ROUNDS, LOSS_SECONDS, ThreadChoice, numbers_to_try, threads_at_most


def run(
    choice: ThreadChoice, pace: dict[int, float], left: int = 10**9, noise: dict[int, float] | None = None
) -> tuple[int, float]:
    """Train until the choice is made; the choice, and the seconds that the trials took longer than with one thread."""
    lost, turn = 0.0, 0
    while choice.best is None:
        threads, steps = choice.next()
        assert steps is not None
        steps, turn = min(steps, left), turn + 1
        seconds = steps * pace[threads] * (noise or {}).get(turn, 1.0)
        choice.took(threads, 32 * steps, seconds, steps)
        lost += seconds - steps * pace[1]
        assert turn < 200
    return choice.best, lost


@pytest.mark.parametrize(
    ("pace", "wanted"),
    [
        ({1: 43e-6, 2: 57e-6}, 1),
        ({1: 43e-6, 2: 40e-6}, 1),  # not clearly faster
        ({1: 43e-6, 2: 30e-6}, 2),
        ({1: 4.0, 2: 2.5}, 2),  # steps of seconds
        ({1: 1e-6, 2: 1e-6}, 1),
        ({1: 4e-3, 2: 2.1e-3, 4: 1.2e-3, 8: 1.15e-3}, 4),
        ({1: 4e-3, 2: 4e-3, 4: 4e-3, 8: 3e-3}, 8),
    ],
)
def test_the_fastest_number_is_chosen_if_it_is_clearly_so(pace: dict[int, float], wanted: int) -> None:
    assert run(ThreadChoice(max(pace)), pace)[0] == wanted
    assert run(ThreadChoice(max(pace)), pace, left=3)[0] == wanted, "epochs of three steps"


def test_disturbances_do_not_change_it() -> None:
    """A trial that took much longer, whichever it is, does not count: the fastest of five does."""
    for turn in range(1, 13):
        assert run(ThreadChoice(2), {1: 43e-6, 2: 30e-6}, noise={turn: 50.0, (turn + 4) % 13: 7.0})[0] == 2
        assert run(ThreadChoice(2), {1: 43e-6, 2: 57e-6}, noise={turn: 50.0, (turn + 4) % 13: 7.0})[0] == 1


def test_the_trials_cost_little() -> None:
    """Where other processes have the cores, a step with two threads may take a thousand times as long."""
    best, lost = run(ThreadChoice(2), {1: 23e-6, 2: 33e-3})
    assert best == 1
    assert lost < 3 * 33e-3
    assert run(ThreadChoice(2), {1: 43e-6, 2: 57e-6})[1] < LOSS_SECONDS


def test_steps_that_take_long_need_few_trials() -> None:
    choice, pace, count = ThreadChoice(2), {1: 0.14, 2: 0.07}, 0
    while choice.best is None:
        threads, steps = choice.next()
        assert steps == 1
        choice.took(threads, 32, pace[threads], steps)
        count += 1
    assert (choice.best, count) == (2, 2 * (1 + FEW_ROUNDS)), "the first of each does not count"


def test_one_thread_needs_no_trial() -> None:
    choice = ThreadChoice(1)
    assert choice.next() == (1, None)
    choice.took(1, 32, 100.0, 1)
    assert choice.next() == (1, None)


def test_it_looks_again_when_the_machine_gets_busy() -> None:
    choice = ThreadChoice(2)
    assert run(choice, {1: 43e-6, 2: 30e-6})[0] == 2
    choice.took(2, 32 * 1000, 1000 * 40e-6, 1000)
    assert choice.best == 2
    choice.took(2, 32 * 1000, 1000 * 500e-6, 1000)
    assert choice.best is None
    assert run(choice, {1: 43e-6, 2: 500e-6})[0] == 1


def test_two_threads_lose_no_more_than_the_trials_cost() -> None:
    """Where the system gives two cores the time of one, say, they are a little slower than one thread."""
    choice, pace = ThreadChoice(2), {1: 5.5e-6, 2: 4.5e-6}
    assert run(choice, pace)[0] == 2
    lost, calls = 0.0, 0
    while choice.best is not None:
        choice.took(2, 32 * 1000, 1000 * 6.5e-6, 1000)
        lost, calls = lost + 1e-3, calls + 1
        assert calls < 100
    assert LOSS_SECONDS < lost < 2 * LOSS_SECONDS
    assert run(choice, {1: 5.5e-6, 2: 6.5e-6})[0] == 1


def test_what_is_gained_again_is_not_lost() -> None:
    choice = ThreadChoice(2)
    assert run(choice, {1: 5.5e-6, 2: 4.5e-6})[0] == 2
    for _ in range(5):
        choice.took(2, 32 * 1000, 1000 * 15.5e-6, 1000)
        choice.took(2, 32 * 4000, 4000 * 3e-6, 4000)
    assert choice.best == 2


def test_as_many_as_there_are() -> None:
    assert threads_at_most(1) == 1
    assert 1 <= threads_at_most(None) < threads_at_most(10**6)
    assert threads_at_most(8) == 8, "more than there are cores, where they are asked for"
    assert [numbers_to_try(most) for most in (1, 2, 3, 8)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4, 8)]

"""Ctrl-C and SIGTERM wait for the end of a step; a second Ctrl-C does not."""

import os
import signal
import threading

import pytest

from chainrule.runtime.signals import TERMINATED, Signals, Terminated

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such signals to send")


def test_ctrl_c_waits_for_the_look() -> None:
    with Signals(terminate=False) as signals:
        signals.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not() -> None:
    with Signals(terminate=False):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_waits_where_there_is_something_to_save() -> None:
    with Signals(terminate=True) as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated) as caught:
            signals.check()
    assert caught.value.code == TERMINATED == 128 + signal.SIGTERM
    with Signals(terminate=False):
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_others_have_set_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Signals(terminate=True) as signals:
            signal.raise_signal(signal.SIGINT)
            signals.check()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_nothing_is_set() -> None:
    seen: list[object] = []

    def look() -> None:
        with Signals(terminate=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

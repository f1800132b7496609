"""A stop that is asked for by a signal, wherever the main thread stands."""

import os
import signal
import threading

import pytest

from streamkit.engine.signals import Stop, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_stop_and_says_which_it_was(number):
    with stop_on_signals() as stop:
        assert not stop.is_set()
        assert not stop.wait(0.0)
        signal.raise_signal(number)
        assert stop.is_set()
        assert stop.wait()
        assert stop.signal == number
        assert stop.interrupted == (number == signal.SIGINT)


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_changes_nothing():
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_was_ignored_before_counts():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_waits_without_an_end_is_woken_by_a_signal_and_by_a_thread():
    with stop_on_signals() as stop:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.wait()
    stop = Stop()
    threading.Timer(0.05, stop.set).start()
    assert stop.wait()
    stop.clear()
    assert not stop.is_set()


@pytest.mark.timeout(20)
def test_a_signal_is_heard_while_the_main_thread_has_the_locks_that_waking_or_threads_would_take():
    with stop_on_signals() as stop:
        # Interrupted inside `stop.wait` and `Thread.start`, that is.
        with stop._cond, threading._active_limbo_lock:
            os.kill(os.getpid(), signal.SIGINT)
            while not stop.is_set():
                pass
        assert stop.wait(0)

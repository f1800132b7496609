"""Several partitions are synced at once, and an interrupt at any place keeps no later sync."""

import sys
import threading

import pytest

from streamkit.backends import syncing
from streamkit.errors import StorageFailed, UnknownTopic


class Synced:
    """A partition whose sync comes to its end, with an error if there is one, and is counted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.times = 0

    def sync(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr(syncing, "_threads", syncing._Threads())


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_is_raised_when_all_others_are_synced(failing):
    partitions = [Synced(StorageFailed("x") if n == failing else None) for n in range(3)]
    with pytest.raises(StorageFailed):
        syncing.sync_all(partitions)
    assert [one.times for one in partitions] == [1, 1, 1]


def test_those_that_are_gone_are_passed_over_only_where_that_is_meant():
    partitions = [Synced(), Synced(UnknownTopic("x"))]
    syncing.sync_all(partitions, gone=True)
    with pytest.raises(UnknownTopic):
        syncing.sync_all(partitions)


def test_they_are_synced_at_once_and_by_threads_that_are_kept():
    together = threading.Barrier(4)

    class Meeting:
        def sync(self) -> None:
            together.wait(timeout=30)

    for _ in range(30):
        syncing.sync_all([Meeting() for _ in range(4)])
    assert syncing._threads._started <= syncing._AT_ONCE


def test_where_no_thread_can_be_started_they_are_synced_all_the_same(monkeypatch):
    def none(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(syncing, "start_new_thread", none)
    partitions = [Synced() for _ in range(3)]
    syncing.sync_all(partitions)
    assert [one.times for one in partitions] == [1, 1, 1]


def is_interrupted(at: int) -> bool:
    """Whether a sync was, before it had done so many of Python's instructions."""
    left = at

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_code.co_filename.endswith("_weakrefset.py"):
            return None  # what is no longer used may go at any time: it is none of the sync's
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        syncing.sync_all([Synced(), Synced(), Synced()])
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_place_keeps_no_later_sync():
    at = 1
    while is_interrupted(at):
        later = [Synced(), Synced(), Synced()]
        thread = threading.Thread(target=syncing.sync_all, args=(later,), daemon=True)
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive(), at
        assert [one.times for one in later] == [1, 1, 1]
        at += 1
    assert at > 50

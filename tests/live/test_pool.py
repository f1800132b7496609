"""Worker processes of a function: what becomes of calls where one of them dies, or cannot begin."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import pytest
from msgspec import Struct

from streamkit import App
from streamkit.engine.pool import Pool
from streamkit.engine.source_file import import_file
from streamkit.engine.waiting import Answer, Event, Request

SOURCE = """
import os, time
from pathlib import Path
from streamkit import App

orders = App("shop").stream("orders", int)
while Path(__file__).with_name("hangs").exists():
    Path(__file__).with_name("begun").touch()
    time.sleep(0.01)

class Gone:
    def __reduce__(self):
        return open, ("/nowhere/at/all",)

@orders.process(workers=1)
def pid(order: int):
    if order == 14:
        Path(__file__).with_name("begun").touch()
        time.sleep(1000)
    return Gone() if order == 13 else os.getpid()
"""
NOWHERE = Event(0, None, None, -1, (), "", -1, -1, 0, None, 0)
SECONDS = 60


class Waiter:
    def __init__(self) -> None:
        self.closed = False
        self.answers: SimpleQueue[Answer] = SimpleQueue()

    def done(self, step: str, number: int, answer: Answer) -> None:
        self.answers.put(answer)


Start: TypeAlias = Callable[[int, Waiter], None]
Call: TypeAlias = Callable[[int], Answer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Has a function called that gives the number of its process."""
    path = tmp_path / "pids.py"
    path.write_text(SOURCE)
    loaded: Any = import_file(str(path), "pids_of_a_pool")
    function = loaded.pid._node.function
    pool = Pool(function, 1)
    yield lambda order, waiter: pool.start(Request("pid", 0, function, order, NOWHERE), waiter)
    pool.stop()
    pool.close()


@pytest.fixture
def call(start: Start) -> Call:
    """The same, and waits for the answer."""
    waiter = Waiter()

    def made(order: int) -> Answer:
        start(order, waiter)
        return waiter.answers.get(timeout=SECONDS)

    return made


def until_there(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_dies_when_it_has_no_call_fails_none(call: Call) -> None:
    first = call(1).value
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    second = call(2)
    assert second.error is None
    assert second.value not in (None, first)


def test_an_answer_that_nobody_can_take_ends_no_process(call: Call) -> None:
    first = call(1).value
    answer = call(13)
    assert isinstance(answer.error, TypeError)
    assert "/nowhere/at/all" in str(answer.error)
    assert call(2).value == first


def test_why_a_process_cannot_begin_is_said_and_the_next_call_may_go_well(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(process: SpawnProcess) -> None:
        raise BlockingIOError("too many processes")

    with monkeypatch.context() as patched:
        patched.setattr(SpawnProcess, "start", refused)
        answer = call(1)
        assert isinstance(answer.error, BlockingIOError)
    assert call(2).error is None


def test_a_call_that_nobody_waits_for_any_more_holds_up_no_other(
    start: Start, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.engine.pool.LOOK_SECONDS", 0.05)
    gone = Waiter()
    start(14, gone)
    until_there(tmp_path / "begun")
    gone.closed = True  # as of a task that another process has by now
    assert call(1).error is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_all_of_a_group_of_processes_fails_no_call_of_one_that_begins(
    call: Call, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    start = SpawnProcess.start

    def interrupted(process: SpawnProcess) -> None:
        start(process)
        assert process.pid is not None
        os.kill(process.pid, number)

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    assert call(1).error is None


def test_what_does_not_come_to_the_end_of_its_import_is_told_with_its_file_and_fails_the_call(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamkit.engine.pool.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("streamkit.engine.pool.LONG", 0.05)
    monkeypatch.setattr("streamkit.engine.pool.IMPORTED_WITHIN", 0.2)
    (tmp_path / "hangs").touch()
    answer = call(1)
    assert isinstance(answer.error, TimeoutError)
    missing = f"has not imported {tmp_path / 'pids.py'} in"
    assert missing in str(answer.error) and "it was ended" in str(answer.error)
    assert any("pid (pids.py:" in m and missing in m for m in caplog.messages)
    (tmp_path / "hangs").unlink()
    monkeypatch.setattr("streamkit.engine.pool.IMPORTED_WITHIN", SECONDS)
    assert call(2).error is None


def test_a_call_that_nobody_waits_for_is_not_waited_for_while_its_process_begins(
    start: Start, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.engine.pool.LOOK_SECONDS", 0.02)
    (tmp_path / "hangs").touch()
    gone = Waiter()
    start(1, gone)
    until_there(tmp_path / "begun")
    gone.closed = True
    error = gone.answers.get(timeout=SECONDS).error
    assert isinstance(error, ChildProcessError) and "nobody waits" in str(error)
    (tmp_path / "hangs").unlink()
    assert call(2).error is None


class Box(Struct):
    there: int
    more: Any = None


app = App("boxes")
boxes = app.stream("boxes", Box)


@boxes.process(workers=1, to="out", on_error="skip")
def emptied(box: Box) -> Box:
    box.there -= 1
    if box.there == 1:
        return Box(1, more=lambda: 1)
    if box.there == 2:
        sys.exit("two")
    return box


@boxes.process(to="whole")
def kept(box: Box) -> Box:
    return box


def test_in_a_test_it_is_given_and_gives_what_another_process_would() -> None:
    """Not the event itself, which others have as well, and nothing that cannot be handed over."""
    with app.test(1) as run:
        for there in range(5):
            run.send("boxes", Box(there))
        run.run()
        assert [box.there for box in run.values("out")] == [-1, 0, 3]
        assert [box.there for box in run.values("whole")] == [0, 1, 2, 3, 4]

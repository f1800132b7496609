"""`streamkit run --workers N`: processes come, go and are killed; all that is there gets done."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.cli.reports import Board, Reporter, reporting
from streamkit.engine.progress import Progress, Restored
from streamkit.records import TopicPartition

APP = """
import os, time
from pathlib import Path
from streamkit import App
app = App("shop")

@app.resource
def client():
    yield "client"
    Path(f"closed-{os.getpid()}").touch()

@app.stream("orders", str).process(to="seen")
def see(order: str) -> str:
    Path(f"at-work-{os.getpid()}").touch()
    if order == "stuck":
        Path(f"stuck-{os.getpid()}").touch()
        time.sleep(1000)
    return order
"""

PARTITIONS = 6


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Backend]:
    (tmp_path / "app.py").write_text(APP)
    with open_backend(tmp_path / "log") as log:
        log.create_topic("orders", PARTITIONS)
        yield log


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "streamkit", "--log", "log", "run", "app.py", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def members(log: Backend) -> int:
    """How many processes share the app's tasks."""
    return len(log.group("shop").members) if "shop" in log.groups() else 0


def children(process: "subprocess.Popen[str]") -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, parent, stat in rows if int(parent) == process.pid and stat[0] != "Z"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def order(log: Backend, start: int) -> list[bytes]:
    """One for each partition."""
    values = [b"%d" % number for number in range(start, start + PARTITIONS)]
    for number, value in enumerate(values):
        log.append(TopicPartition("orders", number), [value])
    return values


def seen(log: Backend) -> list[bytes]:
    if "seen" not in log.topics():
        return []
    found = []
    for number in range(log.topic("seen").partitions):
        batches = log.fetch({TopicPartition("seen", number): 0})
        found += [record.value for batch in batches for record in batch.records()]
    return sorted(found, key=int)


def test_processes_are_killed_stopped_and_added_and_everything_gets_done(
    log: Backend, tmp_path: Path
) -> None:
    with running(tmp_path, "--workers", "3") as process:
        until(lambda: members(log) == 3)
        first = children(process)
        os.kill(first[0], signal.SIGKILL)
        expected = order(log, 0)
        until(lambda: seen(log) == expected)
        until(lambda: members(log) == 3 and len(children(process)) == 2)  # another took its place

        os.kill(first[1], signal.SIGTERM)
        until(lambda: len(children(process)) == 1)  # was asked to go, and nobody comes instead
        expected += order(log, PARTITIONS)
        until(lambda: seen(log) == expected)

        with running(tmp_path) as another:
            until(lambda: members(log) == 3)
            expected += order(log, 2 * PARTITIONS)
            until(lambda: seen(log) == expected)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
            assert process.returncode == 0, told
            assert "worker 1 was killed (SIGKILL)" in told or "worker 2 was killed" in told
            assert "took over from app shop (process " in told
            expected += order(log, 3 * PARTITIONS)
            until(lambda: seen(log) == expected)
            another.send_signal(signal.SIGTERM)
            _, told = another.communicate(timeout=60)
            assert another.returncode == 0, told
        assert members(log) == 0


def test_when_the_first_is_killed_the_others_finish_what_they_are_at_and_end(
    log: Backend, tmp_path: Path
) -> None:
    with running(tmp_path, "--workers", "2") as process:
        until(lambda: members(log) == 2)
        (other,) = children(process)
        process.kill()
        # It had the other end of this, so that it comes to its end with the last of them.
        assert process.stderr is not None
        told = process.stderr.read()
    assert "the process that started this worker was killed" in told
    until(lambda: not _alive(other))
    assert members(log) == 0
    assert list(tmp_path.glob("closed-*")) == [tmp_path / f"closed-{other}"]


def test_what_does_not_finish_in_its_time_is_ended_and_named(log: Backend, tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", "--drain", "500ms") as process:

        def both() -> bool:
            order(log, 0)
            return len(list(tmp_path.glob("at-work-*"))) == 2

        until(both)  # a process that is stuck with all the partitions gives none away
        for number in range(PARTITIONS):
            log.append(TopicPartition("orders", number), [b"1", b"stuck"])
        stuck = children(process)
        until(lambda: len(list(tmp_path.glob("stuck-*"))) == 2)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1, told
        assert "still at work 0.5 s after it was to stop" in told
        assert "app.py:17 in see" in told
        until(lambda: not {pid for pid in stuck if _alive(pid)})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


PROGRESS = Progress(tasks=2, processed=100, late=1, lag=7, rate=10.4)


def test_the_rows_of_all_processes_are_shown_with_their_sum_until_one_is_gone() -> None:
    shown: list[list[Sequence[Any]]] = []
    board = Board("app.py", shown.append)
    reading, writing = os.pipe()
    with open(reading, "rb") as lines:
        board.progress(PROGRESS)
        assert shown[-1] == [("app.py", 2, 100, 10, 7, 1, 0, "")]
        Reporter(writing).progress(PROGRESS)
        board.line(1, lines.readline())
        assert shown[-1][1:] == [
            ("worker 1", 2, 100, 10, 7, 1, 0, ""),
            ("all", 4, 200, 20, 14, 2, 0, ""),
        ]
        board.line(1, b"")
        board.progress(PROGRESS)
        assert len(shown[-1]) == 1
        board.progress(replace(PROGRESS, restoring=Restored(2, 250, 1000, 50.0)))
        assert (
            shown[-1][0][-1] == "restoring ━━━━──────────── 250 of 1,000 records, 50/s, 15 s left"
        )
    os.close(writing)


def test_what_a_worker_logs_is_said_by_the_first_process_with_its_number(caplog) -> None:
    caplog.set_level(logging.INFO, "streamkit")
    reading, writing = os.pipe()
    with open(reading, "rb") as lines, reporting(writing, False):
        logging.getLogger("streamkit.engine").info("restoring %d", 7)
        line = lines.readline()
    Board("app.py", lambda rows: None).line(4, line)
    assert caplog.messages[-1] == "worker 4: restoring 7"
    os.close(writing)


def test_a_worker_goes_on_when_nobody_takes_its_reports() -> None:
    reading, writing = os.pipe()
    reporter = Reporter(writing)
    while reporter.send({"row": [0] * 100}):
        pass  # whoever reads was stopped, and the pipe is full
    os.close(reading)
    assert not reporter.send({})
    os.close(writing)

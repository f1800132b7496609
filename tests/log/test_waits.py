"""Who waits for a lock for long says which process has it."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamkit.backends.lockfile import LockFile
from streamkit.codec import encode
from streamkit.log import waits
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("has it", flush=True)
time.sleep(1000)
"""

Hold = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def hold(monkeypatch) -> Iterator[Hold]:
    """Have another process take the lock on a file, and be stopped; who waits is impatient."""
    monkeypatch.setattr(waits, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(waits, "_LOOK_SECONDS", 0.01)
    started = []

    def start(path: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", HOLDER, str(path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "has it\n"
        os.kill(child.pid, signal.SIGSTOP)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_cannot_append_is_told_which_stopped_process_has_the_lock(tmp_path, hold, caplog):
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([encode([b"a"], timestamps=0)])
        control = tmp_path / "events-0" / "control"
        child = hold(control)
        appending = threading.Thread(
            target=partition.append, args=([encode([b"b"], timestamps=0)],)
        )
        with caplog.at_level(logging.WARNING, "streamkit"):
            appending.start()
            until(lambda: caplog.messages)
        (said,) = caplog.messages
        assert f"the lock on {control}, which process {child.pid} (which is stopped:" in said
        assert f"kill -CONT {child.pid}" in said
        child.kill()
        appending.join(30)
        assert partition.end_offset == 2


def test_who_waits_for_the_coordinator_of_transactions_is_told_as_well(tmp_path, hold, caplog):
    path = tmp_path / "coordinator"
    path.touch()
    child = hold(path)
    with LockFile(path) as file, caplog.at_level(logging.WARNING, "streamkit"):
        waiting = threading.Thread(target=file.lock)
        waiting.start()
        until(lambda: caplog.messages)
        assert f"{path}, which process {child.pid} (which is stopped" in caplog.messages[0]
        child.kill()
        waiting.join(30)
        assert file.held


def test_nobody_looks_when_nobody_has_waited_for_a_while(tmp_path, hold, monkeypatch):
    monkeypatch.setattr(waits, "_IDLE_LOOKS", 2)
    for _ in range(2):
        path = tmp_path / "lock"
        path.touch()
        child = hold(path)
        with LockFile(path) as file:
            waiting = threading.Thread(target=file.lock)
            waiting.start()
            until(lambda: waits._waits._by_thread)
            until(lambda: looking() == 1)
            child.kill()
            waiting.join(30)
        until(lambda: looking() == 0)


def looking() -> int:
    return sum(thread.name == "streamkit-waits" for thread in threading.enumerate())


def test_a_lock_of_this_process_is_said_to_be_so(tmp_path):
    path = tmp_path / "lock"
    with LockFile(path) as file:
        file.lock()
        assert waits.holder(str(path)) == "another thread of this process"
    assert waits.holder(str(path)) == "a process"
    assert waits.holder(str(tmp_path / "gone")) == "a process"


def test_a_lock_on_another_device_is_another_lock():
    file = os.stat(__file__)
    ours = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    lines = [
        f"1: POSIX  ADVISORY  WRITE 1 {ours} 0 EOF",
        f"2: FLOCK  ADVISORY  WRITE 2 ff:ff:{file.st_ino} 0 EOF",
        f"3: FLOCK  ADVISORY  WRITE 3 {ours} 0 EOF",
        f"3: -> FLOCK  ADVISORY  WRITE 4 {ours} 0 EOF",
    ]
    assert waits._holder(file, lines) == 3
    assert waits._holder(file, lines[:2]) == 2
    assert waits._holder(file, lines[:1]) == 0


def test_a_forked_child_looks_after_its_own(tmp_path, hold):
    path = tmp_path / "lock"
    path.touch()
    child = hold(path)
    with LockFile(path) as file:
        waiting = threading.Thread(target=file.lock)
        waiting.start()
        until(lambda: waits._waits._by_thread)
        pid = os.fork()
        if pid == 0:
            os._exit(bool(waits._waits._by_thread or waits._waits._watched))
        assert os.waitpid(pid, 0)[1] == 0
        child.kill()
        waiting.join(30)

"""Waiting, in one process and across several."""

import fcntl
import gc
import os
import subprocess
import sys
import threading
import time

import pytest

from streamkit.codec import encode
from streamkit.log import wake
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


@pytest.fixture
def only_told(monkeypatch):
    """No polling: who is not told sleeps on, so that a lost wake-up fails the test."""
    monkeypatch.setattr(wake, "POLL_SECONDS", 60.0)


def append(log: Log) -> None:
    log.partition(TP).append([encode([b"x"], timestamps=0)], acks=1)


def test_what_is_ready_is_not_waited_for(log):
    assert log.wait(lambda: True, 0)


def test_a_wait_ends_when_the_time_is_over(log):
    assert not log.wait(lambda: False, 0)
    started = time.monotonic()
    assert not log.wait(lambda: False, 0.1)
    assert time.monotonic() - started >= 0.1


def test_a_waiting_thread_is_woken_by_an_append_of_another(log, only_told):
    appender = threading.Timer(0.05, append, [log])
    appender.start()
    assert log.wait(lambda: log.partition(TP).end_offset == 1, 20)
    appender.join()


def test_wake_ends_the_waits_of_this_process(log, only_told):
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(log.wait(lambda: False, 20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while len(log._wake._sleepers) < 4:
        time.sleep(0.001)
    log.wake()
    for thread in threads:
        thread.join(20)
    assert done == [True] * 4
    assert not log._wake._sleepers


APPENDER = """
import sys
from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
log = Log.open(sys.argv[1], fsync="never")
partition = log.partition(TopicPartition("events", 0))
for line in sys.stdin:
    partition.append([encode([b"x"], timestamps=0)], acks=1)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_readers_in_other_processes_are_woken_by_every_append(log, only_told):
    appender = subprocess.Popen(
        [sys.executable, "-c", APPENDER, log.path], stdin=subprocess.PIPE, text=True
    )
    partition = log.partition(TP)
    latencies = []
    with appender:
        for number in range(1, 60):
            written = time.monotonic()
            appender.stdin.write("\n")
            appender.stdin.flush()
            assert log.wait(lambda number=number: partition.end_offset >= number, 30)
            latencies.append(time.monotonic() - written)
    latencies.sort()
    print(f"woken after {latencies[30] * 1000:.2f} ms (p50), {latencies[-2] * 1000:.2f} ms (p97)")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_several_threads_that_sleep_on_one_inotify_are_all_woken(log, only_told):
    appender = subprocess.Popen(
        [sys.executable, "-c", APPENDER, log.path], stdin=subprocess.PIPE, text=True
    )
    partition = log.partition(TP)
    with appender:
        for number in range(1, 20):
            woken = []
            threads = [
                threading.Thread(
                    target=lambda number=number, woken=woken: woken.append(
                        log.wait(lambda: partition.end_offset >= number, 30)
                    )
                )
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            appender.stdin.write("\n")
            appender.stdin.flush()
            for thread in threads:
                thread.join(30)
            assert woken == [True] * 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_the_death_of_a_lock_holder_wakes_who_watches_the_lock_files(log, tmp_path, only_told):
    folder = tmp_path / "locks"
    folder.mkdir()
    path = folder / "member"
    program = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    log.watch(folder)
    fd = os.open(path, os.O_RDONLY)

    def free() -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    assert not free()
    killer = threading.Timer(0.05, holder.kill)
    killer.start()
    assert log.wait(free, 20)
    killer.join()
    holder.wait()
    holder.stdout.close()
    os.close(fd)


def test_without_inotify_polling_serves(log, monkeypatch):
    def none_left(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(wake.Inotify, "__init__", none_left)
    monkeypatch.setattr(wake.Inotify, "fd", -1, raising=False)
    appender = subprocess.Popen(
        [sys.executable, "-c", APPENDER, log.path], stdin=subprocess.PIPE, text=True
    )
    with appender:
        appender.stdin.write("\n")
        appender.stdin.flush()
        assert log.wait(lambda: log.partition(TP).end_offset == 1, 30)


def test_waiting_leaves_no_descriptors_behind(log):
    append(log)
    log.wait(lambda: False, 0.001)
    gc.collect()  # what earlier tests left is not to go meanwhile
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        log.wait(lambda: False, 0.0001)
    assert len(os.listdir("/dev/fd")) <= before  # what others left may go meanwhile


def test_a_closed_log_leaves_no_descriptors_behind(tmp_path):
    gc.collect()  # what earlier tests left is not to go meanwhile
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with Log.open(tmp_path, fsync="never") as log:
            if not log.topics():
                log.create_topic("events", 3)
            for number in range(3):
                partition = log.partition(TopicPartition("events", number))
                partition.append([encode([b"x"], timestamps=0)])
                assert partition.read(0)
            log.wait(lambda: False, 0.001)
    assert len(os.listdir("/dev/fd")) <= before  # what others left may go meanwhile

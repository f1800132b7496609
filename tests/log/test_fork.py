"""A forked child has locks and files of its own."""

import os
import shutil
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager

import pytest

from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def value(text: bytes = b"x") -> bytes:
    return encode([text], timestamps=0)


def forked(action) -> int:
    """Run `action` in a forked child, and return its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point here
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_and_its_parent_append_to_the_same_log(tmp_path, everything):
    with Log.open(tmp_path) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([value(b"parent")])

        def child():
            assert partition.append([value(b"child")]) == 1
            log.create_topic("made-by-child")
            assert log.wait(lambda: True, 1)

        assert forked(child) == 0
        assert partition.append([value(b"parent")]) == 2
        assert everything(partition) == [(0, b"parent"), (1, b"child"), (2, b"parent")]
        assert "made-by-child" in log.topics()


def test_a_child_forked_while_a_thread_holds_the_locks_takes_none_of_them_along(tmp_path, files):
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([value()])
        inside, go = threading.Event(), threading.Event()
        real = files.pwritev

        def slow(fd, buffers, position):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert go.wait(30)
            return real(fd, buffers, position)

        files.pwritev = slow
        thread = threading.Thread(target=partition.append, args=([value()],))
        thread.start()
        assert inside.wait(30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            time.sleep(60)  # it lives on and does nothing; the parent kills it
            os._exit(0)
        try:
            go.set()
            thread.join(30)
            # Appends of another process go on, and so would they had the parent died.
            assert forked(lambda: partition.append([value()])) == 0
            assert partition.end_offset == 3
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


@contextmanager
def killed_after_forking(partition, doing):
    """A child dies in an append, while it holds a lock; a child of its own lives on meanwhile."""
    read_end, write_end = os.pipe()

    def parent():
        def dying(fd, *_):
            if os.fork() == 0:
                os.write(write_end, b"%d\n" % os.getpid())
                time.sleep(60)
                os._exit(0)
            os.kill(os.getpid(), 9)

        setattr(type(partition._files), doing, staticmethod(dying))
        partition.append([value(b"unacknowledged")])

    assert forked(parent) == -9
    grandchild = int(os.read(read_end, 20))
    try:
        yield
    finally:
        os.kill(grandchild, 9)
        os.close(read_end)
        os.close(write_end)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("doing", ["pwritev", "fdatasync"])
def test_a_child_lives_on_without_the_locks_of_a_parent_that_is_killed(tmp_path, doing):
    with Log.open(tmp_path) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([value()])
        with killed_after_forking(partition, doing):
            assert partition.append([value()]) == (1 if doing == "pwritev" else 2)


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.timeout(30)
def test_a_log_that_fails_in_a_child_does_not_keep_others_from_letting_go(tmp_path):
    with ExitStack() as opened:
        logs = [opened.enter_context(Log.open(tmp_path / f"{n}")) for n in range(5)]
        for gone in (logs[0], logs[4]):  # whichever of them comes first in a child
            shutil.rmtree(gone.path)
        for broken in (logs[1], logs[3]):
            broken._wake.forked = interrupted
        logs[2].create_topic("events")
        partition = logs[2].partition(TP)
        with killed_after_forking(partition, "pwritev"):
            assert partition.append([value()]) == 0

"""A broker and we keep each other out of a directory. A real one does so in tests/kafka."""

import os
import subprocess
import sys

import pytest

from streamkit.codec import encode
from streamkit.errors import LogInUse
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

BROKER = (
    "import fcntl, sys\n"
    "file = open(sys.argv[1], 'r+b')\n"
    "try:\n"
    "    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except OSError:\n"
    "    sys.exit('in use')\n"
    "print('locked', flush=True)\n"
    "sys.stdin.read()\n"
)
"""Locks a file as Java does, for as long as its input is open."""


@pytest.fixture
def start(tmp_path):
    """Start a broker, as far as its lock goes; whether it came up."""
    started = []

    def begin() -> bool:
        command = [sys.executable, "-c", BROKER, str(tmp_path / ".lock")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, text=True, **pipes)
        started.append(process)
        return process.stdout.readline() == "locked\n"

    def stop() -> None:
        while started:
            started.pop().communicate(timeout=20)

    begin.stop = stop
    yield begin
    stop()


def test_a_log_does_not_open_where_a_broker_runs_unless_it_is_read_only(tmp_path, start):
    Log.open(tmp_path).close()
    assert start()
    for _ in range(2):
        with pytest.raises(LogInUse, match="Kafka broker runs on this directory"):
            Log.open(tmp_path)
    with Log.open(tmp_path, read_only=True) as log:
        assert log.topics() == {}
    start.stop()
    Log.open(tmp_path).close()


def test_a_broker_does_not_start_until_the_last_log_is_closed(tmp_path, start):
    one, other = Log.open(tmp_path), Log.open(tmp_path)
    assert not start()
    other.close()
    # A plain record lock would be lost with the first descriptor that is closed.
    (tmp_path / ".lock").read_bytes()
    assert not start()
    one.close()
    assert start()


def test_any_number_of_processes_have_a_log_open_at_once(tmp_path, start):
    with Log.open(tmp_path, fsync="never") as log:
        log.create_topic("events")
        program = (
            "import sys; from streamkit.log.directory import Log\n"
            "print(len(Log.open(sys.argv[1]).topics()))\n"
        )
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True
            )
            assert done.stdout == b"1\n"
        assert not start()


def test_a_forked_child_keeps_brokers_out_when_its_parent_is_gone(tmp_path, start):
    log = Log.open(tmp_path, fsync="never")
    log.create_topic("events")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent says that it has closed the log
            batch = encode([b"a"], timestamps=0)
            log.partition(TopicPartition("events", 0)).append([batch])
            if not start():
                log.close()
                status = 0
        finally:
            os._exit(status)
    os.close(read_end)
    log.close()
    assert not start(), "the child has the log open"
    os.write(write_end, b".")
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    assert start()


def test_a_broker_that_comes_back_has_to_look_at_what_we_wrote(tmp_path):
    Log.open(tmp_path).close()
    note = tmp_path / ".kafka_cleanshutdown"
    note.write_text('{"version": 0, "brokerEpoch": 7}')
    with Log.open(tmp_path, read_only=True):
        assert note.exists()
    with Log.open(tmp_path):
        assert not note.exists()

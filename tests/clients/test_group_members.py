"""Consumers of one group in several processes: how long nobody reads, and who never stops."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest

from streamkit.backends.locate import open_backend
from streamkit.clients.consumer import Consumer
from streamkit.records import TopicPartition

PARTITIONS = 6

READER = """
import sys
from streamkit.clients.consumer import Consumer
with Consumer(sys.argv[1], "t", group="g") as consumer:
    for record in consumer:
        print(record.partition, record.offset, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("t", PARTITIONS)
    return str(tmp_path / "log")


@pytest.fixture
def reader(path):
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", READER, path], stdout=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@contextmanager
def writing(path):
    """A record with the time into every partition, every few milliseconds."""
    stop = threading.Event()

    def write():
        with open_backend(path) as log:
            while not stop.wait(0.003):
                told = repr(time.monotonic()).encode()
                for number in range(PARTITIONS):
                    log.append(TopicPartition("t", number), [told])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read(consumer, enough, seconds=60.0):
    """Poll until what came is enough; gives every record with the moment it came."""
    came = []
    deadline = time.monotonic() + seconds
    while not enough(came):
        came += [(time.monotonic(), record) for record in consumer.poll(0.1)]
        assert time.monotonic() < deadline, "it did not come to pass"
    return came


def test_a_killed_consumers_partitions_are_read_by_another_at_once(path, reader, record_property):
    took = []
    with writing(path), open_backend(path) as log, Consumer(log, "t", group="g") as consumer:
        for _ in range(3):
            victim = reader()
            read(
                consumer,
                lambda _: (
                    len(consumer.assignment) == PARTITIONS // 2 and len(log.group("g").members) == 2
                ),
            )
            lost = set(range(PARTITIONS)) - {tp.partition for tp in consumer.assignment}
            killed = time.monotonic()
            victim.kill()

            def all_are_read(came, lost=lost, killed=killed):
                return lost <= {r.partition for _, r in came if float(r.value) > killed}

            took.append(read(consumer, all_are_read)[-1][0] - killed)
            victim.wait()
    # A figure to look at; a busy machine must not fail the test.
    record_property("taken_over_ms", [round(1000 * seconds, 1) for seconds in took])
    print(f"\nall its partitions read after {', '.join(f'{1000 * s:.1f} ms' for s in took)}")


def test_while_others_join_the_partitions_that_stay_are_read_without_a_pause(
    path, reader, record_property
):
    """What stays is never taken away, and every one of its records comes once and in order."""
    with writing(path), Consumer(path, "t", group="g") as consumer:
        assert len(consumer.assignment) == PARTITIONS
        held = [consumer.assignment]
        came = []
        for members in (2, 3):
            reader()

            def shared(_, members=members):
                held.append(consumer.assignment)
                return len(consumer.assignment) == PARTITIONS // members

            came += read(consumer, shared)
        for earlier, later in pairwise(held):
            assert later <= earlier, "a partition that stays is never given up and taken again"
        longest = 0.0
        for partition in consumer.assignment:
            mine = [(at, r) for at, r in came if (r.topic, r.partition) == tuple(partition)]
            assert [r.offset for _, r in mine] == list(range(len(mine)))
            moments = [at for at, _ in mine]
            steps = [b - a for a, b in pairwise(moments)]
            longest = max(longest, max(steps))
    record_property("longest_gap_ms", round(1000 * longest, 1))
    print(f"\nlongest time between two records of a partition that stays: {1000 * longest:.1f} ms")

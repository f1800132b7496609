"""The embedded log: produce, consume, wake-up, beside the same work without a log.

Limits are loops over the same codec with nothing but `os.pwrite` and `os.pread` around it, on the
same disk. Produce and consume are per second of CPU time, as they wait for nothing: a busy machine
changes them less. confluent-kafka's figures were measured against a broker in memory, on another
day.
"""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, main, medians
from streamkit import codec
from streamkit.backends.base import Acks, Backend
from streamkit.backends.locate import open_backend
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.records import TopicPartition

RECORDS = 500_000
VALUE = b"x" * 100
BATCH = 500
LIST = 10_000
READ = 1 << 20
DURABLE = 200
WAKES = 300
ROUNDS = 5

_names = count()


def new_topic(log: Backend) -> TopicPartition:
    name = f"t{next(_names)}"
    log.create_topic(name)
    return TopicPartition(name, 0)


def rate(things: int, work: Callable[[], object]) -> float:
    """Per second of this process's CPU time, with all its threads."""
    began = time.process_time()
    work()
    return things / (time.process_time() - began)


def wall_rate(things: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return things / (time.perf_counter() - began)


# Produce.


def send_one_by_one(log: Backend, records: int) -> float:
    topic = new_topic(log).topic
    with Producer(log, acks=1) as producer:

        def work() -> None:
            for _ in range(records):
                producer.send(topic, VALUE)
            producer.flush()

        return rate(records, work)


def send_lists(log: Backend, records: int) -> float:
    topic = new_topic(log).topic
    values = [VALUE] * LIST
    with Producer(log, acks=1) as producer:

        def work() -> None:
            for _ in range(max(1, records // LIST)):
                producer.send_many(topic, values)

        return rate(max(1, records // LIST) * LIST, work)


def write_one_by_one(path: Path, records: int) -> float:
    def work() -> None:
        builder = codec.Builder()
        at = 0
        for _ in range(records):
            size = builder.append(VALUE, None, time.time_ns() // 1_000_000)
            if size >= 64 << 10:
                at += os.pwrite(fd, builder.build(), at)

    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    try:
        return rate(records, work)
    finally:
        os.close(fd)


def write_lists(path: Path, records: int) -> float:
    values = [VALUE] * BATCH

    def work() -> None:
        at = 0
        for number in range(max(1, records // BATCH)):
            batch = codec.encode(values, timestamps=time.time_ns() // 1_000_000)
            start = codec.stamp(batch, number * BATCH, 0)
            at += os.pwritev(fd, [start, memoryview(batch)[len(start) :]], at)

    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    try:
        return rate(max(1, records // BATCH) * BATCH, work)
    finally:
        os.close(fd)


# Consume.


def consume_records(log: Backend, tp: TopicPartition, records: int) -> float:
    def work() -> None:
        with Consumer(log, tp.topic) as consumer:
            for _ in consumer.until_end():
                pass

    return rate(records, work)


def consume_columns(log: Backend, tp: TopicPartition, records: int) -> float:
    def work() -> None:
        at = 0
        while batches := log.fetch({tp: at}, max_bytes=READ):
            for batch in batches:
                batch.columns()
                at = batch.next_offset

    return rate(records, work)


def read_records(path: Path, records: int) -> float:
    def work() -> None:
        for raw in chunks(path):
            for _ in codec.records(raw, "t", 0):
                pass

    return rate(records, work)


def read_columns(path: Path, records: int) -> float:
    def work() -> None:
        for raw in chunks(path):
            codec.columns(raw)

    return rate(records, work)


def chunks(path: Path) -> Iterator[bytes]:
    """A file of equal batches, in reads of about a megabyte that end where a batch does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = codec.read_header(os.pread(fd, codec.HEADER_BYTES, 0)).size
        step, at = max(1, READ // size) * size, 0
        while raw := os.pread(fd, step, at):
            yield raw
            at += len(raw)
    finally:
        os.close(fd)


# Durable.


def append_durably(log: Backend, records: int, acks: Acks = "all") -> float:
    tp = new_topic(log)
    values = [VALUE] * records

    def work() -> None:
        for _ in range(DURABLE):
            log.append(tp, values, acks=acks)

    return wall_rate(DURABLE * records, work)


def write_durably(path: Path, records: int) -> float:
    values = [VALUE] * records

    def work() -> None:
        at = 0
        for _ in range(DURABLE):
            at += os.pwrite(fd, codec.encode(values, timestamps=0), at)
            os.fdatasync(fd)

    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    try:
        return wall_rate(DURABLE * records, work)
    finally:
        os.close(fd)


# Another process.

ECHO = """
import os, sys
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
tp, at = TopicPartition(sys.argv[2], 0), 0
with open_backend(sys.argv[1]) as log:
    os.write(1, b"r")
    while True:
        log.wait({tp: at}, 60.0)
        for batch in log.fetch({tp: at}):
            at = batch.next_offset
            os.write(1, b"x" * len(batch))
"""

PIPE = """
import os
os.write(1, b"r")
while byte := os.read(0, 1):
    os.write(1, byte)
"""

MEMBER = """
import os, sys
from streamkit.backends.locate import open_backend
with open_backend(sys.argv[1]) as log:
    member = log.join("bench", {"unit": 8})
    while len(member.poll().owned) < 4:
        log.wait({}, 1.0)
    os.write(1, b"r")
    log.wait({}, 600.0)
"""


def round_trips(process: "subprocess.Popen[bytes]", send: Callable[[], object]) -> float:
    """The median time in µs until the other process has answered; it is idle in between."""
    assert process.stdout is not None
    out = process.stdout.fileno()
    took = []
    for _ in range(WAKES):
        time.sleep(0.001)
        began = time.perf_counter()
        send()
        os.read(out, 1)
        took.append(time.perf_counter() - began)
    return median(took) * 1e6


def wake_by_log(log: Backend) -> float:
    tp = new_topic(log)
    command = [sys.executable, "-c", ECHO, log.url, tp.topic]
    with running(command) as process:
        return round_trips(process, lambda: log.append(tp, [VALUE]))


def wake_by_pipe() -> float:
    with running([sys.executable, "-c", PIPE]) as process:
        assert process.stdin is not None
        into = process.stdin.fileno()
        return round_trips(process, lambda: os.write(into, b"x"))


def take_over(log: Backend) -> float:
    """Milliseconds from the SIGKILL of a member to its units being the other's."""
    member = log.join("bench", {"unit": 8})
    with running([sys.executable, "-c", MEMBER, log.url], ready=False) as process:
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0)[0]:
            member.release(member.poll().revoking)
            log.wait({}, 0.01)
        process.kill()
        began = time.perf_counter()
        while len(member.poll().owned) < 8:
            log.wait({}, 1.0)
        took = time.perf_counter() - began
    member.leave()
    return took * 1e3


class running:
    """A process that is killed at the end, and is ready when it has written its first byte."""

    def __init__(self, command: Sequence[str], *, ready: bool = True) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        if ready:
            assert self._process.stdout is not None
            self._process.stdout.read(1)

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def measure(scale: float) -> list[Row]:
    records = max(1000, int(RECORDS * scale))
    rounds = ROUNDS if scale >= 1 else 1
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=".") as directory,
        open_backend(Path(directory, "log")) as log,
    ):
        file = Path(directory, "file")
        tp = new_topic(log)
        for _ in range(records // BATCH):
            log.append(tp, [VALUE] * BATCH)
        stored = log.offsets(tp).end
        same = Path(directory, "same")
        write_lists(same, stored)
        got = medians(
            {
                "send": partial(send_one_by_one, log, records),
                "send raw": partial(write_one_by_one, file, records),
                "lists": partial(send_lists, log, records),
                "lists raw": partial(write_lists, file, records),
                "records": partial(consume_records, log, tp, stored),
                "records raw": partial(read_records, same, stored),
                "columns": partial(consume_columns, log, tp, stored),
                "columns raw": partial(read_columns, same, stored),
                "durable 1": partial(append_durably, log, 1),
                "durable 1 raw": partial(write_durably, file, 1),
                "durable 500": partial(append_durably, log, 500),
                "durable 500 raw": partial(write_durably, file, 500),
                "wake": partial(wake_by_log, log),
                "wake raw": wake_by_pipe,
                "take over": partial(take_over, log),
            },
            rounds,
        )

    def row(path: str, name: str, goal: float | None = None) -> Row:
        return Row(
            path=path, ours=got[name], beside="codec + file", theirs=got[f"{name} raw"], goal=goal
        )

    published = "measured on another day: a C broker in memory, no fsync"
    return [
        row("produce, one by one", "send"),
        Row(
            path="produce, one by one",
            ours=got["send"],
            beside="confluent-kafka",
            theirs=0.57e6,
            note=published,
        ),
        row("produce, lists", "lists"),
        row("consume, records", "records"),
        Row(
            path="consume, records",
            ours=got["records"],
            beside="confluent-kafka",
            theirs=1.36e6,
            note=published,
        ),
        row("consume, columns", "columns"),
        row("durable append, 1 record", "durable 1", 0.8),
        row("durable append, 500 records", "durable 500", 0.8),
        Row(
            path="wake another process",
            ours=got["wake"],
            beside="pipe",
            theirs=got["wake raw"],
            unit="us",
            note="there and back; median",
        ),
        Row(
            path="take over from a killed member",
            ours=got["take over"],
            beside="limit",
            theirs=100.0,
            unit="ms",
            goal=1.0,
        ),
    ]


if __name__ == "__main__":
    main(measure)

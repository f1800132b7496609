"""Sending records one by one and in lists, beside the codec with nothing but a file around it.

Per second of CPU time, as nothing is waited for: a busy machine changes it less.
"""

import os
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, main, medians
from benchmarks.scratch import VALUE, new_topic, rate, scratch
from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.producer import Producer

RECORDS = 500_000
BATCH = 500
LIST = 10_000
ROUNDS = 7


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


def measure(scale: float) -> list[Row]:
    records = max(1000, int(RECORDS * scale))
    with scratch() as (log, file):
        got = medians(
            {
                "send": partial(send_one_by_one, log, records),
                "send raw": partial(write_one_by_one, file, records),
                "lists": partial(send_lists, log, records),
                "lists raw": partial(write_lists, file, records),
            },
            ROUNDS if scale >= 1 else 1,
        )

    def row(path: str, name: str, beside: str, theirs: float, goal: float, note: str = "") -> Row:
        return Row(path=path, ours=got[name], beside=beside, theirs=theirs, goal=goal, note=note)

    another = "measured on another day: a C broker in memory, no fsync"
    single, lists = "produce, one by one", "produce, lists"
    return [
        row(single, "send", "codec + file", got["send raw"], 0.8),
        row(single, "send", "goal", 1.6e6, 1.0),
        row(single, "send", "confluent-kafka", 0.57e6, 1.0, another),
        row(lists, "lists", "codec + file", got["lists raw"], 0.8),
        row(lists, "lists", "goal", 2.6e6, 1.0),
    ]


if __name__ == "__main__":
    main(measure)

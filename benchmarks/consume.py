"""Reading records and columns, beside the codec with nothing but a file around it.

Per second of CPU time, as nothing is waited for: a busy machine changes it less.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, main, medians
from benchmarks.produce import write_lists
from benchmarks.scratch import VALUE, new_topic, rate, scratch
from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.consumer import Consumer
from streamkit.records import TopicPartition

RECORDS = 500_000
BATCH = 500
READ = 1 << 20
ROUNDS = 7


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


def measure(scale: float) -> list[Row]:
    records = max(1000, int(RECORDS * scale))
    with scratch() as (log, file):
        tp = new_topic(log)
        for _ in range(records // BATCH):
            log.append(tp, [VALUE] * BATCH)
        stored = log.offsets(tp).end
        write_lists(file, stored)
        got = medians(
            {
                "records": partial(consume_records, log, tp, stored),
                "records raw": partial(read_records, file, stored),
                "columns": partial(consume_columns, log, tp, stored),
                "columns raw": partial(read_columns, file, stored),
            },
            ROUNDS if scale >= 1 else 1,
        )

    def row(path: str, name: str, beside: str, theirs: float, goal: float | None) -> Row:
        return Row(path=path, ours=got[name], beside=beside, theirs=theirs, goal=goal)

    another = "confluent-kafka, another day, broker in memory"
    return [
        row("consume, records", "records", "codec + file", got["records raw"], None),
        row("consume, records", "records", "goal", 5e6, 1.0),
        row("consume, records", "records", another, 1.36e6, 1.0),
        row("consume, columns", "columns", "codec + file", got["columns raw"], None),
    ]


if __name__ == "__main__":
    main(measure)

"""Appends that are on stable storage when they return: alone, from many processes, in transactions.

The limit is the same codec, `os.pwrite` and one `fdatasync` for each batch. All per second by the
clock, since waiting for the disk is what it is about. Candidates take turns every few appends: what
a disk takes for a sync changes from one moment to the next.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, main, medians
from benchmarks.scratch import VALUE, new_topic, running, scratch, wall_rate
from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.producer import Producer

SIZES = (1, 100, 500)
APPENDS = 10
ROUNDS = 101
TRANSACTION = 500

PROCESSES = 8
EACH = 150
PROCESS_ROUNDS = 5


class Appends:
    """Appends of `records` records each to a partition of its own."""

    def __init__(self, log: Backend, records: int) -> None:
        self._log = log
        self._tp = new_topic(log)
        self._values = [VALUE] * records

    def __call__(self, appends: int) -> float:
        def work() -> None:
            for _ in range(appends):
                self._log.append(self._tp, self._values, acks="all")

        return wall_rate(appends * len(self._values), work)


class Writes:
    """The same into a plain file."""

    def __init__(self, path: Path, records: int) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        self._at = 0
        self._values = [VALUE] * records

    def __call__(self, appends: int) -> float:
        def work() -> None:
            for _ in range(appends):
                batch = codec.encode(self._values, timestamps=time.time_ns() // 1_000_000)
                self._at += os.pwrite(self._fd, batch, self._at)
                os.fdatasync(self._fd)

        return wall_rate(appends * len(self._values), work)

    def __del__(self) -> None:
        os.close(self._fd)


class TransactionsOf:
    """Transactions of one batch."""

    def __init__(self, log: Backend, producer: Producer) -> None:
        self._producer = producer
        self._topic = new_topic(log).topic
        self._values = [VALUE] * TRANSACTION

    def __call__(self, transactions: int) -> float:
        def work() -> None:
            for _ in range(transactions):
                with self._producer.transaction() as transaction:
                    transaction.send_many(self._topic, self._values)

        return wall_rate(transactions * TRANSACTION, work)


class AppendsAndSyncs:
    """Plain durable batches, each followed by two small writes that are synced, too."""

    def __init__(self, log: Backend, path: Path) -> None:
        self._log = log
        self._tp = new_topic(log)
        self._values = [VALUE] * TRANSACTION
        self._small = Writes(path, 1)

    def __call__(self, appends: int) -> float:
        def work() -> None:
            for _ in range(appends):
                self._log.append(self._tp, self._values, acks="all")
                self._small(2)

        return wall_rate(appends * TRANSACTION, work)


# Many processes.

APPENDER = """
import os, sys
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
with open_backend(sys.argv[1]) as log:
    tp = TopicPartition(sys.argv[2], int(sys.argv[3]))
    log.append(tp, [b"x" * 100], acks="all")
    os.write(1, b"r")
    os.read(0, 1)
    for _ in range(int(sys.argv[4])):
        log.append(tp, [b"x" * 100], acks="all")
    os.write(1, b"d")
"""


def processes(log: Backend, appends: int, partitions: Sequence[int]) -> float:
    """Appends per second of as many processes as there are `partitions`, each to its own."""
    topic = new_topic(log, max(partitions) + 1).topic
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = [
            stack.enter_context(
                running([sys.executable, "-c", APPENDER, log.url, topic, str(number), str(appends)])
            )
            for number in partitions
        ]

        def work() -> None:
            for process in started:
                assert process.stdin is not None
                process.stdin.write(b"g")
            for process in started:
                assert process.stdout is not None
                process.stdout.read(1)

        return wall_rate(appends * len(started), work)


def measure(scale: float) -> list[Row]:
    few = max(2, round(APPENDS * min(scale, 1)))
    each = max(2, round(EACH * scale))
    rounds = ROUNDS if scale >= 1 else 1
    alone, same, own = [0], [0] * PROCESSES, list(range(PROCESSES))
    with scratch() as (log, file), Producer(log, transactional_id="bench") as producer:
        single = {
            f"{size} {who}": partial(work, few)
            for size in SIZES
            for who, work in (
                ("ours", Appends(log, size)),
                ("raw", Writes(file.with_name(f"raw-{size}"), size)),
            )
        }
        ends = {
            "transactions": partial(TransactionsOf(log, producer), few),
            "plain": partial(AppendsAndSyncs(log, file), few),
        }
        got = medians(single, rounds)
        got |= medians(ends, rounds)
        got |= medians(
            {
                "alone": partial(processes, log, each, alone),
                "same": partial(processes, log, each, same),
                "own": partial(processes, log, each, own),
            },
            PROCESS_ROUNDS if scale >= 1 else 1,
        )
    rows = [
        Row(
            path=f"durable append, {size} record{'s' if size > 1 else ''}",
            ours=got[f"{size} ours"],
            beside="codec + file + fdatasync",
            theirs=got[f"{size} raw"],
            goal=0.8,
        )
        for size in SIZES
    ]
    rows += [
        Row(
            path=f"durable append, {PROCESSES} processes, {where}",
            ours=got[name],
            beside="one process",
            theirs=got["alone"],
            goal=3.0,
        )
        for name, where in (("same", "same partition"), ("own", "own partitions"))
    ]
    rows.append(
        Row(
            path=f"transaction of {TRANSACTION} records",
            ours=got["transactions"],
            beside="plain durable batch + 2 synced writes",
            theirs=got["plain"],
            goal=0.91,
        )
    )
    return rows


if __name__ == "__main__":
    main(measure)

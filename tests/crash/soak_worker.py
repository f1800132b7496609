"""One process of the soak: `soak_worker.py ROLE NAME LOG HISTORY SEED`.

It works until it is killed, and writes what it does to HISTORY, outside of the log, an event per
line and write: what a killed process has told is there. On SIGUSR1 its next write to the log's
files, or the next fsync, fails with EIO.
"""

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from streamkit import Admin, Consumer, Producer, Record, TopicPartition
from streamkit.backends.locate import open_backend
from streamkit.errors import (
    Fenced,
    LogError,
    OutcomeUnknown,
    OutOfSpace,
    StorageFailed,
    TransactionError,
    UsageError,
)
from streamkit.history.operations import Assign, Commit, Event, Poll, Scan, Seek, Send, Step
from streamkit.log import directory
from streamkit.log.files import RealFiles

PAUSE = 0.03
"""Seconds between operations at most: the disk is to last."""


def in_rush() -> bool:
    """A tenth of every second nobody pauses, so that all meet each other."""
    return time.monotonic() % 1.0 < 0.1


class FailingFiles(RealFiles):
    """The real ones, one of whose calls fails when it was asked for."""

    due = False

    @classmethod
    def _may_fail(cls) -> None:
        if cls.due:
            cls.due = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    @staticmethod
    def fdatasync(fd: int) -> None:
        FailingFiles._may_fail()
        os.fdatasync(fd)

    @staticmethod
    def pwritev(fd: int, buffers: Sequence[bytes], position: int) -> int:
        FailingFiles._may_fail()
        return os.pwritev(fd, buffers, position)


def fail_next(*_: object) -> None:
    FailingFiles.due = True


class Recorder:
    """The history of this process."""

    def __init__(self, path: str, process: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.process = process
        self._count = 0

    def value(self) -> str:
        """One that nobody else sends."""
        self._count += 1
        return f"{self.process}:{self._count}"

    def __call__(self, type: str, *steps: Step, txn: bool = False) -> None:
        event = Event(self.process, type, time.monotonic_ns(), list(steps), txn)
        os.write(self._fd, msgspec.json.encode(event) + b"\n")


def identity(record: Record[bytes | None]) -> str:
    """What tells a record from all others: a header where the value may be null, else the value."""
    for name, value in record.headers:
        if name == "id" and value is not None:
            return value.decode()
    assert record.value is not None
    return record.value.decode()


def polled(records: Sequence[Record[bytes | None]]) -> list[Poll]:
    if not records:
        return []
    where = f"{records[0].topic}-{records[0].partition}"
    return [Poll(where, [(record.offset, identity(record)) for record in records])]


class Worker:
    def __init__(self, log: str, record: Recorder, seed: str) -> None:
        self.log = log
        self.record = record
        self.dice = random.Random(seed)
        self.assigned: tuple[int, frozenset[TopicPartition]] = (-1, frozenset())

    def rest(self) -> None:
        if not in_rush():
            time.sleep(self.dice.uniform(0, PAUSE))

    def assignment(self, consumer: Consumer[bytes | None], group: str) -> list[Step]:
        """What changed hands in the poll just done, told before what it gave.

        In a poll that waits, a partition may go to another member, and come back when that is
        killed. So in another generation everything counts as new.
        """
        assert consumer._member is not None
        now = (consumer._member.generation, consumer.assignment)
        if now == self.assigned:
            return []
        generation, self.assigned = self.assigned[0], now
        steps: list[Step] = [Assign(sorted(map(str, consumer.assignment)), group)]
        return steps if generation == now[0] else [Assign([], group), *steps]

    # Roles.

    def plain(self) -> None:
        """Durable sends: one, of which it learns the offset, or several, without theirs."""
        producer = Producer(self.log)
        while True:
            self.rest()
            topic = self.dice.choices(["events", "table", "retained"], [5, 3, 2])[0]
            if in_rush():
                topic = "retained"  # it keeps only so much
            partition = self.dice.randrange({"events": 4, "table": 2, "retained": 1}[topic])
            # Half of the keys are of this process alone: others' unknown deletions excuse no loss.
            owner = self.dice.choice(["all", self.record.process])
            key = f"{owner}-{self.dice.randrange(10)}" if topic == "table" else None
            tombstone = topic == "table" and self.dice.random() < 0.2
            many = 1 if self.dice.random() < 0.6 else self.dice.randint(2, 8)
            where = f"{topic}-{partition}"
            sends = [Send(where, self.record.value(), None, key, tombstone) for _ in range(many)]
            self.record("invoke", *sends)
            arguments = {"key": key, "partition": partition}
            try:
                if many == 1:
                    value, headers = self.dressed(sends[0])
                    at = producer.send_and_wait(topic, value, headers=headers, **arguments).offset
                    sends = [Send(where, sends[0].value, at, key, tombstone)]
                else:
                    for send in sends:
                        value, headers = self.dressed(send)
                        producer.send(topic, value, headers=headers, **arguments)
                    producer.flush()
            except OutOfSpace:
                # One alone is taken back; what was buffered is kept, and tried again.
                self.record("fail" if many == 1 else "info")
            except StorageFailed:
                self.record("info")
            else:
                self.record("ok", *sends)

    def dressed(self, send: Send) -> tuple[bytes | None, list[tuple[str, bytes]]]:
        name = str(send.value).encode()
        if send.key is None:
            return name, []
        return (None if send.tombstone else b"." * 50), [("id", name)]

    def member(self) -> None:
        """A member of the group `readers`, of both topics; it commits by itself, and not always."""
        consumer = self.joined()
        committed: dict[TopicPartition, int] = {}
        while True:
            self.rest()
            self.record("invoke")
            try:
                records = consumer.poll(0.2, max_records=50)
            except LogError:
                self.record("ok")
                continue
            self.record("ok", *self.assignment(consumer, "readers"), *polled(records))
            if not records or self.dice.random() < 0.3:
                continue
            positions = {tp: consumer.position(tp) for tp in consumer.assignment}
            news = [tp for tp, at in positions.items() if committed.get(tp) != at]
            self.record("invoke", *(Commit("readers", str(tp), positions[tp]) for tp in news))
            try:
                consumer.commit()
                committed = positions
                self.record("ok")
            except Fenced:
                self.record("fail")
            except LogError:
                self.record("info")

    def joined(self) -> Consumer[bytes | None]:
        """To join takes writing: the disk may be full, or have failed."""
        while True:
            with suppress(LogError):
                topics = ["events", "copies"]
                return Consumer(self.log, topics, group="readers", auto_commit=False)
            self.rest()

    def tail(self) -> None:
        """Reads what is compacted and what is removed, alone and all the time."""
        some = [
            TopicPartition("table", 0),
            TopicPartition("table", 1),
            TopicPartition("retained", 0),
        ]
        consumer = Consumer(self.log, partitions=some)
        while True:
            self.rest()
            self.record("invoke")
            try:
                records = consumer.poll(0.2, max_records=100)
            except LogError:
                self.record("ok")
                continue
            self.record("ok", *polled(records))

    def copy(self) -> None:
        """Exactly once: each event becomes a copy, in one transaction with the offset."""
        name = self.record.process.split(".")[0]
        while True:
            with suppress(LogError, TransactionError, Fenced):
                self.assigned = (-1, frozenset())
                self.record("invoke")
                self.record("ok", Assign([], "copiers"))  # it begins where the group is
                with (
                    Consumer(self.log, "events", group="copiers", auto_commit=False) as consumer,
                    Producer(self.log, transactional_id=name, transaction_timeout=1.0) as producer,
                ):
                    while True:
                        self.rest()
                        self.transform(consumer, producer)
            self.rest()

    def transform(self, consumer: Consumer[bytes | None], producer: Producer) -> None:
        self.record("invoke", txn=True)
        steps: list[Step] = []
        try:
            records = consumer.poll(0.2, max_records=self.dice.randint(1, 30))
            steps += [*self.assignment(consumer, "copiers"), *polled(records)]
            if not records:
                self.record("fail", *steps)
                return
            number = records[0].partition
            source = TopicPartition("events", number)
            after = records[-1].offset + 1
            with producer.transaction() as txn:
                for record in records:
                    value = f"{self.record.value()}<{identity(record)}"
                    steps.append(Send(f"copies-{number}", value))
                    txn.send("copies", value.encode(), partition=number)
                steps.append(Commit("copiers", str(source), after))
                txn.commit_offsets(consumer, {source: after})
                if self.dice.random() < 0.5:
                    producer.flush()  # else what is given up has hardly ever been in the log
                if self.dice.random() < 0.1:
                    time.sleep(self.dice.uniform(0, 0.5))  # to be killed, or timed out, in between
                if self.dice.random() < 0.2:
                    raise Abandoned
                self.record("committing", *steps)
            self.record("ok")
        except Abandoned:
            consumer.seek(source, records[0].offset)
            self.record("fail", *steps, Seek(str(source), records[0].offset))
        except OutcomeUnknown:
            self.record("info", *steps)
            raise
        except (LogError, TransactionError, Fenced):
            self.record("fail", *steps)
            raise

    def janitor(self) -> None:
        """Removes and compacts far more often than a log does by itself; a topic comes and goes."""
        admin = Admin(self.log)
        self.record("invoke")
        self.record("ok")  # it is at work
        while True:
            self.rest()
            with suppress(LogError):
                admin.maintain()
            with suppress(LogError, UsageError):
                match self.dice.randrange(40):
                    case 0:
                        admin.create_topic("scratch", self.dice.randint(1, 3))
                    case 1:
                        admin.add_partitions("scratch", 4)
                    case 2:
                        admin.delete_topic("scratch")

    def final(self) -> None:
        """What is there in the end, read from start to end by somebody new."""
        with open_backend(self.log, read_only=True) as backend:
            for topic, info in sorted(backend.topics().items()):
                if info.internal:
                    continue
                for number in range(info.partitions):
                    chosen = TopicPartition(topic, number)
                    self.record("invoke")
                    offsets = backend.offsets(chosen)
                    with Consumer(backend, partitions=[chosen]) as consumer:
                        found = [(r.offset, identity(r)) for r in consumer.until_end()]
                    self.record("ok", Scan(str(chosen), offsets.start, offsets.end, found))


class Abandoned(Exception):
    """A transaction is given up on purpose."""


if __name__ == "__main__":
    role, process, log, history, seed = sys.argv[1:]
    directory.RealFiles = FailingFiles
    signal.signal(signal.SIGUSR1, fail_next)
    worker = Worker(log, Recorder(history, process), seed)
    getattr(worker, role)()

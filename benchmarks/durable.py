"""Appends that are on stable storage when they return: alone, from many processes, in transactions.

The limit is the same codec, `os.pwrite` and one `fdatasync` for each batch. All by the clock, since
waiting for the disk is what it is about. What a disk takes for a sync changes from one moment to
the next by more than what is compared here. So two take turns append by append, each going first as
often as the other. What counts is how long the other takes at the median, and how much longer we do
than it in the same turn, at the median of all turns: what the disk is like just then is in both.

Many processes are compared with one, and beside it as many processes are that append with nothing
but the codec: to files of their own, or to one by turns, where one sync serves all that wait. What
those gain over one of them is all that the disk and the processors have to give.
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from fcntl import LOCK_EX, LOCK_UN, flock
from functools import partial
from operator import sub
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, main, medians
from benchmarks.scratch import VALUE, new_topic, running, scratch
from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.producer import Producer

SIZES = (1, 100, 500)
APPENDS = 2000
PAIR_SECONDS = 5.0
"""Two candidates take so many turns, or as many as fit into this time."""
TRANSACTION = 500
TRANSACTIONS = 20_000
TRANSACTIONS_SECONDS = 20.0
"""So many turns, or seconds, of these: the two are so near that a short run could not tell."""

POSITION = struct.Struct("=Q")

PROCESSES = 8
PROCESS_SECONDS = 0.5
PROCESS_ROUNDS = 3


class Appends:
    """Appends of `records` records each to a partition of its own."""

    def __init__(self, log: Backend, records: int) -> None:
        self._log = log
        self._tp = new_topic(log)
        self._values = [VALUE] * records

    def __call__(self) -> None:
        self._log.append(self._tp, self._values, acks="all")


class Writes:
    """The same into a plain file."""

    def __init__(self, path: Path, records: int) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        self._at = 0
        self._values = [VALUE] * records

    def __call__(self) -> None:
        batch = codec.encode(self._values, timestamps=time.time_ns() // 1_000_000)
        self._at += os.pwrite(self._fd, batch, self._at)
        os.fdatasync(self._fd)

    def __del__(self) -> None:
        os.close(self._fd)


class SharedWrites:
    """The same by several processes into one file: a lock to write, and one to sync for all."""

    def __init__(self, path: Path) -> None:
        self._data, self._write, self._sync = (
            os.open(f"{path}{name}", os.O_CREAT | os.O_RDWR) for name in ("", ".write", ".sync")
        )
        os.ftruncate(self._write, mmap.PAGESIZE)
        self._page = mmap.mmap(self._write, mmap.PAGESIZE)
        """Two positions: up to where it is written, and up to where it is synced."""

    def __call__(self) -> None:
        batch = codec.encode([VALUE], timestamps=time.time_ns() // 1_000_000)
        flock(self._write, LOCK_EX)
        (at,) = POSITION.unpack_from(self._page, 0)
        end = at + os.pwrite(self._data, batch, at)
        POSITION.pack_into(self._page, 0, end)
        flock(self._write, LOCK_UN)
        flock(self._sync, LOCK_EX)
        if POSITION.unpack_from(self._page, POSITION.size)[0] < end:
            (written,) = POSITION.unpack_from(self._page, 0)
            os.fdatasync(self._data)
            POSITION.pack_into(self._page, POSITION.size, written)
        flock(self._sync, LOCK_UN)


class TransactionsOf:
    """Transactions of one batch."""

    def __init__(self, log: Backend, producer: Producer) -> None:
        self._producer = producer
        self._topic = new_topic(log).topic
        self._values = [VALUE] * TRANSACTION

    def __call__(self) -> None:
        with self._producer.transaction() as transaction:
            transaction.send_many(self._topic, self._values)


class AppendsAndSyncs:
    """Plain durable batches, each followed by two small writes that are synced, too."""

    def __init__(self, log: Backend, path: Path) -> None:
        self._append = Appends(log, TRANSACTION)
        self._small = Writes(path, 1)

    def __call__(self) -> None:
        self._append()
        self._small()
        self._small()


def in_turns(
    ours: Callable[[], None], theirs: Callable[[], None], times: int, seconds: float
) -> tuple[float, float]:
    """How often a second each could be called, by up to so many turns of one call each."""
    mine: list[float] = []
    others: list[float] = []
    until = time.perf_counter() + seconds
    while not mine or (len(mine) < times and time.perf_counter() < until):
        turn = (mine, ours), (others, theirs)
        for took, work in turn if len(mine) % 2 else reversed(turn):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
    other = median(others)
    return 1 / (other + median(map(sub, mine, others))), 1 / other


# Many processes.

APPENDER = """
import sys
from benchmarks.durable import repeat
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
with open_backend(sys.argv[1]) as log:
    tp = TopicPartition(sys.argv[2], int(sys.argv[3]))
    repeat(lambda: log.append(tp, [b"x" * 100], acks="all"), float(sys.argv[4]))
"""

WRITER = """
import sys
from pathlib import Path
from benchmarks.durable import SharedWrites, Writes, repeat
file = Path(sys.argv[1])
repeat(SharedWrites(file) if sys.argv[3] else Writes(file, 1), float(sys.argv[2]))
"""


def repeat(work: Callable[[], object], seconds: float) -> None:
    """In a process: get ready, wait for the word, and say how often a second it could be done."""
    work()
    os.write(1, b"r")
    os.read(0, 1)
    done, began = 0, time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        work()
        done += 1
    os.write(1, struct.pack("=d", done / (now - began)))


def appenders(log: Backend, seconds: float, partitions: Sequence[int]) -> float:
    """Appends per second of as many processes as there are `partitions`, each to its own."""
    topic = new_topic(log, max(partitions) + 1).topic
    return together(
        [sys.executable, "-c", APPENDER, log.url, topic, str(number), str(seconds)]
        for number in partitions
    )


def writers(file: Path, seconds: float, processes: int, *, shared: bool = False) -> float:
    """The same of bare processes that write into a plain file each, or all into a `shared` one."""
    names = ("raw-of-all" if shared else f"raw-of-{number}" for number in range(processes))
    return together(
        [sys.executable, "-c", WRITER, str(file.with_name(name)), str(seconds), "shared" * shared]
        for name in names
    )


def together(commands: Iterable[Sequence[str]]) -> float:
    """What processes do in a second, all at the same time."""
    with ExitStack() as stack:
        started = [stack.enter_context(running(command)) for command in commands]
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"g")
        total = 0.0
        for process in started:
            assert process.stdout is not None
            (rate,) = struct.unpack("=d", process.stdout.read(8))
            total += rate
        return total


def measure(scale: float) -> list[Row]:
    times = max(2, round(APPENDS * scale))
    seconds = max(0.02, PROCESS_SECONDS * min(scale, 1))
    alone, same, own = [0], [0] * PROCESSES, list(range(PROCESSES))
    with scratch() as (log, file), Producer(log, transactional_id="bench") as producer:
        plain = {
            size: in_turns(
                Appends(log, size),
                Writes(file.with_name(f"raw-{size}"), size),
                times,
                PAIR_SECONDS,
            )
            for size in SIZES
        }
        transactions = in_turns(
            TransactionsOf(log, producer),
            AppendsAndSyncs(log, file),
            max(2, round(TRANSACTIONS * scale)),
            TRANSACTIONS_SECONDS,
        )
        got = medians(
            {
                "alone": partial(appenders, log, seconds, alone),
                "same": partial(appenders, log, seconds, same),
                "own": partial(appenders, log, seconds, own),
                "raw alone": partial(writers, file, seconds, 1),
                "raw own": partial(writers, file, seconds, PROCESSES),
                "raw same": partial(writers, file, seconds, PROCESSES, shared=True),
            },
            PROCESS_ROUNDS if scale >= 1 else 1,
        )
    rows = [
        Row(
            path=f"durable append, {size} record{'s' if size > 1 else ''}",
            ours=ours * size,
            beside="codec + file + fdatasync",
            theirs=theirs * size,
            goal=0.8,
        )
        for size, (ours, theirs) in plain.items()
    ]
    for name, where, bare in (
        ("same", "same partition", "one file"),
        ("own", "own partitions", "a file each"),
    ):
        path = f"durable append, {PROCESSES} processes, {where}"
        rows.append(
            Row(path=path, ours=got[name], beside="one process", theirs=got["alone"], goal=3.0)
        )
        rows.append(
            Row(
                path=path,
                ours=got[name],
                beside=f"{PROCESSES} bare processes, {bare}",
                theirs=got[f"raw {name}"],
                note=f"they are {got[f'raw {name}'] / got['raw alone']:.2f} x of one",
            )
        )
    rows.append(
        Row(
            path=f"transaction of {TRANSACTION} records",
            ours=transactions[0] * TRANSACTION,
            beside="plain durable batch + 2 synced writes",
            theirs=transactions[1] * TRANSACTION,
            goal=0.91,
        )
    )
    return rows


if __name__ == "__main__":
    main(measure)

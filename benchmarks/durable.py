"""Appends that are on stable storage when they return: alone, from many processes, in transactions.

The limit is the same codec, `os.pwrite` and one `fdatasync` for each batch. All by the clock, since
waiting for the disk is what it is about. What a disk takes for a sync changes from one moment to
the next by more than what is compared here. So candidates take turns append by append, each going
first as often as the other, and what counts is how long one append takes at the median.

Many processes are compared with one, and beside it as many processes are that append with nothing
but the codec: to files of their own, or to one by turns, where one sync serves all that wait. What
those gain over one of them is all that the disk and the processors have to give.
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from fcntl import LOCK_EX, LOCK_UN, flock
from functools import partial
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


def alternately(candidates: Mapping[str, Callable[[], None]], times: int) -> dict[str, float]:
    """How often a second each could be called, by the median of up to so many calls in turns."""
    took: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    until = time.perf_counter() + PAIR_SECONDS
    for number in range(times):
        if time.perf_counter() > until:
            break
        for name, work in order if number % 2 else reversed(order):
            began = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - began)
    return {name: 1 / median(seconds) for name, seconds in took.items()}


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
    got: dict[str, float] = {}
    with scratch() as (log, file), Producer(log, transactional_id="bench") as producer:
        for size in SIZES:
            raw = Writes(file.with_name(f"raw-{size}"), size)
            pair = alternately({"ours": Appends(log, size), "raw": raw}, times)
            got |= {f"{size} {who}": rate * size for who, rate in pair.items()}
        ends = alternately(
            {
                "transactions": TransactionsOf(log, producer),
                "plain": AppendsAndSyncs(log, file),
            },
            times,
        )
        got |= {name: rate * TRANSACTION for name, rate in ends.items()}
        got |= medians(
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
            ours=got[f"{size} ours"],
            beside="codec + file + fdatasync",
            theirs=got[f"{size} raw"],
            goal=0.8,
        )
        for size in SIZES
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
            ours=got["transactions"],
            beside="plain durable batch + 2 synced writes",
            theirs=got["plain"],
            goal=0.91,
        )
    )
    return rows


if __name__ == "__main__":
    main(measure)

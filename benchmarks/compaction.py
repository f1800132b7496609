"""Compaction of small keyed records, beside reading, checking and writing the same bytes.

In bytes of log, as they are before compression, per second of CPU time. The limit reads the log
twice, as compaction does, takes the checksum of every batch each time, and writes as much as
compaction leaves; it decodes nothing.
"""

import os
import random
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, main, medians
from streamkit.codec import encode, headers
from streamkit.codec.compression import Compression
from streamkit.codec.crc import crc32c
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

RECORDS = 1_000_000
BATCH = 500
KEYS = 300_000
VALUE = b"x" * 80
CHUNK = 1 << 20
ROUNDS = 3
GOAL = 300.0
"""MB/s."""
TP = TopicPartition("t", 0)


def filled(root: Path, records: int, compression: Compression = "none") -> Log:
    log = Log.open(root, fsync="never", maintenance=False)
    log.create_topic("t", 1, {"cleanup.policy": "compact", "segment.bytes": str(16 << 20)})
    partition = log.partition(TP)
    keys = random.Random(1)
    for number in range(max(1, records // BATCH)):
        some = [b"key-%08d" % keys.randrange(KEYS) for _ in range(BATCH)]
        times = [number * BATCH + n for n in range(BATCH)]
        values = [VALUE] * BATCH
        partition.append(
            [encode(values, keys=some, timestamps=times, compression=compression)], acks=1
        )
    partition.trimmer.roll(partition.published())
    return log


def log_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("t-0/*.log"))


def compact(records: int, size: int, compression: Compression = "none") -> float:
    """`size`: the log's bytes before compression."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with filled(root, records, compression) as log:
            partition = log.partition(TP)
            began = time.process_time()
            while (step := partition.trimmer.compact(force=True)) is not None and not step.done:
                pass
            return size / 1e6 / (time.process_time() - began)


def copy(records: int, left: float) -> float:
    """`left`: the part of the bytes that is written."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        filled(root, records).close()
        size = log_bytes(root)
        began = time.process_time()
        fd = os.open(root / "copy", os.O_CREAT | os.O_WRONLY)
        for write in (False, True):
            for path in root.glob("t-0/*.log"):
                for chunk in chunks(path):
                    for at, header in headers(chunk):
                        crc32c(memoryview(chunk)[at + 21 : at + header.size])
                    if write:
                        os.write(fd, memoryview(chunk)[: int(len(chunk) * left)])
        os.close(fd)
        return size / 1e6 / (time.process_time() - began)


def chunks(path: Path) -> list[bytes]:
    """A file in pieces of about a megabyte that end where a batch does."""
    data = path.read_bytes()
    pieces, start = [], 0
    for at, header in headers(data):
        if at + header.size - start >= CHUNK or at + header.size == len(data):
            pieces.append(data[start : at + header.size])
            start = at + header.size
    return pieces


def sizes_of(records: int) -> tuple[int, int]:
    """The log's bytes before and after compaction."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with filled(root, records) as log:
            before = log_bytes(root)
            while (
                step := log.partition(TP).trimmer.compact(force=True)
            ) is not None and not step.done:
                pass
        return before, log_bytes(root)


def measure(scale: float) -> list[Row]:
    records = max(BATCH, int(RECORDS * scale))
    size, rest = sizes_of(records)
    left = rest / size
    figures = medians(
        {
            "compact": lambda: compact(records, size),
            "lz4": lambda: compact(records, size, "lz4"),
            "copy": lambda: copy(records, left),
        },
        ROUNDS,
    )
    note = f"bytes of log per CPU second; {left:.0%} stay"
    return [
        Row(
            path="compact small keyed records",
            ours=figures["compact"],
            beside="goal",
            theirs=GOAL,
            unit="MB/s",
            goal=1.0,
            note=note,
        ),
        Row(
            path="compact small keyed records",
            ours=figures["compact"],
            beside="read, check, write the same bytes",
            theirs=figures["copy"],
            unit="MB/s",
            note=note,
        ),
        Row(
            path="compact small keyed records, lz4",
            ours=figures["lz4"],
            beside="read, check, write the same bytes",
            theirs=figures["copy"],
            unit="MB/s",
            note="bytes before compression",
        ),
    ]


if __name__ == "__main__":
    main(measure)

"""A log of 10 GB: opened in a fresh process, sought in by offset and time, read through, checked.

It is written in batches of 500 records of 100 bytes, with a millisecond between two records, and
read while it is in the page cache as far as that goes. fsck looks at every byte of a tenth of it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.measure import Row, main
from benchmarks.scratch import VALUE
from streamkit import codec
from streamkit.backends.locate import open_backend
from streamkit.codec.crc import crc32c
from streamkit.fsck.check import check
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("t", 0)
BYTES = 10 << 30
BATCH = 500
AT_ONCE = 16
START = 1_700_000_000_000
SEEKS = 300
OPENS = 7
CHUNK = 1 << 20
CHECKED = 10
"""fsck has this fraction of the log to look at."""


def fill(root: Path, size: int) -> None:
    """A log of at least `size` bytes in one partition."""
    values = [VALUE] * BATCH
    with Log.open(root, maintenance=False) as log:
        log.create_topic(TP.topic)
        partition = log.partition(TP)
        at = written = 0
        while written < size:
            batches = []
            for _ in range(AT_ONCE):
                times = list(range(START + at, START + at + BATCH))
                batches.append(codec.encode(values, timestamps=times))
                at += BATCH
            written += sum(map(len, batches))
            partition.append(batches, acks=1)


OPEN = """
import sys, time
import streamkit.backends.embedded, streamkit.backends.offsets_topic, streamkit.log.directory
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
began = time.perf_counter()
backend = open_backend(sys.argv[1], create=False)
assert backend.offsets(TopicPartition("t", 0)).end > 0
print((time.perf_counter() - began) * 1e3)
"""

THROUGH = """
import sys
from benchmarks.large import read_through
read_through(sys.argv[1])
"""


def opened(root: Path) -> float:
    """Milliseconds in a fresh process, until the end is known; without its imports."""
    command = [sys.executable, "-c", OPEN, str(root)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def seeks(root: Path) -> tuple[float, float]:
    """Milliseconds to the first record at a random offset, and at a random time; medians."""
    random = Random(1)
    with open_backend(root) as log:
        end = log.offsets(TP).end

        def by_offset() -> None:
            at = random.randrange(end)
            (batch,) = log.fetch({TP: at}, max_bytes=1)
            assert batch.columns().offsets[0] == at

        def by_time() -> None:
            at = random.randrange(end)
            assert log.offset_at(TP, START + at) == at

        return _median_ms(by_offset), _median_ms(by_time)


def _median_ms(work: Callable[[], object]) -> float:
    took = []
    for _ in range(SEEKS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


def read_through(root: str) -> None:
    """Read and decode all of it; prints the most memory taken by a tenth of it, and by all, MB."""
    with open_backend(root, create=False) as log:
        at, end = 0, log.offsets(TP).end
        first: float | None = None
        while at < end:
            for batch in log.fetch({TP: at}, max_bytes=CHUNK):
                batch.columns()
                at = batch.next_offset
            if first is None and at >= end // 10:
                first = _most_memory()
        print(first, _most_memory())


def _most_memory() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "linux" else most / 1024**2


def checked(root: Path, size: int) -> tuple[float, float]:
    """MB a second of CPU time: fsck, and reading the same and taking its checksum, no more."""
    fill(root, size)
    began = time.process_time()
    report = check(root, now=int(time.time() * 1000))
    ours = report.bytes / 1e6 / (time.process_time() - began)
    if not report.clean:
        raise SystemExit(f"fsck finds fault with the log that was measured: {report.findings}")
    total, began = 0, time.process_time()
    for path in root.glob("t-0/*.log"):
        fd, at = os.open(path, os.O_RDONLY), 0
        while data := os.pread(fd, CHUNK, at):
            crc32c(data)
            at += len(data)
        os.close(fd)
        total += at
    return ours, total / 1e6 / (time.process_time() - began)


def measure(scale: float) -> list[Row]:
    size = max(CHUNK, int(BYTES * scale))
    what = f"{size / (1 << 30):.3g} GB"
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=".") as directory:
        root = Path(directory)
        fsck, limit = checked(root / "small", size // CHECKED)
        fill(root / "log", size)
        opening = median(opened(root / "log") for _ in range(OPENS if scale >= 1 else 1))
        offset, at_time = seeks(root / "log")
        command = [sys.executable, "-c", THROUGH, str(root / "log")]
        said = subprocess.run(command, check=True, capture_output=True).stdout
        first, most = map(float, said.split())
    return [
        Row(
            path=f"open a log of {what}",
            ours=opening,
            beside="limit",
            theirs=50.0,
            unit="ms",
            goal=1.0,
            note="fresh process, its modules loaded; median",
        ),
        Row(
            path=f"seek by offset in {what}",
            ours=offset,
            beside="limit",
            theirs=1.0,
            unit="ms",
            goal=1.0,
            note="to the decoded record; median",
        ),
        Row(
            path=f"seek by time in {what}",
            ours=at_time,
            beside="limit",
            theirs=1.0,
            unit="ms",
            goal=1.0,
            note="to its offset; median",
        ),
        Row(
            path=f"memory for reading {what}",
            ours=most,
            beside="after a tenth of it",
            theirs=first,
            unit="MB",
            goal=0.95,
            note="most there ever was",
        ),
        Row(
            path="fsck",
            ours=fsck,
            beside="read + checksum",
            theirs=limit,
            unit="MB/s",
            note="per CPU second",
        ),
    ]


if __name__ == "__main__":
    main(measure)

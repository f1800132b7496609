"""What the log's tests share: logs in a temporary directory, batches, and files that fail."""

from collections.abc import Callable, Iterator

import pytest
from faulty_files import FaultyFiles

from streamkit.codec import columns, encode, headers
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def log(tmp_path) -> Iterator[Log]:
    """A log with one topic, `events`, of one partition; nothing is fsynced."""
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events")
        yield log


@pytest.fixture
def partition(log: Log) -> Partition:
    return log.partition(TP)


@pytest.fixture
def batch() -> Callable[..., bytes]:
    """`batch(b"a", b"b", at=5)`: an encoded batch of these values, all with timestamp 5."""

    def encoded(*values: bytes, at: int = 0) -> bytes:
        return encode(list(values), timestamps=at)

    return encoded


@pytest.fixture
def everything() -> Callable[..., list[tuple[int, bytes]]]:
    """`everything(partition)`: all (offset, value) there are to read, decoded with checksums."""

    def read(partition: Partition, offset: int | None = None, max_bytes: int = 1 << 20):
        offset = partition.start_offset if offset is None else offset
        found = []
        while data := partition.read(offset, max_bytes):
            some = columns(data, offset)
            found += zip(some.offsets, some.values, strict=True)
            for _, header in headers(data):
                offset = header.next_offset
        return found

    return read

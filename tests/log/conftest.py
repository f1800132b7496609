"""What the log's tests share: logs in a temporary directory, batches, and files that fail."""

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from streamkit.codec import columns, encode, headers
from streamkit.log.directory import Log
from streamkit.log.files import Buffer, RealFiles
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


class FaultyFiles(RealFiles):
    """The real files, until told to fail: `files.fail["fdatasync"] = OSError(...)`.

    An int under "pwritev" instead is how many bytes still fit the disk.
    """

    def __init__(self) -> None:
        self.fail: dict[str, OSError | int] = {}
        self.calls: list[str] = []

    def _may_fail(self, name: str) -> None:
        self.calls.append(name)
        error = self.fail.get(name)
        if isinstance(error, OSError):
            raise error

    def fdatasync(self, fd: object) -> None:  # type: ignore[override]
        self._may_fail("fdatasync")
        os.fdatasync(fd)  # type: ignore[arg-type]

    def fsync_dir(self, path: str) -> None:  # type: ignore[override]
        self._may_fail("fsync_dir")
        RealFiles.fsync_dir(path)

    def pread(self, fd: int, size: int, position: int) -> bytes:  # type: ignore[override]
        self._may_fail("pread")
        return os.pread(fd, size, position)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        self._may_fail("pwritev")
        room = self.fail.get("pwritev")
        if not isinstance(room, int):
            return os.pwritev(fd, buffers, position)
        if room == 0:
            raise OSError(28, "No space left on device")
        written = os.pwrite(fd, b"".join(buffers)[:room], position)
        self.fail["pwritev"] = room - written
        return written


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

"""The finished segments of a partition, read from one end to the other."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

from streamkit.codec import HEADER_BYTES, BatchHeader, read_header
from streamkit.errors import CorruptBatch, CorruptLog, TruncatedBatch
from streamkit.log.control import End
from streamkit.log.files import Files, OpenFile
from streamkit.log.retention import Extent
from streamkit.log.segments import Segments
from streamkit.log.view import existing
from streamkit.records import TopicPartition

READ_BYTES = 1 << 20


class FinishedSegments:
    """For one thread at a time. They may be removed meanwhile: FileNotFoundError, then."""

    def __init__(self, tp: TopicPartition, segments: Segments, *, files: Files) -> None:
        self._tp = tp
        self._segments = segments
        self._files = files
        self.read = 0
        """Bytes of batches that were read; whoever counts them sets it back."""

    def extents(self, end: End) -> list[Extent]:
        """Which there are."""
        bases = existing(self._files, self._segments.directory, end)
        extents: list[Extent] = []
        for base, following in zip(bases, [*bases[1:], end.active_base], strict=True):
            if base < end.active_base:
                with suppress(FileNotFoundError):  # removed meanwhile
                    size, appended = self._files.measure(self._segments.path(base))
                    extents.append(Extent(base, following, size, appended))
        return extents

    def first_time(self, extent: Extent, now: int) -> int:
        """The time of a segment's first batch, as Kafka counts it; `now` when it has none."""
        try:
            head = OpenFile(self._files, self._segments.path(extent.base), os.O_RDONLY).read(
                HEADER_BYTES, 0
            )
            timestamp = read_header(head).max_timestamp
        except (CorruptBatch, FileNotFoundError):
            return now
        return timestamp if timestamp > 0 else now

    def batches(self, extent: Extent) -> Iterator[tuple[BatchHeader, memoryview, int]]:
        """Header, bytes and position of every batch of a segment. Raises CorruptLog."""
        file = OpenFile(self._files, self._segments.path(extent.base), os.O_RDONLY)
        position, wanted = 0, READ_BYTES
        size = file.size()
        while position < size:
            data = memoryview(file.read(wanted, position))
            at, wanted = 0, READ_BYTES
            try:
                while at < len(data):
                    left = len(data) - at
                    last = position + len(data) >= size
                    if left < HEADER_BYTES and not last:
                        break
                    header = read_header(data, at)
                    if header.size > left:
                        if not last:
                            wanted = max(READ_BYTES, header.size)
                            break
                        raise TruncatedBatch(f"{header.size} bytes, {left} are there", at)
                    yield header, data[at : at + header.size], position + at
                    at += header.size
            except CorruptBatch as error:
                self.raise_corrupt(extent, position + at, error)
            self.read += at
            position += at

    def raise_corrupt(self, extent: Extent, position: int, error: CorruptBatch) -> NoReturn:
        raise CorruptLog(
            f"{self._tp}: {self._segments.path(extent.base)} is corrupt at byte {position}:"
            f" {error}. The partition is not compacted; restore the file from a backup"
        ) from error

"""What has been fetched and not processed yet, and which of it comes first."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from streamkit.records import Columns, TopicPartition

Reader: TypeAlias = Callable[[Columns, int, int], None]
"""Processes the records `start` to `stop` of some columns."""

Head = tuple[int, str, int]
"""Timestamp, topic, partition: offsets need no comparing, they only ever meet their own."""


class Input:
    """One partition that a task reads.

    `at` is the offset of the record at hand where the task's cursor is at another one.
    """

    at: int | None = None

    __slots__ = (
        "_chunks",
        "_next",
        "at_end",
        "length",
        "name",
        "partition",
        "position",
        "read",
    )

    def __init__(self, partition: TopicPartition, read: Reader) -> None:
        self.partition = partition
        self.name = str(partition)
        self.read = read
        self.position = 0
        """The offset after the last record that was fully processed."""
        self.at_end = False
        """Nothing buffered, and nothing to fetch when the shell last looked."""
        self.length = 0
        """Records buffered."""
        self._chunks: deque[Columns] = deque()
        self._next = 0

    def add(self, columns: Columns) -> None:
        if len(columns):
            self._chunks.append(columns)
            self.length += len(columns)
            self.at_end = False

    def skip(self, columns: Columns) -> None:
        """These were taken in by another way."""
        if len(columns):
            self.position = max(self.position, columns.offsets[-1] + 1)

    @property
    def head(self) -> Head:
        topic, number = self.partition
        return (self._chunks[0].timestamps[self._next], topic, number)

    @property
    def head_offset(self) -> int:
        return self._chunks[0].offsets[self._next]

    def has_reached(self, offset: int) -> bool:
        """Whether nothing before the offset is still to be processed."""
        if self.length:
            return self.head_offset >= offset
        return self.at_end or self.position >= offset

    def chunk(
        self, before: Head | None, limit: int, until: int | None = None
    ) -> tuple[Columns, int, int]:
        """The next records of one chunk: at most `limit`, only those that come `before`, and only
        those whose offsets are below `until`."""
        columns, start = self._chunks[0], self._next
        stop = min(len(columns), start + limit)
        if until is not None:
            stop = bisect_left(columns.offsets, until, start, stop)
        if before is not None:
            topic, number = self.partition
            timestamps = columns.timestamps
            end = start + 1
            while end < stop and (timestamps[end], topic, number) < before:
                end += 1
            stop = end
        return columns, start, stop

    def done(self, stop: int) -> None:
        """The first chunk is processed up to `stop`."""
        columns = self._chunks[0]
        self.position = columns.offsets[stop - 1] + 1
        self.length -= stop - self._next
        self._next = stop
        if stop == len(columns):
            self._chunks.popleft()
            self._next = 0

"""What has been fetched and not processed yet, and which of it comes first."""

from collections import deque
from collections.abc import Iterable

from streamkit.engine.readers import Reader
from streamkit.records import Columns, TopicPartition

Head = tuple[int, str, int]
"""Timestamp, topic, partition: offsets need no comparing, they only ever meet their own."""


class Input:
    """One partition that a task reads."""

    __slots__ = ("_chunks", "_next", "at_end", "length", "partition", "position", "prefix", "read")

    def __init__(self, partition: TopicPartition, read: Reader) -> None:
        self.partition = partition
        self.read = read
        self.prefix = b""
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

    @property
    def head(self) -> Head:
        topic, number = self.partition
        return (self._chunks[0].timestamps[self._next], topic, number)

    def chunk(self, before: Head | None, limit: int) -> tuple[Columns, int, int]:
        """The next records of one chunk: at most `limit`, and only those that come `before`."""
        columns, start = self._chunks[0], self._next
        stop = min(len(columns), start + limit)
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


def first_of(inputs: Iterable[Input]) -> tuple[Input, Head | None] | None:
    """The input whose head comes first, and the head of the next one.

    None when there is nothing to do, or when an input has nothing buffered and may have more in
    the log: its next record might come first, and the order would depend on what was fetched.
    """
    heads: list[tuple[Head, Input]] = []
    for one in inputs:
        if one.length:
            heads.append((one.head, one))
        elif not one.at_end:
            return None
    if not heads:
        return None
    heads.sort(key=lambda pair: pair[0])
    return heads[0][1], heads[1][0] if len(heads) > 1 else None

"""Where to begin reading."""

from datetime import datetime
from typing import Literal, TypeAlias

from streamkit.backends.base import Backend
from streamkit.backends.values import Isolation
from streamkit.errors import UsageError
from streamkit.records import TopicPartition

Start: TypeAlias = Literal["earliest", "latest"] | int | datetime
"""At the first record, after the last, or at the first with that timestamp (ms) or a later one."""

Point: TypeAlias = Literal["earliest", "latest"] | int
"""The same, with a time in ms only."""


def checked_start(start: Start) -> Point:
    """With a datetime as ms since 1970 UTC. Raises UsageError for anything that is not a start."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise UsageError(f"{start!r} names no time zone; write datetime(…, tzinfo=UTC)")
        return int(start.timestamp() * 1000)
    if start not in ("earliest", "latest") and not isinstance(start, int):
        raise UsageError(f"{start!r}: it is 'earliest', 'latest', a time in ms, or a datetime")
    return start


def place(
    backend: Backend,
    partition: TopicPartition,
    start: Point,
    isolation: Isolation = "read_committed",
) -> int:
    """The offset of a start. A time after all records is the partition's end."""
    if start == "earliest":
        return backend.offsets(partition).start
    committed = isolation == "read_committed"
    end = backend.end(partition) if committed else backend.offsets(partition).log_end
    if start == "latest":
        return end
    found = backend.offset_at(partition, start, isolation=isolation)
    return end if found is None else found

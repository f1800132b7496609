"""The values that move through streamkit: records, where they stand, and columns of them."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

V = TypeVar("V")

Header: TypeAlias = tuple[str, bytes | None]
Headers: TypeAlias = tuple[Header, ...]

NO_TIMESTAMP = -1
"""The timestamp of a record that has none, as in Kafka."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Record(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """One event, and where in the log it stands.

    `timestamp` is in milliseconds since 1970-01-01 UTC (-1: none). `key` and `value` are raw
    bytes or None when read with a plain consumer; in an app they are what the stream's types say.
    A `value` of None is a tombstone in a table and data in a stream.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: V
    headers: Headers = ()

    @property
    def coordinates(self) -> str:
        """Where the record stands, as messages print it: `topic-partition@offset`."""
        return f"{self.topic}-{self.partition}@{self.offset}"


class Columns(msgspec.Struct, frozen=True):
    """The records of one or more batches of one partition, column by column.

    All sequences have the same length. `offsets` increase strictly; holes are normal (compaction
    and control batches leave them). `headers` is None when no record has any.
    """

    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

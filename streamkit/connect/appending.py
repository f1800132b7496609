"""Appending as many records as there are, in batches that the topic takes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from streamkit.backends.base import Backend
from streamkit.backends.values import Acks
from streamkit.errors import RecordTooLarge
from streamkit.records import Headers, TopicPartition

BATCH_BYTES = 512 << 10  # half of Kafka's default max.message.bytes

Append: TypeAlias = "Callable[[TopicPartition, Rows], object]"
"""Appends rows as one batch, or none of them. Raises RecordTooLarge."""
Refused: TypeAlias = Callable[[int, RecordTooLarge], None]
"""What to do with the row of this index, which the topic does not take; it may raise."""


@dataclass(slots=True)
class Rows:
    """Records for one partition, in columns."""

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)

    def add(self, key: bytes | None, value: bytes | None, stamp: int, headers: Headers) -> None:
        self.keys.append(key)
        self.values.append(value)
        self.stamps.append(stamp)
        self.headers.append(headers)

    def part(self, start: int, end: int) -> "Rows":
        """The rows from `start` up to `end`."""
        part = slice(start, end)
        return Rows(self.keys[part], self.values[part], self.stamps[part], self.headers[part])


def at_once(backend: Backend, acks: Acks) -> Append:
    """Appends that can be read as soon as they are made."""

    def append(target: TopicPartition, rows: Rows) -> int:
        return backend.append(
            target,
            rows.values,
            keys=rows.keys,
            timestamps=rows.stamps,
            headers=rows.headers if any(rows.headers) else None,
            acks=acks,
        )

    return append


def append_all(append: Append, target: TopicPartition, rows: Rows, refused: Refused) -> None:
    """Append in batches of about BATCH_BYTES; smaller when the topic takes only smaller.

    A record that it does not take even alone goes to `refused`, in its turn.
    """
    for start, end in _parts(rows):
        _append(append, target, rows, start, end, refused)


def _append(
    append: Append, target: TopicPartition, rows: Rows, start: int, end: int, refused: Refused
) -> None:
    try:
        append(target, rows.part(start, end))
    except RecordTooLarge as error:
        if end - start == 1:
            refused(start, error)
            return
        middle = (start + end) // 2
        _append(append, target, rows, start, middle, refused)
        _append(append, target, rows, middle, end, refused)


def stop_at(index: int, error: RecordTooLarge) -> None:
    """Take no refusal."""
    raise error


def _parts(rows: Rows) -> list[tuple[int, int]]:
    """Consecutive ranges of at least one record and, past that, at most BATCH_BYTES."""
    parts: list[tuple[int, int]] = []
    start = size = 0
    for index, (key, value) in enumerate(zip(rows.keys, rows.values, strict=True)):
        size += len(key or b"") + len(value or b"") + 16
        if size > BATCH_BYTES and index > start:
            parts.append((start, index))
            start, size = index, len(key or b"") + len(value or b"") + 16
    parts.append((start, len(rows.values)))
    return parts

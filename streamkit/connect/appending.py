"""Appending as many records as there are, in batches that the topic takes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from streamkit.backends.base import Backend
from streamkit.backends.values import Acks
from streamkit.errors import RecordTooLarge
from streamkit.records import Headers, TopicPartition

BATCH_BYTES = 512 << 10  # half of Kafka's default max.message.bytes

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


def append_all(
    backend: Backend, target: TopicPartition, rows: Rows, acks: Acks, refused: Refused
) -> None:
    """Append in batches of about BATCH_BYTES; smaller when the topic takes only smaller.

    A record that it does not take even alone goes to `refused`, in its turn.
    """
    for start, end in _parts(rows):
        _append(backend, target, rows, start, end, acks, refused)


def _append(
    backend: Backend,
    target: TopicPartition,
    rows: Rows,
    start: int,
    end: int,
    acks: Acks,
    refused: Refused,
) -> None:
    headers = rows.headers[start:end]
    try:
        backend.append(
            target,
            rows.values[start:end],
            keys=rows.keys[start:end],
            timestamps=rows.stamps[start:end],
            headers=headers if any(headers) else None,
            acks=acks,
        )
    except RecordTooLarge as error:
        if end - start == 1:
            refused(start, error)
            return
        middle = (start + end) // 2
        _append(backend, target, rows, start, middle, acks, refused)
        _append(backend, target, rows, middle, end, acks, refused)


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

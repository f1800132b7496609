"""How far a group is behind: in records, and in time."""

from dataclasses import dataclass

from streamkit.backends.base import Backend
from streamkit.backends.values import CommittedOffset
from streamkit.errors import CorruptLog, OffsetOutOfRange
from streamkit.records import TopicPartition

_READ_BYTES = 1
"""A fetch gives at least one whole batch, and its first record is all that is asked for."""


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Where a group stands in one partition, and what it has not read yet.

    `lag`: how many offsets there are up to `end`. `behind`: how old the oldest unread record is,
    by its timestamp, in seconds; 0.0 when there is none, None when that record cannot be read or
    has no timestamp.
    """

    committed: CommittedOffset
    end: int
    lag: int
    behind: float | None


def position_of(
    backend: Backend, partition: TopicPartition, committed: CommittedOffset, now: int
) -> GroupPosition:
    """Where a group stands in a partition that exists; `now` in ms."""
    there = backend.offsets(partition)
    return GroupPosition(
        committed,
        there.end,
        max(0, there.end - committed.offset),
        _behind(backend, partition, range(max(committed.offset, there.start), there.end), now),
    )


def _behind(backend: Backend, partition: TopicPartition, unread: range, now: int) -> float | None:
    at = unread.start
    try:
        while at in unread:
            batches = backend.fetch({partition: at}, max_bytes=_READ_BYTES)
            if not batches:
                break
            # Batches may hold nothing to see, as those of transactions' markers and aborted ones.
            if timestamps := batches[0].columns().timestamps:
                return max(0, now - timestamps[0]) / 1000 if timestamps[0] >= 0 else None
            at = batches[0].next_offset
    except (CorruptLog, OffsetOutOfRange):  # damaged, or removed by retention at this moment
        return None
    return 0.0

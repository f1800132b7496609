"""How far a group is behind: in records, and in time."""

from dataclasses import dataclass

from streamkit.backends.base import Backend
from streamkit.backends.values import CommittedOffset
from streamkit.errors import CorruptLog, OffsetOutOfRange
from streamkit.records import TopicPartition

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Where a group stands in one partition, and what it has not read yet.

    `lag`: how many offsets there are from the first unread record to `end`; 0 when no record is
    unread, whatever else stands there (transactions' markers, what was aborted). `behind`: how old
    the oldest unread record is, by its timestamp, in seconds; 0.0 when there is none, None when
    that record cannot be read or has no timestamp.
    """

    committed: CommittedOffset
    end: int
    lag: int
    behind: float | None


def position_of(
    backend: Backend, partition: TopicPartition, committed: CommittedOffset, now: int
) -> GroupPosition:
    """Where a group stands in a partition that exists; `now` in ms."""
    end = backend.end(partition)
    unread = range(max(committed.offset, backend.offsets(partition).start), end)
    try:
        first = _first_record(backend, partition, unread)
    except (CorruptLog, OffsetOutOfRange):  # damaged, or removed by retention at this moment
        return GroupPosition(committed, end, len(unread), None)
    if first is None:
        return GroupPosition(committed, end, 0, 0.0)
    offset, timestamp = first
    behind = max(0, now - timestamp) / 1000 if timestamp >= 0 else None
    return GroupPosition(committed, end, max(0, end - offset), behind)


def _first_record(
    backend: Backend, partition: TopicPartition, unread: range
) -> tuple[int, int] | None:
    """Offset and timestamp (ms) of the first record that a reader gets; None: it gets none."""
    at, wanted = unread.start, 1  # a fetch gives at least one whole batch
    while at in unread:
        batches = backend.fetch({partition: at}, max_bytes=wanted)
        if not batches:
            break
        # Batches may hold nothing to see, as those of transactions' markers and aborted ones.
        columns = batches[0].columns()
        if columns.offsets:
            return columns.offsets[0], columns.timestamps[0]
        at, wanted = batches[0].next_offset, min(2 * wanted + 4096, _MOST_BYTES)
    return None

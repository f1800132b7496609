"""Which segments are too old or too many: a prefix of a partition's, never one in the middle.

Values in, values out; who removes files is `maintenance`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal, TypeAlias

from streamkit.log.config import TopicConfig
from streamkit.records import TopicPartition

AHEAD = 60_000
"""So far (ms) a time that was noted may be ahead of the clock: clocks are set back by that much."""

Why: TypeAlias = Literal["start", "retention.bytes", "retention.ms", "max.disk.bytes"]


@dataclass(frozen=True, slots=True)
class Extent:
    """One segment: what retention asks about it."""

    base: int
    end: int
    """The offset after its last."""

    size: int
    """Bytes of its `.log`."""

    appended: int
    """Wall-clock ms of its last append: its age counts from there."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Everything before `before` goes: `segments` segments of `size` bytes, because of `why`."""

    before: int
    segments: int
    size: int
    why: Why


def expired(
    extents: Sequence[Extent], config: TopicConfig, *, start: int, stable: int, now: int
) -> Removal | None:
    """What of a partition's segments has to go now; None: nothing.

    `extents` ascending, the active one last; `start` and `stable`: the partition's start and
    stable offsets. Kafka's order: what lies below the start, then by size, then by time; and
    nothing of a transaction that is still open.
    """
    below = 0
    while below < len(extents) - 1 and extents[below].end <= start:
        below += 1
    by_size = by_time = below
    if config.deletes:
        free = sum(extent.size for extent in extents[below:]) - config.retention_bytes
        while (
            config.retention_bytes >= 0
            and _whole(extents, by_size, stable)
            and free >= extents[by_size].size
        ):
            free -= extents[by_size].size
            by_size += 1
        while (
            config.retention_ms >= 0
            and _whole(extents, by_time, stable)
            and now - extents[by_time].appended > config.retention_ms
        ):
            by_time += 1
    count = max(by_size, by_time)
    if count == 0:
        return None
    gone = extents[:count]
    why: Why = "start"
    if count > below:
        why = "retention.ms" if by_time >= by_size else "retention.bytes"
    return Removal(gone[-1].end, count, sum(extent.size for extent in gone), why)


def _whole(extents: Sequence[Extent], number: int, stable: int) -> bool:
    """Whether the segment is there and may go: no empty active one, none of an open transaction."""
    if number >= len(extents) or extents[number].end > stable:
        return False
    return number < len(extents) - 1 or extents[number].size > 0


def next_expiry(extents: Sequence[Extent], config: TopicConfig) -> int | None:
    """When (wall-clock ms) time takes the next segment, should nothing else happen."""
    if not config.deletes or config.retention_ms < 0 or not extents:
        return None
    if len(extents) == 1 and extents[0].size == 0:
        return None
    return extents[0].appended + config.retention_ms + 1


def over(
    total: int, limit: int, finished: Mapping[TopicPartition, Sequence[Extent]]
) -> dict[TopicPartition, int]:
    """Before which offsets records go so that `total` bytes become `limit`: the oldest of all.

    `finished`: what may go, ascending. A partition's segments go in their order, whatever their
    times say. As few as it takes; all of them when they do not suffice.
    """
    heap = [(extents[0].appended, tp, 0) for tp, extents in finished.items() if extents]
    heapify(heap)
    before: dict[TopicPartition, int] = {}
    while total > limit and heap:
        _, tp, number = heappop(heap)
        extents = finished[tp]
        total -= extents[number].size
        before[tp] = extents[number].end
        if number + 1 < len(extents):
            heappush(heap, (extents[number + 1].appended, tp, number + 1))
    return before

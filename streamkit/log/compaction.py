"""What compaction keeps of a partition: values in, values out; `cleaning` reads and writes files.

A partition is clean up to an offset, dirty behind it, and not to be cleaned yet near its end:

    start            first dirty              first uncleanable      end
      │     clean       │        dirty               │                 │
      └─────────────────┴────────────────────────────┴─────────────────┘

A round notes the last offset of every key in the dirty part, as far as memory reaches, and then
writes all segments from the start up to there anew without the records that have a later one.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from streamkit.codec import BatchHeader
from streamkit.log.config import TopicConfig
from streamkit.log.retention import Extent
from streamkit.transactions.markers import Marker
from streamkit.transactions.producer import Producer
from streamkit.transactions.txnindex import Aborted

MAX_RELATIVE_OFFSET = 2**31 - 1

LastBatches: TypeAlias = Mapping[int, tuple[int | None, int]]
"""Of each producer the offset its last batch of data ends at (None: it has none), and its epoch."""


@dataclass(frozen=True, slots=True)
class Dirt:
    """How much there is to compact. Sizes in bytes of `.log` files."""

    first_dirty: int
    uncleanable: int
    clean_bytes: int
    dirty_bytes: int
    overdue: bool
    """Some record has waited for longer than max.compaction.lag.ms."""

    def due(self, config: TopicConfig) -> bool:
        """Whether it is worth a round, or time for one."""
        if self.dirty_bytes == 0:
            return False
        ratio = self.dirty_bytes / (self.clean_bytes + self.dirty_bytes)
        return self.overdue or ratio > config.min_cleanable_dirty_ratio


def measured(
    finished: Sequence[Extent],
    first_dirty: int,
    config: TopicConfig,
    *,
    active_base: int,
    stable_offset: int,
    oldest_dirty: int,
    now: int,
) -> Dirt:
    """What a partition's finished segments, ascending, come to.

    `first_dirty` is where the last round has ended; `oldest_dirty` the time of the first record
    from there on, in ms. Records of open transactions are not to be cleaned, nor segments that
    were appended to within min.compaction.lag.ms.
    """
    start = finished[0].base if finished else active_base
    if not start <= first_dirty <= active_base:
        first_dirty = start  # the log was cut, or its beginning removed
    uncleanable = min(active_base, stable_offset)
    if config.min_compaction_lag_ms > 0:
        young = (
            extent.base
            for extent in finished
            if extent.end > first_dirty and extent.appended > now - config.min_compaction_lag_ms
        )
        uncleanable = min(uncleanable, next(young, uncleanable))
    uncleanable = max(uncleanable, first_dirty)
    clean = sum(extent.size for extent in finished if extent.end <= first_dirty)
    dirty = sum(
        extent.size for extent in finished if extent.end > first_dirty and extent.base < uncleanable
    )
    overdue = dirty > 0 and now - oldest_dirty > config.max_compaction_lag_ms
    return Dirt(first_dirty, uncleanable, clean, dirty, overdue)


def grouped(extents: Sequence[Extent], max_bytes: int) -> list[list[Extent]]:
    """Which neighbouring segments become one: those that make no more than `max_bytes` as they are.

    A segment's indexes hold offsets relative to its base, of 31 bits.
    """
    groups: list[list[Extent]] = []
    size = 0
    for extent in extents:
        if (
            groups
            and size + extent.size <= max_bytes
            and extent.end - 1 - groups[-1][0].base <= MAX_RELATIVE_OFFSET
        ):
            groups[-1].append(extent)
            size += extent.size
        else:
            groups.append([extent])
            size = extent.size
    return groups


class Transactions:
    """Which batches were aborted, and which markers still end something, as the log is walked.

    Walk in the order of offsets, from the partition's first batch or from where no transaction is
    under way. Below the last stable offset only: there every transaction is decided.
    """

    __slots__ = ("_aborted", "_committed", "_ends", "_seen")

    def __init__(self, aborted: Iterable[Aborted]) -> None:
        """`aborted` by their markers' offsets, as the indexes have them."""
        self._aborted: dict[int, list[Aborted]] = {}
        for entry in aborted:
            self._aborted.setdefault(entry.producer_id, []).append(entry)
        self._ends = {
            producer_id: [entry.last_offset for entry in entries]
            for producer_id, entries in self._aborted.items()
        }
        self._seen: set[int] = set()
        self._committed: set[int] = set()

    def is_aborted(self, header: BatchHeader) -> bool:
        """Take in a batch of data; whether its transaction was aborted."""
        if not header.transactional:
            return False
        entry = self._of(header)
        if entry is None:
            self._committed.add(header.producer_id)
            return False
        self._seen.add(entry.last_offset)
        return True

    def ends_nothing(self, header: BatchHeader, marker: Marker | None) -> bool:
        """Take in a control batch; whether its transaction has no batch left in the log.

        `marker` is what `read_marker` finds in it. Control batches of other kinds always stay.
        """
        if marker is None:
            return header.count == 0
        if not marker.commit:
            return header.base_offset not in self._seen
        if header.producer_id in self._committed:
            self._committed.remove(header.producer_id)
            return False
        return True

    def is_needed(self, entry: Aborted) -> bool:
        """Whether a batch of an aborted transaction was walked over."""
        return entry.last_offset in self._seen

    def _of(self, header: BatchHeader) -> Aborted | None:
        ends = self._ends.get(header.producer_id)
        if ends is None:
            return None
        at = bisect_right(ends, header.base_offset)
        if at == len(ends):
            return None
        entry = self._aborted[header.producer_id][at]
        return entry if entry.first_offset <= header.base_offset else None


def last_batches(producers: Iterable[Producer]) -> LastBatches:
    """What must stay of each producer, were it only its header: see `is_last`."""
    return {
        one.producer_id: (one.batches[-1].last_offset if one.batches else None, one.epoch)
        for one in producers
    }


def is_last(header: BatchHeader, last: LastBatches) -> bool:
    """Whether the log would forget a producer's sequence, or its epoch, with this batch.

    That is its last batch of data; with none, the markers of its epoch.
    """
    found = last.get(header.producer_id) if header.producer_id >= 0 else None
    if found is None:
        return False
    offset, epoch = found
    if offset is None:
        return header.control and header.producer_epoch == epoch
    return header.last_offset == offset


def keeps_tombstones(header: BatchHeader, now: int) -> bool:
    """Whether records without a value stay: until the batch's delete horizon, once it has one."""
    return not header.has_delete_horizon or now < header.base_timestamp

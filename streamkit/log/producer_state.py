"""What this process knows of a partition's producers: loaded when it is asked for, then kept up."""

import logging

import msgspec

from streamkit.clock import Clock
from streamkit.log.control import End
from streamkit.log.following import Followed, follow, follow_from
from streamkit.log.segments import Segments
from streamkit.log.snapshots import Snapshots
from streamkit.records import TopicPartition
from streamkit.transactions.producers import Draft, Producers

logger = logging.getLogger(__name__)

EXPIRATION = 24 * 3600 * 1000
"""Kafka's default of `producer.id.expiration.ms`."""

CHECK_SECONDS = 600.0
"""How often to look for producers to forget, besides at every roll."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Up to where the log was followed: a byte in a segment, as long as nobody rewrites it."""

    base: int
    position: int
    offset: int
    rewrites: int


def _end_of(end: End) -> Place:
    return Place(end.active_base, end.end_position, end.end_offset, end.rewrites)


class ProducerState:
    """Used under the append lock only, but for `forget`.

    Batches without a producer id need none of it: as long as nobody appends others through this
    process, nothing is loaded. What other processes append is followed when it is needed next, and
    only if there are batches with a producer id among it.
    """

    def __init__(
        self, tp: TopicPartition, segments: Segments, snapshots: Snapshots, *, clock: Clock
    ) -> None:
        self._tp = tp
        self._segments = segments
        self._snapshots = snapshots
        self._clock = clock
        self._producers: Producers | None = None
        self.place = Place(-1, 0, -1, 0)
        self._alive: dict[int, float] = {}
        """When producers have appended through this process, by the monotonic clock."""
        self._checked = 0.0

    def forget(self) -> None:
        """Load it anew when it is needed next: the files may be others."""
        self._producers = None

    def at(self, end: End) -> Producers:
        """The producers as of the published end."""
        found = self._producers  # looked at once: another thread may call `forget`
        if found is not None and self.place == _end_of(end):
            return found  # nothing has happened since
        # Taken out while it is changed: an interrupt in the middle leaves nothing half done.
        self._producers = None
        if found is None or found.end_offset > end.end_offset:
            found = self._loaded(end)
        elif end.producers_end > found.end_offset:
            if self._segments.bases(end)[0] > found.end_offset:
                # What others appended next was removed since, and perhaps a marker or the last
                # batch of a producer with it: only the snapshot behind it knows of those.
                found = self._loaded(end)
            else:
                self._catch_up(found, end)
        self._keep(found, end)
        return found

    def draft(self) -> Draft | None:
        """A draft as of `place`, for who looks whether the log still ends there: `at` is slower.

        None: the producers are not known, or it is time to forget some.
        """
        found = self._producers
        if found is None or self._clock.monotonic() - self._checked >= CHECK_SECONDS:
            return None
        return found.draft()

    def adopt(self, draft: Draft, end: End) -> None:
        """Take in what was appended and published with it."""
        found = self._adopted(draft)
        if found is None:
            return
        if self._clock.monotonic() - self._checked >= CHECK_SECONDS:
            self._expire(found, end)
        self._keep(found, end)

    def adopt_at(self, draft: Draft, place: Place) -> None:
        """The same for what `draft` has given: the log ends at `place` now."""
        found = self._adopted(draft)
        if found is not None:
            self.place = place
            self._producers = found

    def _adopted(self, draft: Draft) -> Producers | None:
        """None: another thread has closed the partition meanwhile, and `forget` was called."""
        found, self._producers = self._producers, None
        if found is not None:
            found.adopt(draft)
        now = self._clock.monotonic()
        for producer_id in draft.changed:
            self._alive[producer_id] = now
        return found

    def snapshot(self, end: End) -> None:
        """Write down the producers, for whoever loads them: at the beginning of a segment.

        Without the file the walk is longer; nothing else depends on it.
        """
        try:
            if end.producers_end < 0:
                self._snapshots.write(end.end_offset, ())
                return
            producers = self.at(end)
            self._expire(producers, end)
            self._snapshots.write(end.end_offset, producers)
        except OSError as error:
            logger.warning(
                "%s@%d: no snapshot of the producers is kept: %s", self._tp, end.end_offset, error
            )

    def _keep(self, producers: Producers, end: End) -> None:
        producers.advance(end.end_offset)
        self.place = _end_of(end)
        self._producers = producers

    def _loaded(self, end: End) -> Producers:
        if end.producers_end < 0:
            return Producers(str(self._tp), (), end.end_offset)
        bases = self._segments.bases(end)
        # From one segment earlier than need be: a snapshot has only the last batch of a producer,
        # and the ones before it are to be recognized, too, when they come again after a roll.
        earlier = bases[-2] if len(bases) > 1 else bases[-1]
        known = earlier == 0 or earlier in self._snapshots.offsets()
        reach = earlier if known else end.end_offset
        found = load(
            self._tp, self._segments, self._snapshots, end, reach=reach, settled=end.stable_offset
        ).producers
        for producer_id in found.settle(end.stable_offset):
            logger.error(
                "%s: the marker that ended a transaction of producer %d was not found: the log is"
                " damaged before offset %d",
                self._tp,
                producer_id,
                end.end_offset,
            )
        self._expire(found, end)
        return found

    def _catch_up(self, producers: Producers, end: End) -> None:
        """Follow what others have appended since."""
        # Compaction may have taken the markers by now of what was open the last time.
        producers.settle(end.stable_offset)
        place = self.place
        bases = self._segments.bases(end)
        same = place.rewrites == end.rewrites and place.base in bases
        base = place.base if same else self._segments.view(end).base_for(producers.end_offset, end)
        for following in bases[bases.index(base) :]:
            position = place.position if same and following == place.base else 0
            active = following == end.active_base
            size = end.end_position if active else self._segments.size(following)
            follow(self._segments, producers, following, position, size)

    def _expire(self, producers: Producers, end: End) -> None:
        """Forget those that have long been silent.

        A batch is as old as its records, as in Kafka. But whoever imports old records is not
        silent: not in this process, whatever the wall clock is set to, and not as long as its last
        batch stands in a young segment.
        """
        self._checked = here = self._clock.monotonic()
        self._alive = dict(
            one for one in self._alive.items() if (here - one[1]) * 1000 < EXPIRATION
        )
        keep = set(self._alive)
        now = self._clock.now()
        if now - end.segment_created < EXPIRATION:
            keep |= {
                one.producer_id
                for one in producers
                if one.batches and one.batches[-1].last_offset >= end.active_base
            }
        producers.expire(now, EXPIRATION, keep)


def load(
    tp: TopicPartition,
    segments: Segments,
    snapshots: Snapshots,
    end: End,
    *,
    reach: int,
    last: int | None = None,
    settled: int = 0,
) -> Followed:
    """Follow the log from the newest snapshot at or below `reach` to the published end.

    `last` is the segment to end with, when not with the active one; `settled` as in `follow_from`.
    """
    bases = [base for base in segments.bases(end) if last is None or base <= last]

    def size_of(base: int) -> int:
        return end.end_position if base == end.active_base else segments.size(base)

    return follow_from(
        snapshots, segments, bases, size_of, name=str(tp), reach=reach, settled=settled
    )

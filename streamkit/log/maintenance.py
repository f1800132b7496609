"""What is done about a log from time to time: segments end by age, old ones go, others' duties.

One process at a time does it: who holds the lock on the shared page (see `space`). A pass is
bounded, and looks at a partition the more rarely the longer nothing has changed there.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise
from math import inf

from streamkit.clock import Clock
from streamkit.errors import ConfigError, StreamkitError, UnknownTopic
from streamkit.log.boot import boot_id
from streamkit.log.cleaning import Compacted
from streamkit.log.config import HOUR, OWN_TOPICS, TopicConfig
from streamkit.log.control import END, PAGE_BYTES, SYNCED, End, Synced
from streamkit.log.files import Files, OpenFile
from streamkit.log.metadata import Topic
from streamkit.log.opening import CONTROL
from streamkit.log.partition import Partition
from streamkit.log.partitions import config_of
from streamkit.log.retention import AHEAD, Extent, Removal, expired, next_expiry, over
from streamkit.log.rounds import Rounds
from streamkit.log.segment import LOG, file_name
from streamkit.log.view import listed
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)

STEP_SECONDS = 0.02
"""How long one pass goes on looking at partitions; the rest is for the next."""

SOON = 1.0
"""Seconds until a partition is looked at again in which something has changed."""

JUMP = 3_600_000
DOUBT_SECONDS = 600.0
"""When the clock goes forward by an hour (in ms) more than time does, nothing is removed because of
its age for ten minutes: who has set it wrong can set it right. A sleeping machine wakes up so, too.
"""

RARELY = 5.0
LOOKS_PER_SECOND = 30
"""What is idle is looked at every five seconds, and all of many no more often than this."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What a pass has done."""

    removed: tuple[tuple[TopicPartition, Removal], ...] = ()
    rolled: tuple[TopicPartition, ...] = ()
    compacted: tuple[tuple[TopicPartition, Compacted], ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be done, and why."""


@dataclass(slots=True)
class _Seen:
    """A partition when it was last looked at."""

    config: TopicConfig
    key: tuple[int, ...] = ()
    finished: list[Extent] = field(default_factory=list)
    beside: int = 0
    """Bytes of all its files but the active segment's log."""

    ahead: dict[int, float] = field(default_factory=dict)
    """By base, since when (monotonic) segments are known whose files were written in the future."""

    clean_to: int = 0
    """The offset up to which it was compacted."""

    end: End | None = None
    interval: float = SOON
    due: float = 0.0

    @property
    def size(self) -> int:
        return self.beside + (self.end.end_position if self.end is not None else 0)


class Maintenance:
    """The state of one who does it. Used by one thread at a time, with the page's lock."""

    def __init__(
        self,
        root: str,
        *,
        files: Files,
        clock: Clock,
        topics: Callable[[], Mapping[str, Topic]],
        borrow: Callable[[TopicPartition], AbstractContextManager[Partition]],
        limit: Callable[[], int],
        full: Callable[[], bool],
    ) -> None:
        """`borrow` gives a partition for a while; whoever else uses it is not disturbed.

        `limit` is max.disk.bytes; `full`: producers are refused because the disk is full.
        """
        self._root = root
        self._files = files
        self._clock = clock
        self._current = topics
        self._borrow = borrow
        self._limit = limit
        self._full = full
        self._rounds = Rounds(borrow, clock=clock)
        self.forked()

    def forked(self) -> None:
        """In a forked child: the parent may have been in the middle of something."""
        self._rounds.forked()
        self._topics: Mapping[str, Topic] = {}
        self._seen: dict[TopicPartition, _Seen] = {}
        self._heap: list[tuple[float, TopicPartition]] = []
        self._said: set[str] = set()
        self._shift: float | None = None
        self._doubt = ""
        self._doubt_until = 0.0
        self._begin()

    def _begin(self) -> None:
        self._removed: list[tuple[TopicPartition, Removal]] = []
        self._rolled: list[TopicPartition] = []
        self._compacted: list[tuple[TopicPartition, Compacted]] = []
        self._problems: list[str] = []

    @property
    def waiting(self) -> bool:
        """Whether the next pass should be soon: something is being compacted."""
        return self._rounds.waiting

    def rest(self) -> None:
        """Another process does it from now on, or none: give up what is under way."""
        self._rounds.give_up()

    def run(
        self,
        duties: Sequence[Callable[[], object]] = (),
        *,
        everything: bool = False,
        to_the_end: bool = False,
    ) -> Maintained:
        """Do what is due, the duties of others first. Needs the lock on the page.

        With `everything` all partitions are looked at; with `to_the_end` all that is dirty enough
        is compacted, and not only for a while.
        """
        self._begin()
        for duty in list(duties):
            self._guarded(getattr(duty, "__qualname__", "a duty"), duty)
        self._guarded("the list of topics", self._follow)
        now = self._clock.monotonic()
        self._watch_clock(now)
        until = inf if everything else now + STEP_SECONDS
        for tp in list(self._seen) if everything else self._due(now):
            self._guarded(str(tp), lambda tp=tp: self._look(tp))  # type: ignore[misc]
            if self._clock.monotonic() > until:
                break
        self._guarded("max.disk.bytes", self._within_limit)
        while self._rounds.waiting and not self._full():  # it takes room before it gives some
            self._guarded("compaction", self._compact)
            if not to_the_end:
                break
        found = Maintained(
            tuple(self._removed),
            tuple(self._rolled),
            tuple(self._compacted),
            tuple(self._problems),
        )
        self._said &= set(self._problems)  # said once, until it is over
        return found

    def _guarded(self, what: str, act: Callable[[], object]) -> None:
        """Do one thing; what goes wrong with it must not keep the others from being done."""
        try:
            act()
        except UnknownTopic:
            return  # deleted meanwhile
        except (StreamkitError, OSError) as error:
            self._problem(f"{what}: {error}")

    def _problem(self, problem: str) -> None:
        self._problems.append(problem)
        if problem not in self._said:
            self._said.add(problem)
            logger.warning("%s: maintenance: %s", self._root, problem)

    def _watch_clock(self, now: float) -> None:
        shift = self._clock.now() - now * 1000
        if self._shift is not None and shift - self._shift > JUMP:
            hours = round((shift - self._shift) / HOUR)
            self._doubt = f"set forward by {hours} hours; nothing is removed for its age yet"
            self._doubt_until = now + DOUBT_SECONDS
        self._shift = shift
        if now < self._doubt_until:
            self._problem(f"the clock: {self._doubt}")

    # Which partitions there are, and whose turn it is.

    def _follow(self) -> None:
        topics = self._current()
        if topics is self._topics:
            return
        for name, topic in topics.items():
            before = self._topics.get(name)
            if before is topic:
                continue
            self._guarded(f"topic {name!r}", lambda topic=topic: self._add(topic))  # type: ignore[misc]
        for tp in [tp for tp in self._seen if not _exists(tp, topics)]:
            del self._seen[tp]
        self._topics = topics

    def _add(self, topic: Topic) -> None:
        try:
            config = config_of(topic)
        except ConfigError:
            for number in range(topic.partitions):
                self._seen.pop(TopicPartition(topic.name, number), None)
            raise
        for number in range(topic.partitions):
            tp = TopicPartition(topic.name, number)
            self._seen[tp] = _Seen(config)
            heappush(self._heap, (0.0, tp))

    def _due(self, now: float) -> Iterator[TopicPartition]:
        while self._heap and self._heap[0][0] <= now:
            due, tp = heappop(self._heap)
            seen = self._seen.get(tp)
            if seen is not None and seen.due == due:
                yield tp

    def _schedule(self, tp: TopicPartition, seen: _Seen, seconds: float) -> None:
        seen.due = self._clock.monotonic() + seconds
        heappush(self._heap, (seen.due, tp))

    # One partition.

    def _look(self, tp: TopicPartition) -> None:
        seen = self._seen[tp]
        slowest = max(RARELY, len(self._seen) / LOOKS_PER_SECOND)
        self._schedule(tp, seen, slowest)  # should it fail
        before, now = seen.end, self._clock.now()
        seen.end = end = self._published(tp)
        if end is None:
            return  # nobody has used it yet
        self._measure(tp, seen, end)
        extents = self._believed(seen, [*seen.finished, self._active(tp, end)])
        config = seen.config
        if self._clock.monotonic() < self._doubt_until:
            config = replace(config, retention_ms=-1)
        removal = expired(
            extents, config, start=end.start_offset, stable=end.stable_offset, now=now
        )
        age = now - end.segment_created
        ended = age >= seen.config.roll_ms(tp, end.active_base) or age < -AHEAD
        rolls = end.end_position > 0 and ended
        rolls = rolls or (removal is not None and removal.segments == len(extents))
        if rolls or removal is not None:
            self._act(tp, end, removal, rolls=rolls)
            seen.end = end = self._published(tp) or end
            self._measure(tp, seen, end)
        if seen.config.compacted:
            self._look_for_dirt(tp, seen)
        busy = rolls or removal is not None or before is None or end != before
        seen.interval = SOON if busy else min(seen.interval * 4, slowest)
        wakes = [end.segment_created + seen.config.roll_ms(tp, end.active_base)]
        if end.end_position == 0:
            wakes = []
        expiry = next_expiry(extents, seen.config)
        wakes += [expiry] if expiry is not None else []
        soonest = max(SOON, min((at - now) / 1000 for at in wakes) if wakes else inf)
        self._schedule(tp, seen, min(seen.interval, soonest))

    def _published(self, tp: TopicPartition) -> End | None:
        """What the control block says: without opening the partition, as long as that can do.

        None: nobody has used the partition yet.
        """
        path = os.path.join(self._root, str(tp), CONTROL)
        try:
            page = OpenFile(self._files, path, os.O_RDONLY).read(PAGE_BYTES, 0)
        except FileNotFoundError:
            page = b""
        if len(page) == PAGE_BYTES:
            found, synced = END.decode(page), SYNCED.decode(page)
            if found is not None and found[1].boot_id == boot_id():
                return found[1]
            if found is None and synced is not None and synced[1] == Synced(0, 0, 0):
                return None
        with self._borrow(tp) as partition:  # the first one here since the machine started
            return partition.published()

    def _measure(self, tp: TopicPartition, seen: _Seen, end: End) -> None:
        """Look at the files of finished segments, if they are others than before."""
        key = (end.start_offset, end.active_base, end.rewrites)
        if key == seen.key:
            return
        directory = os.path.join(self._root, str(tp))
        sizes = {}
        for name in self._files.listdir(directory):
            try:
                sizes[name] = self._files.measure(os.path.join(directory, name))
            except FileNotFoundError:
                continue  # removed meanwhile
        active = file_name(end.active_base, LOG)
        seen.beside = sum(size for name, (size, _) in sizes.items() if name != active)
        bases = [base for base in listed(self._files, directory) if base <= end.active_base]
        seen.finished = [
            Extent(base, after, *sizes[name])
            for base, after in pairwise(bases)
            if (name := file_name(base, LOG)) in sizes
        ]
        seen.ahead = {base: since for base, since in seen.ahead.items() if base in bases}
        seen.key = key

    def _active(self, tp: TopicPartition, end: End) -> Extent:
        path = os.path.join(self._root, str(tp), file_name(end.active_base, LOG))
        return Extent(
            end.active_base, end.end_offset, end.end_position, self._files.measure(path)[1]
        )

    def _believed(self, seen: _Seen, extents: list[Extent]) -> list[Extent]:
        """The extents, with the ages of those that were written in the future corrected.

        The clock was wrong then, or it is now: a machine may wake up in 1970. So nothing is noted
        by it: such a segment is as old as the time that it has been known here.
        """
        now, since = self._clock.now(), self._clock.monotonic()
        believed = []
        for extent in extents:
            if extent.appended > now + AHEAD:
                known = since - seen.ahead.setdefault(extent.base, since)
                extent = replace(extent, appended=now - round(known * 1000))
            else:
                seen.ahead.pop(extent.base, None)
            believed.append(extent)
        return believed

    def _act(self, tp: TopicPartition, end: End, removal: Removal | None, *, rolls: bool) -> None:
        with self._borrow(tp) as partition:
            if rolls and partition.trimmer.roll(end):
                self._rolled.append(tp)
                # Else what was synced could end in a segment that is removed now: after a power cut
                # nobody would know where the walk can begin.
                partition.sync()
            if removal is not None:
                partition.trimmer.remove_before(removal.before)
                self._removed.append((tp, removal))
                logger.info(
                    "%s: %d segments of %d bytes removed, up to offset %d (%s)",
                    tp,
                    removal.segments,
                    removal.size,
                    removal.before - 1,
                    removal.why,
                )

    def _look_for_dirt(self, tp: TopicPartition, seen: _Seen) -> None:
        if not seen.finished or seen.finished[-1].end <= seen.clean_to:
            return
        with self._borrow(tp) as partition:
            dirt = partition.trimmer.dirt()
        seen.clean_to = dirt.first_dirty
        if dirt.due(seen.config):
            self._rounds.add(tp, dirt.dirty_bytes / (dirt.dirty_bytes + dirt.clean_bytes))
        else:
            self._rounds.drop(tp)

    def _compact(self) -> None:
        for tp, found in self._rounds.work():
            self._compacted.append((tp, found))
            seen = self._seen.get(tp)
            if seen is not None:
                seen.clean_to = found.clean_to
                self._schedule(tp, seen, 0.0)  # with less memory than keys there is more to do

    # The whole directory.

    def _within_limit(self) -> None:
        limit = self._limit()
        if limit < 0 or self._total() <= limit:
            return
        if any(seen.finished for seen in self._seen.values()):
            # What was removed since it was measured must not cost others their records.
            for tp in list(self._seen):
                self._guarded(str(tp), lambda tp=tp: self._remeasure(tp))  # type: ignore[misc]
        left = self._total()
        finished = {
            tp: self._believed(seen, [e for e in seen.finished if e.end <= seen.end.stable_offset])
            for tp, seen in self._seen.items()
            if seen.config.deletes and tp.topic not in OWN_TOPICS and seen.end is not None
        }
        before_this = len(self._removed)
        for tp, before in over(left, limit, finished).items():
            gone = [extent for extent in finished[tp] if extent.end <= before]
            size = sum(extent.size for extent in gone)
            removal = Removal(before, len(gone), size, "max.disk.bytes")
            seen = self._seen[tp]
            assert seen.end is not None
            end = seen.end
            self._guarded(
                str(tp),
                lambda tp=tp, end=end, removal=removal: self._act(tp, end, removal, rolls=False),  # type: ignore[misc]
            )
            self._schedule(tp, seen, 0.0)
        left -= sum(removal.size for _, removal in self._removed[before_this:])
        if left > limit:
            raise ConfigError(
                f"the partitions have {left} bytes, and max.disk.bytes is {limit}; what is left is"
                " in active segments, or in topics that do not delete: raise the limit, delete"
                " topics, or give them a smaller segment.bytes"
            )

    def _total(self) -> int:
        return sum(seen.size for seen in self._seen.values())

    def _remeasure(self, tp: TopicPartition) -> None:
        seen = self._seen[tp]
        seen.end = self._published(tp)
        if seen.end is not None:
            self._measure(tp, seen, seen.end)


def _exists(tp: TopicPartition, topics: Mapping[str, Topic]) -> bool:
    topic = topics.get(tp.topic)
    return topic is not None and tp.partition < topic.partitions

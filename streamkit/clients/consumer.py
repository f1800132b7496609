"""Reading records, alone or as a member of a group."""

import logging
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from streamkit.backends.base import CommittedOffset, Isolation, Membership, TopicInfo
from streamkit.clients.chunk import Chunk
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.start import Point, Start, checked_start, place
from streamkit.clock import Clock, SystemClock
from streamkit.errors import (
    Fenced,
    OffsetOutOfRange,
    SerdeError,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import Record, TopicPartition
from streamkit.serde import serde_for

V = TypeVar("V")

_log = logging.getLogger(__name__)

_COMMIT_SECONDS = 1.0
_SLEEP_SECONDS = 60.0
_ASYNC_SECONDS = 0.5
"""How long the thread that waits for an `async for` outlives its cancellation at most."""
_LATER_SECONDS = 0.05
"""How often a consumer looks whether a transaction that it waits for has ended."""
_MOMENT_SECONDS = 0.05
_MOMENT_RECORDS = 256
"""With a group, iterating looks about this often, and after so many records at the latest, whether
another member waits for partitions and whether it is time to commit."""
_POLL_RECORDS = 500
"""What `poll` gives at most to a group's member that names no number."""


class Consumer(Generic[V]):
    """Reads the records of one or more topics. One thread at a time uses it.

        with Consumer("./data", "orders", group="mail") as orders:
            for record in orders:
                send_mail(record.value)

    Iterating waits for new records for ever; `until_end` stops where the log ends now.

    With a `group`, its members share the partitions, each is at one member only, and a member
    that dies is replaced at once. Offsets are committed once a second, when partitions move, and
    at the end: only of records that the next one was asked after, so that a record whose
    processing raised an error or was killed comes again (at least once). Without a group nothing is
    committed and all partitions are read.
    """

    @overload
    def __init__(
        self: "Consumer[bytes | None]",
        log: LogLike = None,
        topics: str | Iterable[str] = (),
        *,
        group: str | None = None,
        from_: Start = "earliest",
        partitions: Iterable[TopicPartition] = (),
        auto_commit: bool = True,
        isolation: Isolation = "read_committed",
        instance_id: str | None = None,
        session_timeout: float | None = None,
        max_bytes: int = 1 << 20,
        clock: Clock | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        log: LogLike = None,
        topics: str | Iterable[str] = (),
        *,
        value_type: type[V],
        group: str | None = None,
        from_: Start = "earliest",
        partitions: Iterable[TopicPartition] = (),
        auto_commit: bool = True,
        isolation: Isolation = "read_committed",
        instance_id: str | None = None,
        session_timeout: float | None = None,
        max_bytes: int = 1 << 20,
        clock: Clock | None = None,
    ) -> None: ...

    def __init__(
        self,
        log: LogLike = None,
        topics: str | Iterable[str] = (),
        *,
        value_type: Any = None,
        group: str | None = None,
        from_: Start = "earliest",
        partitions: Iterable[TopicPartition] = (),
        auto_commit: bool = True,
        isolation: Isolation = "read_committed",
        instance_id: str | None = None,
        session_timeout: float | None = None,
        max_bytes: int = 1 << 20,
        clock: Clock | None = None,
    ) -> None:
        """Begin at the group's committed offsets; where there are none, at `from_`.

        `log`: a path, url or Backend; None is STREAMKIT_LOG, else ./streamkit-data.
        `from_` counts, too, for a partition whose committed offset retention has removed (a time:
        then from its first record). `partitions` instead of `topics` chooses by hand, and a group
        is then only where offsets are committed. `value_type`: what values are decoded to (JSON,
        or str); without one they stay bytes, as keys always do. With an `instance_id` this is a
        static member: when it goes, its partitions are kept for `session_timeout` seconds (10) for
        the next consumer of that id, which fences this one if it still lives.
        `isolation`: "read_committed" gives what is sent in a transaction when that is committed;
        "read_uncommitted" at once, aborted or not.
        Raises UnknownTopic, UnknownPartition.
        """
        names = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
        by_hand = list(dict.fromkeys(TopicPartition(*tp) for tp in partitions))
        if bool(names) == bool(by_hand):
            raise UsageError("a consumer reads either topics or partitions: name one of them")
        if instance_id is not None and (group is None or by_hand):
            raise UsageError(f"instance_id={instance_id!r}: a member of a group has one: name both")
        if session_timeout is not None and instance_id is None:
            raise UsageError("session_timeout is a static member's: name its instance_id as well")
        self._start = checked_start(from_)
        if isolation not in ("read_committed", "read_uncommitted"):
            raise UsageError(f"isolation={isolation!r}: read_committed or read_uncommitted")
        self._isolation: Isolation = isolation
        self._auto_commit = auto_commit and group is not None
        self._max_bytes = max_bytes
        self._group = group
        self._decode = None if value_type is None else serde_for(value_type).decode
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()  # against a thread that still waits for an `async for`
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        # Where reading began, and up to where it was committed or handed to a transaction.
        self._began: dict[TopicPartition, int] = {}
        self._handed: dict[TopicPartition, int] = {}
        # Moved to another member before what was read of them was handed over.
        self._lost: set[TopicPartition] = set()
        # To be begun once the transaction has ended that commits offsets of them.
        self._later: set[TopicPartition] = set()
        self._committed_at = self._clock.monotonic()
        self._fetched: deque[Chunk] = deque()
        self._paused: dict[TopicPartition, list[Chunk]] = {}
        self._chunk: Chunk | None = None
        self._few_records, self._few_at = 1, self._clock.monotonic()
        self._member: Membership | None = None
        self._closed = False
        self._backend, self._owned = connect(log, create=False)
        self._topic_ids: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._counts_at_first: dict[str, int] = {}
        try:
            for name in names:
                self._counts[name] = self._counts_at_first[name] = self._know(name).partitions
            for topic, number in by_hand:
                if not 0 <= number < (count := self._know(topic).partitions):
                    raise UnknownPartition(
                        f"topic {topic!r} has no partition {number}: it has 0 to {count - 1}"
                    )
            if group is not None and names:
                self._member = self._backend.join(
                    group,
                    self._counts,
                    instance_id=instance_id,
                    session_timeout=10.0 if session_timeout is None else session_timeout,
                )
                self._keep_group()
            else:
                self._begin(by_hand or self._named())
        except BaseException:
            self._let_go()
            raise

    # Reading.

    def __iter__(self) -> Iterator[Record[V]]:
        while True:
            while not self._fill(_SLEEP_SECONDS):
                pass
            yield from self._few()

    def until_end(self) -> Iterator[Record[V]]:
        """The records up to where the partitions end now: those that this member owns."""
        ends: dict[TopicPartition, int] = {}
        while True:
            if self._fill(_SLEEP_SECONDS, ends):
                yield from self._few()
            elif not self._behind(ends) and not self._later:
                return

    async def __aiter__(self) -> AsyncIterator[Record[V]]:
        import asyncio  # here: it is not small, and most consumers have no use for it

        while True:
            while not await asyncio.to_thread(self._fill, _ASYNC_SECONDS):
                pass
            for record in self._few():
                yield record

    def poll(self, timeout: float = 0.0, max_records: int | None = None) -> list[Record[V]]:
        """Some records that are there, all of one partition; [] if none come in `timeout` seconds.

        Asking again says that the records of the last call are done with.
        """
        if max_records is not None and max_records < 1:
            raise UsageError(f"max_records={max_records}: it is at least 1")
        with self._lock:
            if not self._fill(timeout):
                return []
            assert self._chunk is not None
            chunk = self._chunk
            chunk.done = chunk.position
            if max_records is None and self._member is not None:
                max_records = _POLL_RECORDS
            return list(islice(chunk.iterator, max_records))

    def _few(self) -> Iterator[Record[V]]:
        """The next records of the current chunk; with a group, what takes a moment."""
        assert self._chunk is not None
        if self._group is None:
            return self._chunk.iterator
        now = self._clock.monotonic()
        took, self._few_at = now - self._few_at, now
        most = min(2 * self._few_records, _MOMENT_RECORDS)
        if took > _MOMENT_SECONDS:
            most = min(most, int(self._few_records * _MOMENT_SECONDS / took))
        self._few_records = max(1, most)
        return islice(self._chunk.iterator, self._few_records)

    def _reading(self) -> dict[TopicPartition, int]:
        if not self._paused:
            return self._positions
        return {tp: at for tp, at in self._positions.items() if tp not in self._paused}

    def _behind(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {tp: at for tp, at in self._reading().items() if at < ends.get(tp, 0)}

    def _fill(self, timeout: float, ends: dict[TopicPartition, int] | None = None) -> bool:
        """See to it that the current chunk has a record; False when none comes in time.

        Being asked for the next record, it takes all earlier ones for done. With `ends` it gives
        nothing after them, and notes there the present ends of partitions that are new to it.
        """
        deadline = self._clock.monotonic() + timeout
        with self._lock:
            try:
                return self._filled(deadline, ends)
            except UnknownPartition:
                self._still_there()  # what has this name by now may have fewer
                raise

    def _filled(self, deadline: float, ends: dict[TopicPartition, int] | None) -> bool:
        while True:
            if self._closed:
                raise UsageError("the consumer is closed")
            self._retire()
            self._keep_group()
            if ends is not None:
                for partition in self._positions.keys() - ends.keys():
                    ends[partition] = self._end(partition)
            if self._chunk is not None:
                return True
            if self._fetched:
                chunk = self._fetched.popleft()
                if chunk.records:
                    self._open(chunk, ends)
                else:
                    self._pass_over(chunk)
                continue
            wanted = self._reading()
            if ends is not None:
                wanted = self._behind(ends)
                if not wanted and not self._later:
                    return False
            if self._fetch(wanted):
                continue
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            if self._uncommitted():
                left = min(left, _COMMIT_SECONDS)
            if self._later:
                left = min(left, _LATER_SECONDS)
            self._backend.wait(wanted, left, isolation=self._isolation)

    def _retire(self) -> None:
        """Be done with what was given out; forget the chunk when that is all of it."""
        chunk = self._chunk
        if chunk is None:
            return
        chunk.done = None
        if chunk.partition in self._positions:
            self._positions[chunk.partition] = chunk.position
        if chunk.taken == len(chunk.records):
            self._chunk = None

    def _fetch(self, wanted: Mapping[TopicPartition, int]) -> bool:
        try:
            batches = self._backend.fetch(
                wanted, max_bytes=self._max_bytes, isolation=self._isolation
            )
        except OffsetOutOfRange:
            self._still_there()
            if not self._reset_lost():
                raise
            return True
        self._still_there()
        for batch in batches:
            start, records = self._positions[batch.partition], batch.records()
            self._fetched.append(Chunk(batch.partition, records, start, batch.next_offset))
        return bool(batches)

    def _pass_over(self, chunk: Chunk) -> None:
        """Go on after a stretch in which there is nothing to see: markers, and what was aborted."""
        at = self._positions.get(chunk.partition)
        if at == chunk.start:
            self._positions[chunk.partition] = chunk.end
            if self._handed.get(chunk.partition) == at:
                self._handed[chunk.partition] = chunk.end

    def _end(self, partition: TopicPartition) -> int:
        offsets = self._backend.offsets(partition)
        return offsets.end if self._isolation == "read_committed" else offsets.log_end

    def _know(self, topic: str) -> TopicInfo:
        info = self._backend.topic(topic)
        self._topic_ids[topic] = info.topic_id
        return info

    def _still_there(self) -> None:
        """Offsets mean nothing in another topic of the same name: what was fetched is not given.

        A topic that has grown is read whole.
        """
        grown = False
        for topic, topic_id in self._topic_ids.items():
            info = self._backend.topic(topic)
            if topic in self._counts and info.partitions > self._counts[topic]:
                self._counts[topic] = info.partitions
                grown = True
            if info.topic_id != topic_id:
                raise UnknownTopic(
                    f"topic {topic!r} was deleted and made anew since this consumer began to read "
                    "it; open a new one to read the new topic"
                )
        if grown:
            self._read_named()

    def _named(self) -> list[TopicPartition]:
        return [TopicPartition(t, n) for t, count in self._counts.items() for n in range(count)]

    def _read_named(self) -> None:
        """Read the partitions of `_counts`, as the group says if there is one."""
        if self._member is not None:
            self._member.update(self._counts)
            return
        named = self._named()
        self._drop(self._positions.keys() - set(named))
        self._begin(partition for partition in named if partition not in self._positions)

    def _open(self, chunk: Chunk, ends: Mapping[TopicPartition, int] | None) -> None:
        if ends is not None:
            chunk.cut(ends[chunk.partition])
        if self._decode is not None and not chunk.decoded:
            self._decode_values(chunk)
        self._chunk = chunk

    def _decode_values(self, chunk: Chunk) -> None:
        """Decode as far as it goes: what is before a wrong value is given out before the error."""
        assert self._decode is not None
        decoded: list[Record[Any]] = []
        for r in chunk.records:
            try:
                value = self._decode(r.value)
            except SerdeError as error:
                if not decoded:
                    raise SerdeError(f"{r.coordinates}: {error}") from error
                chunk.end = r.offset
                break
            decoded.append(
                Record(r.topic, r.partition, r.offset, r.timestamp, r.key, value, r.headers)
            )
        chunk.records, chunk.decoded = decoded, True
        chunk.iterator = iter(decoded)

    # Where it stands.

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are read now."""
        return frozenset(self._positions)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record of a partition. UnknownPartition if it is not read here."""
        chunk = self._chunk
        if chunk is not None and chunk.partition == partition and partition in self._positions:
            return chunk.position
        return self._positions[self._read_here(partition)]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at an offset of a partition, forwards or backwards."""
        if not isinstance(offset, int) or offset < 0:
            raise UsageError(f"{partition}: offset {offset!r}: it is a number from 0 on")
        with self._lock:
            self._read_here(partition)
            self._forget([partition])
            self._positions[partition] = offset

    def seek_to(self, start: Start) -> None:
        """Go on, in all partitions that are read now, at `start`."""
        with self._lock:
            checked = checked_start(start)
            for partition in list(self._positions):
                self.seek(partition, self._place(partition, checked))

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Give out no records of these partitions until `resume`, from the next one on.

        They stay this consumer's. One that moves to another member comes back unpaused.
        """
        with self._lock:
            chosen = [self._read_here(partition) for partition in partitions]
            for partition in chosen:
                if partition in self._paused:
                    continue
                kept = [chunk for chunk in self._fetched if chunk.partition == partition]
                self._fetched = deque(c for c in self._fetched if c.partition != partition)
                if self._chunk is not None and self._chunk.partition == partition:
                    kept.insert(0, self._chunk.split())
                self._paused[partition] = [chunk for chunk in kept if chunk.records]

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on with paused partitions where they were paused, or were sought to since."""
        with self._lock:
            chosen = [self._read_here(partition) for partition in partitions]
            for partition in chosen:
                self._fetched.extend(self._paused.pop(partition, ()))

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions that are paused."""
        return frozenset(self._paused)

    def subscribe(self, topics: str | Iterable[str]) -> None:
        """Read these topics from now on, instead of those it was made with.

        Of a topic that is no longer read, what was given out is committed (if that is automatic).
        Raises UnknownTopic, and then nothing changes.
        """
        names = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
        if not names:
            raise UsageError("a consumer reads topics: name at least one")
        with self._lock:
            if self._closed:
                raise UsageError("the consumer is closed")
            if not self._counts:
                raise UsageError("this consumer's partitions were chosen by hand; make another one")
            infos = {name: self._backend.topic(name) for name in names}
            self._retire()
            self._counts = {name: info.partitions for name, info in infos.items()}
            self._counts_at_first = self._counts | {
                name: count for name, count in self._counts_at_first.items() if name in infos
            }
            # Those it leaves are known until their partitions are given up, to commit them.
            self._topic_ids = {n: i.topic_id for n, i in infos.items()} | self._topic_ids
            self._read_named()
            self._keep_group()

    def committed(self) -> dict[TopicPartition, CommittedOffset]:
        """What the group has committed of the topics that are read here, whoever committed it."""
        if self._group is None:
            raise UsageError("a consumer without a group has nothing committed: name a group")
        known = self._backend.committed(self._group)
        return {tp: known[tp] for tp in sorted(known) if tp.topic in self._topic_ids}

    def _place(self, partition: TopicPartition, start: Point) -> int:
        return place(self._backend, partition, start, self._isolation)

    def _read_here(self, partition: TopicPartition) -> TopicPartition:
        if partition not in self._positions:
            raise UnknownPartition(f"{partition} is not among the partitions that are read here")
        return TopicPartition(*partition)

    def _begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Find where to begin with partitions that are new here."""
        # In this order: an offset that was pending may have been committed by then.
        pending = self._backend.pending(self._group) if self._group is not None else frozenset()
        known = self._backend.committed(self._group) if self._group is not None else {}
        chosen = {}
        for partition in partitions:
            if partition in pending:
                self._later.add(partition)
                continue
            self._later.discard(partition)
            if partition in known:
                self._positions[partition] = known[partition].offset
                self._committed[partition] = known[partition].offset
            else:
                # All that a partition holds that was added meanwhile came after we began.
                added = partition.partition >= self._counts_at_first.get(partition.topic, 1 << 31)
                self._positions[partition] = self._place(
                    partition, "earliest" if added else self._start
                )
                chosen[partition] = self._positions[partition]
            self._began[partition] = self._handed[partition] = self._positions[partition]
        if chosen and self._auto_commit and self._start != "earliest":
            # Else a crash before the first commit would choose again, later, and leave a gap.
            self._commit(chosen)

    def _reset_lost(self) -> bool:
        """Move positions that the log does not have (any more), and say so aloud."""
        moved = False
        for partition, at in self._positions.items():
            offsets = self._backend.offsets(partition)
            if offsets.start <= at <= offsets.log_end:
                continue
            if at > offsets.end:
                to = offsets.end
                what = "does not exist: the log ends before it; going back to its end,"
            else:
                to = offsets.end if self._start == "latest" else offsets.start
                what = f"was removed by retention; {to - at} offsets further on, going on at"
            _log.warning("%s: offset %d %s %d", partition, at, what, to)
            self._positions[partition] = to
            moved = True
        return moved

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Throw away what was fetched of partitions and not given out yet."""
        gone = set(partitions)
        self._fetched = deque(c for c in self._fetched if c.partition not in gone)
        for partition in gone & self._paused.keys():
            self._paused[partition] = []
        if self._chunk is not None and self._chunk.partition in gone:
            self._chunk.stop()
            self._chunk = None

    # The group.

    def commit(self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None) -> None:
        """Commit the positions after all records that were given out, on stable storage.

        Or these `offsets`: where to go on in each partition, with a note (`CommittedOffset`) if
        you like. Raises Fenced when one of the partitions is no longer this member's own.
        """
        if self._group is None:
            raise UsageError("a consumer without a group has nowhere to commit: name a group")
        with self._lock:
            if self._closed:
                raise UsageError("the consumer is closed")
            if offsets is None:
                self._commit({partition: self.position(partition) for partition in self._positions})
            else:
                self._commit_these(self._group, offsets)
            chunk = self._chunk
            if chunk is not None and (offsets is None or chunk.partition in offsets):
                committed = self._committed.get(chunk.partition, chunk.position)
                chunk.done = min(committed, chunk.position)

    def handing_over(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> tuple[str, dict[TopicPartition, CommittedOffset], Membership | None]:
        """What `Transaction.commit_offsets` commits for this consumer: group, offsets, member.

        The positions after all records that were given out, or these `offsets`. Raises Fenced when
        records were given out of a partition that has moved since, and they were not handed over.
        """
        if self._group is None:
            raise UsageError("a consumer without a group has nowhere to commit: name a group")
        if self._auto_commit:
            raise UsageError(
                "this consumer commits by itself, in transactions or not: make it with "
                "auto_commit=False"
            )
        with self._lock:
            if self._closed:
                raise UsageError("the consumer is closed")
            if self._lost:
                raise Fenced(
                    f"{', '.join(map(str, sorted(self._lost)))} moved to another member of group"
                    f" {self._group!r}, which reads again what was read here and not committed:"
                    " abort the transaction, and rewind() the consumer"
                )
            if offsets is None:
                positions = {partition: self.position(partition) for partition in self._positions}
                chosen = {
                    tp: CommittedOffset(at)
                    for tp, at in positions.items()
                    if self._handed.get(tp) != at or self._committed.get(tp) != at
                }
            else:
                chosen = {
                    TopicPartition(*tp): CommittedOffset(at) if isinstance(at, int) else at
                    for tp, at in offsets.items()
                }
            self._handed.update({tp: at.offset for tp, at in chosen.items()})
            return self._group, chosen, self._member

    def rewind(self) -> None:
        """Go back to what is committed, or to where reading began: after an aborted transaction."""
        if self._group is None:
            raise UsageError("a consumer without a group has nothing committed; seek() instead")
        with self._lock:
            self._lost.clear()
            known = self._backend.committed(self._group)
            for partition in list(self._positions):
                committed = known.get(partition)
                at = self._began[partition] if committed is None else committed.offset
                self.seek(partition, at)
                self._handed[partition] = at

    def _commit_these(
        self, group: str, offsets: Mapping[TopicPartition, int | CommittedOffset]
    ) -> None:
        if self._member is None:
            for partition in offsets:
                self._read_here(partition)
        chosen = {
            TopicPartition(*tp): CommittedOffset(at) if isinstance(at, int) else at
            for tp, at in offsets.items()
        }
        self._backend.commit(group, chosen, member=self._member)
        new = {tp: at.offset for tp, at in chosen.items()}
        self._committed.update(new)
        self._handed.update(new)

    def _commit(self, positions: Mapping[TopicPartition, int]) -> None:
        assert self._group is not None
        topics = self._backend.topics()
        new = {
            tp: at
            for tp, at in positions.items()
            if self._committed.get(tp) != at
            # Of a topic that was deleted meanwhile there is nothing to remember.
            and tp.topic in topics
            and topics[tp.topic].topic_id == self._topic_ids[tp.topic]
        }
        self._committed_at = self._clock.monotonic()
        if new:
            offsets = {tp: CommittedOffset(at) for tp, at in new.items()}
            self._backend.commit(self._group, offsets, member=self._member)
            self._committed.update(new)
            self._handed.update(new)

    def _finished(self) -> dict[TopicPartition, int]:
        finished = dict(self._positions)
        if self._chunk is not None and self._chunk.partition in finished:
            finished[self._chunk.partition] = self._chunk.finished
        return finished

    def _uncommitted(self) -> bool:
        return self._auto_commit and self._positions != self._committed

    def _keep_group(self) -> None:
        """Hand over what others wait for, take what is free, commit when it is time.

        Called when the next record is asked for: everything up to the positions is done with.
        """
        now = self._clock.monotonic()
        if now - self._committed_at >= _COMMIT_SECONDS and self._uncommitted():
            self._commit(self._positions)
        if self._member is None:
            if self._later:
                self._begin(list(self._later))
            return
        try:
            ownership = self._member.poll()
        except Fenced:
            self._drop([*self._positions, *self._later])
            raise
        if ownership.revoking:
            if self._auto_commit:
                self._commit(self._positions)
            self._drop(ownership.revoking)
            self._member.release(ownership.revoking)
        # Not only what was gained just now: an error may have come between it and its beginning.
        if new := ownership.owned - ownership.revoking - self._positions.keys():
            self._begin(tp for tp in sorted(new) if self._exists(tp))

    def _exists(self, partition: TopicPartition) -> bool:
        """Else a member that has not noticed yet, or is away, knows the topic as it was before it
        was deleted and made anew with fewer."""
        return partition.partition < self._backend.topic(partition.topic).partitions

    def _drop(self, partitions: Iterable[TopicPartition]) -> None:
        self._forget(partitions)
        for partition in partitions:
            self._later.discard(partition)
            at = self._positions.pop(partition, None)
            if at is not None and self._handed.pop(partition, at) != at:
                self._lost.add(partition)
            self._committed.pop(partition, None)
            self._began.pop(partition, None)
            self._paused.pop(partition, None)
        read = {partition.topic for partition in self._positions} | self._counts.keys()
        if self._counts:
            self._topic_ids = {name: self._topic_ids[name] for name in read}

    # The end.

    def close(self) -> None:
        """Commit (if that is automatic), leave the group and let go of the log.

        While an error is under way, the records last given out are not committed: they come again.
        """
        self._close(failed=sys.exc_info()[1] is not None)

    def _close(self, *, failed: bool) -> None:
        if self._closed:
            return
        self._backend.wake()  # a thread that waits for an `async for` holds the lock
        with self._lock:
            self._closed = True
            try:
                if self._auto_commit and self._positions:
                    done = self._finished()
                    if not failed:
                        done = {partition: self.position(partition) for partition in done}
                    self._commit(done)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        try:
            if self._member is not None:
                self._member.leave()
        finally:
            if self._owned:
                self._backend.close()

    def __enter__(self) -> "Consumer[V]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(failed=error is not None)

"""Reading records, alone or as a member of a group."""

import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from streamkit.backends.base import Membership
from streamkit.backends.values import CommittedOffset, Isolation
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.fetching import Fetching
from streamkit.clients.following import Following
from streamkit.clients.group_offsets import GroupOffsets
from streamkit.clients.read_topics import ReadTopics
from streamkit.clients.reading import Reading
from streamkit.clients.start import Start, checked_start, place
from streamkit.clock import Clock, SystemClock
from streamkit.errors import UsageError
from streamkit.records import Record, TopicPartition
from streamkit.serde import serde_for

V = TypeVar("V")

_SLEEP_SECONDS = 60.0
_ASYNC_SECONDS = 0.5
"""How long the thread that waits for an `async for` outlives its cancellation at most."""
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
        max_bytes: int = 1 << 18,
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
        max_bytes: int = 1 << 18,
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
        max_bytes: int = 1 << 18,
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
        "read_uncommitted" at once, aborted or not. `max_bytes`: about so many are read at once;
        much more costs time, as memory for their records is fetched from the system every time.
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
        start = checked_start(from_)
        if isolation not in ("read_committed", "read_uncommitted"):
            raise UsageError(f"isolation={isolation!r}: read_committed or read_uncommitted")
        self._isolation: Isolation = isolation
        self._group = group
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()  # against a thread that still waits for an `async for`
        self._few_records, self._few_at = 1, self._clock.monotonic()
        self._member: Membership | None = None
        self._reading = Reading(None if value_type is None else serde_for(value_type).decode)
        self._backend, self._owned = connect(log, create=False)
        try:
            self._topics = ReadTopics(self._backend, names, by_hand)
            if group is not None and names:
                self._member = self._backend.join(
                    group,
                    self._topics.counts,
                    instance_id=instance_id,
                    session_timeout=10.0 if session_timeout is None else session_timeout,
                )
            self._offsets = GroupOffsets(
                self._backend,
                group,
                self._reading,
                self._topics,
                member=self._member,
                auto_commit=auto_commit,
                clock=self._clock,
            )
            self._following = Following(
                self._backend,
                self._reading,
                self._topics,
                self._offsets,
                member=self._member,
                start=start,
                isolation=isolation,
            )
            self._fetching = Fetching(
                self._backend,
                self._reading,
                self._following,
                self._offsets,
                latest=start == "latest",
                isolation=isolation,
                max_bytes=max_bytes,
                clock=self._clock,
            )
            if self._member is None:
                self._following.begin(by_hand or self._topics.partitions())
            else:
                self._following.keep()
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
            elif not self._reading.behind(ends) and not self._following.later:
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
            chunk = self._reading.chunk
            assert chunk is not None
            chunk.done = chunk.position
            if max_records is None and self._member is not None:
                max_records = _POLL_RECORDS
            return list(islice(chunk.iterator, max_records))

    def _few(self) -> Iterator[Record[V]]:
        """The next records of the current chunk; with a group, what takes a moment."""
        chunk = self._reading.chunk
        assert chunk is not None
        if self._group is None:
            return chunk.iterator
        now = self._clock.monotonic()
        took, self._few_at = now - self._few_at, now
        most = min(2 * self._few_records, _MOMENT_RECORDS)
        if took > _MOMENT_SECONDS:
            most = min(most, int(self._few_records * _MOMENT_SECONDS / took))
        self._few_records = max(1, most)
        return islice(chunk.iterator, self._few_records)

    def _fill(self, timeout: float, ends: dict[TopicPartition, int] | None = None) -> bool:
        with self._lock:
            return self._fetching.fill(timeout, ends)

    # Where it stands.

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are read now."""
        return frozenset(self._reading.positions)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record of a partition. UnknownPartition if it is not read here."""
        return self._reading.position(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at an offset of a partition, forwards or backwards."""
        if not isinstance(offset, int) or offset < 0:
            raise UsageError(f"{partition}: offset {offset!r}: it is a number from 0 on")
        with self._lock:
            self._reading.seek(partition, offset)

    def seek_to(self, start: Start) -> None:
        """Go on, in all partitions that are read now, at `start`."""
        with self._lock:
            checked = checked_start(start)
            for partition in list(self._reading.positions):
                self.seek(partition, place(self._backend, partition, checked, self._isolation))

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Give out no records of these partitions until `resume`, from the next one on.

        They stay this consumer's. One that moves to another member comes back unpaused.
        """
        with self._lock:
            self._reading.pause(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on with paused partitions where they were paused, or were sought to since."""
        with self._lock:
            self._reading.resume(partitions)

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions that are paused."""
        return frozenset(self._reading.paused)

    def subscribe(self, topics: str | Iterable[str]) -> None:
        """Read these topics from now on, instead of those it was made with.

        Of a topic that is no longer read, what was given out is committed (if that is automatic).
        Raises UnknownTopic, and then nothing changes.
        """
        names = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
        if not names:
            raise UsageError("a consumer reads topics: name at least one")
        with self._lock:
            self._reading.require_open()
            if not self._topics.counts:
                raise UsageError("this consumer's partitions were chosen by hand; make another one")
            self._topics.change(names)
            self._reading.retire()
            self._following.read_named()
            self._following.keep()

    def committed(self) -> dict[TopicPartition, CommittedOffset]:
        """What the group has committed of the topics that are read here, whoever committed it."""
        if self._group is None:
            raise UsageError("a consumer without a group has nothing committed: name a group")
        known = self._offsets.known()
        return {tp: known[tp] for tp in sorted(known) if tp.topic in self._topics.ids}

    # The group.

    def commit(self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None) -> None:
        """Commit the positions after all records that were given out, on stable storage.

        Or these `offsets`: where to go on in each partition, with a note (`CommittedOffset`) if
        you like. Raises Fenced when one of the partitions is no longer this member's own.
        """
        if self._group is None:
            raise UsageError("a consumer without a group has nowhere to commit: name a group")
        with self._lock:
            self._reading.require_open()
            self._offsets.commit_asked(offsets)

    def handing_over(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> tuple[str, dict[TopicPartition, CommittedOffset], Membership | None]:
        """What `Transaction.commit_offsets` commits for this consumer: group, offsets, member.

        The positions after all records that were given out, or these `offsets`. Raises Fenced when
        records were given out of a partition that has moved since, and they were not handed over.
        """
        if self._group is None:
            raise UsageError("a consumer without a group has nowhere to commit: name a group")
        if self._offsets.auto_commit:
            raise UsageError(
                "this consumer commits by itself, in transactions or not: make it with "
                "auto_commit=False"
            )
        with self._lock:
            self._reading.require_open()
            return self._offsets.handing_over(offsets)

    def rewind(self) -> None:
        """Go back to what is committed, or to where reading began: after an aborted transaction."""
        if self._group is None:
            raise UsageError("a consumer without a group has nothing committed; seek() instead")
        with self._lock:
            self._offsets.rewind()

    # The end.

    def close(self) -> None:
        """Commit (if that is automatic), leave the group and let go of the log.

        While an error is under way, the records last given out are not committed: they come again.
        """
        self._close(failed=sys.exc_info()[1] is not None)

    def _close(self, *, failed: bool) -> None:
        if self._reading.closed:
            return
        self._backend.wake()  # a thread that waits for an `async for` holds the lock
        with self._lock:
            self._reading.closed = True
            try:
                if self._offsets.auto_commit and self._reading.positions:
                    reading = self._reading
                    self._offsets.commit(reading.finished() if failed else reading.given_out())
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

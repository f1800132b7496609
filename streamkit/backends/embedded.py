"""The log in a directory, shared with every other process that opens it."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from streamkit import codec
from streamkit.backends.base import (
    Acks,
    Batch,
    CommittedOffset,
    GroupInfo,
    Isolation,
    MemberInfo,
    Membership,
    OffsetRange,
    PartitionInfo,
    TopicInfo,
    Transactions,
    Unit,
)
from streamkit.backends.fetched import EmbeddedBatch
from streamkit.backends.group_files import MemberFile
from streamkit.backends.members import LockMembership, fenced, group_files
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.settling import Settling
from streamkit.clock import Clock, SystemClock
from streamkit.codec.compression import CODECS, Compression
from streamkit.errors import (
    InvalidRecord,
    InvalidTopic,
    ReadOnlyLog,
    UnknownGroup,
    UsageError,
    nearest,
)
from streamkit.groups import offsets as schema
from streamkit.groups.offsets import OffsetCommit
from streamkit.log.boot import boot_id
from streamkit.log.config import METADATA_TOPIC, TRANSACTIONS_TOPIC
from streamkit.log.directory import Log
from streamkit.log.late import loading
from streamkit.log.metadata import Topic
from streamkit.log.partition import Partition
from streamkit.records import Headers, TopicPartition

if TYPE_CHECKING:  # loaded by the few who need it
    from streamkit.backends.coordinator import TransactionCoordinator
    from streamkit.backends.log_transactions import LogTransactions
    from streamkit.log.maintenance import Maintained

Committed: TypeAlias = Mapping[TopicPartition, CommittedOffset]

MOST_SESSION_SECONDS = 1800
"""The longest that a static member's units are kept for it, as Kafka's brokers allow."""

_SETTLE_SECONDS = 1.0
"""Who waits for records looks this often whether a dead producer's transaction is in the way."""

INTERNAL = {
    METADATA_TOPIC: "it says which topics there are",
    schema.TOPIC: "it holds the offsets and members of all groups",
    TRANSACTIONS_TOPIC: "it says how transactions ended",
}
"""The topics that the log keeps for itself."""


class EmbeddedBackend:
    """A `Backend` over one directory.

    `closing` is called once at close, and owns the end of `log`: several backends may share one.
    """

    def __init__(
        self,
        log: Log,
        offsets: OffsetsTopic,
        *,
        url: str | None = None,
        clock: Clock | None = None,
        settling: Settling | None = None,
        closing: Callable[[], None] | None = None,
    ) -> None:
        self._log = log
        self._offsets = offsets
        self._url = url if url is not None else str(log.path)
        self._clock = clock or SystemClock()
        self._closing = closing if closing is not None else log.close
        self._closed = False
        self._settling = settling or Settling(log, self._clock)
        self._members: list[LockMembership] = []
        self._producers: list[LogTransactions] = []
        self._wakes = 0
        self._settled_at = -_SETTLE_SECONDS
        self._stuck: dict[TopicPartition, tuple[int, int]] = {}
        """Last stable offsets that readers wait at, and since when (ms)."""

        self._seen = threading.local()

    @property
    def url(self) -> str:
        return self._url

    @property
    def _coordinator(self) -> "TransactionCoordinator":
        return self._settling.coordinator()

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        _refuse_internal(name.replace(".", "_"))  # else the log could not make its own
        return _info(self._log.create_topic(name, partitions, config))

    def add_partitions(self, name: str, total: int) -> TopicInfo:
        _refuse_internal(name)
        return _info(self._log.add_partitions(name, total))

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        _refuse_internal(name)
        return _info(self._log.alter_topic(name, config))

    def delete_topic(self, name: str) -> None:
        _refuse_internal(name)
        self._log.topic(name)
        # Before and after: a group must not go on in a new topic of that name where it was in this
        # one, whoever is killed in between or commits once more.
        self._offsets.forget_topic(name)
        self._log.delete_topic(name)
        self._offsets.forget_topic(name)

    def log_config(self) -> dict[str, str]:
        return dict(self._log.config.given)

    def alter_log(self, config: Mapping[str, str | None]) -> None:
        self._log.alter_config(config)

    def maintain(self) -> "Maintained":
        return self._log.maintain()

    def topics(self) -> dict[str, TopicInfo]:
        return {name: _info(topic) for name, topic in self._log.topics().items()}

    def topic(self, name: str) -> TopicInfo:
        return _info(self._log.topic(name))

    def partitions(self, topic: str) -> tuple[PartitionInfo, ...]:
        every = (TopicPartition(topic, n) for n in range(self._log.topic(topic).partitions))
        return tuple(PartitionInfo(tp, *self._log.partition(tp).figures()) for tp in every)

    # Records.

    def append(
        self,
        partition: TopicPartition,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        timestamps: Sequence[int] | int | None = None,
        headers: Sequence[Headers] | None = None,
        acks: Acks = 1,
    ) -> int:
        _refuse_internal(partition.topic)
        target = self._log.partition(partition)
        if not values:
            return target.end_offset
        if _is_compacted(target):
            _check_keys(partition, keys)
        batch = codec.encode(
            values,
            keys=keys,
            timestamps=self._clock.now() if timestamps is None else timestamps,
            headers=headers,
            compression=_compression(target),
        )
        return target.append([batch], acks=acks)

    def append_encoded(self, partition: TopicPartition, *batches: bytes, acks: Acks = 1) -> int:
        _refuse_internal(partition.topic)
        target = self._log.partition(partition)
        if _is_compacted(target):
            for batch in batches:
                _check_keys(partition, codec.columns(batch).keys)
        return target.append(batches, acks=acks, together=True)

    def delete_records(self, partition: TopicPartition, before: int) -> int:
        return self._log.delete_records(partition, before)

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._log.partition(partition).sync()

    def producer_id(self) -> int:
        return self._log.producer_id()

    def transactions(self, transactional_id: str, *, timeout: float) -> Transactions:
        self._writable(f"transactional id {transactional_id!r}")
        with loading():
            from streamkit.backends.log_transactions import LogTransactions

        opened = LogTransactions(
            self._coordinator,
            self._offsets,
            transactional_id,
            round(timeout * 1000),
            commits=self._checked,
            forget=self._producers.remove,
        )
        self._producers.append(opened)
        return opened

    def fetch(
        self,
        positions: Mapping[TopicPartition, int],
        *,
        max_bytes: int = 1 << 20,
        isolation: Isolation = "read_committed",
    ) -> list[Batch]:
        committed = isolation == "read_committed"
        readable = [
            (partition, position, end)
            for tp, position in positions.items()
            if position != (end := _end(partition := self._log.partition(tp), committed))
        ]
        each = max(1, max_bytes // max(1, len(readable)))
        batches: list[Batch] = []
        for partition, position, end in readable:
            if committed:
                pieces, next_offset = partition.read_committed(position, each)
                raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            else:
                raw = partition.read(position, each)
                next_offset = position if raw else max(position, end)  # a gap up to the end
                for _, header in codec.headers(raw):
                    next_offset = header.next_offset
            if next_offset != position:
                batches.append(EmbeddedBatch(partition, raw, position, next_offset))
        return batches

    def wait(
        self,
        positions: Mapping[TopicPartition, int],
        timeout: float,
        *,
        isolation: Isolation = "read_committed",
    ) -> bool:
        partitions = [(self._log.partition(tp), at) for tp, at in positions.items()]
        # Not those of other threads: only their owner can do something about their changes.
        committed = isolation == "read_committed"
        here = threading.get_ident()
        members = [member for member in self._members if member.thread == here]
        seen = getattr(self._seen, "wakes", 0)
        topics = self._log.topics()
        found = False

        def ready() -> bool:
            nonlocal found
            found = (
                self._wakes != seen
                or any(_is_over(partition, at, committed) for partition, at in partitions)
                or any(member.changed() for member in members)
                or self._log.topics() != topics
            )
            return found

        deadline = self._clock.monotonic() + timeout
        while True:
            if committed:
                self._settle_for(partitions)
            left = min(deadline - self._clock.monotonic(), _SETTLE_SECONDS)
            self._log.wait(ready, max(0.0, left))
            if found or ready():
                self._seen.wakes = self._wakes
                return True
            # Another backend on the same log was woken, and the wait went on for too short a time.
            if self._clock.monotonic() >= deadline:
                return False

    def wake(self) -> None:
        self._wakes += 1
        self._log.wake()

    def offsets(self, partition: TopicPartition) -> OffsetRange:
        found = self._log.partition(partition)
        # In this order: what is committed in between must not end after the log does.
        start, stable = found.start_offset, found.stable_offset
        return OffsetRange(start, max(start, stable), max(start, stable, found.end_offset))

    def offset_at(
        self,
        partition: TopicPartition,
        timestamp: int,
        *,
        isolation: Isolation = "read_committed",
    ) -> int | None:
        found = self._log.partition(partition)
        offset = found.offset_at(timestamp)
        end = _end(found, isolation == "read_committed")
        return None if offset is None or offset >= end else offset

    def _settle_for(self, partitions: Iterable[tuple[Partition, int]]) -> None:
        """Who waits for the end of a transaction sees to it that it ends, whoever is dead."""
        if self._log.read_only:
            return
        open_in = [one for one, _ in partitions if one.stable_offset != one.end_offset]
        now = self._clock.monotonic()
        if not open_in or now - self._settled_at < _SETTLE_SECONDS / 2:
            return
        self._settled_at = now
        stuck: dict[Partition, int] = {}
        for partition in open_in:
            stable = partition.stable_offset
            seen, since = self._stuck.get(partition.tp, (-1, 0))
            if seen == stable:
                stuck[partition] = since
            else:
                self._stuck[partition.tp] = stable, self._clock.now()
        self._settling.settle(stuck)

    # Groups.

    def join(
        self,
        group: str,
        units: Mapping[str, int],
        *,
        client_id: str = "",
        instance_id: str | None = None,
        session_timeout: float = 10.0,
    ) -> Membership:
        self._writable(f"joining group {group!r}")
        if instance_id == "":
            raise UsageError(f"group {group!r}: the instance id is empty; leave it out or name one")
        if not 0 < session_timeout <= MOST_SESSION_SECONDS:
            raise UsageError(
                f"group {group!r}: session_timeout={session_timeout!r}: it is above 0 and at most "
                f"{MOST_SESSION_SECONDS} seconds"
            )
        said = MemberFile(
            client_id=client_id or "streamkit",
            host=os.uname().nodename,
            pid=os.getpid(),
            units=dict(units),
            boot=boot_id().hex(),
            instance_id=instance_id,
            session_timeout=session_timeout if instance_id is not None else 0.0,
        )
        member = LockMembership(
            self._log, self._offsets, self._clock, said, group, self._members.remove
        )
        self._members.append(member)
        return member

    def pending(self, group: str) -> frozenset[TopicPartition]:
        found = self._offsets.pending(group)
        if found and not self._log.read_only:
            self._settling.settle()
            found = self._offsets.pending(group)
        return frozenset(found)

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        return {
            partition: CommittedOffset(commit.offset, commit.metadata)
            for partition, commit in self._offsets.committed(group).items()
        }

    def commit(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        self._writable(f"committing for group {group!r}")
        if member is None:
            if units is not None:
                raise UsageError("units are a member's: name the member as well")
            self.reset(group, lambda _: offsets)
            return
        if not isinstance(member, LockMembership) or member.group != group:
            raise UsageError(f"that member is not one of group {group!r}")
        commits = self._checked(group, offsets)
        with member.holding(offsets if units is None else units):
            if commits:
                self._offsets.commit(group, commits)

    def reset(
        self, group: str, plan: Callable[[Committed], Committed], *, force: bool = False
    ) -> dict[TopicPartition, CommittedOffset]:
        self._writable(f"committing for group {group!r}")
        files = group_files(self._offsets, group)
        self._checked(group, plan(self.committed(group)))  # before anybody is fenced in vain
        self._offsets.make()
        with files.coordinator(), fenced(files, self._offsets, self._clock, force=force):
            offsets = dict(plan(self.committed(group)))
            commits = self._checked(group, offsets)
            if commits:
                self._offsets.commit(group, commits)
        self._log.notify()
        return offsets

    def _checked(self, group: str, offsets: Committed) -> dict[TopicPartition, OffsetCommit]:
        for partition in offsets:
            self._log.partition(partition)  # a typing error, or deleted: UnknownTopic says so
        now = self._clock.now()
        return {
            partition: _checked(group, partition, committed, now)
            for partition, committed in offsets.items()
        }

    def groups(self) -> list[str]:
        return self._offsets.groups()

    def group(self, group: str) -> GroupInfo:
        offsets = self.committed(group)
        metadata = self._offsets.metadata(group)
        if metadata is None:
            return GroupInfo(group, "Empty" if offsets else "Dead", 0, (), offsets)
        files = group_files(self._offsets, group)
        living, away = files.living(), files.away(self._clock.now())
        members = tuple(
            MemberInfo(
                member.member_id,
                member.client_id,
                member.host,
                tuple(sorted(schema.decode_assignment(member.assignment))),
                member.instance_id,
                away=member.member_id not in living,
            )
            for member in metadata.members
            if member.member_id in living or member.member_id in away
        )
        if not living:
            return GroupInfo(group, "Empty", metadata.generation, members, offsets)
        settled = {member.member_id for member in metadata.members} == living.keys() | away.keys()
        return GroupInfo(
            group,
            "Stable" if settled else "PreparingRebalance",
            metadata.generation,
            members,
            offsets,
        )

    def delete_group(self, group: str) -> None:
        self._writable(f"deleting group {group!r}")
        known = self._offsets.groups()
        if group not in known:
            raise UnknownGroup(f"no group {group!r}{nearest(group, known)}")
        files = group_files(self._offsets, group)
        with files.coordinator():
            with fenced(files, self._offsets, self._clock, force=False):
                self._offsets.forget(group)
            files.clear()

    def close(self) -> None:
        """Leave every group and let go of the log. The second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            for producer in list(self._producers):
                producer.close()
            for member in list(self._members):
                member.leave()
        finally:
            self._closing()

    def __enter__(self) -> "EmbeddedBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _writable(self, doing: str) -> None:
        if self._log.read_only:
            raise ReadOnlyLog(f"{self._log.path} is open for reading only: {doing} is refused")


def _refuse_internal(topic: str) -> None:
    """What is in these topics decides what all others mean: only the log itself writes there."""
    if topic in INTERNAL:
        raise InvalidTopic(
            f"topic {topic!r} is internal: {INTERNAL[topic]}, and only the log itself makes, "
            "changes or writes it"
        )


def _end(partition: Partition, committed: bool) -> int:
    return partition.stable_offset if committed else partition.end_offset


def _is_over(partition: Partition, at: int, committed: bool) -> bool:
    """Whether `fetch` has something to say about an offset: records, or that it does not exist."""
    end = _end(partition, committed)
    return end > at or (end < at and at > partition.end_offset)


def _is_compacted(partition: Partition) -> bool:
    return "compact" in partition.config.cleanup_policy


def _compression(partition: Partition) -> Compression:
    """`producer`, the default, leaves it to whoever produces, and here that is us: none."""
    name = partition.config.compression_type
    return name if name in CODECS else "none"


def _info(topic: Topic) -> TopicInfo:
    return TopicInfo(topic.name, topic.partitions, topic.topic_id, topic.config)


def _check_keys(partition: TopicPartition, keys: Sequence[bytes | None] | None) -> None:
    if keys is None or None in keys:
        where = "every record" if keys is None else f"record {list(keys).index(None)} of the batch"
        raise InvalidRecord(
            f"{partition}: {where} has no key, and the topic is compacted: only the last record of "
            "each key is kept, so each needs one"
        )


def _checked(
    group: str, partition: TopicPartition, committed: CommittedOffset, now: int
) -> OffsetCommit:
    if committed.offset < 0:
        raise UsageError(f"group {group!r}, {partition}: offset {committed.offset} is negative")
    if len(committed.metadata) > schema.MAX_METADATA:
        raise UsageError(
            f"group {group!r}, {partition}: a note of {len(committed.metadata)} characters, and "
            f"{schema.MAX_METADATA} are possible"
        )
    return OffsetCommit(committed.offset, committed.metadata, now)

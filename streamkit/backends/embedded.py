"""The log in a directory, shared with every other process that opens it."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from streamkit import codec
from streamkit.backends.base import (
    Acks,
    Batch,
    CommittedOffset,
    GroupInfo,
    MemberInfo,
    Membership,
    OffsetRange,
    TopicInfo,
)
from streamkit.backends.members import GroupDirectory, LockMembership, check_group
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clock import Clock, SystemClock
from streamkit.codec.compression import CODECS, Compression
from streamkit.errors import (
    CorruptBatch,
    GroupActive,
    InvalidRecord,
    ReadOnlyLog,
    UnknownGroup,
    UsageError,
    nearest,
)
from streamkit.groups import offsets as schema
from streamkit.groups.offsets import OffsetCommit
from streamkit.log.directory import Log
from streamkit.log.metadata import Topic
from streamkit.log.partition import Partition
from streamkit.records import Columns, Headers, Record, TopicPartition

T = TypeVar("T")


class EmbeddedBatch:
    """Whole record batches as they stand in the file; decoded, and checked, when asked."""

    __slots__ = ("_from_offset", "_source", "next_offset", "partition", "raw")

    def __init__(self, source: Partition, raw: bytes, from_offset: int) -> None:
        self.partition = source.tp
        self.next_offset = from_offset
        for _, header in codec.headers(raw):
            self.next_offset = header.next_offset
        self._source = source
        self.raw = raw
        self._from_offset = from_offset

    def __len__(self) -> int:
        headers = [header for _, header in codec.headers(self.raw)]
        if headers and headers[0].base_offset < self._from_offset:
            return len(self.columns())  # begins inside a batch; only decoding tells how far
        return sum(header.count for header in headers if not header.control)

    def columns(self) -> Columns:
        return self._decoded(lambda: codec.columns(self.raw, self._from_offset))

    def records(self) -> list[Record[bytes | None]]:
        return self._decoded(lambda: codec.records(self.raw, *self.partition, self._from_offset))

    def _decoded(self, decode: Callable[[], T]) -> T:
        """Everything up to the first damaged batch; the error when there is nothing before it."""
        try:
            return decode()
        except CorruptBatch as error:
            sound = error.position
            if sound == 0:
                self._source.verify(self._from_offset)  # knows file and byte
                raise
            self.next_offset = codec.read_header(self.raw, sound).base_offset
            self.raw = self.raw[:sound]
        return decode()


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
        closing: Callable[[], None] | None = None,
    ) -> None:
        self._log = log
        self._offsets = offsets
        self._url = url if url is not None else str(log.path)
        self._clock = clock or SystemClock()
        self._closing = closing if closing is not None else log.close
        self._closed = False
        self._members: list[LockMembership] = []
        self._wakes = 0
        self._seen = threading.local()

    @property
    def url(self) -> str:
        return self._url

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        return _info(self._log.create_topic(name, partitions, config))

    def delete_topic(self, name: str) -> None:
        self._log.topic(name)
        if name == schema.TOPIC:
            raise UsageError(f"topic {name!r} holds the state of all groups; it is not deleted")
        # Before and after: a group must not go on in a new topic of that name where it was in this
        # one, whoever is killed in between or commits once more.
        self._offsets.forget_topic(name)
        self._log.delete_topic(name)
        self._offsets.forget_topic(name)

    def topics(self) -> dict[str, TopicInfo]:
        return {name: _info(topic) for name, topic in self._log.topics().items()}

    def topic(self, name: str) -> TopicInfo:
        return _info(self._log.topic(name))

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

    def append_encoded(self, partition: TopicPartition, batch: bytes, *, acks: Acks = 1) -> int:
        target = self._log.partition(partition)
        if _is_compacted(target):
            _check_keys(partition, codec.columns(batch).keys)
        return target.append([batch], acks=acks)

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._log.partition(partition).sync()

    def fetch(
        self, positions: Mapping[TopicPartition, int], *, max_bytes: int = 1 << 20
    ) -> list[Batch]:
        readable = [
            (partition, position)
            for tp, position in positions.items()
            if position != (partition := self._log.partition(tp)).end_offset
        ]
        each = max(1, max_bytes // max(1, len(readable)))
        batches: list[Batch] = []
        for partition, position in readable:
            raw = partition.read(position, each)
            if raw:
                batches.append(EmbeddedBatch(partition, raw, position))
        return batches

    def wait(self, positions: Mapping[TopicPartition, int], timeout: float) -> bool:
        partitions = [(self._log.partition(tp), at) for tp, at in positions.items()]
        # Not those of other threads: only their owner can do something about their changes.
        here = threading.get_ident()
        members = [member for member in self._members if member.thread == here]
        seen = getattr(self._seen, "wakes", 0)
        topics = self._log.topics()

        def ready() -> bool:
            return (
                self._wakes != seen
                or any(partition.end_offset != at for partition, at in partitions)
                or any(member.changed() for member in members)
                or self._log.topics() != topics
            )

        deadline = self._clock.monotonic() + timeout
        while True:
            left = deadline - self._clock.monotonic()
            if self._log.wait(ready, max(0.0, left)) and ready():
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
        return OffsetRange(found.start_offset, found.end_offset)

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        return self._log.partition(partition).offset_at(timestamp)

    # Groups.

    def join(self, group: str, units: Mapping[str, int], *, client_id: str = "") -> Membership:
        self._writable(f"joining group {group!r}")
        member = LockMembership(
            self._log, self._offsets, self._clock, group, units, client_id, self._members.remove
        )
        self._members.append(member)
        return member

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
    ) -> None:
        self._writable(f"committing for group {group!r}")
        for partition in offsets:
            self._log.partition(partition)  # a typing error, or deleted: UnknownTopic says so
        now = self._clock.now()
        commits = {
            partition: _checked(group, partition, committed, now)
            for partition, committed in offsets.items()
        }
        if member is None:
            directory = self._directory(group)
            self._offsets.make()
            with directory.coordinator():
                self._refuse_active(group, directory)
                if commits:
                    self._offsets.commit(group, commits)
            return
        if not isinstance(member, LockMembership) or member.group != group:
            raise UsageError(f"that member is not one of group {group!r}")
        member.check()
        if commits:
            self._offsets.commit(group, commits)

    def groups(self) -> list[str]:
        return self._offsets.groups()

    def group(self, group: str) -> GroupInfo:
        offsets = self.committed(group)
        metadata = self._offsets.metadata(group)
        if metadata is None:
            return GroupInfo(group, "Empty" if offsets else "Dead", 0, (), offsets)
        living = self._directory(group).living()
        members = tuple(
            MemberInfo(
                member.member_id,
                member.client_id,
                member.host,
                tuple(sorted(schema.decode_assignment(member.assignment))),
            )
            for member in metadata.members
            if member.member_id in living
        )
        if not living:
            return GroupInfo(group, "Empty", metadata.generation, (), offsets)
        settled = {member.member_id for member in metadata.members} == living.keys()
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
        directory = self._directory(group)
        with directory.coordinator():
            self._refuse_active(group, directory)
            self._offsets.forget(group)

    def close(self) -> None:
        """Leave every group and let go of the log. The second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            for member in list(self._members):
                member.leave()
        finally:
            self._closing()

    def __enter__(self) -> "EmbeddedBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _directory(self, group: str) -> GroupDirectory:
        return GroupDirectory(self._offsets.locks, check_group(group))

    def _refuse_active(self, group: str, directory: GroupDirectory) -> None:
        living = directory.living()
        if living:
            who = ", ".join(f"{said.client_id} (process {said.pid})" for said in living.values())
            raise GroupActive(f"group {group!r} has live members: {who}; stop them first")

    def _writable(self, doing: str) -> None:
        if self._log.read_only:
            raise ReadOnlyLog(f"{self._log.path} is open for reading only: {doing} is refused")


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

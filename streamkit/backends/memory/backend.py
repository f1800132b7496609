"""A `Backend` over a log in memory."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit import codec
from streamkit.backends.base import Batch, Membership, Transactions
from streamkit.backends.embedded_groups import offset_commit
from streamkit.backends.memory.log import MemoryGroup, MemoryLog, Offsets
from streamkit.backends.memory.members import MemoryMembership, MemoryTransactions
from streamkit.backends.memory.partition import MemoryPartition
from streamkit.backends.refusals import refuse_internal, refuse_without_keys
from streamkit.backends.values import (
    Acks,
    CommittedOffset,
    GroupInfo,
    Isolation,
    MemberInfo,
    OffsetRange,
    PartitionInfo,
    TopicInfo,
    Unit,
)
from streamkit.clock import Clock, SystemClock
from streamkit.codec.buffer import Encoded
from streamkit.codec.compression import CODECS, Compression
from streamkit.errors import (
    GroupActive,
    InvalidRequiredAcks,
    OffsetOutOfRange,
    PolicyViolation,
    UnknownGroup,
    UsageError,
    nearest,
)
from streamkit.groups.offsets import GroupKey, encode_commit, encode_key
from streamkit.log.config import LogConfig
from streamkit.records import Headers, TopicPartition

if TYPE_CHECKING:
    from streamkit.log.maintenance import Maintained


class MemoryBackend:
    """See `backends.base.Backend`. What it holds is of no use to another process, and never goes by
    itself: nothing is removed or compacted. Several share a log."""

    def __init__(self, log: MemoryLog | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or (log.clock if log is not None else SystemClock())
        self.log = log or MemoryLog(self._clock)
        self._members: list[MemoryMembership] = []
        self._producers: list[MemoryTransactions] = []
        self._closed = False
        self._seen = threading.local()

    @property
    def url(self) -> str:
        return "memory:"

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        refuse_internal(name.replace(".", "_"))
        return self.log.create(name, partitions, config or {})

    def add_partitions(self, name: str, total: int) -> TopicInfo:
        refuse_internal(name)
        return self.log.grow(name, total)

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        refuse_internal(name)
        return self.log.alter(name, config)

    def delete_topic(self, name: str) -> None:
        refuse_internal(name)
        self.log.delete(name)

    def partitions(self, topic: str) -> tuple[PartitionInfo, ...]:
        every = [TopicPartition(topic, n) for n in range(self.topic(topic).partitions)]
        found = [(tp, self.log.partition(tp)) for tp in every]
        return tuple(PartitionInfo(tp, p.start, p.stable, p.end, 1, p.size) for tp, p in found)

    def log_config(self) -> dict[str, str]:
        return dict(self.log.log_config)

    def alter_log(self, config: Mapping[str, str | None]) -> None:
        together = {**self.log.log_config, **config}
        given = {key: value for key, value in together.items() if value is not None}
        LogConfig.parse(given)
        self.log.log_config = given

    def maintain(self) -> "Maintained":
        from streamkit.log.maintenance import Maintained

        return Maintained()

    def topics(self) -> dict[str, TopicInfo]:
        return dict(self.log.topics)

    def topic(self, name: str) -> TopicInfo:
        return self.log.topic(name)

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
        refuse_internal(partition.topic)
        _check_acks(acks)
        target = self.log.partition(partition)
        if not values:
            return target.end
        if target.config.compacted:
            refuse_without_keys(partition, keys)
        batch = codec.encode(
            values,
            keys=keys,
            timestamps=self._clock.now() if timestamps is None else timestamps,
            headers=headers,
            compression=_compression(target),
        )
        return self._append(target, batch)

    def append_encoded(self, partition: TopicPartition, *batches: Encoded, acks: Acks = 1) -> int:
        refuse_internal(partition.topic)
        _check_acks(acks)
        target = self.log.partition(partition)
        if target.config.compacted:
            for batch in batches:
                refuse_without_keys(partition, codec.columns(batch).keys)
        offsets = [self._append(target, batch) for batch in batches]
        return offsets[0]

    def _append(self, target: MemoryPartition, batch: Encoded) -> int:
        with self.log.changed:
            offset = target.append(batch)
            self.log.changed.notify_all()
        return offset

    def delete_records(self, partition: TopicPartition, before: int) -> int:
        refuse_internal(partition.topic)
        target = self.log.partition(partition)
        if not target.config.deletes:
            raise PolicyViolation(f"{partition}: its topic is only compacted, nothing is deleted")
        before = target.stable if before == -1 else before
        if not 0 <= before <= target.stable:
            raise OffsetOutOfRange(f"{partition}@{before}: readers come to {target.stable}")
        return target.delete(before)

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.log.partition(partition)

    def producer_id(self) -> int:
        return self.log.next_id()

    def transactions(self, transactional_id: str, *, timeout: float) -> Transactions:
        opened = MemoryTransactions(self.log, transactional_id, round(timeout * 1000))
        self._producers.append(opened)
        return opened

    def fetch(
        self,
        positions: Mapping[TopicPartition, int],
        *,
        max_bytes: int = 1 << 20,
        isolation: Isolation = "read_committed",
    ) -> list[Batch]:
        stable = isolation == "read_committed"
        each = max(1, max_bytes // max(1, len(positions)))
        with self.log.lock:
            found = (
                self.log.partition(tp).read(position, each, stable=stable)
                for tp, position in positions.items()
            )
            return [batch for batch in found if batch is not None]

    def wait(
        self,
        positions: Mapping[TopicPartition, int],
        timeout: float,
        *,
        isolation: Isolation = "read_committed",
    ) -> bool:
        partitions = [(self.log.partition(tp), at) for tp, at in positions.items()]
        # By thread, as all that was told since it waited before counts: between two waits it looks
        # at what there is, and something may come right behind that.
        wakes = getattr(self._seen, "wakes", 0)
        topics = getattr(self._seen, "topics", self.log.topics)

        def ready() -> bool:
            for partition, at in partitions:
                end = partition.stable if isolation == "read_committed" else partition.end
                if end > at or (end < at and at > partition.end):
                    return True
            return (
                self.log.wakes != wakes
                or self.log.topics is not topics
                or any(member.changed() for member in self._members)
            )

        with self.log.changed:
            found = self.log.changed.wait_for(ready, timeout)
            self._seen.wakes, self._seen.topics = self.log.wakes, self.log.topics
        return found

    def wake(self) -> None:
        with self.log.changed:
            self.log.wakes += 1
            self.log.changed.notify_all()

    def offsets(self, partition: TopicPartition) -> OffsetRange:
        found = self.log.partition(partition)
        return OffsetRange(found.start, found.stable, found.end)

    def end(self, partition: TopicPartition) -> int:
        return self.log.partition(partition).stable  # nobody is dead here

    def state_directory(self, partition: TopicPartition) -> Path | None:
        self.log.partition(partition)
        return None

    def offset_at(
        self,
        partition: TopicPartition,
        timestamp: int,
        *,
        isolation: Isolation = "read_committed",
    ) -> int | None:
        found = self.log.partition(partition)
        end = found.stable if isolation == "read_committed" else found.end
        return found.offset_at(timestamp, end)

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
        if instance_id is not None:
            raise UsageError("a log in memory ends with its process: it has no static members")
        number = self.log.next_id()
        member = MemoryMembership(self.log, group, units, client_id or "streamkit", number)
        self._members.append(member)
        return member

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        found = self.log.groups.get(group)
        return {} if found is None else dict(found.committed)

    def pending(self, group: str) -> frozenset[TopicPartition]:
        return self.log.pending(group)

    def commit(
        self,
        group: str,
        offsets: Offsets,
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        if member is None:
            if units is not None:
                raise UsageError("units are a member's: name the member as well")
            self.reset(group, lambda _: offsets)
            return
        if not isinstance(member, MemoryMembership) or member.group != group:
            raise UsageError(f"that member is not one of group {group!r}")
        self._check(group, offsets)
        with member.holding(offsets if units is None else units):
            self.log.group(group).committed |= offsets

    def reset(
        self, group: str, plan: Callable[[Offsets], Offsets], *, force: bool = False
    ) -> dict[TopicPartition, CommittedOffset]:
        with self.log.changed:
            self._refuse_active(group, force)
            offsets = dict(plan(self.committed(group)))
            self._check(group, offsets)
            self.log.group(group).committed |= offsets
            self.log.changed.notify_all()
        return offsets

    def _check(self, group: str, offsets: Offsets) -> None:
        encode_key(GroupKey(group))  # UsageError for what is no text
        for at, committed in offsets.items():
            self.log.partition(at)
            encode_commit(offset_commit(group, at, committed, 0))

    def groups(self) -> list[str]:
        return sorted(self.log.groups)

    def group(self, group: str) -> GroupInfo:
        found = self.log.groups.get(group) or MemoryGroup()
        members = tuple(
            MemberInfo(
                member_id,
                joined.client_id,
                joined.host,
                tuple(sorted(found.target(member_id))),
            )
            for member_id, joined in sorted(found.members.items())
        )
        state = "Stable" if members else "Empty" if group in self.log.groups else "Dead"
        return GroupInfo(group, state, found.metadata.generation, members, dict(found.committed))  # type: ignore[arg-type]

    def delete_group(self, group: str) -> None:
        if group not in self.log.groups:
            raise UnknownGroup(f"no group {group!r}{nearest(group, self.log.groups)}")
        self._refuse_active(group, force=False)
        del self.log.groups[group]

    def _refuse_active(self, group: str, force: bool) -> None:
        found = self.log.groups.get(group)
        if found is None or not found.members:
            return
        if not force:
            raise GroupActive(
                f"group {group!r} has live members: {', '.join(sorted(found.members))}; stop them "
                "first"
            )
        found.members.clear()
        found.owners.clear()
        found.decide(self._clock.now())

    def close(self) -> None:
        """Leave every group. The second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        for producer in self._producers:
            producer.close()
        for member in self._members:
            member.leave()

    def __enter__(self) -> "MemoryBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_acks(acks: Acks) -> None:
    if acks not in ("all", 1):
        raise InvalidRequiredAcks(f'acks={acks!r}: it is "all" or 1')


def _compression(partition: MemoryPartition) -> Compression:
    name = partition.config.compression_type
    return name if name in CODECS else "none"

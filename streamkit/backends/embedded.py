"""The log in a directory, shared with every other process that opens it."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit import codec
from streamkit.backends.base import Batch, Membership, Transactions
from streamkit.backends.embedded_groups import Committed, EmbeddedGroups
from streamkit.backends.fetched import EmbeddedBatch
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.refusals import (
    INTERNAL,
    is_compacted,
    refuse_internal,
    refuse_read_only,
    refuse_without_keys,
)
from streamkit.backends.settling import Settling
from streamkit.backends.values import (
    Acks,
    CommittedOffset,
    GroupInfo,
    Isolation,
    OffsetRange,
    PartitionInfo,
    TopicInfo,
    Unit,
)
from streamkit.backends.waiting import Waiting, end_of
from streamkit.clock import Clock, SystemClock
from streamkit.codec.buffer import Encoded
from streamkit.codec.compression import CODECS
from streamkit.log.directory import Log
from streamkit.log.late import loading
from streamkit.log.metadata import Topic
from streamkit.records import Headers, TopicPartition

if TYPE_CHECKING:  # loaded by the few who need it
    from streamkit.backends.coordinator import TransactionCoordinator
    from streamkit.backends.log_transactions import LogTransactions
    from streamkit.log.maintenance import Maintained


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
        self._infos: dict[str, tuple[Topic, TopicInfo]] = {}
        self._settling = settling or Settling(log, self._clock)
        self._groups = EmbeddedGroups(log, offsets, self._settling, self._clock)
        self._members = self._groups.members
        self._producers: list[LogTransactions] = []
        self._waiting = Waiting(log, self._settling, self._clock)

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
        refuse_internal(str(name).replace(".", "_"))  # else the log could not make its own
        return _info(self._log.create_topic(name, partitions, config))

    def add_partitions(self, name: str, total: int) -> TopicInfo:
        refuse_internal(name)
        return _info(self._log.add_partitions(name, total))

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        refuse_internal(name)
        return _info(self._log.alter_topic(name, config))

    def delete_topic(self, name: str) -> None:
        refuse_internal(name)
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
        topic = self._log.topic(name)
        known = self._infos.get(name)  # asked for before every batch
        if known is None or known[0] is not topic:
            known = self._infos[name] = topic, _info(topic)
        return known[1]

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
        if partition.topic in INTERNAL:
            refuse_internal(partition.topic)
        target = self._log.partition(partition)
        if not values:
            return target.end_offset
        config = target.config
        # `producer`, the default, leaves it to whoever produces, and here that is us: none.
        compression = config.compression_type
        if "compact" in config.cleanup_policy:  # as `compacted`, without a call
            refuse_without_keys(partition, keys)
        batch = codec.encode(
            values,
            keys=keys,
            timestamps=self._clock.now() if timestamps is None else timestamps,
            headers=headers,
            compression=compression if compression in CODECS else "none",
        )
        return target.append([batch], acks=acks)

    def append_encoded(self, partition: TopicPartition, *batches: Encoded, acks: Acks = 1) -> int:
        refuse_internal(partition.topic)
        target = self._log.partition(partition)
        if is_compacted(target):
            for batch in batches:
                refuse_without_keys(partition, codec.columns(batch).keys)
        return target.append(batches, acks=acks, together=True)

    def delete_records(self, partition: TopicPartition, before: int) -> int:
        return self._log.delete_records(partition, before)

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        found = [self._log.partition(partition) for partition in partitions]
        if len(found) > 1:
            with loading():
                from streamkit.backends.syncing import sync_all

            sync_all(found)
        elif found:
            found[0].sync()

    def producer_id(self) -> int:
        return self._log.producer_id()

    def transactions(self, transactional_id: str, *, timeout: float) -> Transactions:
        refuse_read_only(self._log, f"transactional id {transactional_id!r}")
        with loading():
            from streamkit.backends.log_transactions import LogTransactions

        # Also the first transaction of all has to go on, on a disk that is full by now.
        opened = self._log.pressing(
            lambda: LogTransactions(
                self._coordinator,
                self._offsets,
                transactional_id,
                round(timeout * 1000),
                commits=self._groups.checked,
                forget=self._producers.remove,
            )
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
            if position != (end := end_of(partition := self._log.partition(tp), committed))
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
        here = threading.get_ident()
        members = [member for member in self._members if member.thread == here]
        return self._waiting.wait(
            partitions,
            timeout,
            committed=isolation == "read_committed",
            changed=lambda: any(member.changed() for member in members),
        )

    def wake(self) -> None:
        self._waiting.wake()

    def offsets(self, partition: TopicPartition) -> OffsetRange:
        found = self._log.partition(partition)
        # In this order: what is committed in between must not end after the log does.
        start, stable = found.start_offset, found.stable_offset
        return OffsetRange(start, max(start, stable), max(start, stable, found.end_offset))

    def end(self, partition: TopicPartition) -> int:
        found = self.offsets(partition)
        if found.end < found.log_end and not self._log.read_only:
            at = self._log.partition(partition)
            self._settling.settle({at: self._clock.now()}, wait=True)
            found = self.offsets(partition)
        return found.end

    def state_directory(self, partition: TopicPartition) -> Path | None:
        # Inside the partition's: a Kafka broker overlooks directories there, and nowhere else.
        found = self._log.partition(partition)
        return None if self._url == "memory:" else Path(found.directory) / "state"

    def offset_at(
        self,
        partition: TopicPartition,
        timestamp: int,
        *,
        isolation: Isolation = "read_committed",
    ) -> int | None:
        found = self._log.partition(partition)
        offset = found.offset_at(timestamp)
        end = end_of(found, isolation == "read_committed")
        return None if offset is None or offset >= end else offset

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
        return self._groups.join(
            group,
            units,
            client_id=client_id,
            instance_id=instance_id,
            session_timeout=session_timeout,
        )

    def pending(self, group: str) -> frozenset[TopicPartition]:
        return self._groups.pending(group)

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        return self._groups.committed(group)

    def commit(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        self._groups.commit(group, offsets, member=member, units=units)

    def reset(
        self, group: str, plan: Callable[[Committed], Committed], *, force: bool = False
    ) -> dict[TopicPartition, CommittedOffset]:
        return self._groups.reset(group, plan, force=force)

    def groups(self) -> list[str]:
        return self._groups.names()

    def group(self, group: str) -> GroupInfo:
        return self._groups.group(group)

    def delete_group(self, group: str) -> None:
        self._groups.delete(group)

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


def _info(topic: Topic) -> TopicInfo:
    return TopicInfo(topic.name, topic.partitions, topic.topic_id, topic.config)

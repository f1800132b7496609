"""`__consumer_offsets`, read into memory and kept up with: what groups committed, who is in."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias
from weakref import WeakSet

from streamkit import codec
from streamkit.clock import Clock
from streamkit.errors import CorruptBatch, DataError, TopicExists
from streamkit.groups import offsets as schema
from streamkit.groups.offsets import GroupKey, GroupMetadata, Key, OffsetCommit, OffsetKey
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
from streamkit.transactions.markers import read_marker

_CONFIG = {
    "cleanup.policy": "compact",
    # A commit is one batch; this is room for a thousand offsets with the longest notes.
    "max.message.bytes": str(8 << 20),
}
_READ_BYTES = 4 << 20


_Commit: TypeAlias = tuple[OffsetCommit, int]
"""A commit, and the offset that it was appended at."""
_Pending: TypeAlias = tuple[OffsetKey, OffsetCommit, int]

_topics: "WeakSet[OffsetsTopic]" = WeakSet()


class OffsetsTopic:
    """The state of every group as the log has it. Used from several threads."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._begin()
        _topics.add(self)

    def _begin(self) -> None:
        """Know nothing. In a forked child, too: another thread may have been halfway through."""
        self._lock = threading.Lock()
        self._forget_all()

    def _forget_all(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._commits: dict[str, dict[TopicPartition, _Commit]] = {}
        self._open: dict[tuple[TopicPartition, int], list[_Pending]] = {}
        self._groups: dict[str, GroupMetadata] = {}
        self._heard = 0, 0.0
        """When it was read to the end the last time: wall clock (ms) and monotonic (s)."""

    def committed(self, group: str) -> dict[TopicPartition, OffsetCommit]:
        """What has taken effect; offsets of open transactions have not."""
        with self._lock:
            self._refresh()
            return {tp: commit for tp, (commit, _) in self._commits.get(group, {}).items()}

    def pending(self, group: str) -> set[TopicPartition]:
        """The partitions whose offsets change when an open transaction is committed."""
        with self._lock:
            self._refresh()
            return {
                key.partition
                for records in self._open.values()
                for key, _, _ in records
                if key.group == group
            }

    def metadata(self, group: str) -> GroupMetadata | None:
        """The group's last generation; None when it never had a member."""
        with self._lock:
            self._refresh()
            return self._groups.get(group)

    def groups(self) -> list[str]:
        with self._lock:
            self._refresh()
            return sorted(self._commits.keys() | self._groups.keys())

    def make(self) -> None:
        """Make the topic unless it is there."""
        if schema.TOPIC not in self._log.topics():
            with suppress(TopicExists):  # by another process, since the line above
                self._log.create_topic(schema.TOPIC, 1, _CONFIG)

    @property
    def locks(self) -> Path:
        """Where the groups' lock files are, once the topic is made.

        Not in the log's root: Kafka takes every directory there for a partition and refuses to
        start on one that is none, while it overlooks directories inside a partition.
        """
        return Path(self._log.path) / f"{schema.TOPIC}-0" / "groups"

    def commit(self, group: str, offsets: Mapping[TopicPartition, OffsetCommit]) -> None:
        """Append all of them as one batch, on stable storage when it returns."""
        self._append(
            group,
            [schema.encode_key(OffsetKey(group, partition)) for partition in offsets],
            [schema.encode_commit(commit) for commit in offsets.values()],
            durable=True,
        )

    def home(self, group: str) -> TopicPartition:
        """Where the group's records are, once the topic is made."""
        count = self._log.topic(schema.TOPIC).partitions
        return TopicPartition(schema.TOPIC, schema.partition_of(group, count))

    def commit_in_transaction(
        self,
        group: str,
        offsets: Mapping[TopicPartition, OffsetCommit],
        producer_id: int,
        producer_epoch: int,
    ) -> None:
        """Append all of them as one batch, to take effect when the transaction is committed."""
        batch = codec.encode(
            [schema.encode_commit(commit) for commit in offsets.values()],
            keys=[schema.encode_key(OffsetKey(group, partition)) for partition in offsets],
            timestamps=self._clock.now(),
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            transactional=True,
        )
        self._log.partition(self.home(group)).append([batch], acks=1, sequenced=False)

    def save(self, group: str, metadata: GroupMetadata) -> None:
        """Append a generation. Not synced: after a power cut there is no member left."""
        key = schema.encode_key(GroupKey(group))
        self._append(group, [key], [schema.encode_group(metadata)], durable=False)

    def forget(self, group: str) -> None:
        """Append tombstones for all that is known of the group."""
        known = self.committed(group).keys() | self.pending(group)
        self._bury(group, [GroupKey(group), *(OffsetKey(group, tp) for tp in sorted(known))])

    def forget_topic(self, topic: str) -> None:
        """Append tombstones for what any group has committed of a topic, or may have when an open
        transaction ends."""
        with self._lock:
            self._refresh()
            keys = {
                OffsetKey(group, tp) for group, offsets in self._commits.items() for tp in offsets
            }
            keys |= {key for records in self._open.values() for key, _, _ in records}
        of_topic: dict[str, list[Key]] = {}
        for key in sorted(keys, key=lambda key: (key.group, key.partition)):
            if key.partition.topic == topic:
                of_topic.setdefault(key.group, []).append(key)
        for group, some in of_topic.items():
            self._bury(group, some)

    def _bury(self, group: str, keys: Sequence[Key]) -> None:
        raw = [schema.encode_key(key) for key in keys]
        self._append(group, raw, [None] * len(raw), durable=True)

    def _append(
        self, group: str, keys: list[bytes], values: Sequence[bytes | None], *, durable: bool
    ) -> None:
        self.make()
        partition = self._log.partition(self.home(group))
        batch = codec.encode(values, keys=keys, timestamps=self._clock.now())
        partition.append([batch], acks="all" if durable else 1)

    def _refresh(self) -> None:
        heard = self._clock.now(), self._clock.monotonic()
        if self._positions and self._may_have_missed(*heard):
            self._forget_all()
        if not self._positions:
            # Made by the first group; until then there is nothing to keep up with.
            topic = self._log.topics().get(schema.TOPIC)
            if topic is None:
                return
            for number in range(topic.partitions):
                self._positions[TopicPartition(schema.TOPIC, number)] = 0
        for partition, position in self._positions.items():
            self._positions[partition] = self._read(partition, position)
        self._heard = heard

    def _may_have_missed(self, now: int, monotonic: float) -> bool:
        """Whether compaction may have removed tombstones, or markers, that were not read here.

        It keeps them for delete.retention.ms, a day. A deleted topic's offsets would come back.
        """
        # By both clocks: one of them may be set, and the other stands while the machine sleeps.
        silent = max(now - self._heard[0], (monotonic - self._heard[1]) * 1000)
        kept = (self._log.partition(tp).config.delete_retention_ms for tp in self._positions)
        return silent >= min(kept) / 2

    def _read(self, tp: TopicPartition, position: int) -> int:
        partition = self._log.partition(tp)
        while position < partition.end_offset:
            raw = partition.read(max(position, partition.start_offset), _READ_BYTES)
            if not raw:
                break
            try:
                self._take(tp, raw, position)
            except DataError as error:
                raise DataError(f"{tp} below offset {position}: {error}") from error
            except CorruptBatch:
                partition.verify(max(position, partition.start_offset), _READ_BYTES)
                raise
            for _, header in codec.headers(raw):
                position = header.next_offset
        return position

    def _take(self, tp: TopicPartition, raw: bytes, position: int) -> None:
        """Take in some batches: transactional ones when their transaction's marker is met.

        Not by the last stable offset, as readers of records do: a transaction that is open for
        long would hold up the commits and members of all groups.
        """
        start = 0
        for at, header in codec.headers(raw):
            if not (header.control or header.transactional):
                continue
            self._apply_all(raw[start:at], position)
            start = at + header.size
            open_in = (tp, header.producer_id)
            if header.control:
                marker = read_marker(raw, at)
                if marker is not None:
                    ended = self._open.pop(open_in, [])
                    if marker.commit:
                        for key, commit, offset in ended:
                            self._commit(key, commit, offset)
            else:
                self._open.setdefault(open_in, []).extend(_pending(raw[at:start], position))
        self._apply_all(raw[start:], position)

    def _apply_all(self, raw: bytes, position: int) -> None:
        if not raw:
            return
        columns = codec.columns(raw, position)
        # The last value of each key is all that counts, and decoding is what costs.
        latest = {
            key: (value, offset)
            for key, value, offset in zip(
                columns.keys, columns.values, columns.offsets, strict=True
            )
        }
        for key, (value, offset) in latest.items():
            if key is not None:
                self._apply(key, value, offset)

    def _apply(self, raw_key: bytes, value: bytes | None, offset: int) -> None:
        match schema.decode_key(raw_key):
            case OffsetKey() as key:
                if value is not None:
                    self._commit(key, schema.decode_commit(value), offset)
                else:
                    self._forget(key)
            case GroupKey(group):
                if value is not None:
                    self._groups[group] = schema.decode_group(value)
                else:
                    self._groups.pop(group, None)

    def _forget(self, key: OffsetKey) -> None:
        """Take in a tombstone. It counts more than what was appended before and is undecided."""
        if key.group in self._commits:
            self._commits[key.group].pop(key.partition, None)
            if not self._commits[key.group]:
                del self._commits[key.group]
        for records in self._open.values():
            records[:] = [one for one in records if one[0] != key]

    def _commit(self, key: OffsetKey, commit: OffsetCommit, offset: int) -> None:
        offsets = self._commits.setdefault(key.group, {})
        known = offsets.get(key.partition)
        # One that was appended before another, and decided after it, is out of date.
        if known is None or known[1] <= offset:
            offsets[key.partition] = commit, offset


def _pending(raw: bytes, position: int) -> Iterator[_Pending]:
    columns = codec.columns(raw, position)
    for raw_key, value, offset in zip(columns.keys, columns.values, columns.offsets, strict=True):
        key = None if raw_key is None else schema.decode_key(raw_key)
        if isinstance(key, OffsetKey) and value is not None:
            yield key, schema.decode_commit(value), offset


def _begin_in_child() -> None:
    for topic in list(_topics):
        topic._begin()


os.register_at_fork(after_in_child=_begin_in_child)

"""`__consumer_offsets`, read into memory and kept up with: what groups committed, who is in."""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from streamkit import codec
from streamkit.clock import Clock
from streamkit.errors import DataError, TopicExists
from streamkit.groups import offsets as schema
from streamkit.groups.offsets import GroupKey, GroupMetadata, Key, OffsetCommit, OffsetKey
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

_CONFIG = {
    "cleanup.policy": "compact",
    # A commit is one batch; this is room for a thousand offsets with the longest notes.
    "max.message.bytes": str(8 << 20),
}
_READ_BYTES = 4 << 20


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
        self._positions: dict[TopicPartition, int] = {}
        self._commits: dict[str, dict[TopicPartition, OffsetCommit]] = {}
        self._groups: dict[str, GroupMetadata] = {}

    def committed(self, group: str) -> dict[TopicPartition, OffsetCommit]:
        with self._lock:
            self._refresh()
            return dict(self._commits.get(group, {}))

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

    def save(self, group: str, metadata: GroupMetadata) -> None:
        """Append a generation. Not synced: after a power cut there is no member left."""
        key = schema.encode_key(GroupKey(group))
        self._append(group, [key], [schema.encode_group(metadata)], durable=False)

    def forget(self, group: str) -> None:
        """Append tombstones for all that is known of the group."""
        self._bury(
            group, [GroupKey(group), *(OffsetKey(group, tp) for tp in self.committed(group))]
        )

    def forget_topic(self, topic: str) -> None:
        """Append tombstones for what any group has committed of a topic."""
        for group in self.groups():
            keys = [OffsetKey(group, tp) for tp in self.committed(group) if tp.topic == topic]
            if keys:
                self._bury(group, keys)

    def _bury(self, group: str, keys: Sequence[Key]) -> None:
        raw = [schema.encode_key(key) for key in keys]
        self._append(group, raw, [None] * len(raw), durable=True)

    def _append(
        self, group: str, keys: list[bytes], values: Sequence[bytes | None], *, durable: bool
    ) -> None:
        self.make()
        number = schema.partition_of(group, self._log.topic(schema.TOPIC).partitions)
        partition = self._log.partition(TopicPartition(schema.TOPIC, number))
        batch = codec.encode(values, keys=keys, timestamps=self._clock.now())
        partition.append([batch], acks="all" if durable else 1)

    def _refresh(self) -> None:
        if not self._positions:
            # Made by the first group; until then there is nothing to keep up with.
            topic = self._log.topics().get(schema.TOPIC)
            if topic is None:
                return
            for number in range(topic.partitions):
                self._positions[TopicPartition(schema.TOPIC, number)] = 0
        for partition, position in self._positions.items():
            self._positions[partition] = self._read(partition, position)

    def _read(self, tp: TopicPartition, position: int) -> int:
        partition = self._log.partition(tp)
        while position < partition.end_offset:
            raw = partition.read(max(position, partition.start_offset), _READ_BYTES)
            if not raw:
                break
            columns = codec.columns(raw, position)
            for _, header in codec.headers(raw):
                position = header.next_offset
            # The last value of each key is all that counts, and decoding is what costs.
            latest = dict(zip(columns.keys, columns.values, strict=True))
            for key, value in latest.items():
                if key is not None:
                    try:
                        self._apply(key, value)
                    except DataError as error:
                        raise DataError(f"{tp} below offset {position}: {error}") from error
        return position

    def _apply(self, raw_key: bytes, value: bytes | None) -> None:
        match schema.decode_key(raw_key):
            case OffsetKey(group, partition):
                if value is not None:
                    offsets = self._commits.setdefault(group, {})
                    offsets[partition] = schema.decode_commit(value)
                elif group in self._commits:
                    self._commits[group].pop(partition, None)
                    if not self._commits[group]:
                        del self._commits[group]
            case GroupKey(group):
                if value is not None:
                    self._groups[group] = schema.decode_group(value)
                else:
                    self._groups.pop(group, None)


def _begin_in_child() -> None:
    for topic in list(_topics):
        topic._begin()


os.register_at_fork(after_in_child=_begin_in_child)

"""Topics and groups: make, list, describe, reset."""

from collections.abc import Iterable, Mapping
from types import TracebackType

from streamkit.backends.base import CommittedOffset, GroupInfo, OffsetRange, TopicInfo
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.start import Start, checked_start, place
from streamkit.errors import UsageError
from streamkit.records import TopicPartition


class Admin:
    """What one does about topics and groups, beside reading and writing them."""

    def __init__(self, log: LogLike = None) -> None:
        """`log`: a path, url or Backend; None is STREAMKIT_LOG, else ./streamkit-data."""
        self._backend, self._owned = connect(log)

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        """`config` has Kafka's names. Raises TopicExists, InvalidTopic, ConfigError."""
        return self._backend.create_topic(name, partitions, config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic for good: records, and what groups committed of it. UnknownTopic."""
        self._backend.delete_topic(name)

    def topics(self, *, internal: bool = False) -> dict[str, TopicInfo]:
        """All topics by name; with `internal`, those as well that the log keeps for itself."""
        topics = self._backend.topics()
        return {
            name: topics[name] for name in sorted(topics) if internal or not topics[name].internal
        }

    def topic(self, name: str) -> TopicInfo:
        """Raises UnknownTopic, naming the nearest that exists."""
        return self._backend.topic(name)

    def offsets(self, topic: str) -> dict[TopicPartition, OffsetRange]:
        """Where each partition of a topic starts and ends."""
        return {tp: self._backend.offsets(tp) for tp in self._partitions([topic])}

    # Groups.

    def groups(self) -> list[str]:
        """Names of all groups that have committed, or have had members."""
        return self._backend.groups()

    def group(self, group: str) -> GroupInfo:
        """Its state, members, and committed offsets; one that was never heard of is Dead."""
        return self._backend.group(group)

    def delete_group(self, group: str) -> None:
        """Forget a group and its offsets. Raises UnknownGroup; GroupActive while it has members."""
        self._backend.delete_group(group)

    def lag(self, group: str) -> dict[TopicPartition, int]:
        """How many offsets each partition's end is ahead of what the group has committed."""
        known = self._backend.topics()
        return {
            tp: max(0, self._backend.offsets(tp).end - committed.offset)
            for tp, committed in sorted(self._backend.committed(group).items())
            if tp.topic in known and tp.partition < known[tp.topic].partitions
        }

    def reset_offsets(
        self,
        group: str,
        to: Start | None = None,
        *,
        offset: int | None = None,
        shift: int | None = None,
        topics: str | Iterable[str] | None = None,
    ) -> dict[TopicPartition, int]:
        """Commit other offsets for a group without members, and return them.

        `to`: "earliest", "latest", or a time (ms, or a datetime). `offset`: that offset. `shift`:
        forwards or backwards from what is committed. Name one of them. Nothing goes below a
        partition's first offset or above its end. `topics`: only these, and all of their
        partitions; else all partitions that the group has committed. Offsets that an app has
        committed belong to its state: reset them only together with it.
        Raises GroupActive while the group has members, UnknownTopic.
        """
        if sum(choice is not None for choice in (to, offset, shift)) != 1:
            raise UsageError("say where to reset to: one of to, offset and shift")
        start = None if to is None else checked_start(to)
        committed = self._backend.committed(group)
        if topics is None:
            partitions = sorted(committed)
            if not partitions:
                raise UsageError(f"group {group!r} has committed nothing; name topics to reset")
        else:
            partitions = self._partitions([topics] if isinstance(topics, str) else topics)
        chosen: dict[TopicPartition, int] = {}
        for tp in partitions:
            there = self._backend.offsets(tp)
            if start is not None:
                target = place(self._backend, tp, start)
            elif offset is not None:
                target = offset
            elif tp in committed:
                target = committed[tp].offset + (shift or 0)
            else:
                raise UsageError(f"group {group!r} has committed nothing of {tp} to shift from")
            chosen[tp] = min(max(target, there.start), there.end)
        self._backend.commit(group, {tp: CommittedOffset(at) for tp, at in chosen.items()})
        return chosen

    def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [
            TopicPartition(name, number)
            for name in topics
            for number in range(self._backend.topic(name).partitions)
        ]

    # The end.

    def close(self) -> None:
        """Let go of the log. A Backend that was handed in stays open."""
        if self._owned:
            self._backend.close()

    def __enter__(self) -> "Admin":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""Topics and groups: make, list, describe, reset."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from streamkit.backends.values import (
    CommittedOffset,
    GroupInfo,
    OffsetRange,
    PartitionInfo,
    TopicInfo,
)
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.lag import GroupPosition, position_of
from streamkit.clients.reset import At, By, MovedOffset, Target, is_app_topic, plan_reset
from streamkit.clients.start import Start, checked_start
from streamkit.clock import SystemClock
from streamkit.errors import UsageError
from streamkit.records import TopicPartition

if TYPE_CHECKING:
    from streamkit.log.maintenance import Maintained


class Admin:
    """What one does about topics and groups, beside reading and writing them."""

    def __init__(self, log: LogLike = None) -> None:
        """`log`: a path, url or Backend; None is STREAMKIT_LOG, else ./streamkit-data."""
        self._backend, self._owned = connect(log)

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        """`config` has Kafka's names.

        Raises TopicExists, InvalidTopic, InvalidPartitions, ConfigError.
        """
        return self._backend.create_topic(name, partitions, config)

    def add_partitions(self, name: str, total: int) -> TopicInfo:
        """Let a topic have `total` partitions; producers and consumers take them up at once.

        A key's later records may go to another partition than its earlier ones, so apps that read
        the topic stop and say so. Raises UnknownTopic, InvalidPartitions (it has as many).
        """
        return self._backend.add_partitions(name, total)

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        """Set configs by Kafka's names, or with None give them their default again.

        All of them or none; every process obeys from its next append on. Raises UnknownTopic,
        ConfigError.
        """
        return self._backend.alter_topic(name, config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic for good: records, and what groups committed of it. UnknownTopic."""
        self._backend.delete_topic(name)

    def delete_records(self, before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Delete the records of partitions below these offsets; -1: all there are.

        Returns where each one starts then. They can't be read any more, by anybody; who stands
        below goes on at the start, and says so. Raises UnknownTopic, UnknownPartition,
        OffsetOutOfRange, PolicyViolation (a topic that is only compacted), InvalidTopic.
        """
        return {tp: self._backend.delete_records(tp, offset) for tp, offset in before.items()}

    def topics(self, *, internal: bool = False) -> dict[str, TopicInfo]:
        """All topics by name; with `internal`, those as well that the log keeps for itself."""
        topics = self._backend.topics()
        return {
            name: topics[name] for name in sorted(topics) if internal or not topics[name].internal
        }

    def topic(self, name: str) -> TopicInfo:
        """Raises UnknownTopic, naming the nearest that exists."""
        return self._backend.topic(name)

    def partitions(self, topic: str) -> tuple[PartitionInfo, ...]:
        """What each partition of a topic holds: offsets, segments, bytes. Raises UnknownTopic."""
        return self._backend.partitions(topic)

    def offsets(self, topic: str) -> dict[TopicPartition, OffsetRange]:
        """Where each partition of a topic starts and ends."""
        return {tp: self._backend.offsets(tp) for tp in self._partitions([topic])}

    # The log as a whole.

    def log_config(self) -> dict[str, str]:
        """Its configs that are not as by default."""
        return self._backend.log_config()

    def alter_log(self, config: Mapping[str, str | None]) -> None:
        """Set configs for the whole log, e.g. max.disk.bytes; None: the default. ConfigError."""
        self._backend.alter_log(config)

    def maintain(self) -> "Maintained":
        """Remove now what retention does not keep any more; what was done, and what could not be.

        It is done by itself about once a second by one of the processes that write the log.
        """
        return self._backend.maintain()

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
        """How much the group has still to read of each of its inputs; see `GroupPosition.lag`.

        An app's changelogs are none: they are its state, read to restore it.
        """
        now = SystemClock().now()
        return {
            tp: position_of(self._backend, tp, committed, now).lag
            for tp, committed in self._committed(group)
            if not is_app_topic(group, tp.topic, ("-changelog",))
        }

    def positions(self, group: str) -> dict[TopicPartition, GroupPosition]:
        """Where the group stands in each partition: committed, lag, and how old what it has not
        read is. Reads a batch of every partition that it is behind in."""
        now = SystemClock().now()
        return {
            tp: position_of(self._backend, tp, committed, now)
            for tp, committed in self._committed(group)
        }

    def reset_offsets(
        self,
        group: str,
        to: Start | None = None,
        *,
        offset: int | None = None,
        shift: int | None = None,
        topics: str | Iterable[str] | None = None,
        partitions: Iterable[TopicPartition] | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> dict[TopicPartition, MovedOffset]:
        """Commit other offsets for a group without members, and say what was moved.

        `to`: "earliest", "latest", or a time (ms, or a datetime). `offset`: that offset. `shift`:
        forwards or backwards from what is committed. Name one of them. Nothing goes below a
        partition's first offset or above its end. `topics`, `partitions`: only these; else all
        that the group has committed, but for an app's own topics between its steps. Offsets that
        an app has committed belong to its state: reset them only together with it.

        While the group has members: GroupActive. With `force` they are fenced first: their next
        poll or commit raises Fenced, so that none of them undoes the reset. `dry_run` commits
        nothing. Raises UnknownTopic, UnknownPartition.
        """
        if sum(choice is not None for choice in (to, offset, shift)) != 1:
            raise UsageError("say where to reset to: one of to, offset and shift")
        target: Target
        if offset is not None:
            target = At(offset)
        elif shift is not None:
            target = By(shift)
        else:
            target = checked_start(to if to is not None else "latest")
        named: list[TopicPartition] | None = None
        if topics is not None or partitions is not None:
            named = self._partitions([topics] if isinstance(topics, str) else topics or ())
            named += (TopicPartition(*tp) for tp in partitions or ())
            if not named:
                raise UsageError("no partition is named: name some, or leave out the choice")
        moved: dict[TopicPartition, MovedOffset] = {}

        def plan(
            committed: Mapping[TopicPartition, CommittedOffset],
        ) -> dict[TopicPartition, CommittedOffset]:
            made = plan_reset(self._backend, group, target, named, committed)
            moved.clear()
            for tp, after in made.items():
                moved[tp] = MovedOffset(
                    committed[tp].offset if tp in committed else None, after.offset
                )
            return made

        if dry_run:
            plan(self._backend.committed(group))
        else:
            self._backend.reset(group, plan, force=force)
        return moved

    def _committed(self, group: str) -> list[tuple[TopicPartition, CommittedOffset]]:
        """What a group has committed of partitions that there are."""
        known = self._backend.topics()
        return [
            (tp, committed)
            for tp, committed in sorted(self._backend.committed(group).items())
            if tp.topic in known and tp.partition < known[tp.topic].partitions
        ]

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

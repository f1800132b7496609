"""What a log must offer: the one interface over the embedded directory and a Kafka cluster.

Everything above (clients, engine, connect, replay) speaks to a `Backend` only. A backend may be
used from several threads; a `Membership` belongs to the thread that made it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from streamkit.backends.values import (
    Acks,
    CommittedOffset,
    GroupInfo,
    Isolation,
    OffsetRange,
    Ownership,
    PartitionInfo,
    TopicInfo,
    Unit,
)
from streamkit.codec.buffer import Encoded
from streamkit.records import Columns, Headers, Record, TopicPartition

if TYPE_CHECKING:
    from streamkit.log.maintenance import Maintained


class Batch(Protocol):
    """Some consecutive records of one partition, decoded when asked."""

    @property
    def partition(self) -> TopicPartition: ...

    @property
    def next_offset(self) -> int:
        """Where to read on after this batch, even when it holds no record that can be seen.

        Ask after decoding: where damage is met, the batch ends before it, and the fetch that
        begins at the damage raises CorruptLog.
        """
        ...

    def __len__(self) -> int: ...

    def columns(self) -> Columns: ...

    def records(self) -> list[Record[bytes | None]]: ...


class Membership(Protocol):
    """One member of one group. A killed process's units are free at once."""

    @property
    def member_id(self) -> str: ...

    @property
    def generation(self) -> int: ...

    def poll(self) -> Ownership:
        """Look for changes without waiting. Cheap enough for every loop."""
        ...

    def release(self, units: Iterable[Unit]) -> None:
        """Give up units named in `revoking`, after committing what was done with them."""
        ...

    def update(self, units: Mapping[str, int]) -> None:
        """Take part in these units from now on; those no longer named become `revoking`."""
        ...

    def holding(self, units: Iterable[Unit]) -> AbstractContextManager[None]:
        """Keep these units for as long as the block runs: what it appends, their owner appends.

        Raises Fenced when one of them is not this member's, and keeps a forced reset waiting: the
        block appends and does nothing else.
        """
        ...

    def leave(self) -> None:
        """Give up everything and go. Called twice, it does nothing the second time.

        A static member's units are kept for it, as after its death.
        """
        ...


class Transactions(Protocol):
    """The transactions of one transactional id, one after the other. For one thread at a time.

    Nobody else has the id until `close`, unless it is taken over: then every call raises
    ProducerFenced, as it does once a transaction was open for longer than the time-out.
    """

    @property
    def producer(self) -> tuple[int, int]:
        """Producer id and epoch that batches have to have; others after each transaction.

        Sequences begin at 0 again when they change.
        """
        ...

    def begin(self) -> None:
        """Make sure that nothing is left of the transaction before."""
        ...

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """To be called before the transaction's first batch in each partition is appended."""
        ...

    def commit_offsets(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        """Let a group's offsets be committed with the transaction.

        `units`: those of the member's that the work was done for; None: the partitions themselves.
        Raises Fenced when the member does not own them; without a member nobody is asked. Raises
        UnknownTopic, UnknownPartition.
        """
        ...

    def commit(self, *, after: Iterable[TopicPartition] = ()) -> None:
        """Commit all that was appended since `begin`; on stable storage when it returns.

        `after`: what was appended there before the call is so before it is decided: that which
        the transaction was made of.
        OutcomeUnknown: committed or aborted, whole. After any other StreamkitError it is not
        committed: `abort` it. An interrupt's note says which.
        """
        ...

    def abort(self) -> bool:
        """Take back all that was appended since `begin`. Others do it when this fails.

        False when there was nothing to take back.
        """
        ...

    def close(self) -> None:
        """Abort what is open and let the transactional id go. Twice is fine."""
        ...


class Backend(Protocol):
    """A log: topics, records, groups. Closed with `close()`, also as a context manager."""

    @property
    def url(self) -> str: ...

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        """Raises TopicExists, InvalidTopic, InvalidPartitions, ConfigError."""
        ...

    def add_partitions(self, name: str, total: int) -> TopicInfo:
        """Let a topic have `total` partitions, more than now. UnknownTopic, InvalidPartitions."""
        ...

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        """Set configs of a topic; None gives a key its default again. UnknownTopic, ConfigError."""
        ...

    def delete_topic(self, name: str) -> None:
        """Delete it with its records and every group's offsets of it.

        Raises UnknownTopic, and InvalidTopic for one that the log keeps its own state in; so do
        `add_partitions`, `alter_topic` and appends.
        """
        ...

    def partitions(self, topic: str) -> tuple[PartitionInfo, ...]:
        """What each partition of a topic holds, in order. Raises UnknownTopic."""
        ...

    def log_config(self) -> dict[str, str]:
        """The configs of the log as a whole that are not as by default."""
        ...

    def alter_log(self, config: Mapping[str, str | None]) -> None:
        """Set configs of the log as a whole; None gives a key its default again. ConfigError."""
        ...

    def maintain(self) -> "Maintained":
        """Remove now what retention does not keep, and the like; what was done. ReadOnlyLog."""
        ...

    def topics(self) -> dict[str, TopicInfo]:
        """All topics by name, internal ones included."""
        ...

    def topic(self, name: str) -> TopicInfo:
        """Raises UnknownTopic, naming the nearest that exists."""
        ...

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
        """Append records as one batch (all or nothing) and return the first one's offset.

        `timestamps` in ms; one int serves all; None is now.
        Raises UnknownTopic, UnknownPartition, RecordTooLarge, InvalidRecord, OutOfSpace,
        StorageFailed, ReadOnlyLog.
        """
        ...

    def append_encoded(self, partition: TopicPartition, *batches: Encoded, acks: Acks = 1) -> int:
        """Append encoded record batches (base offset 0), all of them or none.

        Returns the first record's offset. Meant for a few: they go into one segment.
        """
        ...

    def delete_records(self, partition: TopicPartition, before: int) -> int:
        """Delete the records below the offset `before`; -1: all there are. Where it starts then.

        Raises UnknownTopic, UnknownPartition, OffsetOutOfRange (beyond the end, or where an open
        transaction begins), PolicyViolation (a topic that is only compacted), InvalidTopic.
        """
        ...

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        """Return when everything appended to them before the call is on stable storage."""
        ...

    def producer_id(self) -> int:
        """An id for batches with sequences, that nobody has had before; its first epoch is 0."""
        ...

    def transactions(self, transactional_id: str, *, timeout: float) -> Transactions:
        """Take a transactional id over: whoever had it is fenced, its transaction ended.

        `timeout` in seconds: a transaction that is open for longer is aborted. Raises
        InvalidTxnTimeout.
        """
        ...

    def fetch(
        self,
        positions: Mapping[TopicPartition, int],
        *,
        max_bytes: int = 1 << 20,
        isolation: Isolation = "read_committed",
    ) -> list[Batch]:
        """What there is to read at these offsets, at once; [] when every one is at its end.

        At least one whole batch per partition that has data; about `max_bytes` in all. A batch may
        begin before the asked offset only inside the encoding: what is given out never does.
        A batch may hold no record that can be seen: go on at its `next_offset`.
        Raises OffsetOutOfRange, CorruptLog, UnknownTopic.
        """
        ...

    def wait(
        self,
        positions: Mapping[TopicPartition, int],
        timeout: float,
        *,
        isolation: Isolation = "read_committed",
    ) -> bool:
        """Sleep until one of them can be read, a group or topic changed, or `wake()`.

        A topic that changed, or a `wake()`, since this thread waited last ends the wait at once.
        `timeout` in seconds. True when there is something to do, False when the time is over.
        """
        ...

    def wake(self) -> None:
        """End a `wait` of another thread of this process now."""
        ...

    def offsets(self, partition: TopicPartition) -> OffsetRange:
        """Where it starts and ends, as it is: `end` is where an open transaction begins, if any."""
        ...

    def end(self, partition: TopicPartition) -> int:
        """Where what is committed ends: for who reads all there is, and then stops.

        What dead producers have left open is ended before, as others may have committed behind it;
        a transaction of a living one is not waited for. Raises UnknownTopic, UnknownPartition.
        """
        ...

    def state_directory(self, partition: TopicPartition) -> Path | None:
        """Where a process may keep, on this machine, what it has made of a partition's records.

        It goes with the partition, and whoever keeps something there makes it. None: nowhere.
        Raises UnknownTopic.
        """
        ...

    def offset_at(
        self,
        partition: TopicPartition,
        timestamp: int,
        *,
        isolation: Isolation = "read_committed",
    ) -> int | None:
        """The first offset whose record's timestamp is >= `timestamp` (ms); None: there is none.

        It may be of a record that was aborted: reading from there on gives the first that was not.
        """
        ...

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
        """Become a member that takes units (name, 0 … count-1) of each name in `units`.

        With an `instance_id` the member is static: when it goes its units are kept for
        `session_timeout` seconds for the next one of that id. One that still lives is fenced.
        """
        ...

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        """What has taken effect: nothing of an open transaction."""
        ...

    def pending(self, group: str) -> frozenset[TopicPartition]:
        """The partitions that an open transaction commits offsets of.

        Whoever begins there before it ends may do again what that transaction has done.
        """
        ...

    def commit(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        """Commit all of them or none, on stable storage when it returns.

        `units`: those of the member's that the work was done for; None: the partitions themselves.
        Raises Fenced unless the member owns them all. Without a member (tools), raises GroupActive
        when the group has live members. Raises UnknownTopic, UnknownPartition.
        """
        ...

    def reset(
        self,
        group: str,
        plan: Callable[
            [Mapping[TopicPartition, CommittedOffset]], Mapping[TopicPartition, CommittedOffset]
        ],
        *,
        force: bool = False,
    ) -> dict[TopicPartition, CommittedOffset]:
        """Commit what `plan` makes of the committed offsets, while nobody else commits; gives it.

        Raises GroupActive when the group has live members; with `force` they are fenced, and
        nothing that they still commit comes after the reset.
        """
        ...

    def groups(self) -> list[str]: ...

    def group(self, group: str) -> GroupInfo: ...

    def delete_group(self, group: str) -> None:
        """Forget a group's committed offsets. Raises GroupActive, UnknownGroup."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> "Backend": ...

    def __exit__(self, *_: object) -> None: ...

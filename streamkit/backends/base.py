"""What a log must offer: the one interface over the embedded directory and a Kafka cluster.

Everything above (clients, engine, connect, replay) speaks to a `Backend` only. A backend may be
used from several threads; a `Membership` belongs to the thread that made it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from streamkit.records import Columns, Headers, Record, TopicPartition

Acks: TypeAlias = Literal["all", 1]
"""`"all"`: on stable storage when the call returns. `1`: in the page cache, safe from any process
death but not from a power cut, until a later `sync`."""

Unit: TypeAlias = TopicPartition
"""What a group hands out: a partition, or (for an app) a task written as (sub-topology, number)."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic: its name, partition count, id (a UUID's 32 hex digits) and non-default configs."""

    name: str
    partitions: int
    topic_id: str
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def internal(self) -> bool:
        return self.name.startswith("__")


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """`start` is the first offset that can be read, `end` the one after the last."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """Where a group goes on reading, with a note of its own of at most 4096 characters."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    member_id: str
    client_id: str
    host: str
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group as `groups describe` shows it."""

    group: str
    state: Literal["Empty", "Stable", "PreparingRebalance", "Dead"]
    generation: int
    members: tuple[MemberInfo, ...]
    offsets: Mapping[TopicPartition, CommittedOffset]


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


@dataclass(frozen=True, slots=True)
class Ownership:
    """A member's units after a poll.

    `owned` are held by locks: nobody else has them. `revoking` are the owned ones that another
    member waits for: finish with them, commit, and `release`. `gained` came with this poll.
    """

    owned: frozenset[Unit]
    gained: frozenset[Unit] = frozenset()
    revoking: frozenset[Unit] = frozenset()


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

    def leave(self) -> None:
        """Give up everything and go. Called twice, it does nothing the second time."""
        ...


class Backend(Protocol):
    """A log: topics, records, groups. Closed with `close()`, also as a context manager."""

    @property
    def url(self) -> str: ...

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> TopicInfo:
        """Raises TopicExists, InvalidTopic, ConfigError."""
        ...

    def delete_topic(self, name: str) -> None:
        """Delete it with its records and every group's offsets of it. Raises UnknownTopic."""
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

    def append_encoded(self, partition: TopicPartition, batch: bytes, *, acks: Acks = 1) -> int:
        """Append one encoded record batch (base offset 0) and return the first record's offset."""
        ...

    def sync(self, partitions: Iterable[TopicPartition]) -> None:
        """Return when everything appended to them before the call is on stable storage."""
        ...

    def fetch(
        self, positions: Mapping[TopicPartition, int], *, max_bytes: int = 1 << 20
    ) -> list[Batch]:
        """What there is to read at these offsets, at once; [] when every one is at its end.

        At least one whole batch per partition that has data; about `max_bytes` in all. A batch may
        begin before the asked offset only inside the encoding: what is given out never does.
        Raises OffsetOutOfRange, CorruptLog, UnknownTopic.
        """
        ...

    def wait(self, positions: Mapping[TopicPartition, int], timeout: float) -> bool:
        """Sleep until one of them can be read, a group or topic changed, or `wake()`.

        `timeout` in seconds. True when there is something to do, False when the time is over.
        """
        ...

    def wake(self) -> None:
        """End a `wait` of another thread of this process now."""
        ...

    def offsets(self, partition: TopicPartition) -> OffsetRange: ...

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """The first offset whose record's timestamp is >= `timestamp` (ms); None: there is none."""
        ...

    # Groups.

    def join(self, group: str, units: Mapping[str, int], *, client_id: str = "") -> Membership:
        """Become a member that takes units (name, 0 … count-1) of each name in `units`."""
        ...

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]: ...

    def commit(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
    ) -> None:
        """Commit all of them or none, on stable storage when it returns.

        With a member, raises Fenced when its generation is over. Without one (tools, resets),
        raises GroupActive when the group has live members. Raises UnknownTopic, UnknownPartition.
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

"""What goes in and out of a `Backend`: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from streamkit.log.config import OWN_TOPICS
from streamkit.records import TopicPartition

Acks: TypeAlias = Literal["all", 1]
"""`"all"`: on stable storage when the call returns. `1`: in the page cache, safe from any process
death but not from a power cut, until a later `sync`."""

Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]
"""`"read_committed"`: up to the first open transaction, and nothing of what was aborted.
`"read_uncommitted"`: all that was appended, as it was appended."""

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
        """Whether the log keeps its own records there: committed offsets, transactions."""
        return self.name in OWN_TOPICS


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition as `topics describe` shows it.

    `start` is the first offset that can be read, `end` the one after the last; from `stable` on
    are open transactions. `bytes` of records are on disk, in `segments` files.
    """

    partition: TopicPartition
    start: int
    stable: int
    end: int
    segments: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """`start` is the first offset that can be read, `end` the one after the last.

    `end` is for readers of committed records: where the first open transaction begins, if there
    is one. `log_end` is behind the last record of all.
    """

    start: int
    end: int
    log_end: int


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """Where a group goes on reading, with a note of its own of at most 4096 characters."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """`away`: a static member (it has an instance id) that has gone and is expected back."""

    member_id: str
    client_id: str
    host: str
    units: tuple[Unit, ...]
    instance_id: str | None = None
    away: bool = False


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group as `groups describe` shows it."""

    group: str
    state: Literal["Empty", "Stable", "PreparingRebalance", "Dead"]
    generation: int
    members: tuple[MemberInfo, ...]
    offsets: Mapping[TopicPartition, CommittedOffset]


@dataclass(frozen=True, slots=True)
class Ownership:
    """A member's units after a poll.

    `owned` are held by locks: nobody else has them. `revoking` are the owned ones that another
    member waits for: finish with them, commit, and `release`. `gained` came with this poll;
    `left_by` says who had some of them and has gone, as far as that is known.
    """

    owned: frozenset[Unit]
    gained: frozenset[Unit] = frozenset()
    revoking: frozenset[Unit] = frozenset()
    left_by: Mapping[Unit, str] = field(default_factory=dict)

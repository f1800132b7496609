"""The records of `__consumer_offsets`, Kafka's own, to the byte.

    OffsetCommitKey v1     version=1:i16 group:string topic:string partition:i32
    OffsetCommitValue v3   version=3:i16 offset:i64 leaderEpoch:i32 metadata:string
                           commitTimestamp:i64
    GroupMetadataKey v2    version=2:i16 group:string
    GroupMetadataValue v3  version=3:i16 protocolType:string generation:i32 protocol:string?
                           leader:string? currentStateTimestamp:i64 members:[memberId:string
                           groupInstanceId:string? clientId:string clientHost:string
                           rebalanceTimeout:i32 sessionTimeout:i32 subscription:bytes
                           assignment:bytes]

Written in these versions, read in every version that Kafka has had. A null value is a tombstone:
the offset or the group is forgotten.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from streamkit.codec.partitioner import partition_of_name
from streamkit.codec.primitives import Reader, Writer
from streamkit.errors import DataError
from streamkit.records import TopicPartition

TOPIC = "__consumer_offsets"
MAX_METADATA = 4096
"""Characters of a committed offset's note, as Kafka's `offset.metadata.max.bytes`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OffsetKey:
    group: str
    partition: TopicPartition


@dataclass(frozen=True, slots=True)
class GroupKey:
    group: str


Key: TypeAlias = OffsetKey | GroupKey


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """`timestamp`, when it was committed, in ms since 1970 UTC. `leader_epoch` −1: unknown."""

    offset: int
    metadata: str = ""
    timestamp: int = -1
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the group's record keeps it; time-outs in ms (0: none, locks say who lives)."""

    member_id: str
    client_id: str
    host: str
    subscription: bytes
    assignment: bytes
    instance_id: str | None = None
    rebalance_timeout: int = 0
    session_timeout: int = 0


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    generation: int
    members: tuple[Member, ...] = ()
    protocol_type: str = "consumer"
    protocol: str | None = None
    leader: str | None = None
    timestamp: int = -1


def partition_of(group: str, count: int) -> int:
    """Which of the `count` partitions of `__consumer_offsets` keeps the group, as Kafka chooses."""
    return partition_of_name(group, count)


def encode_key(key: Key) -> bytes:
    out = Writer()
    match key:
        case OffsetKey(group, (topic, partition)):
            out.i16(1)
            out.string(group)
            out.string(topic)
            out.i32(partition)
        case GroupKey(group):
            out.i16(2)
            out.string(group)
    return out.done()


def decode_key(raw: bytes) -> Key | None:
    """The key, or None for a record type of a newer Kafka (keys of version 3 and above)."""
    read = Reader(raw)
    version = read.i16()
    if version in (0, 1):
        return OffsetKey(read.string(), TopicPartition(read.string(), read.i32()))
    if version == 2:
        return GroupKey(read.string())
    return None


def encode_commit(commit: OffsetCommit) -> bytes:
    out = Writer()
    out.i16(3)
    out.i64(commit.offset)
    out.i32(commit.leader_epoch)
    out.string(commit.metadata)
    out.i64(commit.timestamp)
    return out.done()


def decode_commit(raw: bytes) -> OffsetCommit:
    read = Reader(raw)
    version = _version(read, "OffsetCommitValue", newest=4)
    read.flexible = version >= 4
    offset = read.i64()
    leader_epoch = read.i32() if version >= 3 else -1
    return OffsetCommit(offset, read.string(), read.i64(), leader_epoch)


def encode_group(group: GroupMetadata) -> bytes:
    out = Writer()
    out.i16(3)
    out.string(group.protocol_type)
    out.i32(group.generation)
    out.string(group.protocol)
    out.string(group.leader)
    out.i64(group.timestamp)
    out.i32(len(group.members))
    for member in group.members:
        out.string(member.member_id)
        out.string(member.instance_id)
        out.string(member.client_id)
        out.string(member.host)
        out.i32(member.rebalance_timeout)
        out.i32(member.session_timeout)
        out.blob(member.subscription)
        out.blob(member.assignment)
    return out.done()


def decode_group(raw: bytes) -> GroupMetadata:
    read = Reader(raw)
    version = _version(read, "GroupMetadataValue", newest=4)
    read.flexible = version >= 4
    protocol_type = read.string()
    generation = read.i32()
    protocol = read.nullable_string()
    leader = read.nullable_string()
    timestamp = read.i64() if version >= 2 else -1
    members = tuple(_member(read, version) for _ in range(read.count()))
    return GroupMetadata(generation, members, protocol_type, protocol, leader, timestamp)


def _member(read: Reader, version: int) -> Member:
    member_id = read.string()
    instance_id = read.nullable_string() if version >= 3 else None
    client_id = read.string()
    host = read.string()
    rebalance_timeout = read.i32() if version >= 1 else 0
    session_timeout = read.i32()
    subscription = read.blob()
    assignment = read.blob()
    read.tags()
    return Member(
        member_id,
        client_id,
        host,
        subscription,
        assignment,
        instance_id,
        rebalance_timeout,
        session_timeout,
    )


# The two byte fields of a member are a format of their own, "consumer protocol":
#
#   Subscription v1  version=1:i16 topics:[string] userData:bytes?
#                    ownedPartitions:[topic:string partitions:[i32]]
#   Assignment v1    version=1:i16 assignedPartitions:[topic:string partitions:[i32]]
#                    userData:bytes?


def encode_subscription(topics: Iterable[str], owned: Iterable[TopicPartition] = ()) -> bytes:
    out = Writer()
    out.i16(1)
    names = sorted(set(topics))
    out.i32(len(names))
    for name in names:
        out.string(name)
    out.blob(None)
    _write_partitions(out, owned)
    return out.done()


def decode_subscription(raw: bytes) -> tuple[str, ...]:
    """The topics subscribed to; what newer versions add is of no use here and not read."""
    read = Reader(raw)
    _version(read, "ConsumerProtocolSubscription", newest=32767)
    return tuple(_several(read, Reader.string))


def encode_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    out = Writer()
    out.i16(1)
    _write_partitions(out, partitions)
    out.blob(None)
    return out.done()


def decode_assignment(raw: bytes) -> frozenset[TopicPartition]:
    """The partitions assigned; empty bytes (a member not assigned yet) give none."""
    if not raw:
        return frozenset()
    read = Reader(raw)
    _version(read, "ConsumerProtocolAssignment", newest=32767)
    return frozenset(
        TopicPartition(topic, partition)
        for _ in range(read.count())
        for topic in (read.string(),)
        for partition in _several(read, Reader.i32)
    )


def _write_partitions(out: Writer, partitions: Iterable[TopicPartition]) -> None:
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(set(partitions)):
        by_topic.setdefault(topic, []).append(partition)
    out.i32(len(by_topic))
    for topic, numbers in by_topic.items():
        out.string(topic)
        out.i32(len(numbers))
        for number in numbers:
            out.i32(number)


def _several(read: Reader, one: Callable[[Reader], T]) -> list[T]:
    return [one(read) for _ in range(read.count())]


def _version(read: Reader, what: str, *, newest: int) -> int:
    version = read.i16()
    if not 0 <= version <= newest:
        raise DataError(f"{what} of version {version}: this streamkit reads up to {newest}")
    return version

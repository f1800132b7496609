"""The records of `__transaction_state`, Kafka's own, to the byte.

    TransactionLogKey v0    version=0:i16 transactionalId:string
    TransactionLogValue v0  version=0:i16 producerId:i64 producerEpoch:i16 timeoutMs:i32 status:i8
                            partitions:[topic:string ids:[i32]]? lastUpdate:i64 start:i64
    TransactionLogValue v1  the same with compact strings and counts, and tagged fields:
                            0 previousProducerId:i64, 1 nextProducerId:i64,
                            2 clientTransactionVersion:i16, each left out when −1, −1, 0,
                            100, which is ours (Kafka passes it over): how the transaction before
                            ended, left out when its markers are on stable storage:
                            producerId:i64 producerEpoch:i16 commit:i8 bumped:i8 partitions

The partitions are null in an Empty state, and an empty array once a transaction is complete. A null
value is a tombstone: the transactional id is forgotten.
"""

from functools import lru_cache
from struct import Struct

from streamkit.codec.partitioner import partition_of_name
from streamkit.codec.primitives import Reader, Writer
from streamkit.errors import DataError
from streamkit.records import TopicPartition
from streamkit.transactions.state import State
from streamkit.transactions.transaction import NONE, RollForward, Transaction

TOPIC = "__transaction_state"
_PREVIOUS, _NEXT, _VERSION, _UNSYNCED = 0, 1, 2, 100
_HEAD = Struct(">hqhib")
_TIMES = Struct(">qq")
_I16, _I64 = Struct(">h"), Struct(">q")
_OUTCOME = Struct(">qhbb")


def partition_of(transactional_id: str, count: int) -> int:
    """Which of the `count` partitions of `__transaction_state` keeps the id, as Kafka chooses."""
    return partition_of_name(transactional_id, count)


@lru_cache(maxsize=256)
def encode_key(transactional_id: str) -> bytes:
    out = Writer()
    out.i16(0)
    out.string(transactional_id)
    return out.done()


def decode_key(raw: bytes) -> str | None:
    """The transactional id, or None for a record type of a newer Kafka. Raises DataError."""
    read = Reader(raw)
    return read.string() if read.i16() == 0 else None


def encode_value(transaction: Transaction, version: int = 1) -> bytes:
    """Version 0 has no place for the tagged fields: with it, no producer of version 2 is safe."""
    flexible = version >= 1
    raw = _HEAD.pack(
        version,
        transaction.producer_id,
        transaction.producer_epoch,
        transaction.timeout,
        transaction.state,
    )
    raw += _encode_partitions(
        None if transaction.state is State.EMPTY else transaction.partitions, flexible
    )
    raw += _TIMES.pack(transaction.updated_at, transaction.started_at)
    if not flexible:
        return raw
    fields: list[bytes] = []  # in the order of their tags
    if transaction.previous_producer_id != NONE:
        fields.append(_tag(_PREVIOUS, _I64.size) + _I64.pack(transaction.previous_producer_id))
    if transaction.next_producer_id != NONE:
        fields.append(_tag(_NEXT, _I64.size) + _I64.pack(transaction.next_producer_id))
    if transaction.version:
        fields.append(_tag(_VERSION, _I16.size) + _I16.pack(transaction.version))
    before = transaction.unsynced
    if before is not None:
        outcome = _OUTCOME.pack(
            before.producer_id, before.producer_epoch, before.commit, before.bumped
        ) + _encode_partitions(frozenset(before.partitions), True)
        fields.append(_tag(_UNSYNCED, len(outcome)) + outcome)
    return raw + bytes((len(fields),)) + b"".join(fields)


@lru_cache(maxsize=256)
def _tag(tag: int, size: int) -> bytes:
    """What stands before a tagged field of so many bytes."""
    out = Writer(True)
    out.uvarint(tag)
    out.uvarint(size)
    return out.done()


@lru_cache(maxsize=256)  # from one step of a transaction to the next they are mostly the same
def _encode_partitions(partitions: frozenset[TopicPartition] | None, flexible: bool) -> bytes:
    out = Writer(flexible)
    if partitions is None:
        out.count(-1)
        return out.done()
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        by_topic.setdefault(topic, []).append(partition)
    out.count(len(by_topic))
    for topic, ids in by_topic.items():
        out.string(topic)
        out.count(len(ids))
        for partition in ids:
            out.i32(partition)
        out.tags()
    return out.done()


def decode_value(transactional_id: str, raw: bytes) -> Transaction:
    """The transaction that a value describes. Raises DataError; tags not known are passed over."""
    read = Reader(raw)
    version = read.i16()
    if version not in (0, 1):
        raise DataError(
            f"TransactionLogValue of version {version} for transactional id {transactional_id!r}:"
            " this streamkit reads up to 1"
        )
    read.flexible = version >= 1
    producer_id = read.i64()
    epoch = read.i16()
    timeout = read.i32()
    status = read.i8()
    if status not in State.__members__.values():
        raise DataError(f"transactional id {transactional_id!r} is in a state {status}; 0 to 7 are")
    partitions = _decode_partitions(read)
    updated_at = read.i64()
    started_at = read.i64()
    tags = read.tags()
    return Transaction(
        transactional_id,
        producer_id,
        epoch,
        timeout,
        State(status),
        partitions,
        started_at,
        updated_at,
        _number(tags.get(_PREVIOUS), NONE),
        _number(tags.get(_NEXT), NONE),
        _number(tags.get(_VERSION), 0),
        unsynced=_outcome(tags.get(_UNSYNCED)),
    )


def _decode_partitions(read: Reader) -> frozenset[TopicPartition]:
    partitions: set[TopicPartition] = set()
    for _ in range(read.count()):
        topic = read.string()
        partitions.update(TopicPartition(topic, read.i32()) for _ in range(read.count()))
        read.tags()
    return frozenset(partitions)


def _outcome(raw: bytes | None) -> RollForward | None:
    if raw is None:
        return None
    read = Reader(raw)
    read.flexible = True
    producer_id, epoch, commit, bumped = read.i64(), read.i16(), read.i8(), read.i8()
    partitions = _decode_partitions(read)
    return RollForward(producer_id, epoch, commit != 0, bumped != 0, tuple(sorted(partitions)))


def _number(raw: bytes | None, default: int) -> int:
    return default if raw is None else int.from_bytes(raw, "big", signed=True)

"""Every error that a user can meet.

    StreamkitError
    ├── UsageError                   the caller's own call or configuration is wrong
    │   ├── ConfigError              a key or value in a config; names the nearest right one
    │   ├── UnknownTopic             no such topic; names the nearest that exists
    │   ├── UnknownPartition
    │   ├── TopicExists
    │   ├── InvalidTopic             a name Kafka would refuse
    │   ├── InvalidPartitions        a number of partitions that the topic can't have
    │   ├── TopologyError            an app whose declarations do not fit together
    │   │   └── UnsafeChange         it would leave, or misread, what its code before has kept
    │   ├── InvalidRecord            a record that the topic cannot take
    │   │   └── InvalidTimestamp     its time is out of the topic's bounds
    │   ├── InvalidRequiredAcks      an acks that is none
    │   ├── PolicyViolation          what the topic's cleanup.policy does not allow
    │   └── RecordTooLarge           over the topic's max.message.bytes
    ├── DataError                    what was read is not what was expected
    │   ├── SerdeError               bytes that are not the declared type
    │   └── BadRow                   a row or line of a source that does not parse
    ├── FunctionError                a user's function raised; names the record, or the resource
    ├── LogError                     the directory or its files
    │   ├── LogNotFound
    │   ├── LogInUse                 a Kafka broker runs on the directory
    │   ├── UnsupportedFormat        written by a newer streamkit
    │   ├── ReadOnlyLog
    │   ├── CorruptLog               bytes below the synced position are not what was written
    │   │   └── CorruptBatch         (codec) one batch; see its four subclasses
    │   │       ├── BadCrc
    │   │       ├── UnknownMagic
    │   │       ├── TruncatedBatch
    │   │       └── MalformedBatch
    │   ├── StorageFailed            an fsync or a read failed; sticky until repaired
    │   ├── OutOfSpace
    │   └── OffsetOutOfRange
    ├── GroupError
    │   ├── Fenced                   this member's generation is over; another owns its partitions
    │   │   └── FencedInstanceId     a newer member has this one's instance id
    │   ├── GroupActive              refused while members are alive
    │   └── UnknownGroup             no such group; names the nearest that exists
    ├── TransactionError             a producer's sequence or a transaction
    │   ├── ProducerFenced           another producer has this transactional id now
    │   ├── InvalidProducerEpoch     from before the producer's present epoch
    │   ├── InvalidProducerId        the transactional id belongs to another producer id
    │   ├── OutOfOrderSequence       a batch is missing before this one
    │   ├── InvalidTxnState          what was asked for does not follow from where it stands
    │   ├── ConcurrentTransactions   the one before is still being finished; try again
    │   ├── OutcomeUnknown           a commit of which nobody can say now whether it counts
    │   ├── InvalidTxnTimeout        over transaction.max.timeout.ms
    │   └── CoordinatorFenced        from before the present coordinator
    ├── WorkerFailed                 one of several processes of an app ended with an error
    └── ConnectError                 a connector
        ├── TransientError           worth another try: a lost connection, a lock, a full disk
        └── FatalError               not worth another try

A message says what happened, where (topic-partition@offset, file:line, config key) and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class StreamkitError(Exception):
    """The root of everything streamkit raises on purpose."""


class UsageError(StreamkitError):
    """The call or the configuration is wrong; the same call will fail again."""


class ConfigError(UsageError):
    """A config key or value is wrong."""


class UnknownTopic(UsageError):
    """No topic of that name."""


class UnknownPartition(UsageError):
    """The topic has no such partition."""


class TopicExists(UsageError):
    """A topic of that name exists already."""


class InvalidTopic(UsageError):
    """The name is not one Kafka takes: 1-249 of [a-zA-Z0-9._-], not "." or ".."."""


class InvalidPartitions(UsageError):
    """A number of partitions that a topic can't have: none, too many, or fewer than it has."""


class TopologyError(UsageError):
    """An app's declarations do not fit together."""


class UnsafeChange(TopologyError):
    """The app changed so that state of its earlier code would be orphaned or misread."""


class InvalidRecord(UsageError):
    """The topic cannot take this record."""


class InvalidTimestamp(InvalidRecord):
    """A record's time is outside of message.timestamp.before.max.ms or .after.max.ms."""


class InvalidRequiredAcks(UsageError):
    """Not one of the acks there are: "all" and 1."""


class PolicyViolation(UsageError):
    """Not possible with the topic's cleanup.policy."""


class RecordTooLarge(UsageError):
    """The batch is over the topic's max.message.bytes."""


class DataError(StreamkitError):
    """What was read is not what was expected."""


class SerdeError(DataError):
    """A key or value is not what the declared type says."""


class BadRow(DataError):
    """A row or line of a source does not parse."""


class FunctionError(StreamkitError):
    """A user's function raised; the cause is chained, and the message names the record that it was
    given, or the resource that it was to open."""


class LogError(StreamkitError):
    """Something about the log directory or its files."""


class LogNotFound(LogError):
    """There is no log at that path."""


class LogInUse(LogError):
    """A Kafka broker runs on the directory."""


class UnsupportedFormat(LogError):
    """The directory was written by a newer version."""


class ReadOnlyLog(LogError):
    """A write to a log opened read-only, or on a read-only file system."""


class CorruptLog(LogError):
    """Bytes that were synced are not what was written. Nothing after them is touched."""


class CorruptBatch(CorruptLog):
    """One record batch cannot be decoded. `position` is its first byte in what was decoded."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class BadCrc(CorruptBatch):
    """The checksum does not fit the bytes."""


class UnknownMagic(CorruptBatch):
    """Not a record batch of format version 2."""


class TruncatedBatch(CorruptBatch):
    """The bytes end before the batch does."""


class MalformedBatch(CorruptBatch):
    """The checksum fits, but lengths or counts inside contradict each other."""


class StorageFailed(LogError):
    """The storage failed; appends are refused in every process until it is repaired."""


class OutOfSpace(LogError):
    """The disk is full; what was half written has been taken back."""


class OffsetOutOfRange(LogError):
    """The offset was removed by retention or does not exist yet."""


class GroupError(StreamkitError):
    """Something about a consumer group."""


class Fenced(GroupError):
    """The member lost its partitions to a newer generation; its commit is refused."""


class FencedInstanceId(Fenced):
    """Another member has come under the same instance id and takes this one's place."""


class GroupActive(GroupError):
    """The group has live members."""


class UnknownGroup(GroupError):
    """No group of that name."""


class TransactionError(StreamkitError):
    """Something about a producer's sequence or a transaction; as Kafka's error of that name."""


class ProducerFenced(TransactionError):
    """A newer producer has the transactional id. This one is over: close it and begin a new one."""


class InvalidProducerEpoch(TransactionError):
    """A batch or marker from before the producer's present epoch: its transaction was ended."""


class InvalidProducerId(TransactionError):
    """The transactional id belongs to another producer id (Kafka: INVALID_PRODUCER_ID_MAPPING)."""


class OutOfOrderSequence(TransactionError):
    """The batch does not follow the producer's last one: what is between them is missing."""


class InvalidTxnState(TransactionError):
    """What was asked for is not possible where the transaction stands."""


class ConcurrentTransactions(TransactionError):
    """The transaction before is decided but not yet finished; the same call will work soon."""


class OutcomeUnknown(TransactionError):
    """The transaction is committed or aborted, whole, but which of them nobody can say now."""


class InvalidTxnTimeout(TransactionError):
    """The time-out is not one that the log allows (Kafka: INVALID_TRANSACTION_TIMEOUT)."""


class CoordinatorFenced(TransactionError):
    """A marker from before the present coordinator of transactions."""


class WorkerFailed(StreamkitError):
    """A worker process ended with an error, which it has printed itself."""


class ConnectError(StreamkitError):
    """A connector failed."""


class TransientError(ConnectError):
    """Worth another try."""


class FatalError(ConnectError):
    """Not worth another try."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Text for the end of an "unknown x" message: the nearest known name, or all of a few."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.6)
    within = [one for one in names if str(name) in one]
    if not close and name and len(within) == 1:
        close = within  # 'url' for 'connection_url'
    if close:
        return f"; did you mean {close[0]!r}?"
    if 0 < len(names) <= 12:
        return f"; there are: {', '.join(names)}"
    return ""


def counted(number: int, what: str) -> str:
    """How many there are, as people write it: `1 record`, `2,000 records`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

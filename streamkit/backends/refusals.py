"""What the log in a directory refuses to do, and what it says then."""

from collections.abc import Sequence

from streamkit.errors import InvalidRecord, InvalidTopic, ReadOnlyLog
from streamkit.groups import offsets as schema
from streamkit.log.config import METADATA_TOPIC, TRANSACTIONS_TOPIC
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

INTERNAL = {
    METADATA_TOPIC: "it says which topics there are",
    schema.TOPIC: "it holds the offsets and members of all groups",
    TRANSACTIONS_TOPIC: "it says how transactions ended",
}
"""The topics that the log keeps for itself."""


def refuse_read_only(log: Log, doing: str) -> None:
    """Raises ReadOnlyLog for a log in which nothing can be written."""
    if log.read_only:
        raise ReadOnlyLog(f"{log.path} is open for reading only: {doing} is refused")


def refuse_internal(topic: str) -> None:
    """What is in these topics decides what all others mean: only the log itself writes there."""
    if topic in INTERNAL:
        raise InvalidTopic(
            f"topic {topic!r} is internal: {INTERNAL[topic]}, and only the log itself makes, "
            "changes or writes it"
        )


def is_compacted(partition: Partition) -> bool:
    return "compact" in partition.config.cleanup_policy


def refuse_without_keys(partition: TopicPartition, keys: Sequence[bytes | None] | None) -> None:
    if keys is None or None in keys:
        where = "every record" if keys is None else f"record {list(keys).index(None)} of the batch"
        raise InvalidRecord(
            f"{partition}: {where} has no key, and the topic is compacted: only the last record of "
            "each key is kept, so each needs one"
        )

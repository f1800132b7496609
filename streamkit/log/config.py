"""Topic configs: Kafka's names, checked and parsed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from streamkit.errors import ConfigError, InvalidTopic, nearest

COMPRESSIONS = ("producer", "uncompressed", "none", "gzip", "snappy", "lz4", "zstd")
MAX_INT = 2**31 - 1
MAX_LONG = 2**63 - 1
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
MAX_NAME = 249
METADATA_TOPIC = "__cluster_metadata"


def check_topic_name(name: str) -> None:
    """Raises InvalidTopic for a name that Kafka would refuse."""
    if name in ("", ".", ".."):
        raise InvalidTopic(f"topic name {name!r}: it must be 1-{MAX_NAME} of [a-zA-Z0-9._-]")
    wrong = sorted(set(name) - NAME_CHARACTERS)
    if wrong:
        raise InvalidTopic(f"topic name {name!r}: {wrong[0]!r} is not one of [a-zA-Z0-9._-]")
    if len(name) > MAX_NAME:
        raise InvalidTopic(f"topic name {name[:20]!r}...: {len(name)} characters, over {MAX_NAME}")
    if name == METADATA_TOPIC:
        raise InvalidTopic(f"topic name {name!r}: the log keeps its topics and configs there")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise ValueError("not a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"not between {low} and {high}")
        return number

    return parse


def _choice(*values: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(f"not one of {', '.join(values)}")
        return value

    return parse


def _cleanup(value: str) -> str:
    policies = {part.strip() for part in value.split(",")}
    if not policies or not policies <= {"delete", "compact"}:
        raise ValueError("not delete, compact, or both with a comma")
    return ",".join(sorted(policies))


def _forever(value: str) -> int:
    if value != "-1":
        raise ValueError("only -1 can be had: this version keeps everything")
    return -1


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """What a topic's configs come to. Sizes in bytes, times in ms."""

    cleanup_policy: str = "delete"
    compression_type: str = "producer"
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1_048_588
    timestamp_type: str = "CreateTime"
    retention_bytes: int = -1
    retention_ms: int = -1
    segment_bytes: int = 64 << 20
    segment_ms: int = 24 * 3_600_000
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The non-default ones, as they were written."""

    @property
    def compacted(self) -> bool:
        """Records need keys."""
        return "compact" in self.cleanup_policy

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "TopicConfig":
        """Raises ConfigError, naming the key and the nearest right one."""
        fields: dict[str, int | str] = {}
        for key, value in given.items():
            known = KNOWN.get(key)
            if known is None and key in NOT_BUILT:
                raise ConfigError(f"topic config {key!r}: not in this version; leave it out")
            if known is None:
                raise ConfigError(f"topic config {key!r}: unknown{nearest(key, KNOWN)}")
            if not isinstance(value, str):
                raise ConfigError(
                    f"topic config {key!r}: {value!r} is not text; write {str(value)!r}"
                )
            name, parse = known
            try:
                fields[name] = parse(value)
            except ValueError as error:
                raise ConfigError(f"topic config {key}={value!r}: {error}") from None
        return cls(**fields, given=MappingProxyType(dict(given)))  # type: ignore[arg-type]


KNOWN: Mapping[str, tuple[str, Callable[[str], int | str]]] = {
    "cleanup.policy": ("cleanup_policy", _cleanup),
    "compression.type": ("compression_type", _choice(*COMPRESSIONS)),
    "index.interval.bytes": ("index_interval_bytes", _number(0, MAX_INT)),
    "max.message.bytes": ("max_message_bytes", _number(0, MAX_INT)),
    "message.timestamp.type": ("timestamp_type", _choice("CreateTime", "LogAppendTime")),
    "retention.bytes": ("retention_bytes", _forever),
    "retention.ms": ("retention_ms", _forever),
    "segment.bytes": ("segment_bytes", _number(1024, MAX_INT)),
    "segment.ms": ("segment_ms", _number(1, MAX_LONG)),
}

NOT_BUILT = frozenset(
    {
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.storage.enable",
        "segment.index.bytes",
        "segment.jitter.ms",
        "unclean.leader.election.enable",
    }
)
"""Kafka's other topic configs: accepted, they would be ignored."""

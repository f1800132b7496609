"""Configs of topics and of the whole log: Kafka's names, checked and parsed."""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from streamkit.errors import ConfigError, InvalidTopic, nearest
from streamkit.log.segment import MAX_INDEX_BYTES
from streamkit.records import TopicPartition

COMPRESSIONS = ("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")
MAX_INT = 2**31 - 1
MAX_LONG = 2**63 - 1
HOUR = 3_600_000
MIN_SEGMENT_BYTES = 1024
"""Kafka's own minimum is 1 MiB: its brokers do not start on a topic with less."""
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
MAX_NAME = 249
METADATA_TOPIC = "__cluster_metadata"
TRANSACTIONS_TOPIC = "__transaction_state"
OWN_TOPICS = frozenset({METADATA_TOPIC, "__consumer_offsets", TRANSACTIONS_TOPIC})
"""What the log keeps for itself, with Kafka's names. Others that begin with __ are anybody's."""


def check_topic_name(name: str) -> None:
    """Raises InvalidTopic for a name that Kafka would refuse."""
    if not isinstance(name, str):
        raise InvalidTopic(f"topic name {name!r}: it must be text, and not a {type(name).__name__}")
    if name in ("", ".", ".."):
        raise InvalidTopic(f"topic name {name!r}: it must be 1-{MAX_NAME} of [a-zA-Z0-9._-]")
    wrong = sorted(set(name) - NAME_CHARACTERS)
    if wrong:
        raise InvalidTopic(f"topic name {name!r}: {wrong[0]!r} is not one of [a-zA-Z0-9._-]")
    if len(name) > MAX_NAME:
        raise InvalidTopic(f"topic name {name[:20]!r}...: {len(name)} characters, over {MAX_NAME}")
    if name == METADATA_TOPIC:
        raise InvalidTopic(f"topic name {name!r}: the log keeps its topics and configs there")


_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": HOUR, "d": 24 * HOUR}
_TIMED = re.compile(rf"([0-9]+) ?({'|'.join(_UNITS)})\Z")
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # What Python takes besides, as 1_000, a broker does not start on.
        if not _WHOLE.match(value.strip()):
            raise ValueError("not a whole number")
        number = int(value)
        if not low <= number <= high:
            raise ValueError(f"not between {low} and {high}")
        return number

    return parse


def _milliseconds(low: int, high: int) -> Callable[[str], int]:
    number = _number(low, high)

    def parse(value: str) -> int:
        timed = _TIMED.match(value.strip())
        if timed is None:
            return number(value)
        ms = int(timed[1]) * _UNITS[timed[2]]
        raise ValueError(f"it is in milliseconds, without a unit: {ms}")

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


def _fraction(value: str) -> float:
    try:
        number = float(value.replace("_", "no digit"))
    except ValueError:
        raise ValueError("not a number") from None
    if not 0 <= number <= 1:
        raise ValueError("not between 0 and 1")
    return number


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """What a topic's configs come to. Sizes in bytes, times in ms."""

    cleanup_policy: str = "delete"
    compression_type: str = "producer"
    delete_retention_ms: int = 24 * HOUR
    """How long a tombstone, or a transaction's marker, is kept after compaction first saw it."""

    index_interval_bytes: int = 4096
    max_compaction_lag_ms: int = MAX_LONG
    max_message_bytes: int = 1_048_588
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    retention_bytes: int = -1
    """-1: no limit."""

    retention_ms: int = 7 * 24 * HOUR
    """-1: no limit."""

    segment_bytes: int = 64 << 20
    segment_index_bytes: int = MAX_INDEX_BYTES
    segment_jitter_ms: int = 0
    segment_ms: int = 24 * HOUR
    timestamp_after_max_ms: int = MAX_LONG
    timestamp_before_max_ms: int = MAX_LONG
    timestamp_type: str = "CreateTime"
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The non-default ones, as they were written."""

    once_compacted: bool = False
    """The topic was compacted once, whatever its policy is now."""

    @property
    def sparse(self) -> bool:
        """Whether offsets may be missing in the middle."""
        return self.compacted or self.once_compacted

    @property
    def compacted(self) -> bool:
        """Records need keys."""
        return "compact" in self.cleanup_policy

    @property
    def deletes(self) -> bool:
        """Whether old segments go by time and size."""
        return "delete" in self.cleanup_policy

    @property
    def bounds_timestamps(self) -> bool:
        """Whether a record's own time can be refused."""
        unbounded = self.timestamp_after_max_ms == self.timestamp_before_max_ms == MAX_LONG
        return not unbounded and self.timestamp_type == "CreateTime"

    def roll_ms(self, partition: TopicPartition, base: int) -> int:
        """The age at which the segment `base` of a partition ends.

        `segment.ms`, less a part of `segment.jitter.ms` that differs from segment to segment and
        is the same in all processes. No older than `max.compaction.lag.ms` where that counts:
        what is in the active segment is not compacted.
        """
        age = self.segment_ms
        if self.segment_jitter_ms:
            spread = min(self.segment_jitter_ms, age) + 1
            age -= zlib.crc32(f"{partition}-{base}".encode()) % spread
        return min(age, self.max_compaction_lag_ms) if self.compacted else age

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "TopicConfig":
        """Raises ConfigError, naming the key and the nearest right one."""
        fields: dict[str, int | float | str] = {}
        for key, value in given.items():
            if key not in KNOWN and key not in ELSEWHERE:
                raise ConfigError(f"topic config {key!r}: unknown{nearest(key, KNOWN)}")
            if not isinstance(value, str):
                raise ConfigError(
                    f"topic config {key!r}: {value!r} is not text; write {str(value)!r}"
                )
            if key in ELSEWHERE:
                accepted, why = ELSEWHERE[key]
                if value not in accepted:
                    raise ConfigError(
                        f"topic config {key}={value!r}: {why}; leave it out, or as Kafka has it"
                        f" ({accepted[0]!r})"
                    )
                continue
            name, parse = KNOWN[key]
            try:
                fields[name] = parse(value)
            except ValueError as error:
                raise ConfigError(f"topic config {key}={value!r}: {error}") from None
        config = cls(**fields, given=MappingProxyType(dict(given)))  # type: ignore[arg-type]
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
            raise ConfigError(
                f"topic config min.compaction.lag.ms={config.min_compaction_lag_ms}: over"
                f" max.compaction.lag.ms, which is {config.max_compaction_lag_ms}"
            )
        return config


KNOWN: Mapping[str, tuple[str, Callable[[str], int | float | str]]] = {
    "cleanup.policy": ("cleanup_policy", _cleanup),
    "compression.type": ("compression_type", _choice(*COMPRESSIONS)),
    "delete.retention.ms": ("delete_retention_ms", _milliseconds(0, MAX_LONG)),
    "index.interval.bytes": ("index_interval_bytes", _number(0, MAX_INT)),
    "max.compaction.lag.ms": ("max_compaction_lag_ms", _milliseconds(1, MAX_LONG)),
    "max.message.bytes": ("max_message_bytes", _number(0, MAX_INT)),
    "message.timestamp.after.max.ms": ("timestamp_after_max_ms", _milliseconds(0, MAX_LONG)),
    "message.timestamp.before.max.ms": ("timestamp_before_max_ms", _milliseconds(0, MAX_LONG)),
    "message.timestamp.type": ("timestamp_type", _choice("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": ("min_cleanable_dirty_ratio", _fraction),
    "min.compaction.lag.ms": ("min_compaction_lag_ms", _milliseconds(0, MAX_LONG)),
    "retention.bytes": ("retention_bytes", _number(-1, MAX_LONG)),
    "retention.ms": ("retention_ms", _milliseconds(-1, MAX_LONG)),
    "segment.bytes": ("segment_bytes", _number(MIN_SEGMENT_BYTES, MAX_INT)),
    "segment.index.bytes": ("segment_index_bytes", _number(12, MAX_INDEX_BYTES)),
    "segment.jitter.ms": ("segment_jitter_ms", _milliseconds(0, MAX_LONG)),
    "segment.ms": ("segment_ms", _milliseconds(1, MAX_LONG)),
}

_LEVEL = "a batch is compressed at the codec's own level, by whoever produces it"
_ONE_MACHINE = "a log lives on one machine, without replicas"
_SYNCED = "records are synced when a producer asks for it (acks), or a segment ends"
_TIERED = "there is no second, remote storage"

ELSEWHERE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "compression.gzip.level": (("-1",), _LEVEL),
    "compression.lz4.level": (("9",), _LEVEL),
    "compression.zstd.level": (("3",), _LEVEL),
    "file.delete.delay.ms": (
        ("60000", "0"),
        "files are removed at once, and who reads one keeps it",
    ),
    "flush.messages": ((str(MAX_LONG),), _SYNCED),
    "flush.ms": ((str(MAX_LONG),), _SYNCED),
    "follower.replication.throttled.replicas": (("",), _ONE_MACHINE),
    "leader.replication.throttled.replicas": (("",), _ONE_MACHINE),
    "local.retention.bytes": (("-2",), _TIERED),
    "local.retention.ms": (("-2",), _TIERED),
    "min.insync.replicas": (("1",), _ONE_MACHINE),
    "preallocate": (("false",), "files are as long as what is in them"),
    "remote.log.copy.disable": (("false",), _TIERED),
    "remote.log.delete.on.disable": (("false",), _TIERED),
    "remote.storage.enable": (("false",), _TIERED),
    "unclean.leader.election.enable": (("false",), _ONE_MACHINE),
}
"""Kafka's other topic configs: the values that are true here, Kafka's default first, and why no
other is. A broker's directory may have them."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is configured for the whole directory."""

    max_disk_bytes: int = -1
    """The oldest segments of topics that delete go when the partitions have more bytes than this;
    -1: no limit."""

    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The non-default ones, as they were written."""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "LogConfig":
        """Raises ConfigError, naming the key and the nearest right one."""
        fields: dict[str, int] = {}
        for key, value in given.items():
            if key not in LOG_CONFIGS:
                raise ConfigError(f"log config {key!r}: unknown{nearest(key, LOG_CONFIGS)}")
            if not isinstance(value, str):
                raise ConfigError(f"log config {key!r}: {value!r} is not text; write '{value}'")
            name, parse = LOG_CONFIGS[key]
            try:
                fields[name] = parse(value)
            except ValueError as error:
                raise ConfigError(f"log config {key}={value!r}: {error}") from None
        return cls(**fields, given=MappingProxyType(dict(given)))


LOG_CONFIGS: Mapping[str, tuple[str, Callable[[str], int]]] = {
    "max.disk.bytes": ("max_disk_bytes", _number(-1, MAX_LONG)),
}

"""What `__cluster_metadata` holds: KRaft's records of topics, configs and producer ids, as bytes.

    | frame version 1 | api key | version | message |      three unsigned varints first

The message is in Kafka's flexible form: lengths are unsigned varints of length + 1 (0: null), and
tagged fields follow. Records of other kinds, which a broker's own log has, are passed over.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from streamkit.errors import CorruptLog

FRAME_VERSION = 1
TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
"""With the name "", what holds for all brokers: so for the whole log."""

NODE_ID = 1
"""The one broker and controller that every partition is said to live on."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its name, partition count, id (a UUID's 32 hex digits) and non-default configs."""

    name: str
    partitions: int
    topic_id: str
    config: Mapping[str, str] = field(default_factory=dict)
    once_compacted: bool = False
    """Its policy is, or was once, to compact: so offsets may be missing in the middle."""


@dataclass(frozen=True, slots=True)
class TopicRecord:
    name: str
    topic_id: str

    KEY = 2


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    topic_id: str
    partition: int

    KEY = 3


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """A config of a topic, or (BROKER_RESOURCE, "") of the log; a value of None takes it away."""

    of: str
    name: str
    value: str | None
    resource: int = TOPIC_RESOURCE

    KEY = 4


@dataclass(frozen=True, slots=True)
class RemoveTopicRecord:
    topic_id: str

    KEY = 9


@dataclass(frozen=True, slots=True)
class ProducerIdsRecord:
    """Producer ids below `end` have been given out, in blocks; whoever needs one begins there."""

    end: int

    KEY = 15


@dataclass(frozen=True, slots=True)
class FeatureLevelRecord:
    """Tells a broker which records to expect, and to write."""

    name: str
    level: int

    KEY = 12


METADATA_VERSION = FeatureLevelRecord("metadata.version", 7)
"""Kafka 3.3's: the oldest that Kafka 4 goes on from, and enough for what is written here. A broker
does not start without one."""

TRANSACTION_VERSION = FeatureLevelRecord("transaction.version", 2)
"""How transactions are written here. A broker that is not told would go on with none of their
transactional ids: its own record of them, in an older version, can't say what ours does."""

MetadataRecord: TypeAlias = (
    TopicRecord
    | PartitionRecord
    | ConfigRecord
    | RemoveTopicRecord
    | FeatureLevelRecord
    | ProducerIdsRecord
)


def encode_record(record: MetadataRecord) -> bytes:
    """The value of the record in the log."""
    frame = bytearray((FRAME_VERSION, record.KEY, 0))
    if isinstance(record, TopicRecord):
        frame += _string(record.name) + bytes.fromhex(record.topic_id)
    elif isinstance(record, PartitionRecord):
        frame += struct.pack(">i", record.partition) + bytes.fromhex(record.topic_id)
        one = _varint(2) + struct.pack(">i", NODE_ID)
        frame += one + one + _varint(1) + _varint(1)  # replicas, in sync; removing, adding: none
        frame += struct.pack(">iii", NODE_ID, 0, 0)  # leader, leader epoch, partition epoch
    elif isinstance(record, ConfigRecord):
        value = _varint(0) if record.value is None else _string(record.value)
        frame += struct.pack(">b", record.resource) + _string(record.of) + _string(record.name)
        frame += value
    elif isinstance(record, FeatureLevelRecord):
        frame += _string(record.name) + struct.pack(">h", record.level)
    elif isinstance(record, ProducerIdsRecord):
        frame += struct.pack(">iqq", NODE_ID, -1, record.end)  # for which broker, in which epoch
    else:
        frame += bytes.fromhex(record.topic_id)
    frame.append(0)  # no tagged fields
    return bytes(frame)


def decode_record(data: bytes) -> MetadataRecord | None:
    """None for a record that says nothing to us. Raises CorruptLog when it cannot be read."""
    try:
        return _decode(_Reader(data))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise CorruptLog(f"unreadable metadata record ({error}): {data[:40]!r}") from error


def _decode(reader: "_Reader") -> MetadataRecord | None:
    if reader.varint() != FRAME_VERSION:
        return None
    key, _version = reader.varint(), reader.varint()
    if key == TopicRecord.KEY:
        return TopicRecord(reader.string() or "", reader.uuid())
    if key == PartitionRecord.KEY:
        (partition,) = reader.unpack(">i")
        return PartitionRecord(reader.uuid(), partition)
    if key == ConfigRecord.KEY:
        (resource,) = reader.unpack(">b")
        of, name, value = reader.string() or "", reader.string() or "", reader.string()
        known = resource == TOPIC_RESOURCE or (resource == BROKER_RESOURCE and not of)
        return ConfigRecord(of, name, value, resource) if known else None
    if key == RemoveTopicRecord.KEY:
        return RemoveTopicRecord(reader.uuid())
    if key == FeatureLevelRecord.KEY:
        name = reader.string() or ""
        (level,) = reader.unpack(">h")
        return FeatureLevelRecord(name, level)
    if key == ProducerIdsRecord.KEY:
        _broker, _epoch, end = reader.unpack(">iqq")
        return ProducerIdsRecord(end)
    return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 28:
                raise IndexError("a length of more than five bytes")

    def take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise IndexError(f"{size} bytes wanted, {len(data)} left")
        self._at += size
        return data

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def string(self) -> str | None:
        size = self.varint()
        return None if size == 0 else self.take(size - 1).decode()

    def uuid(self) -> str:
        return self.take(16).hex()


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _string(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data) + 1) + data


class Topics:
    """What the records so far amount to."""

    def __init__(self) -> None:
        self.by_name: dict[str, Topic] = {}
        self.removed: set[str] = set()
        """Ids of deleted topics: what files they still have may go."""

        self.log_config: dict[str, str] = {}
        """What is configured for the log as a whole."""

        self.features: dict[str, int] = {}
        """Levels of what all brokers have to know; one that is not there is at 0."""

        self.next_producer_id = 0
        self.names: dict[str, str] = {}

    def copy(self) -> "Topics":
        other = Topics()
        other.by_name = dict(self.by_name)
        other.removed = set(self.removed)
        other.log_config = dict(self.log_config)
        other.features = dict(self.features)
        other.next_producer_id = self.next_producer_id
        other.names = dict(self.names)
        return other

    def apply(self, record: MetadataRecord) -> None:
        if isinstance(record, TopicRecord):
            self.names[record.topic_id] = record.name
            self.by_name[record.name] = Topic(record.name, 0, record.topic_id)
        elif isinstance(record, PartitionRecord):
            topic = self._topic(record.topic_id)
            if topic is not None:
                count = max(topic.partitions, record.partition + 1)
                self._set(replace(topic, partitions=count))
        elif isinstance(record, ConfigRecord):
            self._configure(record)
        elif isinstance(record, FeatureLevelRecord):
            self.features[record.name] = record.level
        elif isinstance(record, ProducerIdsRecord):
            self.next_producer_id = max(self.next_producer_id, record.end)
        else:
            topic = self._topic(record.topic_id)
            self.removed.add(record.topic_id)
            if topic is not None:
                del self.by_name[topic.name], self.names[topic.topic_id]

    def _configure(self, record: ConfigRecord) -> None:
        if record.resource == BROKER_RESOURCE:
            self.log_config = changed(self.log_config, {record.name: record.value})
            return
        topic = self.by_name.get(record.of)
        if topic is not None:
            config = changed(topic.config, {record.name: record.value})
            compacts = "compact" in config.get("cleanup.policy", "")
            self._set(
                replace(topic, config=config, once_compacted=topic.once_compacted or compacts)
            )

    def _topic(self, topic_id: str) -> Topic | None:
        name = self.names.get(topic_id)
        return self.by_name.get(name) if name is not None else None

    def _set(self, topic: Topic) -> None:
        self.by_name[topic.name] = topic


def changed(config: Mapping[str, str], by: Mapping[str, str | None]) -> dict[str, str]:
    """Configs after a change; a key whose value is None there has its default again."""
    return {key: value for key, value in {**config, **by}.items() if value is not None}

"""What `__cluster_metadata` holds: KRaft's records of topics, partitions and configs, as bytes.

    | frame version 1 | api key | version | message |      three unsigned varints first

The message is in Kafka's flexible form: lengths are unsigned varints of length + 1 (0: null), and
tagged fields follow. Records of other kinds, which a broker's own log has, are passed over.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from streamkit.errors import CorruptLog

FRAME_VERSION = 1
TOPIC_RESOURCE = 2
NODE_ID = 1
"""The one broker and controller that every partition is said to live on."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its name, partition count, id (a UUID's 32 hex digits) and non-default configs."""

    name: str
    partitions: int
    topic_id: str
    config: Mapping[str, str] = field(default_factory=dict)


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
    """A topic's config; a value of None takes it away."""

    topic: str
    name: str
    value: str | None

    KEY = 4


@dataclass(frozen=True, slots=True)
class RemoveTopicRecord:
    topic_id: str

    KEY = 9


MetadataRecord: TypeAlias = TopicRecord | PartitionRecord | ConfigRecord | RemoveTopicRecord


@dataclass(frozen=True, slots=True)
class FeatureLevelRecord:
    """Tells a broker which records to expect. It does not start without; we pass over it."""

    name: str
    level: int

    KEY = 12


METADATA_VERSION = FeatureLevelRecord("metadata.version", 7)
"""Kafka 3.3's: the oldest that Kafka 4 goes on from, and enough for what is written here."""


def encode_record(record: MetadataRecord | FeatureLevelRecord) -> bytes:
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
        frame += struct.pack(">b", TOPIC_RESOURCE) + _string(record.topic) + _string(record.name)
        frame += value
    elif isinstance(record, FeatureLevelRecord):
        frame += _string(record.name) + struct.pack(">h", record.level)
    else:
        frame += bytes.fromhex(record.topic_id)
    frame.append(0)  # no tagged fields
    return bytes(frame)


def decode_record(data: bytes) -> MetadataRecord | None:
    """None for a record that is not about topics. Raises CorruptLog when it cannot be read."""
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
        topic, name, value = reader.string(), reader.string(), reader.string()
        return ConfigRecord(topic or "", name or "", value) if resource == TOPIC_RESOURCE else None
    if key == RemoveTopicRecord.KEY:
        return RemoveTopicRecord(reader.uuid())
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
    """The topics that the records so far amount to."""

    def __init__(self) -> None:
        self.by_name: dict[str, Topic] = {}
        self.removed: set[str] = set()
        """Ids of deleted topics: what files they still have may go."""

        self.names: dict[str, str] = {}

    def apply(self, record: MetadataRecord) -> None:
        if isinstance(record, TopicRecord):
            self.names[record.topic_id] = record.name
            self.by_name[record.name] = Topic(record.name, 0, record.topic_id)
        elif isinstance(record, PartitionRecord):
            topic = self._topic(record.topic_id)
            if topic is not None:
                count = max(topic.partitions, record.partition + 1)
                self._set(Topic(topic.name, count, topic.topic_id, topic.config))
        elif isinstance(record, ConfigRecord):
            topic = self.by_name.get(record.topic)
            if topic is not None:
                config = {**topic.config, record.name: record.value}
                given = {key: value for key, value in config.items() if value is not None}
                self._set(Topic(topic.name, topic.partitions, topic.topic_id, given))
        else:
            topic = self._topic(record.topic_id)
            self.removed.add(record.topic_id)
            if topic is not None:
                del self.by_name[topic.name], self.names[topic.topic_id]

    def _topic(self, topic_id: str) -> Topic | None:
        name = self.names.get(topic_id)
        return self.by_name.get(name) if name is not None else None

    def _set(self, topic: Topic) -> None:
        self.by_name[topic.name] = topic

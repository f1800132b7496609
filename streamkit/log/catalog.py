"""Topics of a log: created, deleted and listed through `__cluster_metadata`."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from streamkit.clock import Clock
from streamkit.codec import columns, encode, headers
from streamkit.errors import (
    ConfigError,
    CorruptBatch,
    InvalidTopic,
    LogError,
    ReadOnlyLog,
    StorageFailed,
    TopicExists,
    UnknownTopic,
    nearest,
)
from streamkit.log.config import TopicConfig, check_topic_name
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile
from streamkit.log.folders import holds_data, is_deleted, make_folder, remove_folder, topic_id_of
from streamkit.log.metadata import (
    METADATA_VERSION,
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionRecord,
    RemoveTopicRecord,
    Topic,
    TopicRecord,
    Topics,
    decode_record,
    encode_record,
)
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)

MAX_PARTITIONS = 100_000


class Catalog:
    """The topics as of now: other processes' changes are read on every look, if there are any."""

    def __init__(self, root: str, metadata: Partition, *, files: Files, clock: Clock) -> None:
        self._root = root
        self._metadata = metadata
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._lock_file: OpenFile | None = None
        self._topics = Topics()
        self._read_to = 0

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name; a snapshot that does not change."""
        if self._metadata.end_offset != self._read_to:
            with self._lock:
                self._refresh()
        return self._topics.by_name

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopic."""
        topics = self.topics()
        found = topics.get(name)
        if found is None:
            raise UnknownTopic(f"no topic {name!r}{nearest(name, topics)}")
        return found

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """Raises InvalidTopic, TopicExists, ConfigError."""
        check_topic_name(name)
        TopicConfig.parse(config)
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise ConfigError(f"topic {name!r}: {partitions} partitions; 1-{MAX_PARTITIONS} work")
        with self._changing():
            topics = self._topics.by_name
            if name in topics:
                raise TopicExists(
                    f"topic {name!r} exists, with {topics[name].partitions} partitions"
                )
            like = name.replace(".", "_")
            for other in topics:
                if other.replace(".", "_") == like:
                    raise InvalidTopic(
                        f"topic name {name!r}: like {other!r}, which exists, but for '.' and '_';"
                        " Kafka takes them for the same in the names of metrics"
                    )
            topic = Topic(name, partitions, uuid.uuid4().hex, dict(config))
            for number in range(partitions):
                self._make_directory(TopicPartition(name, number), topic.topic_id)
            self._files.fsync_dir(self._root)
            self._append(
                [
                    *([METADATA_VERSION] if self._metadata.end_offset == 0 else []),
                    TopicRecord(name, topic.topic_id),
                    *(PartitionRecord(topic.topic_id, number) for number in range(partitions)),
                    *(ConfigRecord(name, key, value) for key, value in config.items()),
                ]
            )
            return topic

    def delete(self, name: str) -> Topic:
        """Raises UnknownTopic."""
        with self._changing():
            topic = self._topics.by_name.get(name)
            if topic is None:
                raise UnknownTopic(f"no topic {name!r}{nearest(name, self._topics.by_name)}")
            # Said first, done then: a process killed in between leaves files that belong to nobody.
            self._append([RemoveTopicRecord(topic.topic_id)])
            for number in range(topic.partitions):
                remove_folder(self._files, self.directory(TopicPartition(name, number)))
            self._files.fsync_dir(self._root)
            return topic

    def directory(self, tp: TopicPartition) -> str:
        return os.path.join(self._root, str(tp))

    def forked(self) -> None:
        """In a forked child: let go of the parent's lock."""
        self._lock = threading.Lock()
        if self._lock_file is not None:
            self._lock_file.abandon()
            self._lock_file = None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the root's lock against all threads and processes that create or delete topics."""
        with self._lock:
            path = os.path.join(self._root, "control")
            try:
                self._lock_file = OpenFile(self._files, path, os.O_RDWR | os.O_CREAT)
                self._lock_file.lock()
                self._refresh()
                self._sweep()
                yield
            except OSError as error:
                raise failure(error, f"{error.filename or self._root}: no topic change") from error
            finally:
                if self._lock_file is not None:
                    self._lock_file.unlock()
                self._lock_file = None

    def _append(self, records: Sequence[MetadataRecord | FeatureLevelRecord]) -> None:
        now = self._clock.now()
        values = [encode_record(record) for record in records]
        self._metadata.append([encode(values, timestamps=now)])
        self._refresh()

    def _refresh(self) -> None:
        topics = Topics()
        topics.by_name = dict(self._topics.by_name)
        topics.removed = set(self._topics.removed)
        topics.names = dict(self._topics.names)
        read_to = self._read_to
        end = self._durable_end()
        while read_to < end:
            data = self._metadata.read(read_to, 1 << 20)
            try:
                found = columns(data, read_to)
            except CorruptBatch:
                self._metadata.verify(read_to)
                raise
            for value in found.values:
                record = decode_record(value) if value is not None else None
                if record is not None:
                    topics.apply(record)
            for _, header in headers(data):
                read_to = header.next_offset
        self._topics = topics
        self._read_to = read_to

    def _durable_end(self) -> int:
        """Up to where the records count.

        A topic that another process has just published may not be synced yet, and never will be if
        that one was killed. Used before, it could be gone after a power cut with all its records.
        """
        end = self._metadata.end_offset
        try:
            self._metadata.sync()
        except ReadOnlyLog:
            return end  # who cannot write promises nothing
        except StorageFailed:
            return min(end, self._metadata.synced_offset)
        return end

    def _make_directory(self, tp: TopicPartition, topic_id: str) -> None:
        path = self.directory(tp)
        if self._files.exists(path):
            if holds_data(self._files, path):
                raise LogError(
                    f"{path}: holds records of a topic that the log does not know;"
                    " move the directory away, then create the topic"
                )
            remove_folder(self._files, path)  # left by a creation that was killed
        make_folder(self._files, path, bytes.fromhex(topic_id))

    def _sweep(self) -> None:
        """Remove what is left of topics whose deletion was killed half way."""
        topics = self._topics
        for name in self._files.listdir(self._root):
            topic, dash, _ = name.rpartition("-")
            path = os.path.join(self._root, name)
            try:
                if is_deleted(name) or (
                    dash
                    and topic not in topics.by_name
                    and topics.removed
                    and topic_id_of(self._files, path) in topics.removed
                ):
                    remove_folder(self._files, path)
            except OSError as error:
                # It is in nobody's way, unless a topic of that name is made: that says so, too.
                logger.warning("%s: a deleted topic's files stay: %s", path, error.strerror)

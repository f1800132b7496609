"""Topics of a log: created, altered, deleted and listed through `__cluster_metadata`."""

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
    CorruptLog,
    InvalidPartitions,
    InvalidTopic,
    LogError,
    ReadOnlyLog,
    StorageFailed,
    TopicExists,
    UnknownTopic,
    nearest,
)
from streamkit.log.cleaned import forget_cleaned
from streamkit.log.config import KNOWN, TopicConfig, check_topic_name
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile
from streamkit.log.folders import (
    holds_data,
    is_deleted,
    make_folder,
    remove_folder,
    set_aside,
    topic_id_of,
)
from streamkit.log.metadata import (
    BROKER_RESOURCE,
    METADATA_VERSION,
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RemoveTopicRecord,
    Topic,
    TopicRecord,
    Topics,
    changed,
    decode_record,
    encode_record,
)
from streamkit.log.metadata_snapshot import newest_snapshot, read_snapshot
from streamkit.log.partition import Partition
from streamkit.log.starts import forget_starts, note_start
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)

MAX_PARTITIONS = 100_000
PRODUCER_IDS = 1000
"""How many producer ids are taken at once, as by Kafka's brokers."""


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
        # Asked before every append and fetch: with as few calls as it takes.
        if self._metadata.ends_at(self._read_to):
            return self._topics.by_name
        return self._now().by_name

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopic."""
        return _existing(self.topics(), name, self._root)

    def log_config(self) -> Mapping[str, str]:
        """The non-default configs of the log as a whole, by name."""
        return self._now().log_config

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """Raises InvalidTopic, TopicExists, InvalidPartitions, ConfigError."""
        check_topic_name(name)
        TopicConfig.parse(config)
        _check_count(name, partitions)
        with self._changing():
            topics = self._topics.by_name
            if name in topics:
                raise TopicExists(
                    f"topic {name!r} exists already (partitions: {topics[name].partitions})"
                )
            like = name.replace(".", "_")
            for other in topics:
                if other.replace(".", "_") == like:
                    raise InvalidTopic(
                        f"topic name {name!r}: like {other!r}, which exists, but for '.' and '_';"
                        " Kafka takes them for the same in the names of metrics"
                    )
            topic_id = uuid.uuid4().hex
            numbers = range(partitions)
            forget_starts(self._files, self._root, name)  # of an older topic of that name
            forget_cleaned(self._files, self._root, name)
            self._make_directories(name, topic_id, numbers)
            self._append(
                [
                    TopicRecord(name, topic_id),
                    *(PartitionRecord(topic_id, number) for number in numbers),
                    *(ConfigRecord(name, key, value) for key, value in config.items()),
                ]
            )
            return self._topics.by_name[name]

    def add_partitions(self, name: str, total: int) -> Topic:
        """Let the topic have `total` partitions. Raises UnknownTopic, InvalidPartitions."""
        _check_count(name, total)
        with self._changing():
            topic = _existing(self._topics.by_name, name, self._root)
            if total <= topic.partitions:
                raise InvalidPartitions(
                    f"topic {name!r}: partitions can only be added, as the records of those removed"
                    f" would be lost; asked for: {total}, there are: {topic.partitions}"
                )
            numbers = range(topic.partitions, total)
            self._make_directories(name, topic.topic_id, numbers)
            self._append([PartitionRecord(topic.topic_id, number) for number in numbers])
            return self._topics.by_name[name]

    def alter(self, name: str, config: Mapping[str, str | None]) -> Topic:
        """Set configs, or with None take them back to the default. UnknownTopic, ConfigError."""
        TopicConfig.parse({key: value for key, value in config.items() if value is not None})
        with self._changing():
            topic = _existing(self._topics.by_name, name, self._root)
            for key, value in config.items():
                if value is None and key not in topic.config and key not in KNOWN:
                    raise ConfigError(f"topic config {key!r}: unknown{nearest(key, KNOWN)}")
            TopicConfig.parse(changed(topic.config, config))
            records = [
                ConfigRecord(name, key, value)
                for key, value in config.items()
                if topic.config.get(key) != value
            ]
            if records:
                self._append(records)
            return self._topics.by_name[name]

    def alter_log(self, config: Mapping[str, str | None]) -> None:
        """Set configs of the whole log, or with None take them away. They are not looked at."""
        with self._changing():
            known = self._topics.log_config
            records = [
                ConfigRecord("", key, value, BROKER_RESOURCE)
                for key, value in config.items()
                if known.get(key) != value
            ]
            if records:
                self._append(records)

    def note_start(self, tp: TopicPartition, offset: int) -> None:
        """Note where a partition begins, for when its control block is lost."""
        with self._changing():
            _existing(self._topics.by_name, tp.topic, self._root)
            note_start(self._files, self._root, tp, offset)

    def require_feature(self, feature: FeatureLevelRecord) -> None:
        """Note for brokers that they have to know a feature, unless its level is as high."""
        if self._now().features.get(feature.name, 0) < feature.level:
            with self._changing():
                if self._topics.features.get(feature.name, 0) < feature.level:
                    self._append([feature])

    def producer_ids(self) -> range:
        """Ids for producers that nobody has had; on stable storage that they are taken."""
        with self._changing():
            first = self._topics.next_producer_id
            self._append([ProducerIdsRecord(first + PRODUCER_IDS)])
            return range(first, first + PRODUCER_IDS)

    def delete(self, name: str) -> Topic:
        """Raises UnknownTopic."""
        with self._changing():
            topic = _existing(self._topics.by_name, name, self._root)
            # Said first, done then: a process killed in between leaves files that belong to nobody.
            self._append([RemoveTopicRecord(topic.topic_id)])
            paths = [self.directory(TopicPartition(name, n)) for n in range(topic.partitions)]
            aside = [set_aside(self._files, path) for path in paths if self._files.exists(path)]
            self._files.fsync_dir(self._root)
            for path in aside:
                remove_folder(self._files, path)
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
                # Raises when it failed before: what was noted then may stay or go at a reboot, so
                # no directory may be made or removed on account of it.
                self._metadata.sync()
                self._sweep()
                yield
            except OSError as error:
                where = error.filename or self._root
                raise failure(error, f"{where}: topics cannot be made or changed") from error
            finally:
                if self._lock_file is not None:
                    self._lock_file.unlock()
                self._lock_file = None

    def _append(self, records: Sequence[MetadataRecord]) -> None:
        """Bring the records to stable storage, all or none, and apply them."""
        all_of = [*records]
        if self._metadata.end_offset == 0:
            all_of.insert(0, METADATA_VERSION)
        values = [encode_record(record) for record in all_of]
        self._metadata.append([encode(values, timestamps=self._clock.now())])
        self._refresh()

    def _now(self) -> Topics:
        if self._metadata.end_offset != self._read_to:
            with self._lock:
                self._refresh()
        return self._topics

    def _refresh(self) -> None:
        topics, read_to = self._topics.copy(), self._read_to
        end = self._durable_end()
        if read_to < self._metadata.start_offset:
            topics, read_to = self._summed_up()
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

    def _summed_up(self) -> tuple[Topics, int]:
        """What the records that a broker has removed amount to, and where the others begin."""
        start = self._metadata.start_offset
        newest = newest_snapshot(self._files, self._metadata.directory)
        if newest is None or not start <= newest[0] <= self._metadata.end_offset:
            raise CorruptLog(
                f"{self._metadata.directory}: the records before offset {start} are gone, and no"
                " .checkpoint file sums them up to there or to a later offset that the log has;"
                " without them nobody knows its topics: restore the directory from a backup"
            )
        offset, path = newest
        return read_snapshot(self._files, path), offset

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

    def _make_directories(self, name: str, topic_id: str, numbers: range) -> None:
        """Make empty partitions, durable with their names."""
        for number in numbers:
            self._make_directory(TopicPartition(name, number), topic_id)
        self._files.fsync_dir(self._root)

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


def _existing(topics: Mapping[str, Topic], name: str, root: str) -> Topic:
    found = topics.get(name)
    if found is None:
        # Nobody means the log's own topics (`__…`) who does not write them so.
        own = str(name).startswith("__")
        known = [other for other in topics if own or not other.startswith("__")]
        there = nearest(name, known) if known else f"; the log in {root} has none yet"
        raise UnknownTopic(f"no topic {name!r}{there}")
    return found


def _check_count(name: str, partitions: int) -> None:
    if not isinstance(partitions, int) or not 1 <= partitions <= MAX_PARTITIONS:
        raise InvalidPartitions(
            f"topic {name!r}: {partitions!r} partitions; 1-{MAX_PARTITIONS} work"
        )

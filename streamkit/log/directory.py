"""A log: one directory of partitions, opened by as many processes as you like."""

import logging
import os
import resource
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal
from uuid import uuid4

from streamkit.clock import Clock, SystemClock
from streamkit.errors import (
    ConfigError,
    InvalidTopic,
    LogError,
    LogNotFound,
    OffsetOutOfRange,
    OutOfSpace,
    PolicyViolation,
    ReadOnlyLog,
    UnknownPartition,
)
from streamkit.log.broker import keep_brokers_out
from streamkit.log.catalog import Catalog
from streamkit.log.checkpoints import META_PROPERTIES, Properties, encode_id
from streamkit.log.config import (
    LOG_CONFIGS,
    METADATA_TOPIC,
    OWN_TOPICS,
    LogConfig,
    TopicConfig,
)
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile, RealFiles, UnsyncedFiles, read_whole, write_new
from streamkit.log.folders import holds_data, make_folder, remove_folder
from streamkit.log.maintenance import Maintained, Maintenance
from streamkit.log.metadata import FeatureLevelRecord, Topic
from streamkit.log.partition import Partition
from streamkit.log.space import Space
from streamkit.log.ticker import TICK_SECONDS, Ticker
from streamkit.log.wake import Wake
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)

METADATA = TopicPartition(METADATA_TOPIC, 0)
METADATA_TOPIC_ID = bytes(15) + b"\x01"
"""The id that Kafka reserves for its metadata log."""

MAX_MESSAGE = 64 << 20
"""A topic is created in one batch, whatever number of partitions it has."""

CONTROL = "control"
WAKE = "wake"

MAX_OPEN_FILES = 65_536

BUSY_SECONDS = 0.15
"""Between two passes while something is compacted: a quarter of a processor, then."""

TAKE_OVER = 1_500_000
"""So many microseconds after the last pass another process does the next one."""

PATIENCE_SECONDS = 30.0

_open_logs: "weakref.WeakSet[Log]" = weakref.WeakSet()


class Log:
    """Opened with `Log.open`; used from any thread; also a context manager."""

    def __init__(
        self,
        path: str,
        properties: Properties,
        *,
        read_only: bool,
        fsync: Literal["always", "never"],
        files: Files,
        clock: Clock,
        maintenance: bool,
    ) -> None:
        """Use `Log.open`."""
        self.path = path
        self.read_only = read_only
        self.cluster_id = properties.cluster_id
        self._fsync = fsync
        self._files = files
        self._clock = clock
        self._brokers = None if read_only else keep_brokers_out(files, path)
        self._wake = Wake(files, os.path.join(path, WAKE), writable=not read_only)
        self._lock = threading.Lock()
        self._ticker = Ticker(self._tick)
        self._space = None if read_only else Space(files, path, clock=clock, ask=self._ticker.ask)
        self._ticks = read_only or not maintenance
        """Whether the thread runs, or never will."""
        self._passed = -1
        self._hindered = ""
        self._borrowed: set[Partition] = set()
        self._metadata = self._partition(
            METADATA, METADATA_TOPIC_ID.hex(), TopicConfig(max_message_bytes=MAX_MESSAGE)
        )
        self._catalog = Catalog(path, self._metadata, files=files, clock=clock)
        self._partitions: dict[TopicPartition, Partition] = {}
        self._topics: Mapping[str, Topic] | None = None
        self._producer_ids: Iterator[int] = iter(())
        self._maintenance = Maintenance(
            path,
            files=files,
            clock=clock,
            topics=self._catalog.topics,
            parse=_config_of,
            borrow=self._borrow,
            limit=lambda: self.config.max_disk_bytes,
            full=lambda: self._space is not None and self._space.full,
        )
        if self._space is not None:
            self._maintenance.add_duty(self._space.restore)
        _open_logs.add(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        fsync: Literal["always", "never"] = "always",
        files: Files | None = None,
        clock: Clock | None = None,
        maintenance: bool = True,
    ) -> "Log":
        """Open the directory; `create` makes it when there is no log in it yet.

        As long as it is open no Kafka broker starts on the directory, unless it is read-only.
        From the first append on a thread does maintenance: in one of all processes, about once a
        second. With `maintenance` false there is none here, and `maintain` can be called.
        `fsync="never"` is for tests: nothing is safe from a power cut then. Raises LogNotFound,
        LogInUse (by a broker), UnsupportedFormat, CorruptLog, ReadOnlyLog (no right to write).
        """
        if files is None:
            files = UnsyncedFiles() if fsync == "never" else RealFiles()
        root = os.path.abspath(path)
        properties_path = os.path.join(root, META_PROPERTIES)
        if not files.exists(properties_path):
            if read_only or not create:
                raise LogNotFound(
                    f"{root}: no log here ({META_PROPERTIES} is missing); check the path, or open"
                    " it to write and it is made"
                )
            _make_root(files, root)
        try:
            data = read_whole(files, properties_path)
        except OSError as error:
            raise failure(error, f"{properties_path}: cannot be read") from error
        properties = Properties.decode(data, properties_path)
        _allow_open_files()
        return cls(
            root,
            properties,
            read_only=read_only,
            fsync=fsync,
            files=files,
            clock=clock if clock is not None else SystemClock(),
            maintenance=maintenance,
        )

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Log {self.path}{' read-only' if self.read_only else ''}>"

    # Topics.

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> Topic:
        """Raises InvalidTopic, TopicExists, ConfigError, ReadOnlyLog."""
        self._require_writable()
        topic = self._catalog.create(name, partitions, config or {})
        self.notify()
        return topic

    def add_partitions(self, name: str, total: int) -> Topic:
        """Let the topic have `total` partitions, the new ones empty.

        A key's records may from now on go to another partition than before. Raises UnknownTopic,
        InvalidPartitions (there are as many already), ReadOnlyLog.
        """
        self._require_writable()
        topic = self._catalog.add_partitions(name, total)
        self.notify()
        return topic

    def alter_topic(self, name: str, config: Mapping[str, str | None]) -> Topic:
        """Set configs; None gives a key its default again. All of them or none.

        Every process obeys from its next append on. Raises UnknownTopic, ConfigError, ReadOnlyLog.
        """
        self._require_writable()
        topic = self._catalog.alter(name, config)
        self.notify()
        return topic

    def delete_topic(self, name: str) -> None:
        """Remove the topic and its records, also under those who use it. Raises UnknownTopic."""
        self._require_writable()
        self._catalog.delete(name)
        self.notify()

    def topics(self) -> dict[str, Topic]:
        """All topics by name, as of now, whoever created them."""
        return dict(self._catalog.topics())

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopic, naming the nearest that exists."""
        return self._catalog.topic(name)

    def producer_id(self) -> int:
        """A producer id that nobody has had yet. ReadOnlyLog."""
        self._require_writable()
        with self._lock:
            found = next(self._producer_ids, None)
            if found is None:
                self._producer_ids = iter(self._catalog.producer_ids())
                found = next(self._producer_ids)
            return found

    def require_feature(self, feature: FeatureLevelRecord) -> None:
        """Let only brokers that know the feature serve the log from now on. ReadOnlyLog."""
        self._require_writable()
        self._catalog.require_feature(feature)

    def partition(self, tp: TopicPartition) -> Partition:
        """The partition; the same object every time while the topic lives.

        Raises UnknownTopic, UnknownPartition.
        """
        if tp == METADATA:
            return self._metadata
        topics = self._catalog.topics()
        if topics is not self._topics:
            self._follow(topics)
        found = self._partitions.get(tp)
        return found if found is not None else self._open_partition(tp)

    def _open_partition(self, tp: TopicPartition) -> Partition:
        topic = self._catalog.topic(tp.topic)
        if not 0 <= tp.partition < topic.partitions:
            raise UnknownPartition(
                f"{tp}: topic {topic.name!r} has partitions 0 to {topic.partitions - 1}"
            )
        with self._lock:
            found = self._partitions.get(tp)
            if found is None:
                found = self._partition(tp, topic.topic_id, _config_of(topic))
                self._partitions[tp] = found
            return found

    def _follow(self, topics: Mapping[str, Topic]) -> None:
        """Forget partitions of deleted topics, and give the others the configs of today."""
        with self._lock:
            for tp, partition in list(self._partitions.items()):
                topic = topics.get(tp.topic)
                if topic is None or topic.topic_id != partition.topic_id:
                    del self._partitions[tp]
                elif topic.config != partition.config.given:
                    try:
                        partition.configure(_config_of(topic))
                    except ConfigError:
                        del self._partitions[tp]  # who opens it is told what a broker wrote there
            self._topics = topics

    def _partition(self, tp: TopicPartition, topic_id: str, config: TopicConfig) -> Partition:
        return Partition(
            tp,
            topic_id,
            os.path.join(self.path, str(tp)),
            config,
            files=self._files,
            clock=self._clock,
            fsync=self._fsync,
            read_only=self.read_only,
            notify=self._appended,
            space=self._space,
        )

    @contextmanager
    def _borrow(self, tp: TopicPartition) -> Iterator[Partition]:
        """A partition for a while. If nobody uses it here, its files are not kept open."""
        partition = self._partitions.get(tp)
        if partition is not None and self.partition(tp) is partition:
            yield partition
            return
        topic = self._catalog.topic(tp.topic)
        partition = self._partition(tp, topic.topic_id, _config_of(topic))
        # Kept where a forked child finds it: else that would hold its locks as well.
        self._borrowed.add(partition)
        try:
            yield partition
        finally:
            self._borrowed.discard(partition)
            partition.close()

    def _require_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyLog(f"{self.path}: opened read-only; nothing is written")

    # Maintenance.

    @property
    def config(self) -> LogConfig:
        """The configs of the log as a whole, as of now."""
        given = self._catalog.log_config()  # a broker's own may be among them
        return LogConfig.parse({key: given[key] for key in LOG_CONFIGS if key in given})

    def alter_config(self, config: Mapping[str, str | None]) -> LogConfig:
        """Set configs of the log as a whole; None gives a key its default again.

        All of them or none, and for all processes. Raises ConfigError, ReadOnlyLog.
        """
        self._require_writable()
        LogConfig.parse({key: "-1" if value is None else value for key, value in config.items()})
        self._catalog.alter_log(config)
        self.notify()
        return self.config

    def delete_records(self, tp: TopicPartition, before: int) -> int:
        """Delete a partition's records below the offset `before`, and return where it starts then.

        -1: all there are, but for those of transactions that are still open. They can't be read
        any more, in any process; their files go as soon as a whole segment is below. An offset
        below the start changes nothing. On stable storage when it returns. Raises UnknownTopic,
        UnknownPartition, InvalidTopic (one of the log's own), PolicyViolation (a topic that is
        only compacted), OffsetOutOfRange, ReadOnlyLog.
        """
        self._require_writable()
        partition = self.partition(tp)
        if tp.topic in OWN_TOPICS:
            raise InvalidTopic(f"{tp}: a topic of the log's own; its records are not deleted")
        if not partition.config.deletes:
            raise PolicyViolation(
                f"{tp}: the topic's cleanup.policy is {partition.config.cleanup_policy}: records go"
                " when their key has a later one; delete keys, or set compact,delete"
            )
        end = partition.published()
        if before == -1:
            before = end.stable_offset
        if not 0 <= before <= end.stable_offset:
            raise OffsetOutOfRange(
                f"{tp}@{before}: records can be deleted up to offset {end.stable_offset}, where"
                + (
                    " an open transaction begins"
                    if end.stable_offset < end.end_offset
                    else " the partition ends"
                )
            )
        if before <= end.start_offset:
            return end.start_offset
        # A power cut must not let the log end below its start: what is appended there next would
        # be taken for deleted by whoever goes by the note.
        partition.sync()
        try:
            self._catalog.note_start(tp, before)
        except OutOfSpace:  # what is to make room must not fail for want of it
            if self._space is None or not self._space.give_up_ballast():
                raise
            self._catalog.note_start(tp, before)
        return partition.remove_before(before)

    def maintain(self) -> Maintained:
        """Do now what is due: end and remove old segments, compact, and what others do besides.

        A thread does the same from time to time (see `open`). This one looks at every partition,
        and says what it has done. Raises ReadOnlyLog; LogError when another process has been
        at it for half a minute.
        """
        self._require_writable()
        found = self._pass(patience=PATIENCE_SECONDS, everything=True, to_the_end=True)
        if found is None:
            raise LogError(
                f"{self.path}: another process does maintenance, and has not finished for"
                f" {PATIENCE_SECONDS:g} seconds; is one of those that use the log stopped?"
            )
        return found

    def add_duty(self, duty: Callable[[], object]) -> None:
        """Have `duty` called with every maintenance that this process does.

        Called in the thread of maintenance, and by one process at a time; quick when there is
        nothing to do. What it raises is logged, once.
        """
        self._maintenance.add_duty(duty)

    def _appended(self) -> None:
        if not self._ticks:
            self._ticks = True
            self._ticker.start()
        self._wake.notify()

    def _tick(self, asked: bool) -> float:
        """Do maintenance, if it is this process's turn; in how many seconds to look again."""
        assert self._space is not None
        since = self._microseconds() - self._space.last_pass
        # Who did it last goes on with it, having seen what there is; unless it was stopped.
        mine = self._space.last_pass == self._passed
        found = None
        if asked or mine or not 0 <= since < TAKE_OVER:
            try:
                found = self._pass(patience=1.0 if asked else 0.0, everything=asked)
                self._hindered = ""
            except LogError as error:
                if self._hindered != (said := str(error)):  # said once, until it is over
                    logger.warning("maintenance: %s", error)
                self._hindered = said
        if found is None:
            self._maintenance.rest()
        return BUSY_SECONDS if self._maintenance.waiting else TICK_SECONDS

    def _pass(
        self, *, patience: float, everything: bool, to_the_end: bool = False
    ) -> Maintained | None:
        """One pass; None when another process is at it for `patience` seconds."""
        space = self._space
        assert space is not None
        deadline = time.monotonic() + patience
        while not space.try_lock():
            if time.monotonic() >= deadline or self._ticker.closed:
                return None
            time.sleep(0.02)
        try:
            return self._maintenance.run(everything=everything, to_the_end=to_the_end)
        finally:
            self._passed = self._microseconds()
            space.note_pass(self._passed)
            space.unlock()

    def _microseconds(self) -> int:
        return int(self._clock.monotonic() * 1_000_000)

    # Waiting.

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Sleep until `ready()` is true or `timeout` seconds are over; says which.

        `ready` is asked whenever any process of this log has appended or notified, and at least
        every 50 ms. `wake` ends the wait, too; it counts as ready.
        """
        return self._wake.wait(ready, timeout)

    def watch(self, directory: str | os.PathLike[str]) -> None:
        """Wake up also when a file in `directory` comes, goes, or is closed by who wrote it."""
        self._wake.watch(os.path.abspath(directory))

    def wake(self) -> None:
        """End the waits of this process's threads now."""
        self._wake.end_waits()

    def notify(self) -> None:
        """Let the waiters of all processes look again."""
        self._wake.notify()

    def close(self) -> None:
        """End the maintenance of this process, and let go of all files. Twice is fine."""
        self._ticker.close()
        self._ticks = True
        self._maintenance.rest()
        with self._lock:
            for partition in self._partitions.values():
                partition.close()
            self._partitions = {}
            self._topics = None
        self._metadata.close()
        self._wake.close()
        if self._space is not None:
            self._space.close()
        self._brokers = None
        _open_logs.discard(self)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._producer_ids = iter(())  # the parent gives them out
        if self._brokers is not None:
            parents = self._brokers
            self._brokers = keep_brokers_out(self._files, self.path)
            parents.abandon()  # in this order: so a broker never comes in between
        self._wake.forked()
        self._catalog.forked()
        self._metadata.forked()
        for partition in [*self._partitions.values(), *self._borrowed]:
            partition.forked()
        self._borrowed = set()
        if self._space is not None:
            self._space.forked()
        self._ticks = self._ticks and not self._ticker.started
        self._ticker.forked()
        self._maintenance.forked()


def _config_of(topic: Topic) -> TopicConfig:
    try:
        parsed = TopicConfig.parse(topic.config)
    except ConfigError as error:  # refused when set here: a broker has set it
        raise ConfigError(
            f"topic {topic.name!r} is not used, as it was configured by a broker: {error}. Where it"
            f" does not matter: streamkit topics alter {topic.name} --delete-config <the config>"
        ) from None
    return replace(parsed, once_compacted=topic.once_compacted)


def _allow_open_files() -> None:
    """Raise the soft limit of open files: a partition in use takes five, and 1,024 are usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _make_root(files: Files, root: str) -> None:
    """Make an empty log. The properties come last: with them it is one."""
    try:
        _make_directory(files, root)
        lock = OpenFile(files, os.path.join(root, CONTROL), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ReadOnlyLog(f"{root}: no log can be made here: {error.strerror}") from error
    try:
        lock.lock()
        path = os.path.join(root, META_PROPERTIES)
        if files.exists(path):
            return  # by another process, while this one waited
        metadata = os.path.join(root, str(METADATA))
        if files.exists(metadata) and not holds_data(files, metadata):
            remove_folder(files, metadata)  # of a process killed half way
        if not files.exists(metadata):
            make_folder(files, metadata, METADATA_TOPIC_ID)
        OpenFile(files, os.path.join(root, WAKE), os.O_WRONLY | os.O_CREAT)
        files.fsync_dir(root)  # all of it has its name before the properties say that it is there
        properties = Properties(encode_id(uuid4().bytes), encode_id(uuid4().bytes))
        write_new(files, path, properties.encode())
    except OSError as error:
        raise failure(error, f"{root}: no log can be made here") from error
    finally:
        lock.unlock()


def _make_directory(files: Files, path: str) -> None:
    """Make it, and what is missing above it: each is durable once its parent was fsynced."""
    parent = os.path.dirname(path)
    if not files.exists(parent):
        _make_directory(files, parent)
    with suppress(FileExistsError):
        files.mkdir(path)
    with suppress(PermissionError):  # not to be read: then it is not ours, and was there before
        files.fsync_dir(parent)


def _after_fork_in_child() -> None:
    for log in list(_open_logs):
        log._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)

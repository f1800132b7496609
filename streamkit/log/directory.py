"""A log: one directory of partitions, opened by as many processes as you like."""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeVar

from streamkit.clock import Clock, SystemClock
from streamkit.errors import (
    InvalidTopic,
    LogError,
    OffsetOutOfRange,
    PolicyViolation,
    ReadOnlyLog,
)
from streamkit.log.broker import keep_brokers_out
from streamkit.log.catalog import Catalog
from streamkit.log.checkpoints import Properties
from streamkit.log.config import LOG_CONFIGS, OWN_TOPICS, TRANSACTIONS_TOPIC, LogConfig, TopicConfig
from streamkit.log.files import Files, RealFiles, UnsyncedFiles
from streamkit.log.metadata import FeatureLevelRecord, Topic
from streamkit.log.partition import Partition
from streamkit.log.partitions import Partitions
from streamkit.log.root import METADATA, METADATA_TOPIC_ID, WAKE, allow_open_files, read_root
from streamkit.log.space import PAGE, Space
from streamkit.log.upkeep import Upkeep
from streamkit.log.waits import holder
from streamkit.log.wake import Wake
from streamkit.records import TopicPartition

if TYPE_CHECKING:  # loaded when it is first done
    from streamkit.log.maintenance import Maintained, Maintenance

MAX_MESSAGE = 64 << 20
"""A topic is created in one batch, whatever number of partitions it has."""

PATIENCE_SECONDS = 30.0

T = TypeVar("T")

logger = logging.getLogger(__name__)

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
        self._space = None if read_only else Space(files, path, clock=clock, ask=self._ask)
        self._metadata = self._partition(
            METADATA, METADATA_TOPIC_ID.hex(), TopicConfig(max_message_bytes=MAX_MESSAGE)
        )
        self._catalog = Catalog(path, self._metadata, files=files, clock=clock)
        self._partitions = Partitions(self._catalog, self._partition)
        self._producer_ids: Iterator[int] = iter(())
        self._upkeep = (
            None
            if self._space is None
            else Upkeep(self._make_maintenance, self._space, clock=clock, thread=maintenance)
        )
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
        properties = read_root(files, root, create=create and not read_only)
        allow_open_files()
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
        """Raises InvalidTopic, TopicExists, ConfigError, ReadOnlyLog, OutOfSpace."""
        self._require_writable()

        def create() -> Topic:
            return self._catalog.create(name, partitions, config or {})

        topic = self.pressing(create) if name in OWN_TOPICS else create()
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
        if "compact" in (config.get("cleanup.policy") or ""):
            # From then on a gap is none that a power cut has made: see `Appender`.
            for number in range(self.topic(name).partitions):
                self.partition(TopicPartition(name, number)).sync()
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
        return self._partitions.partition(tp)

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
            # What is said of transactions is followed by a marker, which is what wakes.
            notify=self._appended if tp.topic != TRANSACTIONS_TOPIC else self._keep_up,
            space=self._space,
            wake=self._wake if tp.topic != TRANSACTIONS_TOPIC else None,
        )

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
        # What is to make room must not fail for want of it.
        self.pressing(lambda: self._catalog.note_start(tp, before))
        return partition.trimmer.remove_before(before)

    def pressing(self, act: Callable[[], T]) -> T:
        """Do what must go on when the disk is full, as offsets and transactions: see `Space`.

        What is left of the first time must not be in the way of the second. Raises ReadOnlyLog,
        OutOfSpace.
        """
        self._require_writable()
        assert self._space is not None
        return self._space.pressing(act)

    def maintain(self) -> "Maintained":
        """Do now what is due: end and remove old segments, compact, and what others do besides.

        A thread does the same from time to time (see `open`). This one looks at every partition,
        and says what it has done. Raises ReadOnlyLog; LogError when another process has been
        at it for half a minute.
        """
        self._require_writable()
        assert self._upkeep is not None
        found = self._upkeep.run(patience=PATIENCE_SECONDS, everything=True, to_the_end=True)
        if found is None:
            raise LogError(
                f"{self.path}: {holder(os.path.join(self.path, PAGE))} does maintenance, and has"
                f" not finished for {PATIENCE_SECONDS:g} seconds"
            )
        return found

    def add_duty(self, duty: Callable[[], object]) -> None:
        """Have `duty` called with every maintenance that this process does.

        Called in the thread of maintenance, and by one process at a time; quick when there is
        nothing to do. What it raises is logged, once. Raises ReadOnlyLog.
        """
        self._require_writable()
        assert self._upkeep is not None
        self._upkeep.add_duty(duty)

    def _make_maintenance(self) -> "Maintenance":
        from streamkit.log.maintenance import Maintenance

        return Maintenance(
            self.path,
            files=self._files,
            clock=self._clock,
            topics=self._catalog.topics,
            borrow=self._partitions.borrow,
            limit=lambda: self.config.max_disk_bytes,
            full=lambda: self._space is not None and self._space.full,
        )

    def _ask(self) -> None:
        if self._upkeep is not None:
            self._upkeep.ask()

    def _appended(self) -> None:
        if self._upkeep is not None and not self._upkeep.ticks:
            self._upkeep.start()
        self._wake.notify()

    def _keep_up(self) -> None:
        if self._upkeep is not None and not self._upkeep.ticks:
            self._upkeep.start()

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
        if self._upkeep is not None:
            self._upkeep.close()
        self._partitions.close()
        self._metadata.close()
        self._wake.close()
        if self._space is not None:
            self._space.close()
        self._brokers = None
        _open_logs.discard(self)

    def _forked(self) -> None:
        """Let go of what is the parent's: first all locks, so that nothing can come in between."""
        self._lock = threading.Lock()
        self._producer_ids = iter(())  # the parent gives them out
        self._catalog.forked()
        self._metadata.forked()
        self._partitions.forked()
        if self._space is not None:
            self._space.forked()
        if self._upkeep is not None:
            self._upkeep.forked()
        self._wake.forked()
        if self._brokers is not None:
            try:
                brokers = keep_brokers_out(self._files, self.path)
            except LogError as error:  # the directory is gone, say: the parent's lock stays here
                logger.warning("in a forked child: %s", error)
            else:
                self._brokers.abandon()  # in this order: so a broker never comes in between
                self._brokers = brokers


def _after_fork_in_child() -> None:
    with ExitStack() as stack:  # whatever becomes of one of them, the others let go
        for log in list(_open_logs):
            stack.callback(log._forked)


os.register_at_fork(after_in_child=_after_fork_in_child)

"""`__transaction_state`, read into memory and kept up with, and the lock of who changes it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from streamkit import codec
from streamkit.backends.lockfile import LockFile
from streamkit.clock import Clock
from streamkit.errors import CorruptBatch, DataError, TopicExists
from streamkit.log.boot import UNKNOWN, boot_id
from streamkit.log.directory import Log
from streamkit.log.metadata import TRANSACTION_VERSION
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.coordinator import Coordinator
from streamkit.transactions.records import TOPIC, encode_key, encode_value, partition_of
from streamkit.transactions.transaction import Transaction

_CONFIG = {
    "cleanup.policy": "compact",
    # A transaction over every partition of a large log is one record.
    "max.message.bytes": str(8 << 20),
}
_READ_BYTES = 4 << 20

T = TypeVar("T")

_topics: "WeakSet[TransactionsTopic]" = WeakSet()


class TransactionsTopic:
    """Where every transactional id stands, as the log has it. Used from several threads."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._begin()
        _topics.add(self)

    def _begin(self) -> None:
        """Know nothing. In a forked child, too: another thread may have been halfway through."""
        self._lock = threading.RLock()
        self._partitions: list[Partition] = []
        self._positions: list[int] = []
        self._file: LockFile | None = None
        self._busy: LockFile | None = None
        """The one that is used just now, or whose user was interrupted on the way out."""
        self._coordinator = Coordinator()
        self._cured = False
        self._announced = False

    @property
    def folder(self) -> Path:
        """Where the lock files are: inside a partition, where Kafka overlooks them."""
        return Path(self._log.path) / f"{TOPIC}-0"

    def exists(self) -> bool:
        """Whether anybody has ever begun a transaction in this log."""
        return TOPIC in self._log.topics()

    def make(self) -> None:
        """Make the topic unless it is there."""
        if not self.exists():
            with suppress(TopicExists):  # by another process, since the line above
                self._log.create_topic(TOPIC, 1, _CONFIG)

    def known(self, *, wait: bool = False) -> list[Transaction]:
        """All transactional ids as of now, by name; what is written next may change them.

        Without waiting: none, while another thread is the coordinator.
        """
        if not self._lock.acquire(blocking=wait):
            return []
        try:
            self._refresh()
            return list(self._coordinator)
        finally:
            self._lock.release()

    def as_coordinator(self, do: Callable[[Coordinator], T]) -> T:
        """Do it as the coordinator, as in `locked`: for the steps of every transaction.

        As a context manager that costs as much as a step.
        """
        with self._lock:
            file = self._taken()
            try:
                file.lock()
                self._refresh()
                done = do(self._coordinator)
                self._put_back(file)
            except BaseException:
                file.close()
                raise
            return done

    @contextmanager
    def locked(self) -> Iterator[Coordinator]:
        """Be the coordinator: the only one on this machine, until the end of the block.

        What the block is given is up to date; it changes by `write` and `bury` alone.
        """
        with self._lock:
            file = self._taken()
            try:
                file.lock()
                self._refresh()
                yield self._coordinator
                self._put_back(file)
            except BaseException:
                file.close()  # not only unlocked: an interrupt may have come before it is known
                raise

    @contextmanager
    def locked_if_free(self) -> Iterator[Coordinator | None]:
        """The same without waiting: None when somebody else is the coordinator.

        For whoever has other things to do: a process that was stopped keeps its locks.
        """
        if not self._lock.acquire(blocking=False):
            yield None
            return
        try:
            file = self._taken()
            try:
                got = file.try_lock()
                if got:
                    self._refresh()
                yield self._coordinator if got else None
                self._put_back(file)
            except BaseException:
                file.close()
                raise
        finally:
            self._lock.release()

    def _taken(self) -> LockFile:
        """The lock file, for one who puts it back when all went well."""
        left, self._busy = self._busy, None
        if left is not None:
            left.close()  # a traceback may keep it alive, and with it the lock
        file = self._file or LockFile(self.folder / "coordinator")
        self._file, self._busy = None, file
        return file

    def _put_back(self, file: LockFile) -> None:
        file.unlock()
        self._file, self._busy = file, None

    def cured(self) -> bool:
        """Whether somebody has looked, in this boot, for what the last power cut left behind."""
        if not self._cured and boot_id() != UNKNOWN:  # a boot like any other
            with suppress(FileNotFoundError):
                self._cured = (self.folder / "cured").read_bytes() == boot_id()
        return self._cured

    def set_cured(self) -> None:
        """Only by whoever is the coordinator."""
        with suppress(OSError):  # a full disk, say: then the next process looks as well
            (self.folder / "cured").write_bytes(boot_id())
        self._cured = True

    def write(self, step: Transaction, *, durable: bool) -> None:
        """Append where a transactional id stands now. Only by the coordinator."""
        if not self._announced:  # once: no broker lowers it as long as the log is open
            self._log.require_feature(TRANSACTION_VERSION)
            self._announced = True
        transactional_id = step.transactional_id
        number = partition_of(transactional_id, len(self._partitions))
        batch = codec.encode(
            [encode_value(step)], keys=[encode_key(transactional_id)], timestamps=step.updated_at
        )
        offset = self._partitions[number].append([batch], acks="all" if durable else 1)
        # While the lock is held nobody else writes: what was just written need not be read.
        assert offset == self._positions[number]
        self._coordinator.put(step)
        self._positions[number] = offset + 1

    def bury(self, transactional_id: str) -> None:
        """Append a tombstone: the id is forgotten. Only by the coordinator."""
        batch = codec.encode(
            [None], keys=[encode_key(transactional_id)], timestamps=self._clock.now()
        )
        self._partitions[partition_of(transactional_id, len(self._partitions))].append(
            [batch], acks="all"
        )
        self._coordinator.forget(transactional_id)

    def sync(self, transactional_id: str) -> None:
        """Return when everything written about the id before the call is on stable storage."""
        self._partitions[partition_of(transactional_id, len(self._partitions))].sync()

    def _refresh(self) -> None:
        if not self._partitions:
            topic = self._log.topics().get(TOPIC)
            if topic is None:
                return
            self._positions = [0] * topic.partitions
            self._partitions = [
                self._log.partition(TopicPartition(TOPIC, number))
                for number in range(topic.partitions)
            ]
        for number, partition in enumerate(self._partitions):
            if not partition.ends_at(self._positions[number]):
                self._positions[number] = self._read(partition, self._positions[number])

    def _read(self, partition: Partition, position: int) -> int:
        while position < partition.end_offset:
            raw = partition.read(max(position, partition.start_offset), _READ_BYTES)
            if not raw:
                break
            try:
                columns = codec.columns(raw, position)
            except CorruptBatch:
                partition.verify(max(position, partition.start_offset), _READ_BYTES)
                raise
            for _, header in codec.headers(raw):
                position = header.next_offset
            # The last value of each key is all that counts, and decoding is what costs.
            for key, value in dict(zip(columns.keys, columns.values, strict=True)).items():
                try:
                    self._coordinator.apply(key, value)
                except DataError as error:
                    raise DataError(f"{partition.tp} below offset {position}: {error}") from error
        return position


def _begin_in_child() -> None:
    for topic in list(_topics):
        topic._begin()


os.register_at_fork(after_in_child=_begin_in_child)

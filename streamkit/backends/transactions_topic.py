"""`__transaction_state`, read into memory and kept up with, and the lock of who changes it."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from streamkit import codec
from streamkit.backends.lockfile import LockFile
from streamkit.clock import Clock
from streamkit.errors import DataError, TopicExists
from streamkit.log.boot import boot_id
from streamkit.log.directory import Log
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
        self._positions: dict[TopicPartition, int] = {}
        self._coordinator = Coordinator()
        self._cured = False

    @property
    def folder(self) -> Path:
        """Where the lock files are: inside a partition, where Kafka overlooks them."""
        return Path(self._log.path) / f"{TOPIC}-0"

    @property
    def epoch(self) -> int:
        """Of the coordinator, as markers name it: it must not fall."""
        return self._log.partition(TopicPartition(TOPIC, 0)).leader_epoch

    def exists(self) -> bool:
        """Whether anybody has ever begun a transaction in this log."""
        return TOPIC in self._log.topics()

    def make(self) -> None:
        """Make the topic unless it is there."""
        if not self.exists():
            with suppress(TopicExists):  # by another process, since the line above
                self._log.create_topic(TOPIC, 1, _CONFIG)

    def known(self) -> list[Transaction]:
        """All transactional ids as of now, by name; what is written next may change them."""
        with self._lock:
            self._refresh()
            return list(self._coordinator)

    @contextmanager
    def locked(self) -> Iterator[Coordinator]:
        """Be the coordinator: the only one on this machine, until the end of the block.

        What the block is given is up to date; it changes by `write` and `bury` alone.
        """
        with self._lock, LockFile(self.folder / "coordinator") as file:
            file.lock()
            self._refresh()
            yield self._coordinator

    def cured(self) -> bool:
        """Whether somebody has looked, in this boot, for what the last power cut left behind."""
        if not self._cured:
            with suppress(FileNotFoundError):
                self._cured = (self.folder / "cured").read_bytes() == boot_id()
        return self._cured

    def set_cured(self) -> None:
        """Only by whoever is the coordinator."""
        (self.folder / "cured").write_bytes(boot_id())
        self._cured = True

    def write(self, steps: Sequence[Transaction], *, durable: bool) -> None:
        """Append where transactional ids now stand, all or none. Only by the coordinator."""
        batches: dict[Partition, list[Transaction]] = {}
        for step in steps:
            batches.setdefault(self._home(step.transactional_id), []).append(step)
        for partition, some in batches.items():
            batch = codec.encode(
                [encode_value(step) for step in some],
                keys=[encode_key(step.transactional_id) for step in some],
                timestamps=self._clock.now(),
            )
            partition.append([batch], acks="all" if durable else 1)
            for step in some:
                self._coordinator.put(step)

    def bury(self, transactional_id: str) -> None:
        """Append a tombstone: the id is forgotten. Only by the coordinator."""
        batch = codec.encode(
            [None], keys=[encode_key(transactional_id)], timestamps=self._clock.now()
        )
        self._home(transactional_id).append([batch], acks="all")
        self._coordinator.forget(transactional_id)

    def sync(self, transactional_id: str) -> None:
        """Return when everything written about the id before the call is on stable storage."""
        self._home(transactional_id).sync()

    def _home(self, transactional_id: str) -> Partition:
        number = partition_of(transactional_id, self._log.topic(TOPIC).partitions)
        return self._log.partition(TopicPartition(TOPIC, number))

    def _refresh(self) -> None:
        if not self._positions:
            topic = self._log.topics().get(TOPIC)
            if topic is None:
                return
            for number in range(topic.partitions):
                self._positions[TopicPartition(TOPIC, number)] = 0
        for tp, position in self._positions.items():
            self._positions[tp] = self._read(tp, position)

    def _read(self, tp: TopicPartition, position: int) -> int:
        partition = self._log.partition(tp)
        while position < partition.end_offset:
            raw = partition.read(max(position, partition.start_offset), _READ_BYTES)
            if not raw:
                break
            columns = codec.columns(raw, position)
            for _, header in codec.headers(raw):
                position = header.next_offset
            # The last value of each key is all that counts, and decoding is what costs.
            for key, value in dict(zip(columns.keys, columns.values, strict=True)).items():
                try:
                    self._coordinator.apply(key, value)
                except DataError as error:
                    raise DataError(f"{tp} below offset {position}: {error}") from error
        return position


def _begin_in_child() -> None:
    for topic in list(_topics):
        topic._begin()


os.register_at_fork(after_in_child=_begin_in_child)

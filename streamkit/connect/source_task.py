"""A running source: takes items from its generator, stores records and where they came from."""

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from threading import Event
from typing import Any

import msgspec

from streamkit.backends.base import Backend
from streamkit.clock import Clock
from streamkit.codec import partition_for
from streamkit.connect.api import (
    Bad,
    Pause,
    Place,
    Position,
    SourceConnector,
    SourceContext,
    SourceRecord,
)
from streamkit.connect.appending import Rows, append_all, stop_at
from streamkit.connect.config import ConnectorConfig
from streamkit.connect.dead_letters import DeadLetter, send
from streamkit.connect.offsets import SourceOffsets, encode_key, encode_value, names_of
from streamkit.connect.status import Progress
from streamkit.connect.topics import ensure_topic
from streamkit.connect.transaction import SourceTransaction, transactional_id
from streamkit.errors import DataError, RecordTooLarge
from streamkit.records import TopicPartition

BATCH_RECORDS = 10_000
BATCH_SECONDS = 0.2  # of a source that gives without a pause; a pause stores what there is at once
LOOK_EVERY = 64  # records between two looks at the clock


class SourceTask:
    """Runs one source until it is told to stop, or raises what went wrong.

    Records, what is set aside of them, and the offset that covers them are one transaction: after
    a crash all of it counts, or it is read again. A task of the same connector that begins while
    this one still runs, in whatever process, fences it before it looks where to begin.
    """

    def __init__(
        self,
        config: ConnectorConfig,
        connector: SourceConnector[Any],
        options: Any,
        backend: Backend,
        group: str,
        offsets_topic: str,
        progress: Progress,
        clock: Clock,
        stop: Event,
    ) -> None:
        """`group`: the workers' that share the connector."""
        self._config = config
        self._connector = connector
        self._options = options
        self._backend = backend
        self._group = group
        self._offsets_partition = TopicPartition(offsets_topic, 0)
        self._progress = progress
        self._clock = clock
        self._stop = stop
        self._offsets = SourceOffsets(config.name)
        self._context = SourceContext(
            config.name, self._offsets.all, self._offsets.get, stopping=stop.is_set
        )
        self._counts: dict[str, int] = {}
        self._turn = 0
        self._encode = msgspec.json.Encoder(enc_hook=_unencodable).encode
        self._items: list[SourceRecord | Position | Bad] = []
        self._read_before: list[Place] = []

    def wake(self) -> None:
        """End a pause of the source now; called from another thread."""
        self._context.wake()

    def run(self) -> None:
        id_ = transactional_id(self._group, self._config.name)
        self._transaction = SourceTransaction(self._backend, id_)
        try:
            if self._load_offsets():
                self._read()
        finally:
            self._transaction.close()

    def _read(self) -> None:
        items = self._connector(self._options, self._context)
        try:
            due = time.monotonic() + BATCH_SECONDS
            for item in items:
                if type(item) is SourceRecord:
                    self._items.append(item)
                    if len(self._items) % LOOK_EVERY:
                        continue
                elif type(item) is Pause:
                    self._flush()
                    self._pause(item)
                else:
                    self._take(item)
                if self._stop.is_set():
                    return
                if len(self._items) >= BATCH_RECORDS or time.monotonic() >= due:
                    self._flush()
                    due = time.monotonic() + BATCH_SECONDS
        finally:
            # What was given out before an error is good: store it, then let the error go on.
            # When it is a flush that failed, what it had taken is gone and read again.
            self._flush()
            close = getattr(items, "close", None)
            if close is not None:
                close()
        self._finished()

    def _finished(self) -> None:
        """A source that has returned has nothing more to give, ever: stay, doing nothing."""
        self._mention_no_news()
        while not self._stop.is_set():
            self._progress.nothing_to_do()
            self._context.wait(0.2)

    def _take(self, item: object) -> None:
        if isinstance(item, Bad) and self._config.shared.errors_tolerance == "none":
            raise item.error
        if not isinstance(item, Position | Bad):
            raise TypeError(
                f"source {self._config.name} yielded {type(item).__name__}; expected SourceRecord, "
                "Position, Bad or Pause"
            )
        self._items.append(item)

    def _pause(self, pause: Pause) -> None:
        self._progress.proved = True
        if pause.idle:
            self._mention_no_news()
            self._progress.nothing_to_do()
        else:
            self._progress.waiting()
        end = time.monotonic() + pause.seconds
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            # Looked at again now and then: an idle source says so freshly.
            if self._context.wait(min(left, 0.2)):
                break
            if pause.idle:
                self._progress.nothing_to_do()
        self._progress.looking()

    def _mention_no_news(self) -> None:
        """Say once why nothing comes, when everything was read in an earlier run."""
        places, self._read_before = self._read_before, []
        if places and not self._progress.records and not self._progress.bad:
            self._context.log.info(
                "nothing new; read before: %s (connect --reset %s has it read again)",
                self._config.masked(names_of(places)),
                self._config.name,
            )

    def _load_offsets(self) -> bool:
        """False when it was stopped before it knew them."""
        partition = self._offsets_partition
        ensure_topic(self._backend, partition.topic, 1, {"cleanup.policy": "compact"})
        loaded = self._offsets.load(self._backend, partition, self._stop.is_set)
        self._read_before = [place for place, _ in self._offsets.all()]
        return loaded

    # Storing.

    def _flush(self) -> None:
        """Store what was taken: records, dead letters, and positions, all or nothing."""
        items, self._items = self._items, []
        if not items:
            return
        records = [item for item in items if type(item) is SourceRecord]
        bad = [item for item in items if type(item) is Bad]
        refused = self._store(records) if records else []
        letters = refused + [DeadLetter(item.raw, item.error, topic=item.topic) for item in bad]
        if letters:
            self._set_aside(letters)
        positions = self._last_positions(items)
        if positions:
            rows = Rows()
            now = self._clock.now()
            for key, (_, offset) in positions.items():
                rows.add(key, encode_value(offset), now, ())
            append_all(self._transaction.append, self._offsets_partition, rows, stop_at)
        self._transaction.commit()
        for partition, offset in positions.values():
            self._offsets.store(partition, offset)
        if records or bad:
            self._progress.stored(len(records) - len(refused))

    def _last_positions(
        self, items: Sequence[SourceRecord | Position | Bad]
    ) -> dict[bytes, tuple[Place, Place]]:
        """The last offset of every source partition, with the source partition, by key."""
        last: dict[bytes, tuple[Place, Place]] = {}
        seen: set[int] = set()
        for item in reversed(items):
            partition, offset = item.partition, item.offset
            # By identity first: a source gives one mapping for a whole run of records.
            if partition is None or offset is None or id(partition) in seen:
                continue
            seen.add(id(partition))
            last.setdefault(encode_key(self._config.name, partition), (partition, offset))
        return last

    def _store(self, records: list[SourceRecord]) -> list[DeadLetter]:
        """Append them, each to its partition; returns those that are too large for their topic."""
        groups: dict[tuple[str, int], Rows] = defaultdict(Rows)
        self._turn += 1
        now = self._clock.now()
        for record in records:
            topic = record.topic
            count = self._counts.get(topic) or self._count(topic)
            key = self._bytes(record.key)
            number = self._turn % count if key is None else partition_for(key, count)
            stamp = now if record.timestamp is None else record.timestamp
            groups[topic, number].add(key, self._bytes(record.value), stamp, record.headers)
        letters: list[DeadLetter] = []
        targets = [TopicPartition(*target) for target in groups]
        self._transaction.expect((*targets, self._offsets_partition))
        for target, rows in zip(targets, groups.values(), strict=True):
            refused = partial(self._refused, letters, records, target.topic, rows)
            append_all(self._transaction.append, target, rows, refused)
        return letters

    def _refused(
        self,
        letters: list[DeadLetter],
        records: list[SourceRecord],
        topic: str,
        rows: Rows,
        index: int,
        error: RecordTooLarge,
    ) -> None:
        """A record that its topic does not take is bad data, named by where it was found."""
        value = rows.values[index]
        found = next(r for r in records if r.topic == topic and self._bytes(r.value) == value)
        place = f"{dict(found.partition or {})}, before {dict(found.offset or {})}"
        named = RecordTooLarge(f"{error}; the record was found in {place}")
        if self._config.shared.errors_tolerance == "none":
            raise named from error
        letters.append(DeadLetter(value, named, rows.keys[index], rows.headers[index], topic))

    def _set_aside(self, letters: list[DeadLetter]) -> None:
        self._progress.bad += len(letters)
        for letter in letters:
            self._context.log.warning("%s", self._config.masked(str(letter.error)))
        if self._config.shared.errors_deadletterqueue_topic_name:
            append, now = self._transaction.append, self._clock.now()
            send(self._backend, append, letters, self._config, "TASK_POLL", now)

    def _count(self, topic: str) -> int:
        shared = self._config.shared
        info = ensure_topic(
            self._backend,
            topic,
            shared.topic_creation_default_partitions,
            shared.topic_creation_default,
        )
        self._counts[topic] = info.partitions
        return info.partitions

    def _bytes(self, value: Any) -> bytes | None:
        if value is None or type(value) is bytes:
            return value
        return value.encode() if isinstance(value, str) else self._encode(value)


def _unencodable(value: Any) -> Any:
    raise DataError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} has no JSON form"
    )

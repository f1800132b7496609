"""What tasks give out, on its way to the log: each record to the partition that its key says."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeAlias

from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.backends.values import TopicInfo
from streamkit.clients.halves import halves
from streamkit.clients.topic_config import compression_of, max_batch_bytes
from streamkit.codec import partition_for
from streamkit.codec.buffer import Encoded
from streamkit.engine.rows import Drained, Rows
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import RecordTooLarge, UnknownTopic
from streamkit.records import TopicPartition

BATCH_BYTES = 1 << 18
"""About how many bytes one appended batch has at most."""
HELD_BYTES = 8 << 20
"""So much waits in memory for a commit. Then it goes into the transaction before: whoever reads
those topics waits for the end of it from there on, and so that is kept for when it must be."""

Batch: TypeAlias = tuple["_Topic", int, Encoded]


class _Topic:
    """The batches that are being filled for a topic, one per partition."""

    __slots__ = ("at_once", "builders", "compression", "info", "limit")

    def __init__(self, info: TopicInfo, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.builders: list[codec.Builder] = []
        self.follow(info)

    def follow(self, info: TopicInfo) -> None:
        """The topic has other configs or more partitions. For when nothing waits."""
        self.info = info
        self.compression = compression_of(info.config)
        # Half, so that a batch that is not full yet has room for one more large record.
        self.limit = min(BATCH_BYTES, max_batch_bytes(info.config) // 2)
        self.builders = [codec.Builder(self.compression) for _ in range(info.partitions)]

    def take_out(self) -> Iterator[Batch]:
        """The batches that have records."""
        for number, builder in enumerate(self.builders):
            if len(builder):
                yield self, number, builder.take()


class Outputs:
    """Where the records of an app's tasks go.

    A key decides the partition as in Kafka's Java client (murmur2). Records without a key go to
    the partition of their task's number, so that where a record lands depends on the input alone
    and a replay puts it at the same place.

    `place` gives the topic that stands for a topic of the app: itself when live, its shadow in a
    replay. What is given waits for the commit and is committed with it. To topics for which
    `at_once` is true it is appended as it comes and can be read at once, and after a kill what was
    not committed comes again. What is kept (state) is always part of the transaction.
    """

    def __init__(
        self,
        backend: Backend,
        place: Callable[[str], str],
        transaction: WorkTransaction,
        *,
        at_once: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.transaction = transaction
        self._backend = backend
        self._place = place
        self._at_once = at_once
        self._topics: dict[str, _Topic] = {}
        self._full: deque[Batch] = deque()
        self._due: deque[Batch] = deque()  # the same, of topics that are written at once
        self._held = 0
        self._unsynced: set[TopicPartition] = set()
        self._giving = False

    @property
    def broken(self) -> bool:
        """Whether something is missing of what was given: it is to be dropped, not committed."""
        return self._giving or self.transaction.broken

    def give(self, drained: Drained, task: int) -> None:
        """Take what a task gave. Raises UnknownTopic; RecordTooLarge and LogError of appends."""
        self._giving = True
        for name, rows in drained.rows.items():
            self._fill(self._topic(name), rows, task)
        for name, rows in drained.everywhere.items():
            topic = self._topic(name)
            for number in range(len(topic.builders)):
                self._fill_one(topic, number, rows)
        self._append_due()
        if self._held >= HELD_BYTES:
            self._append_full()
        self._giving = False

    def keep(self, name: str, number: int, rows: Rows) -> int:
        """Append changes of state to one partition, in the transaction, whatever their keys.

        Gives the offset after the last of them.
        """
        info = self._info(name)
        topic = _Topic(info)
        waiting: deque[Batch] = deque()
        _add(topic, [topic.builders[number]], number, rows, waiting)
        waiting.extend(topic.take_out())
        end = 0
        while waiting:
            end = self._append(waiting)
        return end

    def prepare(self, changing: Iterable[TopicPartition] = ()) -> Collection[TopicPartition]:
        """Append all that was given, for a commit; gives what has to be synced before that.

        `changing`: where changes of state are to be kept after it.
        """
        for topic in self._topics.values():
            self._full.extend(topic.take_out())
        full = (TopicPartition(topic.info.name, number) for topic, number, _ in self._full)
        self.transaction.expect({*full, *changing})
        self._append_full()
        unsynced, self._unsynced = self._unsynced, set()
        return unsynced

    def drop(self) -> None:
        """Forget what was given since the last commit, and abort the transaction."""
        self._topics.clear()
        self._full.clear()
        self._due.clear()
        self._held = 0
        self._giving = False
        self.transaction.abort()

    def _fill(self, topic: _Topic, rows: Rows, task: int) -> None:
        count = len(topic.builders)
        keyless = task % count
        if count == 1:
            self._fill_one(topic, 0, rows)
        elif rows.headers is None and None not in rows.keys:
            self._add(topic, topic.builders, None, rows)
        else:
            chosen: list[list[int]] = [[] for _ in range(count)]
            for row, key in enumerate(rows.keys):
                chosen[keyless if key is None else partition_for(key, count)].append(row)
            for number, mine in enumerate(chosen):
                if mine:
                    some = rows if len(mine) == len(rows) else rows.take(mine)
                    self._fill_one(topic, number, some)

    def _fill_one(self, topic: _Topic, number: int, rows: Rows) -> None:
        self._add(topic, [topic.builders[number]], number, rows)

    def _add(
        self, topic: _Topic, builders: list[codec.Builder], number: int | None, rows: Rows
    ) -> None:
        if topic.at_once:
            _add(topic, builders, number, rows, self._due)
        else:
            self._held += _add(topic, builders, number, rows, self._full)

    def _topic(self, name: str) -> _Topic:
        info = self._info(name)
        topic = self._topics.get(info.name)
        if topic is None:
            topic = self._topics[info.name] = _Topic(info, at_once=self._at_once(name))
        elif topic.info is not info and topic.info != info:
            # What waits goes where it was meant to; the next records follow the topic.
            (self._due if topic.at_once else self._full).extend(topic.take_out())
            topic.follow(info)
        return topic

    def _info(self, name: str) -> TopicInfo:
        place = self._place(name)
        try:
            return self._backend.topic(place)
        except UnknownTopic as error:
            raise UnknownTopic(
                f"the app writes to {place}, which does not exist ({error}); "
                f"create it: streamkit topics create {place}"
            ) from error

    def _append_due(self) -> None:
        for topic in self._topics.values():
            if topic.at_once:
                self._due.extend(topic.take_out())
        while self._due:
            self._append(self._due)

    def _append_full(self) -> None:
        while self._full:
            self._append(self._full)
        self._held = 0

    def _append(self, waiting: deque[Batch]) -> int:
        """Append the first batch that waits; the offset after it."""
        topic, number, batch = waiting[0]
        at = TopicPartition(topic.info.name, number)
        end = 0
        try:
            if topic.at_once:
                end = self._backend.append_encoded(at, batch, acks=1)
                self._unsynced.add(at)
            else:
                end = self.transaction.append(topic.info.topic_id, at, batch)
        except RecordTooLarge:
            # The topic takes less in one batch than it did, or than others do.
            parts = halves(batch, topic.compression)
            if parts is None:
                raise
            self.transaction.broken = False  # nothing of it was appended
            waiting.popleft()
            waiting.extendleft((topic, number, part) for part in reversed(parts))
            return end
        waiting.popleft()
        return end + codec.read_header(batch).count


def _add(
    topic: _Topic,
    builders: list[codec.Builder],
    number: int | None,
    rows: Rows,
    full: deque[Batch],
) -> int:
    """Add rows to builders: one that is partition `number`'s, or all of a topic.

    Those that get full are built and added to `full`; gives the bytes they have.
    """
    held = 0
    if rows.headers is None:
        at, values = 0, rows.values if isinstance(rows.values, list) else list(rows.values)
        while True:
            at, which = codec.fill_batches(
                builders, values, rows.keys, rows.timestamps, at, topic.limit
            )
            if which < 0:
                return held
            batch = builders[which].take()
            held += len(batch)
            full.append((topic, which if number is None else number, batch))
    assert number is not None
    (builder,) = builders
    for key, value, stamp, headers in zip(
        rows.keys, rows.values, rows.timestamps, rows.headers, strict=True
    ):
        if builder.append(value, key, stamp, headers) >= topic.limit:
            batch = builder.take()
            held += len(batch)
            full.append((topic, number, batch))
    return held

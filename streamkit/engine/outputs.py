"""Append what tasks give out: each record to the partition that its key says."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from streamkit.backends.base import Backend
from streamkit.codec import partition_for
from streamkit.engine.rows import Drained, Rows
from streamkit.errors import RecordTooLarge, UnknownTopic
from streamkit.records import Headers, TopicPartition

BATCH_BYTES = 1 << 18
"""About how many bytes of keys and values one appended batch holds at most."""


Written: TypeAlias = Counter[tuple[bytes | None, bytes | None, int, Headers]]
"""Records that are there already: key, value, timestamp, headers, and how many of each."""


class Outputs:
    """Where the records of an app's tasks go.

    A key decides the partition as in Kafka's Java client (murmur2). Records without a key go to
    the partition of their task's number, so that where a record lands depends on the input alone
    and a replay puts it at the same place.

    `place` gives the topic that stands for a topic of the app: itself when live, its shadow in a
    replay. `written` has, per topic of the app, what an earlier process appended and did not
    commit: when it is given again it is not appended again.
    """

    def __init__(
        self,
        backend: Backend,
        place: Callable[[str], str],
        written: Mapping[str, Written] | None = None,
    ) -> None:
        self._backend = backend
        self._place = place
        self._written = written or {}
        self._unsynced: set[TopicPartition] = set()

    def append(self, drained: Drained, task: int) -> None:
        """Append to the page cache; `sync` brings it to stable storage."""
        for topic, rows in drained.rows.items():
            written = self._written.get(topic)
            self._append_by_key(topic, _new(rows, written) if written else rows, task)
        for topic, rows in drained.everywhere.items():
            for number in range(self.partitions(topic)):
                self._append(topic, number, rows)

    def append_to(self, topic: str, number: int, rows: Rows) -> int:
        """Append to one partition whatever the keys; give the offset after the last record."""
        return self._append(topic, number, rows)

    def _append_by_key(self, topic: str, rows: Rows, task: int) -> None:
        count = self.partitions(topic)
        if count == 1 and len(rows):
            self._append(topic, 0, rows)
            return
        keyless = task % count
        chosen: list[list[int]] = [[] for _ in range(count)]
        for row, key in enumerate(rows.keys):
            chosen[keyless if key is None else partition_for(key, count)].append(row)
        for number, mine in enumerate(chosen):
            if mine and len(mine) == len(rows):
                self._append(topic, number, rows)
            elif mine:
                self._append(topic, number, rows.take(mine))

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has that stands for `topic`. Raises UnknownTopic."""
        place = self._place(topic)
        try:
            return self._backend.topic(place).partitions
        except UnknownTopic as error:
            raise UnknownTopic(
                f"the app writes to {place}, which does not exist ({error}); "
                f"create it: streamkit topics create {place}"
            ) from error

    def sync(self) -> None:
        """Return when everything appended so far is on stable storage."""
        self._backend.sync(self._unsynced)
        self._unsynced.clear()

    def _append(self, topic: str, number: int, rows: Rows) -> int:
        partition = TopicPartition(self._place(topic), number)
        end = 0
        waiting = _batches(rows)[::-1]
        while waiting:
            part = waiting.pop()
            try:
                first = self._backend.append(
                    partition,
                    part.values,
                    keys=part.keys,
                    timestamps=part.timestamps,
                    headers=part.headers,
                )
            except RecordTooLarge:
                if len(part) == 1:
                    raise
                # The topic takes less in one batch than others do.
                waiting += _halves(part)[::-1]
                continue
            end = first + len(part)
        self._unsynced.add(partition)
        return end


def _new(rows: Rows, written: Written) -> Rows:
    """The rows that are not there already; those that are count once each."""
    chosen = []
    for row, (key, value, stamp) in enumerate(
        zip(rows.keys, rows.values, rows.timestamps, strict=True)
    ):
        record = (key, value, stamp, () if rows.headers is None else tuple(rows.headers[row]))
        if written[record] > 0:
            written[record] -= 1
        else:
            chosen.append(row)
    return rows.take(chosen)


def _batches(rows: Rows) -> list[Rows]:
    """Cut rows until no part passes BATCH_BYTES; a record that does by itself stands alone."""
    if len(rows) == 1 or _size(rows.keys) + _size(rows.values) + 16 * len(rows) <= BATCH_BYTES:
        return [rows]
    return [batch for half in _halves(rows) for batch in _batches(half)]


def _halves(rows: Rows) -> list[Rows]:
    middle = len(rows) // 2
    return [rows.part(0, middle), rows.part(middle, len(rows))]


def _size(column: Sequence[bytes | None]) -> int:
    try:
        return sum(map(len, column))  # type: ignore[arg-type]
    except TypeError:  # a None among them
        return sum(len(data) for data in column if data is not None)

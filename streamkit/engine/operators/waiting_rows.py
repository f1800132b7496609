"""The rows of a step that events wait at: what has not left by a commit."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeAlias

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.waiting import WaitingRow
from streamkit.engine.cursor import Cursor
from streamkit.engine.letters import Behind, Earlier
from streamkit.engine.rows import Rows
from streamkit.engine.state.store import Store
from streamkit.engine.waiting import Event
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import Serde

Mark: TypeAlias = tuple[int, int | None, int | None, tuple[int, int]]
"""Of an event: the attempts of its call, when that is due, or the batch that it is the first of,
and the number of its batch; of the first of a call, how much of what came of it was given."""


class WaitingRows:
    """They are written as of a commit: what comes and leaves between two is in none.

    `touched` is the offset of the last record that something began to wait of.
    """

    def __init__(
        self,
        store: Store,
        key: Serde,
        value: Serde,
        function: Function,
        cursor: Cursor,
        marks: Callable[[], Iterable[tuple[Event, Mark]]],
    ) -> None:
        """`marks` gives those of all that waits."""
        self.touched = -2
        self._store = store
        self._key = key
        self._value = value
        self._function = function
        self._cursor = cursor
        self._marks = marks
        self._kept: dict[int, Mark] = {}

    def load(self, columns: Columns) -> None:
        """Take in records of the changelog. Raises SerdeError."""
        self._store.load(columns)

    def stored(self, key: bytes) -> bytes | None:
        """A row as the changelog should have it."""
        return self._store.stored(key)

    @property
    def changed(self) -> Collection[bytes]:
        return self._store.changed

    def changes(self) -> Rows:
        """What has begun to wait since the last call and still does, and what does no more."""
        store, before = self._store, self._kept
        self._kept = kept = {}
        for event, mark in self._marks():
            number = event.number
            kept[number] = mark
            if before.get(number) != mark:
                store.put(number.to_bytes(8), _row(event, *mark), event.stamp)
        for number in before.keys() - kept.keys():
            store.delete(number.to_bytes(8), 0)
        return store.changes()

    def events(self) -> Iterator[tuple[Event, WaitingRow]]:
        """What waited when it was committed, in its order. Raises SerdeError."""
        for row, kept in self._store.scan(b""):
            number = int.from_bytes(row)
            self._kept[number] = (kept.attempts, kept.due, kept.batch, kept.given)
            yield self._restored(number, kept), kept

    def _restored(self, number: int, kept: WaitingRow) -> Event:
        try:
            key, value = self._key.decode(kept.key), self._value.decode(kept.value)
        except SerdeError as error:
            self._cursor.enter(kept.topic, kept.partition)
            self._cursor.offset = kept.offset
            what = (
                f"event that waits for {self._function.described}, of another type than it has now"
            )
            raise self._cursor.outdated(what, error) from error
        return Event(
            number, key, value, kept.stamp, kept.headers, kept.topic, kept.partition, kept.offset,
            kept.ordinal, kept.frontier, kept.held, kept.key, kept.value, _earlier(kept), kept.root,
            kept.origin, kept.again,
        )  # fmt: skip


def _row(
    event: Event, attempts: int, due: int | None, batch: int | None, given: tuple[int, int]
) -> WaitingRow:
    return WaitingRow(
        event.data, event.encoded, event.stamp, event.headers, event.topic, event.partition,
        event.offset, event.ordinal, event.frontier, event.held, attempts, due, batch,
        _stands(event.earlier), given, event.root, event.origin, event.again,
    )  # fmt: skip


def _stands(earlier: Earlier | None) -> tuple[int, str | None, int] | None:
    if earlier is None:
        return None
    behind = earlier.behind
    return (earlier.attempts, *((None, 0) if behind is None else (behind.first, behind.sequence)))


def _earlier(kept: WaitingRow) -> Earlier | None:
    if kept.earlier is None:
        return None
    attempts, first, sequence = kept.earlier
    return Earlier(attempts, None if first is None else Behind(first, sequence))

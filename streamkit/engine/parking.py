"""Keys of which an event has failed: what comes of them later stands in a row behind it.

A row is kept in the store `<step>-parked`, as

    key → (whose turn it is, how many there have been, the record of the first, who has left)

and each event in it knows its number, so that whoever retries them, and in whatever order, they are
processed in theirs. Those who were given up before it was their turn have left the row.
"""

from typing import TypeAlias

from streamkit.engine.letters import Behind
from streamkit.engine.state.store import Store

Row: TypeAlias = tuple[int, int, str, list[int]]


class Parking:
    """The rows of one step."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __bool__(self) -> bool:
        """Whether there is any."""
        return next(self._store.scan(b""), None) is not None

    def has(self, key: bytes | None) -> bool:
        """Whether there is a row of that key: events without one have none."""
        return key is not None and self._store.get(key) is not None

    def add(self, key: bytes | None, record: str, stamp: int) -> Behind | None:
        """The next place in a key's row; a new one begins with what was made of `record`."""
        if key is None:
            return None
        turn, count, first, left = self._store.get(key) or (0, 0, record, [])
        self._store.put(key, (turn, count + 1, first, left), stamp)
        return Behind(first, count)

    def turn(self, key: bytes | None, behind: Behind | None) -> int | None:
        """How many places in the row are before that one; None: it is of no row that there is.

        Negative: what stood there is done.
        """
        row: Row | None = None if key is None or behind is None else self._store.get(key)
        if row is None or behind is None or row[2] != behind.first:
            return None
        return -1 if behind.sequence in row[3] else behind.sequence - row[0]

    def done(self, key: bytes, stamp: int) -> None:
        """Whose turn it was is; behind the last one the key is as any other."""
        turn, count, first, left = self._store.get(key)
        turn += 1
        while turn in left:
            left = [number for number in left if number != turn]
            turn += 1
        if turn == count:
            self._store.delete(key, stamp)
        else:
            self._store.put(key, (turn, count, first, left), stamp)

    def leave(self, key: bytes, behind: Behind, stamp: int) -> None:
        """It was not the turn of that place, and will not be."""
        turn, count, first, left = self._store.get(key)
        self._store.put(key, (turn, count, first, [*left, behind.sequence]), stamp)

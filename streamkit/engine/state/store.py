"""Keyed state of one task: one value per key, and what changed since the last commit.

    get, put, delete, scan            by the operators, while records are processed
    changes() -> Rows                 at a commit: what goes to the changelog
    committed(end)                    after it: the changelog ends there now
    flush_if_due()                    between batches: write behind, make room
    position, load(columns)           at the start: what the changelog has from `position` on

The changelog is the truth. A backing holds what it said at some committed offset, so a start reads
it from there and not from its beginning, and values that are not used may leave memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from streamkit.engine.rows import Rows
from streamkit.engine.state.cache import Cache
from streamkit.engine.state.written import written
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import Serde

Remembered: TypeAlias = tuple[Any, bytes | None, int | None]
"""A cell; its value, encoded, where that may be changed in place; the time of its last change, if
that is not committed."""
_IMMUTABLE = (type(None), int, float, bool, str, bytes)


class Cursor(Protocol):
    """Where the task is."""

    @property
    def offset(self) -> int: ...


class Store(Cache):
    """See the module. Keys are bytes, values are what `serde` decodes; None is no value.

    `touched` is the offset of the record that was last given a value or changed one: what it was
    given it may have changed in place.
    """

    def __init__(self, changelog: str, serde: Serde, cursor: Cursor) -> None:
        super().__init__(changelog, serde)
        self.touched = -2
        self.fresh: dict[bytes, Any] = {}
        """For an operator to remember values in that it has put since the last `changes`, which
        empties it: it may change these in place without putting them again, if it sets `touched`.
        What it deletes it has to take out."""
        self.changed: dict[bytes, int] = {}
        """What was put or deleted since the last `changes`, and the event time of its last change,
        which an operator tells that changes a value in place."""
        self.keeper = ""
        """The functions that say what its values are, for messages."""
        self._cursor = cursor
        self._born: set[bytes] = set()  # of `changed`: what had no value at the last `changes`

    # For operators.

    def get(self, key: bytes) -> Any:
        """The key's value, None when it has none."""
        self.touched = self._cursor.offset
        cell = self._young.get(key)
        if cell is None and self._partial:
            return self._find(key)
        return cell

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        """Keep a value, None to keep none. `stamp` is the event's time, in ms."""
        if value is None:
            self.delete(key, stamp)
            return
        self.touched = self._cursor.offset
        if self._order is not None and (self._partial or key not in self._young):
            self._order.add(key)
        if self._holes:
            self._fill_holes(key)
        if key not in self.changed and not self._partial and key not in self._young:
            self._born.add(key)
        self._young[key] = value
        self.changed[key] = stamp

    def delete(self, key: bytes, stamp: int) -> None:
        """Forget a key; one that has no value is no change."""
        self.touched = self._cursor.offset
        if self._partial:
            if self._look(key) is None:
                return
            self._young[key] = None
            if self._order is not None:
                self._order.add(key)
        else:
            if self._young.pop(key, None) is None:
                return
            if self._order is not None:
                self._order.discard(key)
        if key in self._born:
            # The changelog has never heard of it.
            self._born.discard(key)
            del self.changed[key]
        else:
            self.changed[key] = stamp

    def scan(self, low: bytes, high: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        self.touched = self._cursor.offset
        return super().scan(low, high)

    # For who may want to undo that.

    def remember(self, key: bytes) -> Remembered:
        """How a key is now, for `put_back`. What is given of it later may be changed in place."""
        cell = self._look(key)
        value = None if cell is None else self._values([cell])[0]
        data = None if type(value) in _IMMUTABLE else self._serde.encode(value)
        return cell, data, self.changed.get(key)

    def put_back(self, key: bytes, was: Remembered) -> None:
        """Have a key as it was, decoded anew."""
        cell, data, changed = was
        if data is not None:
            cell = self._anew(cell, data)
        if cell is not None or self._partial:
            self._young[key] = cell
        else:
            self._young.pop(key, None)
        if self._order is not None:
            if key in self._young:
                self._order.add(key)
            else:
                self._order.discard(key)
        self._fill_holes(key)
        if changed is None:
            self.changed.pop(key, None)
            self._born.discard(key)
        else:
            self.changed[key] = changed

    def check(self, keys: Iterable[bytes]) -> None:
        """Raises SerdeError when a key has a value that could not be committed."""
        cells = {key: cell for key in keys if (cell := self._look(key)) is not None}
        written(self._serde, self.changelog, list(cells), self._values(list(cells.values())))

    # For who commits.

    def changes(self) -> Rows:
        """What changed since the last call: each key once, with the value it has now.

        Raises SerdeError when a function kept a value that is not of the type it declared.
        """
        changed, self.changed = self.changed, {}
        self.fresh.clear()
        self._born.clear()
        if not changed:
            return Rows([], [], [])
        young, keys = self._young, list(changed)
        kept = self._values([young.get(key) for key in keys])
        values = written(self._serde, self.changelog, keys, kept, changed.values(), self.keeper)
        if self._backing is not None:
            self._told.append(self._kept(keys, values, changed))
        self._measure(keys)
        return Rows(keys, values, [max(stamp, 0) for stamp in changed.values()])

    def committed(self, end: int) -> None:
        """The rows that `changes` gave first, of those not told about, are committed: before `end`.

        To be called once for each time it gave any, in order.
        """
        self.position = max(self.position, end)
        if self._told:
            self._pending.update(self._told.popleft())

    # For who starts it.

    def load(self, columns: Columns) -> None:
        """Take in the next records of the changelog, in order. Raises SerdeError."""
        young, partial = self._young, self._partial
        keys: list[bytes] = []
        values: list[bytes | None] = []
        stamps: dict[bytes, int] = {}
        for row, (key, data) in enumerate(zip(columns.keys, columns.values, strict=True)):
            if key is None:
                continue
            stamps[key] = stamp = columns.timestamps[row]
            keys.append(key)
            values.append(data)
            young.pop(key, None)
            if data is not None:
                try:
                    young[key] = self._cell(self._serde.decode(data), stamp)
                except SerdeError as error:
                    raise self._unreadable(f"@{columns.offsets[row]}", error) from error
            elif partial:
                young[key] = None
        if self._backing is not None:
            self._pending.update(self._kept(keys, values, stamps))
        self._order = None
        self._holes.clear()
        self._measure(keys)
        if len(columns):
            self.position = max(self.position, columns.offsets[-1] + 1)

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog should have it; None: it has none."""
        cell = self._look(key)
        return None if cell is None else self._serde.encode(self._values([cell])[0])

    # Inside.

    def _cell(self, value: Any, stamp: int) -> Any:
        return value

    def _values(self, cells: list[Any]) -> list[Any]:
        return cells

    def _anew(self, cell: Any, data: bytes) -> Any:
        """The cell again, with what its value is decoded from."""
        return self._serde.decode(data)

    def _kept(
        self, keys: list[bytes], values: list[bytes | None], stamps: Mapping[bytes, int]
    ) -> dict[bytes, bytes | None]:
        """What the backing is to have for some keys."""
        return dict(zip(keys, values, strict=True))

    def _leave_some(self, unwritten: Mapping[bytes, None]) -> None:
        super()._leave_some(unwritten)
        self._born.clear()

    def _unwritten(self) -> dict[bytes, None]:
        return super()._unwritten() | dict.fromkeys(self.changed)

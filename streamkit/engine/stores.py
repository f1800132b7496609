"""Keyed state of one task, in memory; its changelog topic is the truth."""

from typing import Any

from streamkit.engine.cursor import Cursor
from streamkit.engine.rows import Rows
from streamkit.errors import SerdeError
from streamkit.records import Columns, TopicPartition
from streamkit.serde import Serde


class KeyedStore:
    """One value per key. Values are encoded when they go to the changelog, not when they change."""

    def __init__(self, changelog: str, serde: Serde, cursor: Cursor) -> None:
        self.changelog = changelog
        self.touched = -2
        """The offset of the record that was last given a value of the store."""
        self._cells: dict[bytes, Any] = {}
        self._changed: dict[bytes, int] = {}  # key → event time of its last change
        self._serde = serde
        self._cursor = cursor

    def get(self, key: bytes) -> Any:
        self.touched = self._cursor.offset
        return self._cells.get(key)

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        """Keep a value, None to keep none. `stamp` is the event's time."""
        self.touched = self._cursor.offset
        if value is None:
            if self._cells.pop(key, None) is None:
                return
        else:
            self._cells[key] = value
        self._changed[key] = stamp

    def load(self, columns: Columns) -> None:
        """Take in records of the changelog, in order. Raises SerdeError."""
        for offset, key, data in zip(columns.offsets, columns.keys, columns.values, strict=True):
            if key is None:
                continue
            if data is None:
                self._cells.pop(key, None)
            else:
                try:
                    self._cells[key] = self._serde.decode(data)
                except SerdeError as error:
                    raise unreadable_state(self.changelog, offset, error) from error

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog has it."""
        return self._serde.encode(self._cells.get(key))

    def changes(self) -> Rows:
        """What changed since the last call, each key once with the value it has now."""
        changed, self._changed = self._changed, {}
        cells = self._cells
        values = []
        for key in changed:
            values.append(written(self._serde, self.changelog, key, cells.get(key)))
        return Rows(list(changed), values, [max(stamp, 0) for stamp in changed.values()])


class TableRows:
    """The rows of a table that a task can see."""

    def __init__(self, key: Serde, value: Serde) -> None:
        self.rows: dict[bytes, Any] = {}
        self.encode_key = key.encode
        self._decode = value.decode

    def load(self, partition: TopicPartition, columns: Columns, start: int, stop: int) -> None:
        """Take in records `start` to `stop` of the table's topic. Raises SerdeError."""
        rows = self.rows
        for at in range(start, stop):
            key, data = columns.keys[at], columns.values[at]
            if key is None:
                raise SerdeError(
                    f"{partition}@{columns.offsets[at]}: a record without a key, in a table; "
                    "write it with one, or read the topic with app.stream"
                )
            if data is None:
                rows.pop(key, None)
                continue
            try:
                rows[key] = self._decode(data)
            except SerdeError as error:
                raise SerdeError(f"{partition}@{columns.offsets[at]}: value: {error}") from error


def written(serde: Serde, changelog: str, key: bytes, value: Any) -> bytes | None:
    """A value as it goes to the changelog.

    Raises SerdeError when a function kept one that is not of the type it declared. It is read back
    to know: what could not be restored would stop the app for good, once it is committed.
    """
    try:
        data = serde.encode(value)
        if data is not None:
            serde.decode(data)
    except SerdeError as error:
        raise SerdeError(
            f"state for {changelog}, key {key!r}: {error}; a function kept a value that is not of "
            "the type it declares"
        ) from error
    return data


def unreadable_state(changelog: str, offset: int, error: Exception) -> SerdeError:
    """The type of a store's values changed, and what was kept does not fit it."""
    return SerdeError(
        f"{changelog}@{offset}: {error}; state was kept as another type: give the store another "
        "name=, or let the type read the old values (optional fields with defaults)"
    )

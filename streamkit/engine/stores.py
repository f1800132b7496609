"""Rows of tables; and how windows write their cells."""

from typing import Any

from streamkit.errors import SerdeError
from streamkit.records import Columns, TopicPartition
from streamkit.serde import Serde


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

"""Late events are not dropped: they go to a topic of their own, as they are, and are counted."""

from typing import Any

from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import late_note
from streamkit.engine.hot.outlet import Outlet
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


class Late:
    """The late events of one node."""

    __slots__ = ("_cursor", "_key", "_outlet", "_value", "count", "name")

    def __init__(self, name: str, outlet: Outlet, key: Serde, value: Serde, cursor: Cursor) -> None:
        self.name = name
        self.count = 0
        self._outlet = outlet
        self._key = key
        self._value = value
        self._cursor = cursor

    def give(
        self,
        start: int,
        end: int,
        watermark: int,
        key: Any,
        value: Any,
        stamp: int,
        headers: Headers,
    ) -> None:
        """Write an event that is too late for the window [start, end), and how far time was."""
        self.count += 1
        try:
            data, late = self._key.encode(key), self._value.encode(value)
        except SerdeError as error:
            raise self._cursor.unwritable(f"late record of {self.name}", error) from error
        note = late_note(self.name, start, end, watermark)
        self._outlet.add(data, late, stamp, (*headers, note))

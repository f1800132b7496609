"""Late events are not dropped: they go to a topic of their own, as they are, and are counted."""

from dataclasses import dataclass
from typing import Any

from streamkit.dsl.instants import LATEST_TIME, moment
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import late_note
from streamkit.engine.hot.outlet import Outlet
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True)
class TooLate:
    """Late events of a node, since it was asked last; they are in a topic. `first`: which the first
    of them was, and how late."""

    step: str
    topic: str
    count: int
    first: str


class Late:
    """The late events of one node."""

    __slots__ = ("_asked", "_cursor", "_first", "_key", "_outlet", "_value", "count", "name")

    def __init__(self, name: str, outlet: Outlet, key: Serde, value: Serde, cursor: Cursor) -> None:
        self.name = name
        self.count = 0
        self._asked = 0
        self._first: str | None = None
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
        if self._first is None:
            self._first = f"{self._cursor.coordinates} of {_told(stamp)}, {_reached(watermark)}"
        try:
            data, late = self._key.encode(key), self._value.encode(value)
        except SerdeError as error:
            raise self._cursor.unwritable(f"late record of {self.name}", error) from error
        note = late_note(self.name, start, end, watermark)
        self._outlet.add(data, late, stamp, (*headers, note))

    def told(self) -> TooLate | None:
        """Those since the last call."""
        first, count = self._first, self.count - self._asked
        if first is None:
            return None
        self._first, self._asked = None, self.count
        return TooLate(self.name, self._outlet.topic, count, first)


def _reached(watermark: int) -> str:
    if watermark > LATEST_TIME:
        return "when all there was closed"
    return f"when time there had come to {_told(watermark)}"


def _told(stamp: int) -> str:
    text = moment(min(stamp, LATEST_TIME)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")

"""How far ahead of the wall clock events may be: a wrong date must not close all windows."""

from typing import Any

from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import ahead_note
from streamkit.engine.hot.moment import FOREVER, NEVER
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.journal import Ahead
from streamkit.engine.script import Script
from streamkit.records import Columns


class Horizon:
    """One input's. What is beyond it goes to a topic of its own, as it is, and moves no time.

    `limit` is the latest event time (ms) that is let through unasked.
    """

    __slots__ = (
        "_cursor",
        "_decided",
        "_max_ahead",
        "_outlet",
        "_script",
        "count",
        "limit",
        "name",
    )

    def __init__(self, name: str, max_ahead: int, outlet: Outlet, cursor: Cursor) -> None:
        """`name` is the input's, `max_ahead` in ms."""
        self.name = name
        self.limit = FOREVER
        self.count = 0
        self._max_ahead = max_ahead
        self._outlet = outlet
        self._cursor = cursor
        self._decided: list[Ahead] = []
        self._script: Script | None = None

    def follow(self, script: Script) -> None:
        """Refuse what a journal says, and nothing else."""
        self._script = script
        self.limit = NEVER

    def tell(self, now: int) -> None:
        """The wall clock's time, in ms."""
        if self._script is None:
            self.limit = now + self._max_ahead

    def refuses(self, offset: int) -> bool:
        """Whether a record beyond `limit` is not let through; that is noted for the journal."""
        if self._script is not None:
            return self._script.is_ahead(self.name, offset)
        self._decided.append(Ahead(self.name, offset, self.limit))
        return True

    def quarantine(self, columns: Columns, row: int, stamp: int) -> None:
        """Write a record that was refused to its topic, as it is, with the reason."""
        self.count += 1
        offset = columns.offsets[row]
        limit = self.limit if self._script is None else self._script.limit_of(self.name, offset)
        headers: Any = () if columns.headers is None else columns.headers[row]
        cursor = self._cursor
        note = ahead_note(cursor.topic, cursor.partition, offset, stamp, limit)
        self._outlet.add(
            columns.keys[row], columns.values[row], columns.timestamps[row], (*headers, note)
        )

    def decided(self) -> list[Ahead]:
        """What was refused since the last call."""
        decided, self._decided = self._decided, []
        return decided

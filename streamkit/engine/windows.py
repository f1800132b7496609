"""The open windows of one aggregate, in one task."""

from collections.abc import Callable
from typing import Any

from streamkit.dsl.nodes import Aggregate
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import late_note, window_identity
from streamkit.engine.outlets import Forward, Outlet
from streamkit.engine.rows import Rows
from streamkit.engine.stores import unreadable_state, written
from streamkit.engine.watermarks import NEVER, Clock
from streamkit.errors import SerdeError
from streamkit.records import Columns, Headers
from streamkit.serde import Serde, serde_for


class Bucket:
    """All keys of one window. A cell is [value so far, number of events, key]."""

    __slots__ = ("cells", "changed")

    def __init__(self) -> None:
        self.cells: dict[bytes, list[Any]] = {}
        self.changed: dict[bytes, int] = {}


class WindowStore:
    """Folds events into windows, and gives out those that close.

    A window is open from its first event until the node's watermark reaches end + grace. The
    node's watermark is the task's minus `delay`: the grace of the windows whose results this one
    is fed with, since those may come that much after the time they bear. What closed for want of
    events (`close_idle`) stays closed: `closed` is the watermark it was closed at.

    The changelog's key is the event's key and 8 bytes of the window's start, big-endian; its value
    is JSON, [number of events, value so far].
    """

    def __init__(
        self,
        node: Aggregate,
        key: Serde,
        changelog: str,
        late: Outlet,
        delay: int,
        clock: Clock,
        cursor: Cursor,
    ) -> None:
        self.node = node
        self.changelog = changelog
        self.delay = delay
        self.closed = NEVER
        self.late_count = 0
        self.touched = -2
        self.prefix = b""
        """Begins the identity of its results; see Cursor."""
        self.forward: Forward = _nowhere
        self._buckets: dict[int, Bucket] = {}
        self._gone: dict[bytes, int] = {}
        self._cell_serde = serde_for(tuple[int, node.value.type])  # type: ignore[name-defined]
        self._key = key
        self._late = late
        self._clock = clock
        self._cursor = cursor
        self._reach = node.window.size + node.window.grace
        """From the start of a window to the watermark that closes it."""

    def step(self, call: Callable[..., Any], plain: Callable[..., Any] | None) -> Forward:
        """The step that folds an event.

        `call` takes sofar, key, value, stamp, headers and the window's start; `plain`, if there
        is one, only sofar and value.
        """
        node, cursor, buckets = self.node, self._cursor, self._buckets
        size, name, updates = node.window.size, node.name, node.emit == "update"
        write_key, function = self._key.write, node.function

        def fold(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if stamp < 0:
                raise cursor.timeless(f"the window of {name}")
            start = stamp - stamp % size
            bucket = buckets.get(start)
            if bucket is None:
                if self._is_late(start):
                    return self._give_late(start, key, value, stamp, headers)
                bucket = self._open(start)
            try:
                data = write_key(key)
            except Exception:
                data = self._encoded(key)
            if data is None:
                raise cursor.keyless(f"the window of {name}")
            self.touched = cursor.offset
            cell = bucket.cells.get(data)
            if cell is None:
                cell = bucket.cells[data] = [None, 0, key]
            try:
                if plain is not None:
                    sofar = plain(cell[0], value)
                else:
                    sofar = call(cell[0], key, value, stamp, headers, start)
            except Exception as error:
                cursor.fail(function, key, error)
            cell[0] = sofar
            cell[1] += 1
            bucket.changed[data] = stamp
            if updates:
                end = start + size
                self.forward(key, sofar, end - 1, window_identity(name, start, end, cell[1]))

        return fold

    def _encoded(self, key: Any) -> bytes | None:
        """With care: for keys that are missing, and to say what is wrong."""
        try:
            return self._key.encode(key)
        except SerdeError as error:
            raise self._cursor.unwritable(f"key for {self.node.name}", error) from error

    # Time.

    @property
    def watermark(self) -> int:
        return max(self._clock.watermark - self.delay, self.closed)

    def advance(self) -> None:
        """Close what the watermark has reached."""
        self._close(self.watermark)

    def close_idle(self) -> None:
        """Close everything that is open: no more events are expected for it."""
        if self._buckets:
            self.closed = max(self.watermark, max(self._buckets) + self._reach)
            self._close(self.closed)

    @property
    def due(self) -> int | None:
        """The task's watermark at which the next window closes; None when none is open."""
        if not self._buckets:
            return None
        return min(self._buckets) + self._reach + self.delay

    def _close(self, watermark: int) -> None:
        size, name, final = self.node.window.size, self.node.name, self.node.emit == "final"
        for start in sorted(start for start in self._buckets if start + self._reach <= watermark):
            self.touched = self._cursor.offset
            cells = self._buckets.pop(start).cells
            end = start + size
            self._cursor.closing = (self.prefix, start)
            # By key, not as they came: a restored task has met them in another order.
            for data in sorted(cells):
                value, count, key = cells[data]
                self._gone[data + start.to_bytes(8, "big")] = end - 1
                if final:
                    self.forward(key, value, end - 1, window_identity(name, start, end, count))
        self._cursor.closing = None

    def _open(self, start: int) -> Bucket:
        bucket = self._buckets[start] = Bucket()
        due = start + self._reach + self.delay
        if due < self._clock.due:
            self._clock.due = due
        return bucket

    def _is_late(self, start: int) -> bool:
        return start + self._reach <= self.watermark

    def _give_late(self, start: int, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        name = self.node.name
        note = late_note(name, start, start + self.node.window.size, self.watermark)
        self.late_count += 1
        try:
            data, late = self._key.encode(key), self.node.late.encode(value)
        except SerdeError as error:
            raise self._cursor.unwritable(f"late record of {name}", error) from error
        self._late.add(data, late, stamp, (*headers, note))

    # State.

    def load(self, columns: Columns) -> None:
        """Take in records of the changelog, in order. Raises SerdeError."""
        for offset, key, data in zip(columns.offsets, columns.keys, columns.values, strict=True):
            if key is None:
                continue
            start, name = int.from_bytes(key[-8:], "big"), key[:-8]
            if data is None:
                bucket = self._buckets.get(start)
                if bucket is not None:
                    bucket.cells.pop(name, None)
                    if not bucket.cells:
                        del self._buckets[start]
                continue
            try:
                count, value = self._cell_serde.decode(data)
                cell = [value, count, self._key.decode(name)]
            except SerdeError as error:
                raise unreadable_state(self.changelog, offset, error) from error
            (self._buckets.get(start) or self._open(start)).cells[name] = cell

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog has it."""
        bucket = self._buckets.get(int.from_bytes(key[-8:], "big"))
        cell = None if bucket is None else bucket.cells.get(key[:-8])
        return None if cell is None else self._cell_serde.encode((cell[1], cell[0]))

    def changes(self) -> Rows:
        """What changed since the last call: each key once with its value, closed ones without."""
        keys: list[bytes] = []
        values: list[bytes | None] = []
        stamps: list[int] = []
        serde = self._cell_serde
        for start in sorted(self._buckets):
            bucket = self._buckets[start]
            suffix = start.to_bytes(8, "big")
            for data, stamp in bucket.changed.items():
                cell = bucket.cells[data]
                keys.append(data + suffix)
                values.append(written(serde, self.changelog, data, (cell[1], cell[0])))
                stamps.append(stamp)
            bucket.changed = {}
        gone, self._gone = self._gone, {}
        return Rows(keys + list(gone), values + [None] * len(gone), stamps + list(gone.values()))


def _nowhere(key: Any, value: Any, stamp: int, headers: Headers) -> None:
    """Where results go that nobody asked for."""

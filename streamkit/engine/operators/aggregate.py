"""Fold the events of one key and one window into a value."""

from collections.abc import Callable
from typing import Any

from streamkit.dsl.nodes.windows import Aggregate
from streamkit.engine.headers import window_identity
from streamkit.engine.outlets import Forward
from streamkit.engine.rows import Rows
from streamkit.engine.site import Site
from streamkit.engine.stores import unreadable_state, written
from streamkit.errors import SerdeError
from streamkit.records import Columns, Headers
from streamkit.serde import Serde


def build(node: Aggregate, key: Serde, site: Site) -> Forward:
    windows = OpenWindows(node, key, site)
    site.keep(node.name, windows)
    site.on_time(node, windows)
    call = site.calls.folding(node.function, key, node.window.size)
    return windows.step(call, site.calls.plain(node.function))


class Bucket:
    """All keys of one window. A cell is [value so far, number of events, key]."""

    __slots__ = ("cells", "changed")

    def __init__(self) -> None:
        self.cells: dict[bytes, list[Any]] = {}
        self.changed: dict[bytes, int] = {}


class OpenWindows:
    """Folds events into windows, and gives out those that close.

    A window is open from its first event until the node's watermark reaches end + grace. Which
    closed for want of events stay closed.

    The changelog's key is the event's key and 8 bytes of the window's start, big-endian; its value
    is JSON, [number of events, value so far].
    """

    def __init__(self, node: Aggregate, key: Serde, site: Site) -> None:
        self.time = site.time(node)
        self.touched = -2
        self._node = node
        self._cursor = site.cursor
        self._changelog = site.changelog(node.name)
        self._prefixes = site.prefixes
        self._late = site.late_events(node.name, node.late, key)
        self._forward = site.after(node, key)
        self._buckets: dict[int, Bucket] = {}
        self._gone: dict[bytes, int] = {}
        (self._cell, *_) = (spec.value for spec in node.stores())
        self._key = key
        self._reach = node.window.size + node.window.grace
        """From the start of a window to the watermark that closes it."""

    def step(self, call: Callable[..., Any], plain: Callable[..., Any] | None) -> Forward:
        """The step that folds an event.

        `call` takes sofar, key, value, stamp, headers and the window's start; `plain`, if there
        is one, only sofar and value.
        """
        node, cursor, buckets = self._node, self._cursor, self._buckets
        size, name, updates = node.window.size, node.name, node.emit == "update"
        write_key, function = self._key.write, node.function
        time, reach, late, forward = self.time, self._reach, self._late.give, self._forward

        def fold(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if stamp < 0:
                raise cursor.timeless(f"the window of {name}")
            start = stamp - stamp % size
            bucket = buckets.get(start)
            if bucket is None or cursor.frontier is not None:
                if time.is_late(start + reach):
                    passed = time.passed(start + reach)
                    return late(start, start + size, passed, key, value, stamp, headers)
                bucket = bucket or self._open(start)
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
                forward(key, sofar, end - 1, window_identity(name, start, end, cell[1]))

        return fold

    def _encoded(self, key: Any) -> bytes | None:
        """With care: for keys that are missing, and to say what is wrong."""
        try:
            return self._key.encode(key)
        except SerdeError as error:
            raise self._cursor.unwritable(f"key for {self._node.name}", error) from error

    # Time.

    def advance(self) -> None:
        """Close what the watermark has reached."""
        self._close(self.time.watermark)

    @property
    def due(self) -> int | None:
        return min(self._buckets) + self._reach if self._buckets else None

    @property
    def last(self) -> int | None:
        return max(self._buckets) + self._reach if self._buckets else None

    def _close(self, watermark: int) -> None:
        size, name, final = self._node.window.size, self._node.name, self._node.emit == "final"
        for start in sorted(start for start in self._buckets if start + self._reach <= watermark):
            self.touched = self._cursor.offset
            cells = self._buckets.pop(start).cells
            end = start + size
            self._cursor.closing = (self._prefixes[name], start)
            # By key, not as they came: a restored task has met them in another order.
            for data in sorted(cells):
                value, count, key = cells[data]
                self._gone[data + start.to_bytes(8, "big")] = end - 1
                if final:
                    self._forward(key, value, end - 1, window_identity(name, start, end, count))
        self._cursor.closing = None

    def _open(self, start: int) -> Bucket:
        bucket = self._buckets[start] = Bucket()
        self.time.wake(start + self._reach)
        return bucket

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
                count, value = self._cell.decode(data)
                cell = [value, count, self._key.decode(name)]
            except SerdeError as error:
                raise unreadable_state(self._changelog, offset, error) from error
            (self._buckets.get(start) or self._open(start)).cells[name] = cell

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog has it."""
        bucket = self._buckets.get(int.from_bytes(key[-8:], "big"))
        cell = None if bucket is None else bucket.cells.get(key[:-8])
        return None if cell is None else self._cell.encode((cell[1], cell[0]))

    def changes(self) -> Rows:
        """What changed since the last call: each key once with its value, closed ones without."""
        keys: list[bytes] = []
        values: list[bytes | None] = []
        stamps: list[int] = []
        serde = self._cell
        for start in sorted(self._buckets):
            bucket = self._buckets[start]
            suffix = start.to_bytes(8, "big")
            for data, stamp in bucket.changed.items():
                cell = bucket.cells[data]
                keys.append(data + suffix)
                values.append(written(serde, self._changelog, data, (cell[1], cell[0])))
                stamps.append(stamp)
            bucket.changed = {}
        gone, self._gone = self._gone, {}
        return Rows(keys + list(gone), values + [None] * len(gone), stamps + list(gone.values()))

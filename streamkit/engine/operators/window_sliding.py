"""Sliding windows: for each time of a key, what it had in the `size` that ends there.

    "k" length of key, key, ordered(time) → (events when last given, [(first, value) ...])
    "t" ordered(time) key                 → 0: the key has events at that time

An event is in the windows that end from `first` on and less than `size` after its time. `first` is
its own time; for a late one that of the first window it is not late for. There is a window where an
event has its own time for `first`: of late events alone there is none.
"""

from collections.abc import Iterator
from typing import Any

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Sliding
from streamkit.engine.cursor import Place
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.window_changes import changes
from streamkit.engine.operators.window_events import refolder
from streamkit.engine.operators.window_results import Keys, Results
from streamkit.engine.operators.window_rows import BY_TIME, moments, ordered, time_of
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


class SlidingWindows:
    """Keeps the events that windows need, and folds those of a window when it is to be given."""

    def __init__(self, node: WindowFold, kind: Sliding, key: Serde, site: Site) -> None:
        self.time = site.time(node)
        self._node = node
        self._size = kind.size
        self._grace = kind.grace
        self._cursor = site.cursor
        self._store = site.store(node.name)
        self._results = Results(node, key, site)
        self._changes = changes(node.emit, self.time)
        self._late = site.late_events(node.name, node.late, key)
        self._keys = Keys(node, key, site)
        self._read_key = key.decode
        self._refold = refolder(node, site)
        self._closed: int | None = None
        """Windows of earlier times are closed. None: not known since the start."""

    def step(self) -> Forward:
        """The step that keeps an event."""
        size, grace, time, cursor = self._size, self._grace, self.time, self._cursor
        store, changed = self._store, self._changes
        encode, late, is_late = self._keys.encode, self._late.give, time.is_late
        updates = self._node.emit == "update"

        def take(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            self._begin()
            data = encode(key, stamp)
            first = stamp
            if is_late(stamp + 1 + grace):
                passed = time.passed(cursor.frontier)
                late(stamp - size + 1, stamp + 1, passed, key, value, stamp, headers)
                first = passed - grace
                if first >= stamp + size:
                    return
            row = moments(data) + ordered(stamp)
            found = store.get(row)
            if found is None:
                given, events = 0, []
                store.put(BY_TIME + ordered(stamp) + data, 0, stamp)
                time.wake(stamp + 1 + grace)
            else:
                given, events = found
            store.put(row, (given, [*events, (first, value)]), stamp)
            if updates or changed is not None:
                for at, open_row in self._open(data, first, stamp + size):
                    if changed is not None:
                        changed.add(open_row)
                    else:
                        self._give(data, at)

        return take

    def _open(self, data: bytes, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """The times in [low, high) of a key for which there is a window, and their rows."""
        rows = moments(data)
        for row, (_, events) in self._store.scan(rows + ordered(low), rows + ordered(high)):
            at = time_of(row[-8:])
            if _is_window(at, events):
                yield at, row

    def _give(self, data: bytes, at: int) -> int:
        """Give the value of the window that ends with a time; how many events are in it."""
        values = list(self._values(data, at))
        start, end = at - self._size + 1, at + 1
        state = self._refold(self._read_key(data), start, end, iter(values))
        self._results.give_encoded(data, state, start, end, len(values))
        return len(values)

    def _values(self, data: bytes, at: int) -> Iterator[Any]:
        rows = moments(data)
        low, high = rows + ordered(at - self._size + 1), rows + ordered(at + 1)
        for _, (_, events) in self._store.scan(low, high):
            for first, value in events:
                if first <= at:
                    yield value

    # Time.

    def advance(self) -> None:
        """Give what is due, close what the watermark has reached, forget what nothing needs."""
        self._begin()
        watermark = self.time.closing()
        done = self._give_changes(watermark) and self._close(watermark - self._grace)
        if done:
            self._forget(watermark - self._grace - self._size + 1)
        self.time.done(watermark if done else self.time.reached)

    @property
    def due(self) -> int | None:
        if self._closed is None:
            self._closed = self.time.watermark - self._grace
        oldest = next(self._store.scan(BY_TIME), None)
        first = next(self._store.scan(BY_TIME + ordered(self._closed)), None)
        known = [] if oldest is None else [time_of(oldest[0][1:9]) + self._size + self._grace]
        known += [] if first is None else [time_of(first[0][1:9]) + 1 + self._grace]
        told = None if self._changes is None else self._changes.due
        return min([*known, *([] if told is None else [told])], default=None)

    @property
    def last(self) -> int | None:
        self._begin()
        assert self._closed is not None
        rows = self._store.look_through(BY_TIME + ordered(self._closed))
        last = max((time_of(row[1:9]) for row, _ in rows), default=None)
        return None if last is None else last + 1 + self._grace

    @property
    def open(self) -> StillOpen | None:
        last = self.last
        if last is None:
            return None
        assert self._closed is not None
        count = sum(1 for _ in self._store.look_through(BY_TIME + ordered(self._closed)))
        return StillOpen(count, "windows", last)

    def _begin(self) -> None:
        """After a start: what is closed, the watermark tells that was kept."""
        if self._closed is None:
            self._closed = self.time.watermark - self._grace
        if self._changes is not None and self._changes.unknown:
            rows = self._store.look_through(BY_TIME + ordered(self._closed))
            found = ((row[9:], time_of(row[1:9])) for row, _ in rows)
            self._changes.recall(
                [row for data, at in found if (row := self._changed(data, at)) is not None]
            )

    def _changed(self, data: bytes, at: int) -> bytes | None:
        """The row of a window that has got more events since it was given."""
        row = moments(data) + ordered(at)
        given, events = self._store.get(row)
        changed = _is_window(at, events) and given != len(list(self._values(data, at)))
        return row if changed else None

    def _give_changes(self, watermark: int) -> bool:
        """False when others wait for their turn before all is done."""
        if self._changes is None:
            return True
        rows = sorted(map(_parts, self._changes.take(watermark)))
        for number, (at, data, row) in enumerate(rows, start=1):
            self._give_changed(data, at, row)
            if self._cursor.rung:
                self._changes.put_back(row for *_, row in rows[number:])
                return False
        return True

    def marks(self, at: Place) -> tuple[int, ...]:
        """What is closed, and when changes are due."""
        if self._closed is None:
            return ()
        return (self._closed, *(() if self._changes is None else self._changes.marks))

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was."""
        self._closed = marks[0]
        if self._changes is not None:
            self._changes.keep(marks[1:])

    def _close(self, before: int) -> bool:
        """Windows of times before this one are final now. False when others wait for their turn:
        so are those of a time before."""
        assert self._closed is not None
        if before <= self._closed:
            return True
        low, high = BY_TIME + ordered(self._closed), BY_TIME + ordered(before)
        for row, _ in self._store.scan(low, high):
            at, data = time_of(row[1:9]), row[9:]
            if self._cursor.rung and at > self._closed:
                self._closed = at
                return False
            self._closed = at
            if self._node.emit == "update":
                continue
            if self._changes is None:
                _, events = self._store.get(moments(data) + ordered(at))
                if _is_window(at, events):
                    self._give(data, at)
            elif (changed := self._changed(data, at)) is not None:
                self._changes.discard(changed)
                self._give_changed(data, at, changed)
        self._closed = before
        return True

    def _give_changed(self, data: bytes, at: int, row: bytes) -> None:
        _, events = self._store.get(row)
        self._store.put(row, (self._give(data, at), events), at)

    def _forget(self, before: int) -> None:
        """No window that is open has events of times before this one."""
        for row, _ in self._store.scan(BY_TIME, BY_TIME + ordered(before)):
            at = time_of(row[1:9])
            self._store.delete(row, at)
            self._store.delete(moments(row[9:]) + row[1:9], at)


def _is_window(at: int, events: list[Any]) -> bool:
    return any(first == at for first, _ in events)


def _parts(row: bytes) -> tuple[int, bytes, bytes]:
    """Time, key and row of what a key had at a time."""
    return time_of(row[-8:]), row[5:-8], row

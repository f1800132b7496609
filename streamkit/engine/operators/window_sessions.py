"""Sessions: events of a key that are less than `gap` apart.

    "k" key              → (due, sessions): what is open of the key, in order of time
    "t" ordered(due) key → 0: look at the key when the watermark comes to `due`

and, where a fold cannot merge states, in a store of their own:

    "k" length of key, key, ordered(time) → [value ...]: the events of open sessions

A session grows without its "t" row moving along: that is where the session would have ended when
the row was written, and whoever looks at the key then writes another one.

A session is (start, time of the last event, events, state, events when last given, windows to
retract). Its identity is its start. A session that began later and was given before it became part
of an earlier one is retracted, before the whole is given.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Session
from streamkit.engine.operators.window_changes import changes
from streamkit.engine.operators.window_events import refolder
from streamkit.engine.operators.window_results import Keys, Results
from streamkit.engine.operators.window_rows import (
    AFTER_KEYS,
    BY_KEY,
    BY_TIME,
    moments,
    ordered,
    time_of,
)
from streamkit.engine.outlets import Forward
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde

Open: TypeAlias = tuple[int, int, int, Any, int, Any]
"""A session; see above."""


class Sessions:
    """Keeps the open sessions of all keys, and gives out those that close."""

    def __init__(self, node: WindowFold, kind: Session, key: Serde, site: Site) -> None:
        self.time = site.time(node)
        self._node = node
        self._gap = kind.gap
        self._grace = kind.grace
        self._reach = kind.gap + kind.grace
        """From a session's last event to the watermark that closes it."""
        self._cursor = site.cursor
        self._store = site.store(node.name)
        self._results = Results(node, key, site)
        self._changes = changes(node.emit, self.time)
        self._late = site.late_events(node.name, node.late, key)
        self._keys = Keys(node, key, site)
        self._read_key = key.decode
        self._merge = node.fold.merge
        self._plain = site.calls.plain(node.function)
        self._call = site.calls.folding(node.function, key)
        self._refold = refolder(node, site)
        self._events = None if self._merge is not None else site.store(node.events)

    def step(self) -> Forward:
        """The step that puts an event into its session."""
        grace, gap, time, cursor = self._grace, self._gap, self.time, self._cursor
        get, put, changed = self._store.get, self._store.put, self._changes
        encode, late, is_late = self._keys.encode, self._late.give, self.time.is_late
        updates = self._node.emit == "update"
        fold = self._folded if self._merge is not None else self._kept

        def take(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if changed is not None and changed.unknown:
                self._recall()
            data = encode(key, stamp)
            # By its own time, not by the end of a session that is open by chance: which those are
            # depends on how far the events of other partitions have been read.
            if is_late(stamp + 1 + grace):
                passed = time.passed(cursor.frontier)
                late(stamp, stamp + gap, passed, key, value, stamp, headers)
                return
            row = BY_KEY + data
            found = get(row)
            due, sessions = (None, []) if found is None else found
            at, joined = _touching(sessions, stamp, gap)
            one = fold(data, joined, key, value, stamp, headers)
            if updates:
                one = self._given(data, one)
            sessions[at : at + len(joined)] = [one]
            put(row, (self._due(data, due, sessions), sessions), stamp)
            if changed is not None:
                changed.add(data)

        return take

    # One event.

    def _folded(
        self, data: bytes, joined: list[Any], key: Any, value: Any, stamp: int, headers: Headers
    ) -> Open:
        """The session of an event and of those that it joins."""
        gap, call, plain = self._gap, self._call, self._plain
        one = _joined(joined, stamp, gap)
        try:
            if plain is not None:
                state = plain(one[3], value)
            else:
                state = call(one[3], key, value, stamp, headers, one[0], one[1] + gap)
            for other in joined[1:]:
                assert self._merge is not None
                state = self._merge(state, other[3])
        except Exception as error:
            self._cursor.fail(self._node.function, key, error)
        start, last, count, _, given, gone = one
        return start, last, count, state, given, gone

    def _kept(
        self, data: bytes, joined: list[Any], key: Any, value: Any, stamp: int, headers: Headers
    ) -> Open:
        """The same where states cannot be merged: the event is kept, to be folded later."""
        assert self._events is not None
        row = moments(data) + ordered(stamp)
        self._events.put(row, [*(self._events.get(row) or ()), value], stamp)
        return _joined(joined, stamp, self._gap)

    def _due(self, data: bytes, due: int | None, sessions: list[Any]) -> int:
        """When to look at a key, which it was `due` for. Lets it be known when that is earlier."""
        first: int = sessions[0][1] + self._reach
        if due is not None:
            if due <= first:
                return due
            self._store.delete(BY_TIME + ordered(due) + data, first)
        self._store.put(BY_TIME + ordered(first) + data, 0, first)
        self.time.wake(first)
        return first

    # Results.

    def _given(self, data: bytes, one: Open) -> Open:
        """Give a session's value, after taking back what was given of its parts."""
        start, last, count, state, _, gone = one
        for window in gone:
            self._results.retract(data, *window)
        end = last + self._gap
        if self._merge is None:
            state = self._refold(self._read_key(data), start, end, self._values(one, data))
        self._results.give_encoded(data, state, start, end, count)
        return start, last, count, one[3], count, ()

    def _rows(self, one: Open, data: bytes) -> Iterator[tuple[bytes, list[Any]]]:
        """The rows of a session's events."""
        assert self._events is not None
        rows = moments(data)
        return self._events.scan(rows + ordered(one[0]), rows + ordered(one[1] + 1))

    def _values(self, one: Open, data: bytes) -> Iterator[Any]:
        for _, values in self._rows(one, data):
            yield from values

    # Time.

    def advance(self) -> None:
        """Give what is due, and close what the watermark has reached."""
        watermark = self.time.closing()
        if self._changes is not None:
            if self._changes.unknown:
                self._recall()
            self._give_changes(self._changes.take(watermark))
        self._close(watermark)
        self.time.done(watermark)

    @property
    def due(self) -> int | None:
        first = next(self._store.scan(BY_TIME), None)
        told = None if self._changes is None else self._changes.due
        known = (None if first is None else time_of(first[0][1:9]), told)
        return min((at for at in known if at is not None), default=None)

    @property
    def last(self) -> int | None:
        return max(
            (sessions[-1][1] + self._reach for _, (_, sessions) in self._by_key()), default=None
        )

    def _by_key(self) -> Iterator[tuple[bytes, Any]]:
        return self._store.scan(BY_KEY, AFTER_KEYS)

    def _close(self, watermark: int) -> None:
        store, reach = self._store, self._reach
        closed: list[tuple[int, bytes, Open]] = []
        for row, _ in store.scan(BY_TIME, BY_TIME + ordered(watermark + 1)):
            data = row[9:]
            store.delete(row, time_of(row[1:9]))
            _, sessions = store.get(BY_KEY + data)
            number = 0
            while number < len(sessions) and sessions[number][1] + reach <= watermark:
                closed.append((sessions[number][1], data, sessions[number]))
                number += 1
            still = sessions[number:]
            stamp = sessions[0][1]
            if still:
                store.put(BY_KEY + data, (self._due(data, None, still), still), stamp)
            else:
                store.delete(BY_KEY + data, stamp)
                if self._changes is not None:
                    self._changes.discard(data)
        closed.sort(key=lambda each: each[:2])
        updates = self._node.emit == "update"
        for last, data, one in closed:
            if not updates and (one[4] != one[2] or one[5]):
                self._given(data, one)
            if self._events is not None:
                for row, _ in self._rows(one, data):
                    self._events.delete(row, last)

    def _give_changes(self, keys: list[bytes]) -> None:
        changed = [
            (one[1], data, at)
            for data in keys
            for at, one in enumerate(self._store.get(BY_KEY + data)[1])
            if one[4] != one[2] or one[5]
        ]
        for last, data, at in sorted(changed):
            due, sessions = self._store.get(BY_KEY + data)
            sessions[at] = self._given(data, sessions[at])
            self._store.put(BY_KEY + data, (due, sessions), last)

    def _recall(self) -> None:
        assert self._changes is not None
        self._changes.recall(
            [
                row[1:]
                for row, (_, sessions) in self._by_key()
                if any(one[4] != one[2] or one[5] for one in sessions)
            ]
        )


def _touching(sessions: list[Any], stamp: int, gap: int) -> tuple[int, list[Any]]:
    """Those that an event is less than `gap` away from, and the place of the first of them."""
    at = 0
    while at < len(sessions) and sessions[at][1] + gap <= stamp:
        at += 1
    after = at
    while after < len(sessions) and sessions[after][0] < stamp + gap:
        after += 1
    return at, sessions[at:after]


def _joined(joined: list[Any], stamp: int, gap: int) -> Open:
    """What becomes of sessions, with one event more; the state is that of the first."""
    if not joined:
        return stamp, stamp, 1, None, 0, ()
    start, last, count, state, given, gone = joined[0]
    if len(joined) == 1 and start <= stamp:
        return start, max(last, stamp), count + 1, state, given, gone
    gone = [window for one in joined for window in one[5]]
    first = min(start, stamp)
    gone += [(one[0], one[1] + gap, one[2] + 1) for one in joined if one[4] and one[0] != first]
    count = 1 + sum(one[2] for one in joined)
    return first, max(joined[-1][1], stamp), count, state, given if first == start else 0, gone

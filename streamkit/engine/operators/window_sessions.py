"""Sessions: events of a key that are less than `gap` apart.

    key → [session ...], in order of time: what is open of the key

and, where a fold cannot merge states, in a store of their own:

    "k" length of key, key, ordered(time) → [value ...]: the events of open sessions

A session is (start, time of the last event, events, state, events when last given, windows to
retract). Its identity is its start. A session that began later and was given before it became part
of an earlier one is retracted, before the whole is given.

When to look at which key is known in memory alone, at about a hundred bytes per key; after a start
the rows tell. A session grows without that being changed: who looks too early looks again later.
Kept in the store, it would be written as often as the sessions themselves.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, TypeAlias

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Session
from streamkit.engine.cursor import Place
from streamkit.engine.hot.folds import Continuing
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.window_changes import changes
from streamkit.engine.operators.window_events import refolder
from streamkit.engine.operators.window_results import Keys, Results
from streamkit.engine.operators.window_rows import moments, ordered
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
        self._read_key, self._write_key = key.decode, key.write
        self._merge = node.fold.merge
        self._plain = site.calls.plain(node.function)
        self._call = site.calls.folding(node.function, key)
        self._refold = refolder(node, site)
        self._events = None if self._merge is not None else site.store(node.events)
        self._due: dict[int, dict[bytes, None]] | None = None
        """When to look at which keys; None: not known since the start."""
        self._times: list[int] = []
        """Its times, as a heap."""

    def step(self) -> Forward:
        """The step that puts an event into its session."""
        grace, gap, time, cursor = self._grace, self._gap, self.time, self._cursor
        store, fresh, changed = self._store, self._store.fresh, self._changes
        encode, late, is_late = self._keys.encode, self._late.give, self.time.is_late
        write_key = self._write_key
        updates = self._node.emit == "update"
        merges = self._merge is not None

        def take(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if self._due is None:
                self._begin()
            try:
                data = write_key(key)
            except Exception:
                data = None
            if data is None or stamp < 0:
                data = encode(key, stamp)
            # By its own time, not by the end of a session that is open by chance: which those are
            # depends on how far the events of other partitions have been read.
            if is_late(stamp + 1 + grace):
                passed = time.passed(cursor.frontier)
                late(stamp, stamp + gap, passed, key, value, stamp, headers)
                return
            sessions = fresh.get(data)
            if sessions is None:
                sessions = self._fetch(data, stamp)
            store.touched = cursor.offset
            at, joined = _touching(sessions, stamp, gap)
            if merges:
                one = self._folded(data, joined, key, value, stamp, headers)
            else:
                one = self._kept(data, joined, key, value, stamp, headers)
            if updates:
                one = self._given(data, one)
            sessions[at : at + len(joined)] = [one]
            if not at and not joined:
                self._look_at(data, sessions)
            if changed is not None:
                changed.add(data)

        if self._plain is not None and self._merge is not None and self._node.emit == "final":
            function = self._node.function
            return Continuing(function, cursor, time, store, write_key, take, gap, grace).give
        return take

    def _fetch(self, data: bytes, stamp: int) -> list[Any]:
        """The sessions of a key, to be changed in place until the next commit."""
        found = self._store.get(data)
        sessions: list[Any] = [] if found is None else found
        self._store.put(data, sessions, stamp)
        self._store.fresh[data] = sessions
        return sessions

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

    def _look_at(self, data: bytes, sessions: list[Any]) -> None:
        """Have a key looked at when the first of its sessions may close."""
        assert self._due is not None
        due = sessions[0][1] + self._reach
        keys = self._due.get(due)
        if keys is None:
            self._due[due] = {data: None}
            heappush(self._times, due)
            self.time.wake(due)
        else:
            keys[data] = None

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
        self._begin()
        watermark = self.time.closing()
        done = self._give_changes(watermark) and self._close(watermark)
        self.time.done(watermark if done else self.time.reached)

    @property
    def due(self) -> int | None:
        self._begin()
        closing = self._times[0] if self._times else None
        told = None if self._changes is None else self._changes.due
        if closing is None or told is None:
            return told if closing is None else closing
        return min(closing, told)

    @property
    def last(self) -> int | None:
        ends = (sessions[-1][1] + self._reach for _, sessions in self._store.look_through())
        return max(ends, default=None)

    @property
    def open(self) -> StillOpen | None:
        last = self.last
        count = sum(len(sessions) for _, sessions in self._store.look_through())
        return None if last is None else StillOpen(count, "sessions", last)

    def _begin(self) -> None:
        """After a start: when to look at which key, and which sessions changed since given."""
        if self._due is not None:
            return
        self._due = {}
        changed = []
        for data, sessions in self._store.look_through():
            self._look_at(data, sessions)
            if any(map(_is_changed, sessions)):
                changed.append(data)
        if self._changes is not None:
            self._changes.recall(changed)

    def marks(self, at: Place) -> tuple[int, ...]:
        """When changes are due."""
        return () if self._changes is None else self._changes.marks

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was."""
        if self._changes is not None:
            self._changes.keep(marks)

    def _close(self, watermark: int) -> bool:
        """False when others wait for their turn before all is done."""
        closed: list[tuple[int, bytes, Open]] = []
        self._store.touched = self._cursor.offset
        while self._times and self._times[0] <= watermark:
            assert self._due is not None
            for data in self._due.pop(heappop(self._times)):
                self._close_key(data, watermark, closed)
        closed.sort(key=lambda each: each[:2])
        updates = self._node.emit == "update"
        for number, (last, data, one) in enumerate(closed, start=1):
            if not updates and _is_changed(one):
                self._given(data, one)
            if self._events is not None:
                for row, _ in self._rows(one, data):
                    self._events.delete(row, last)
            if self._cursor.rung:
                self._put_back(closed[number:])
                return False
        return True

    def _put_back(self, closed: list[tuple[int, bytes, Open]]) -> None:
        """They are still to be given."""
        by_key: dict[bytes, list[Open]] = {}
        for _, data, one in closed:
            by_key.setdefault(data, []).append(one)
        for data, some in by_key.items():
            sessions = self._fetch(data, some[0][1])
            sessions[:0] = some
            self._look_at(data, sessions)
            if self._changes is not None:
                self._changes.put_back([data])

    def _close_key(
        self, data: bytes, watermark: int, closed: list[tuple[int, bytes, Open]]
    ) -> None:
        store, until = self._store, watermark - self._reach
        sessions = store.fresh.get(data)
        if sessions is None:
            sessions = store.get(data)
        if not sessions:
            return
        if sessions[0][1] > until:  # it has grown since
            self._look_at(data, sessions)
            return
        number = 0
        while number < len(sessions) and sessions[number][1] <= until:
            closed.append((sessions[number][1], data, sessions[number]))
            number += 1
        if number == len(sessions):
            store.delete(data, sessions[0][1])
            store.fresh.pop(data, None)
            if self._changes is not None:
                self._changes.discard(data)
            return
        sessions = self._fetch(data, sessions[0][1])
        del sessions[:number]
        self._look_at(data, sessions)

    def _give_changes(self, watermark: int) -> bool:
        """The same of what has changed."""
        if self._changes is None:
            return True
        changed = []
        for data in self._changes.take(watermark):
            sessions = self._store.get(data)
            changed += [(one[1], data, at) for at, one in enumerate(sessions) if _is_changed(one)]
        changed.sort()
        for number, (last, data, at) in enumerate(changed, start=1):
            sessions = self._fetch(data, last)
            sessions[at] = self._given(data, sessions[at])
            if self._cursor.rung:
                self._changes.put_back(data for _, data, _ in changed[number:])
                return False
        return True


def _is_changed(one: Open) -> bool:
    """Whether it has got more events since it was given."""
    return bool(one[4] != one[2] or one[5])


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

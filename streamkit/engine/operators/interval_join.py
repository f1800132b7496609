"""Each event and those of another stream that are near it in time.

A pair is given when the second of the two comes, at the later time of both. An event that met
nothing is given when nothing that it could meet is in time any more.
"""

from typing import Any

from streamkit.dsl.nodes.in_order import asks_for_places
from streamkit.dsl.nodes.stream_joins import StreamJoin, Within
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.join_side import Side
from streamkit.engine.operators.results import giver
from streamkit.engine.operators.window_rows import moments, ordered, time_of
from streamkit.engine.roots import among_equals, made
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


class IntervalJoin:
    """Keeps the events of both sides. Where they may be given alone, with whether they met one."""

    def __init__(self, node: StreamJoin, kind: Within, site: Site) -> None:
        self.time = time = site.time(node)
        self._kind = kind
        self._read_key = node.keys.decode
        self._function = node.function
        self._cursor = site.cursor
        self._call = site.calls.joined(node.function, node.keys)
        self._give = giver(node.function, site.after(node, node.keys), site.cursor)
        self._left = Side(f"{node.name}-left", node.late, site, time, kind.grace, kind.after)
        self._right = Side(
            f"{node.name}-right", node.right.late, site, time, kind.grace, kind.before
        )
        self._sides = (self._left, self._right)
        self._placed = any(map(asks_for_places, site.nodes))
        self._name, self._drawn = node.name, node in site.drawn
        self._writes = (node.parent.gives.encode, node.right.parent.gives.encode)
        for side, alone in zip(self._sides, kind.alone, strict=True):
            if not alone:
                side.coarse()

    def left(self, key: Serde) -> Forward:
        """The step of the events of the left stream."""
        return self._step(0, key)

    def right(self, key: Serde) -> Forward:
        """The step of the events of the right stream."""
        return self._step(1, key)

    def _step(self, number: int, key: Serde) -> Forward:
        mine, other = self._sides[number], self._sides[1 - number]
        enter, keep, pair = mine.entrance(key), mine.keeper(), self._pair
        scan, put = other.store.scan, other.store.put
        marked, other_marked = self._kind.alone[number], self._kind.alone[1 - number]
        # The right events that a left one meets are up to `before` earlier: those see it later.
        earlier, later = (other.keep, mine.keep + 1)
        is_left = number == 0
        cursor, placed, drawn = self._cursor, self._placed, self._drawn
        told = placed or drawn
        name, own_row = self._name, mine.store.get
        write, other_write = self._writes[number], self._writes[1 - number]

        def take(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            data = enter(key, value, stamp, headers)
            if data is None:
                return
            origin, root, own = cursor.origin, cursor.root, ordered(stamp)
            rows, met, which = moments(data), False, b""
            if told:
                here = own_row(rows + own) or ()
                equals = [each[1] for each in here] if marked else here
                which = among_equals([*equals, value], write)[-1]
            for row, events in scan(rows + ordered(stamp - earlier), rows + ordered(stamp + later)):
                at, met = time_of(row[-8:]), True
                if other_marked:
                    if not all(each[0] for each in events):
                        put(row, [(True, each[1]) for each in events], at)
                    events = [each[1] for each in events]
                when = max(at, stamp)
                others = among_equals(events, other_write) if told else ()
                for index, event in enumerate(events):
                    if told:
                        # Whichever of the two came first: pairs of one time are in order by theirs,
                        # and then by what they are.
                        one, two = (own, which), (row[-8:], others[index])
                        first, second = (one, two) if is_left else (two, one)
                        if placed:
                            cursor.origin = first[0] + second[0] + first[1] + second[1]
                        if drawn:
                            cursor.root = made(name, data, first, second)
                    if is_left:
                        pair(key, value, event, when)
                    else:
                        pair(key, event, value, when)
            cursor.origin, cursor.root = origin, root
            keep(data, stamp, (met, value) if marked else value)

        return take

    def _pair(self, key: Any, left: Any, right: Any, stamp: int) -> None:
        try:
            result = self._call(key, left, right, stamp, ())
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        self._give(key, result, stamp, ())

    # Time.

    def advance(self) -> None:
        """Give what met nothing and cannot any more, and forget what nothing can meet."""
        watermark = self.time.closing()
        until = watermark - self._kind.grace - 1
        over = [
            (at, number, data, stamp)
            for number, side in enumerate(self._sides)
            for at, data, stamp in side.over(until)
        ]
        over.sort()
        for done, (_, number, data, stamp) in enumerate(over, start=1):
            if self._kind.alone[number]:
                self._give_alone(number, data, stamp)
            self._sides[number].forget(data, stamp)
            if self._cursor.rung:
                for at, number, data, stamp in over[done:]:
                    self._sides[number].put_back(at, data, stamp)
                self.time.done(self.time.reached)
                return
        self.time.done(watermark)

    def _give_alone(self, number: int, data: bytes, stamp: int) -> None:
        root = self._cursor.root
        for _, events in self._sides[number].events(data, stamp, stamp + 1):
            told = self._drawn or self._placed
            alike = [event for _, event in events] if told else []
            which = among_equals(alike, self._writes[number])
            for index, (met, event) in enumerate(events):
                if not met:
                    if self._placed:
                        self._cursor.origin = ordered(stamp) * 2 + which[index]
                    if self._drawn:
                        self._cursor.root = made(self._name, data, number, stamp, which[index])
                    left, right = (event, None) if number == 0 else (None, event)
                    self._pair(self._read_key(data), left, right, stamp)
        self._cursor.origin, self._cursor.root = b"", root

    @property
    def due(self) -> int | None:
        known = [at for side in self._sides if (at := side.first) is not None]
        return min(known) + 1 + self._kind.grace if known else None

    @property
    def last(self) -> int | None:
        known = [at for side in self._sides if (at := side.last) is not None]
        return max(known) + 1 + self._kind.grace if known else None

    @property
    def open(self) -> StillOpen | None:
        sides = [one for one, alone in zip(self._sides, self._kind.alone, strict=True) if alone]
        known = [at for side in sides if (at := side.last) is not None]
        rows = (events for side in sides for _, events in side.rows())
        count = sum(not met for events in rows for met, _ in events)
        if not count:
            return None  # all were given, and may go on meeting others
        return StillOpen(count, "unmatched events", max(known) + 1 + self._kind.grace)

"""Events in order of time, for steps that go by time between them and are given them in another.

    ordered(came) origin ordered(number)  → the event

An event has come at its own time, or, when its partition was further, at that one's. It is kept
until the watermark has passed that: then no event that is not late comes before it any more, and
it is its turn. Of those that came at one time the order is that of their origins, and where these
are the same, or there are none, that in which they are given here.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from typing import Any

from streamkit.dsl.nodes.in_order import (
    InOrder,
    bears_its_place,
    goes_by_order,
    goes_by_time,
    place_of,
)
from streamkit.dsl.nodes.merges import MergedSide
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.steps import Process
from streamkit.dsl.nodes.stream_joins import RightSide
from streamkit.dsl.nodes.waiting import Waiting, WaitingRow
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Sliding
from streamkit.engine.hot.moment import FOREVER, NEVER, NodeTime
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen, Timed
from streamkit.engine.operators.timers import timers_of
from streamkit.engine.operators.window_rows import ordered, time_of
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde

_END = b"\xff" * 9
"""Behind all rows."""


def build(node: InOrder, key: Serde, site: Site) -> Forward:
    forward = site.after(node, key)
    order = EventsInOrder(node, key, site, forward, _acting(node, site))
    site.on_time(node, order)
    site.ordered.append((order, node))
    return order.take


def _acting(node: InOrder, site: Site) -> Callable[[int, int], bool]:
    """What the step does when time comes to a moment, before it is given an event that came then;
    False when others wait for their turn before all is done. It is told how far time is, too."""
    if node.asked:
        return _AllBehind(node, site).advance
    if isinstance(node.step, Process):
        timers = timers_of(node.step, site)
        assert timers is not None, "or its events would not be kept"
        return lambda came, reached: timers.reach(came)
    if goes_by_order(node.step) is not None:
        return lambda came, reached: True  # what it gives is due once all have been given
    (windows,) = (timed for timed, one in site.timed if one is node.step)

    time = site.time(node)

    def advance(came: int, reached: int) -> bool:
        due = windows.due
        if due is not None and due <= came:
            if came <= time.closed:
                _close(windows)
            windows.advance()
        return not site.cursor.rung

    return advance


class _AllBehind:
    """All that acts as time passes behind the nodes that give events in one order: to it time comes
    with them. Not behind what has an order of its own: what waits, and other streams."""

    def __init__(self, node: InOrder, site: Site) -> None:
        self._time = site.time(node)
        self._clock, self._cursor = site.clock, site.cursor
        self._site = site
        self._timed: list[tuple[Timed, Node, NodeTime]] | None = None

    def advance(self, came: int, reached: int) -> bool:
        """Have them do what is due by now."""
        clock = self._clock
        if clock.watermark < clock.due:
            return True
        if self._timed is None:  # once all are made
            self._timed = self._all()
        is_silence = came <= self._time.closed
        for timed, node, time in self._timed:
            if time is not self._time:
                if came >= reached - time.delay:
                    continue  # before this one it may still be given others
            elif is_silence and goes_by_time(node) is None:
                continue  # what is complete only time tells, and not the clock on the wall
            due = timed.due
            if due is not None and due <= timed.time.watermark:
                if is_silence and time is self._time and isinstance(node, WindowFold):
                    _close(timed)
                timed.advance()
                if self._cursor.rung:
                    return False
        clock.due = FOREVER  # of others it is seen anew when all has been given
        for timed, _, _ in self._timed:
            if (due := timed.due) is not None:
                timed.time.wake(due)
        return True

    def _all(self) -> list[tuple[Timed, Node, NodeTime]]:
        """In the order of the nodes, each with the time of the one whose events it is given."""
        site = self._site
        behind: dict[Node, NodeTime] = {}
        for order, node in site.ordered:
            after = list(site.following(node)) if node.asked else []
            while after:
                one = after.pop()
                met = isinstance(one, RightSide | MergedSide) or one.also_after()
                if not isinstance(one, Waiting | InOrder) and not met:
                    behind[one] = order.time
                    after += site.following(one)
        return [(timed, one, behind[one]) for timed, one in site.timed if one in behind]


def _close(timed: Timed) -> None:
    """Have what the clock on the wall closes stay closed, when it has time go on by itself."""
    timed.time.closed = max(timed.time.closed, timed.time.watermark)


class EventsInOrder:
    """See the module."""

    def __init__(
        self,
        node: InOrder,
        key: Serde,
        site: Site,
        give: Forward,
        before: Callable[[int, int], bool],
    ) -> None:
        """`before` is told the time at which an event came, before it is given on, and how far time
        is; it says whether it may be."""
        self.time = site.time(node)
        self._node = node
        self._key, self._value = key, node.gives
        self._site = site
        self._cursor = site.cursor
        self._store = site.store(node.name)
        self._give = give
        self._before = before
        self._placed = bears_its_place(place_of(node, site.nodes))
        self._keyed = node.step.is_keyed
        if node.asked:  # and nothing behind it could take an event without a key, or let it go
            after = site.following(node)
            self._keyed = all(one.is_keyed and one.on_error is None for one in after)
        self._missed_at: Callable[[int], int] | None = None
        """Of windows that go by the order of what is in them; of sliding ones all is in some."""
        fold = goes_by_order(node.step)
        if fold is not None and not isinstance(fold.window, Sliding):
            self._missed_at = fold.window.missed_at
        self._next: int | None = None

    def take(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        """Keep an event until it is its turn. Raises SerdeError, DataError without a time."""
        cursor, time = self._cursor, self.time
        frontier = cursor.frontier
        came = stamp
        if frontier is not None and frontier - time.delay > stamp:
            came = frontier - time.delay
        if came < 0:
            raise cursor.timeless(self._node.step.name)
        missed_at = self._missed_at
        if missed_at is not None and came > stamp and self.time.is_late(missed_at(stamp)):
            self._give(key, value, stamp, headers)  # there is nothing that it could come before
            return
        if frontier != NEVER and (came < time.watermark or came <= time.closed):
            # The wall clock had time go on without it: its turn is past.
            self._give(key, value, stamp, headers)
            return
        try:
            data, encoded = self._key.encode(key), self._value.encode(value)
        except SerdeError as error:
            what = f"event for {self._node.step.name}"
            raise cursor.unwritable(what, error) from error
        if data is None and self._keyed:
            raise cursor.keyless(self._node.step.name)  # here, where it can be skipped
        part = -1 if cursor.part is None else cursor.part
        row = WaitingRow(
            data, encoded, stamp, headers,
            cursor.topic, cursor.partition, cursor.offset, part, None, came, root=cursor.root,
            again=cursor.again,
        )  # fmt: skip
        origin = cursor.origin if self._placed else b""
        self._store.put(ordered(came) + origin + ordered(self._number()), row, came)
        time.wake(came + 1)

    def _number(self) -> int:
        if self._next is None:
            rows = self._store.look_through()
            self._next = max((time_of(row[-8:]) for row, _ in rows), default=-1) + 1
        self._next += 1
        return self._next - 1

    # Time.

    def advance(self) -> None:
        """Give those whose turn has come."""
        watermark = self.time.closing()
        done = self._give_all()
        self.time.done(watermark if done else self.time.reached)

    def _give_all(self) -> bool:
        """False when others wait for their turn before all are given."""
        cursor, clock = self._cursor, self._site.clock
        place, again, reached = cursor.place, cursor.again, clock.watermark
        together = self._together
        given, last = False, None
        try:
            # Read one ahead of each, which nothing changes: what they keep only comes from topics.
            for came, _, row, event, order in merge(*map(EventsInOrder._ready, together)):
                at = (event.topic, event.partition, event.offset)
                if cursor.rung and given and at != last:
                    return False
                last = at
                given, delay = True, order.time.delay
                # For what follows, time is as far as the event: late is what is late by that. What
                # is due before it is made there as well: before it others may have their turn.
                clock.watermark = came + delay
                cursor.go_to((*at, None if event.ordinal < 0 else event.ordinal))
                cursor.frontier, cursor.again = NEVER, False
                if not order._before(came, reached):
                    self._site.before = self._site.before or cursor.place
                    return False
                order._store.delete(row, came)
                cursor.origin, cursor.root, cursor.frontier = row[8:-8], event.root, None
                cursor.again = event.again
                if event.stamp < came:
                    cursor.frontier = came + delay
                order._give(*order._read(event), event.stamp, event.headers)
        finally:
            if given:
                clock.watermark = reached
                cursor.go_to(place)
                cursor.origin, cursor.frontier, cursor.again = b"", NEVER, again
                # What was given cannot be taken back with what the record at hand has made.
                for order in together:
                    order._store.touched = place[2]
                self._site.begin()
        return True

    @property
    def _together(self) -> "list[EventsInOrder]":
        """Those of the task that give what they keep in one order: all that were asked to, as what
        is made of one stream, a table say, may be for another."""
        if not self._node.asked:
            return [self]
        return [order for order, node in self._site.ordered if node.asked]

    def _ready(self) -> "Iterator[tuple[int, int, bytes, WaitingRow, EventsInOrder]]":
        """When those came whose turn is now, its place among the streams, and what is kept."""
        end = max(self.time.watermark, self.time.closed + 1)
        number = next(n for n, (order, _) in enumerate(self._site.ordered) if order is self)
        rows = self._store.scan(b"", ordered(end))
        return ((time_of(row[:8]), number, row, event, self) for row, event in rows)

    def _read(self, event: WaitingRow) -> tuple[Any, Any]:
        try:
            return self._key.decode(event.key), self._value.decode(event.value)
        except SerdeError as error:
            what = f"event kept for {self._node.step.name}, of another type than it has now"
            raise self._cursor.outdated(what, error) from error

    @property
    def waits(self) -> bool:
        """Whether it keeps any."""
        return self._store.first(b"", _END) is not None

    @property
    def due(self) -> int | None:
        first = self._store.first(b"", _END)
        return None if first is None else time_of(first[0][:8]) + 1

    @property
    def last(self) -> int | None:
        last = self._store.last(b"", _END)
        return None if last is None else time_of(last[0][:8])

    @property
    def open(self) -> StillOpen | None:
        last = self.last
        count = sum(1 for _ in self._store.look_through())
        return None if last is None else StillOpen(count, "events", last)

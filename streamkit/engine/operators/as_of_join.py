"""Each event and the one event of another stream that is nearest to it in time, in one direction.

Which it is, is decided when no nearer one can come in time: for one before it, when the watermark
has passed the event; for one after it, when it has passed that one, or the tolerance; for the
nearest, when it has passed the tolerance.
"""

from typing import Any

from streamkit.dsl.nodes.in_order import bears_its_place, place_of
from streamkit.dsl.nodes.stream_joins import AsOf, StreamJoin
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.join_side import Side
from streamkit.engine.operators.results import giver
from streamkit.engine.roots import among_equals, made
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


class AsOfJoin:
    """Keeps events of the left side until they are decided, those of the right while they may be
    chosen: of several at one time the last. Each with its place among those of its time."""

    def __init__(self, node: StreamJoin, kind: AsOf, site: Site) -> None:
        self.time = time = site.time(node)
        self._kind = kind
        self._read_key = node.keys.decode
        self._function = node.function
        self._cursor = site.cursor
        self._call = site.calls.joined(node.function, node.keys)
        self._give = giver(node.function, site.after(node, node.keys), site.cursor)
        self._name, self._drawn = node.name, node in site.drawn
        self._write = node.parent.gives.encode
        self._placed = [bears_its_place(place_of(side, site.nodes)) for side in (node, node.right)]
        # A right event is needed by left ones up to the tolerance later, until they are decided.
        keep = {"backward": 1, "forward": 0, "nearest": 2}[kind.direction] * kind.tolerance
        self._left = Side(f"{node.name}-left", node.late, site, time, kind.grace, kind.ahead)
        self._right = Side(f"{node.name}-right", node.right.late, site, time, kind.grace, keep)
        if kind.direction != "forward":
            self._right.coarse()

    def left(self, key: Serde) -> Forward:
        """The step of the events of the left stream."""
        return self._step(self._left, key, self._placed[0])

    def right(self, key: Serde) -> Forward:
        """The step of the events of the right stream."""
        return self._step(self._right, key, self._placed[1])

    def _step(self, side: Side, key: Serde, placed: bool) -> Forward:
        enter, keep, cursor = side.entrance(key), side.keeper(placed=placed), self._cursor

        def take(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            data = enter(key, value, stamp, headers)
            if data is not None:
                keep(data, stamp, (cursor.origin if placed else b"", value))

        return take

    # Time.

    def advance(self) -> None:
        """Decide what can be, in order of time, and forget what nothing can meet."""
        watermark = self.time.closing()
        last = watermark - self._kind.grace - 1
        while self._decide_until(until := self._left.soon(last)):
            if until == last:
                self.time.done(watermark)
                return
        self.time.done(self.time.reached)

    def _decide_until(self, until: int) -> bool:
        """False when others wait for their turn before all is done."""
        over = [(at, 1, data, stamp) for at, data, stamp in self._left.over(until)]
        gone = self._right.over(until)
        if self._kind.direction == "forward":
            over += [(at, 0, data, stamp) for at, data, stamp in gone]
        over.sort()
        for done, (_, number, data, stamp) in enumerate(over, start=1):
            if number:
                self._decide(data, stamp)
            else:
                self._meet_earlier(data, stamp)
            if self._cursor.rung:
                self._put_back(over[done:], gone)
                return False
        for _, data, stamp in gone:
            self._right.forget(data, stamp)
        return True

    def _put_back(
        self, over: list[tuple[int, int, bytes, int]], gone: list[tuple[int, bytes, int]]
    ) -> None:
        """Others wait for their turn: those are still to be decided, these to be forgotten."""
        for at, number, data, stamp in over:
            if number:
                self._left.put_back(at, data, stamp)
        # All of them: those left of them may need any. Whom an earlier one has met is gone.
        for each in gone:
            self._right.put_back(*each)

    def _meet_earlier(self, data: bytes, at: int) -> None:
        """A right event is the first one after all left ones before it that are still there."""
        kind = self._kind
        for _, rights in self._right.events(data, at, at + 1):
            for stamp, lefts in self._left.events(data, at - kind.tolerance, at + kind.exact):
                self._give_all(data, lefts, stamp, rights[-1], at)
                self._left.forget(data, stamp)

    def _decide(self, data: bytes, stamp: int) -> None:
        """What left events of one time meet, if they did not before."""
        for _, lefts in self._left.events(data, stamp, stamp + 1):
            chosen, right = stamp, None
            if self._kind.direction != "forward":
                chosen, right = self._nearest(data, stamp)
            self._give_all(data, lefts, stamp, right, max(stamp, chosen))
        self._left.forget(data, stamp)

    def _nearest(self, data: bytes, stamp: int) -> tuple[int, tuple[bytes, Any] | None]:
        """The right event to choose, and its time; None, and any time, if there is none."""
        kind = self._kind
        before = list(self._right.events(data, stamp - kind.tolerance, stamp + kind.exact))
        chosen = before[-1] if before else None
        if kind.direction == "nearest":
            after = next(self._right.events(data, stamp + 1, stamp + kind.tolerance + 1), None)
            if after is not None and (chosen is None or after[0] - stamp < stamp - chosen[0]):
                chosen = after
        else:
            # Whatever is not decided is later, and will not choose those before the latest.
            for at, _ in before[:-1]:
                self._right.forget(data, at)
        return (stamp, None) if chosen is None else (chosen[0], chosen[1][-1])

    def _give_all(
        self,
        data: bytes,
        lefts: list[tuple[bytes, Any]],
        came: int,
        chosen: tuple[bytes, Any] | None,
        stamp: int,
    ) -> None:
        """The results of left events that came at one time."""
        if chosen is None and self._kind.how == "inner":
            return
        right = None if chosen is None else chosen[1]  # which may be a null value
        key = self._read_key(data)
        cursor = self._cursor
        root = cursor.root
        which = among_equals([left for _, left in lefts], self._write) if self._drawn else ()
        for index, (_, left) in enumerate(lefts):
            if self._drawn:
                cursor.root = made(self._name, data, came, which[index])
            try:
                result = self._call(key, left, right, stamp, ())
            except Exception as error:
                cursor.fail(self._function, key, error)
            self._give(key, result, stamp, ())
        cursor.root = root

    @property
    def due(self) -> int | None:
        known = [at for side in (self._left, self._right) if (at := side.first) is not None]
        return min(known) + 1 + self._kind.grace if known else None

    @property
    def last(self) -> int | None:
        known = [at for side in (self._left, self._right) if (at := side.last) is not None]
        return max(known) + 1 + self._kind.grace if known else None

    @property
    def open(self) -> StillOpen | None:
        last = self._left.last
        if last is None:
            return None
        count = sum(len(events) for _, events in self._left.rows())
        return StillOpen(count, "undecided events", last + 1 + self._kind.grace)

"""Where a task is: at which record, and how far event time has come."""

from collections.abc import Iterable
from typing import Protocol

NEVER = -(1 << 62)
"""Before every event: nothing is known about time yet."""
FOREVER = 1 << 62


class Moment:
    """The record a task is at.

    `frontier` is how far event time had come in the record's own partition when the record is
    behind that (for a repartitioned event: where it came from). None, for all others and for
    results of closing windows: what it makes is late for nothing.

    `origin` tells the place of an event that was handed over among all of them, empty where the
    order in which they are read does: bytes that are in order as the events are, those of one time.

    `root` tells the event at hand from all others where the record does not, as that is another one
    in every run, or as none is at hand; empty where it does.

    `enough`: others wait for the thread, as another thread has found; who reads records stops after
    the one at hand, and says so with `cut`.
    """

    __slots__ = ("cut", "enough", "frontier", "offset", "origin", "root")

    def __init__(self) -> None:
        self.offset = -1
        self.frontier: int | None = None
        self.origin = b""
        self.root = b""
        self.enough = False
        self.cut = False


class Frontier(Protocol):
    """How far one input has come."""

    @property
    def watermark(self) -> int: ...

    @property
    def is_idle(self) -> bool: ...


class EventFrontier:
    """An input read from outside: from its latest event time."""

    __slots__ = ("is_idle", "latest", "out_of_order")

    def __init__(self, out_of_order: int) -> None:
        self.latest = NEVER
        self.out_of_order = out_of_order
        self.is_idle = False

    @property
    def watermark(self) -> int:
        return self.latest - self.out_of_order if self.latest > NEVER else NEVER


class Clock:
    """A task's watermark, and when it next matters.

    `due` is the watermark at which the next open window closes, FOREVER when none is open; who
    opens a window lowers it.
    """

    __slots__ = ("due", "watermark")

    def __init__(self) -> None:
        self.watermark = NEVER
        self.due = FOREVER

    def observe(self, frontiers: Iterable[Frontier]) -> bool:
        """Look at the inputs again; True when a window has to be closed."""
        least, most = FOREVER, NEVER
        for frontier in frontiers:
            reached = frontier.watermark
            most = max(most, reached)
            if not frontier.is_idle:
                least = min(least, reached)
        reached = most if least == FOREVER else least
        if reached > self.watermark:
            self.watermark = reached
        return self.watermark >= self.due


class NodeTime:
    """Event time as one node sees it: the task's, minus `delay`: how much later than the time they
    bear the node's events may come, because they are results of windows with so much grace.

    `closed` is how far the wall clock has closed what the node had open, when nothing came.
    `reached` is how far the operator has closed it itself: the watermark is further only while the
    operators before it are giving what they close now, which then is late for nothing here.
    """

    __slots__ = ("_clock", "_cursor", "closed", "delay", "reached")

    def __init__(self, clock: Clock, cursor: Moment, delay: int) -> None:
        self._clock = clock
        self._cursor = cursor
        self.delay = delay
        self.closed = NEVER
        self.reached = NEVER

    @property
    def watermark(self) -> int:
        """What ends by then is complete: an operator gives its final results."""
        return max(self._clock.watermark - self.delay, self.closed)

    def is_late(self, end: int) -> bool:
        """Whether the event at hand is too late for what is open until `end`, grace included."""
        frontier = self._cursor.frontier
        if frontier is None:  # of nearly all events: at the price of a comparison
            return end + self.delay <= self._clock.watermark or end <= self.closed
        return bool(end <= self.passed(frontier))

    def passed(self, frontier: int | None) -> int:
        """How far time has come for an event with this frontier: what is open until then is not."""
        if frontier is None:
            return self.watermark
        if frontier == NEVER:
            return max(self.reached, self.closed)
        return max(frontier - self.delay, self.watermark)

    def closing(self) -> int:
        """An operator begins to do what is due at the watermark, which this is."""
        self._cursor.frontier = NEVER
        return self.watermark

    def done(self, watermark: int) -> None:
        """It has done what was due there."""
        self._cursor.frontier = None
        self.reached = watermark

    def wake(self, at: int) -> None:
        """Have the operator act when the watermark reaches `at`, if nothing comes before."""
        at += self.delay
        if at < self._clock.due:
            self._clock.due = at

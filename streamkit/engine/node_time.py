"""Event time as one node of a task sees it: what is late, and what is complete.

Both are asked of different clocks. An event is late by how far time had come in its *own* input
partition, so that it does not depend on what other partitions were read before it. What is open
closes by the task's watermark, which is held back by the slowest partition, so that it is open for
every event that is not late. Only where the wall clock decided that nothing more is to be waited
for (an idle input, `close_after_idle`) may an event in time come too late.
"""

from typing import Protocol

from streamkit.engine.cursor import Cursor
from streamkit.engine.watermarks import NEVER, Clock


class NodeTime:
    """The task's time, minus `delay`: how much later than the time they bear the node's events may
    come, because they are results of windows with so much grace.

    `closed` is how far the wall clock has closed what the node had open, when nothing came.
    `reached` is how far the operator has closed it itself: the watermark is further only while the
    operators before it are giving what they close now, which then is late for nothing here.
    """

    __slots__ = ("_clock", "_cursor", "closed", "delay", "reached")

    def __init__(self, clock: Clock, cursor: Cursor, delay: int) -> None:
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
        return end <= self.passed(frontier)

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


class Timed(Protocol):
    """An operator that acts as time passes."""

    @property
    def time(self) -> NodeTime: ...

    @property
    def due(self) -> int | None:
        """The watermark of `time` at which it next has to act; None: there is nothing to do."""

    @property
    def last(self) -> int | None:
        """The watermark of `time` at which all that is open now will be closed, if anything is."""

    def advance(self) -> None:
        """Do what is due at the watermark of `time`."""

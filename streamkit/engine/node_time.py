"""Event time as one node of a task sees it."""

from typing import Protocol

from streamkit.engine.watermarks import NEVER, Clock


class NodeTime:
    """The task's time, minus `delay`: how much later than the time they bear the node's events may
    come, because they are results of windows with so much grace.

    `closed` is how far the wall clock has closed what the node had open, when nothing came.
    """

    __slots__ = ("_clock", "closed", "delay")

    def __init__(self, clock: Clock, delay: int) -> None:
        self._clock = clock
        self.delay = delay
        self.closed = NEVER

    @property
    def watermark(self) -> int:
        """What ends by then is complete: an operator gives its final results."""
        return max(self._clock.watermark - self.delay, self.closed)

    def is_late(self, end: int) -> bool:
        """Whether the event at hand is too late for what is open until `end`, grace included."""
        return end <= self.watermark

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

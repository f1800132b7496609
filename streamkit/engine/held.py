"""Event time behind steps that events wait at: no further than it was for the first of them.

Windows behind such a step do not close before the events have left that were processed before they
were to close. What follows the step finds the same time with each event as if it had not waited.
"""

from streamkit.engine.hot.moment import FOREVER, Clock, Moment, NodeTime
from streamkit.engine.waiting import Queue


class Held:
    """The task's time as it is behind some queues. `clock` has it since the last `refresh`."""

    __slots__ = ("_main", "_queues", "clock")

    def __init__(self, main: Clock, queues: tuple[Queue, ...]) -> None:
        self.clock = Clock()
        self._main = main
        self._queues = queues

    @property
    def is_held(self) -> bool:
        """Whether something waits before it."""
        return any(queue.events for queue in self._queues)

    def refresh(self) -> None:
        """Look at the queues again."""
        held = min([queue.held for queue in self._queues])
        self.clock.watermark = min(held, self._main.watermark)

    @property
    def is_due(self) -> bool:
        """Whether an operator has to act."""
        self.refresh()
        return bool(self.clock.watermark >= self.clock.due)

    def wake(self) -> None:
        """Have the task look when its own time has come to what is due here."""
        if self.clock.due < self._main.due and not self.is_held:
            self._main.due = self.clock.due

    def forget(self) -> None:
        """Nothing is due."""
        self.clock.due = FOREVER


class HeldTime(NodeTime):
    """Time as a node sees it that is behind queues."""

    __slots__ = ("_held",)

    def __init__(self, held: Held, moment: Moment, delay: int) -> None:
        super().__init__(held.clock, moment, delay)
        self._held = held

    @property
    def watermark(self) -> int:
        self._held.refresh()
        return max(self._held.clock.watermark - self.delay, self.closed)

    def is_late(self, end: int) -> bool:
        self._held.refresh()
        return super().is_late(end)

    def wake(self, at: int) -> None:
        super().wake(at)
        self._held.wake()

"""How far event time has come: per input, and for the task.

An input that is read from outside has come to the latest event time minus `out_of_order`. A
repartition input has come as far as the slowest of *all* its upstream tasks, by the markers they
write. A task has come as far as its slowest input that is not idle; when all are idle, as far as
the furthest, because nothing is on its way any more. It never goes back.
"""

from streamkit.engine.headers import Marker
from streamkit.engine.hot.moment import NEVER


class UpstreamFrontier:
    """A repartition input: from the markers of its upstream tasks."""

    __slots__ = ("counted", "tasks", "told")

    def __init__(self) -> None:
        self.told: dict[int, Marker] = {}
        self.tasks = 0
        self.counted: frozenset[int] = frozenset()
        """The tasks that have something to say though they said last that they were idle."""

    def take(self, marker: Marker) -> None:
        self.tasks = marker.tasks
        self.told[marker.task] = marker
        self.counted -= {marker.task}

    def _is_idle(self, marker: Marker) -> bool:
        return marker.idle and marker.task not in self.counted

    @property
    def watermark(self) -> int:
        if not self.tasks:
            return NEVER
        told = [self.told.get(task) for task in range(self.tasks)]
        known = [m for m in told if m is not None]
        active = [m for m in known if not self._is_idle(m)]
        if len(known) < self.tasks:
            return NEVER
        times = [NEVER if m.watermark is None else m.watermark for m in active or known]
        return min(times) if active else max(times)

    @property
    def is_idle(self) -> bool:
        """Whether every upstream task has said that it has nothing to say."""
        told = [self.told.get(task) for task in range(self.tasks)]
        return bool(told) and all(m is not None and self._is_idle(m) for m in told)

    @property
    def finished(self) -> int:
        """The number of the end that every upstream task says it has come to; 0: some have not."""
        told = {m.finished for m in self.told.values()}
        return told.pop() if len(told) == 1 and len(self.told) == self.tasks else 0


class RetryFrontier(UpstreamFrontier):
    """An input of events that are processed again: it neither moves time nor holds it back."""

    __slots__ = ()

    @property
    def is_idle(self) -> bool:
        return True

"""How far event time has come: per input, and for the task.

An input that is read from outside has come to the latest event time minus `out_of_order`. A
repartition input has come as far as the slowest of *all* its upstream tasks, by the markers they
write. A task has come as far as its slowest input that is not idle; when all are idle, as far as
the furthest, because nothing is on its way any more. It never goes back.
"""

from collections.abc import Iterable
from typing import Protocol

from streamkit.engine.headers import Marker

NEVER = -(1 << 62)
"""Before every event: nothing is known about time yet."""
FOREVER = 1 << 62


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


class UpstreamFrontier:
    """A repartition input: from the markers of its upstream tasks."""

    __slots__ = ("tasks", "told")

    def __init__(self) -> None:
        self.told: dict[int, Marker] = {}
        self.tasks = 0

    def take(self, marker: Marker) -> None:
        self.tasks = marker.tasks
        self.told[marker.task] = marker

    @property
    def watermark(self) -> int:
        if not self.tasks:
            return NEVER
        told = [self.told.get(task) for task in range(self.tasks)]
        known = [m for m in told if m is not None]
        active = [m for m in known if not m.idle]
        if len(known) < self.tasks:
            return NEVER
        times = [NEVER if m.watermark is None else m.watermark for m in active or known]
        return min(times) if active else max(times)

    @property
    def is_idle(self) -> bool:
        """Whether every upstream task has said that it has nothing to say."""
        told = [self.told.get(task) for task in range(self.tasks)]
        return bool(told) and all(m is not None and m.idle for m in told)


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
        frontiers = list(frontiers)
        active = [f.watermark for f in frontiers if not f.is_idle]
        reached = min(active) if active else max((f.watermark for f in frontiers), default=NEVER)
        if reached > self.watermark:
            self.watermark = reached
        return self.watermark >= self.due

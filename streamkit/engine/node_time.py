"""Event time as one node of a task sees it: what is late, and what is complete.

Both are asked of different clocks. An event is late by how far time had come in its *own* input
partition, so that it does not depend on what other partitions were read before it. What is open
closes by the task's watermark, which is held back by the slowest partition, so that it is open for
every event that is not late. Only where the wall clock decided that nothing more is to be waited
for (an idle input, `close_after_idle`) may an event in time come too late.
"""

from dataclasses import dataclass
from typing import Protocol

from streamkit.engine.hot.moment import NodeTime


@dataclass(frozen=True, slots=True)
class StillOpen:
    """What has not been given yet: `count` of them, and at which watermark all of it will be."""

    count: int
    what: str
    until: int


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

    @property
    def open(self) -> StillOpen | None:
        """What more events, or their end, will have it give; looks at all its rows."""

    def advance(self) -> None:
        """Do what is due at the watermark of `time`."""

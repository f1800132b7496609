"""Bring state and tables back, a slice at a time, beside tasks that are at work.

    start                    committed                 end
      |  what was committed     |  after a reset only    |
      |------ loaded -----------|------ taken back ------|

A changelog holds nothing that was not committed: changes, offsets and the end of the changelog
are one transaction. What stands behind the committed end is there because somebody reset the
group, and the work that made it will be done again. The keys it touched have to be written once
more with their committed value, or a later restore, by then with a committed end behind them,
would take them for true.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streamkit.backends.base import Backend
from streamkit.clock import Clock
from streamkit.engine.columns import before
from streamkit.records import Columns, TopicPartition

FETCH_BYTES = 1 << 20


@dataclass(slots=True)
class Load:
    """A piece of a partition, by its place in the log, that is handed to `take` in order.

    `position` moves from where it begins to `end`.
    """

    at: TopicPartition
    position: int
    end: int
    take: Callable[[Columns], None]
    reached: Callable[[], int] = lambda: 0
    """Before this offset nothing is needed any more: somebody else has read it."""

    @property
    def left(self) -> int:
        return max(0, self.end - max(self.position, self.reached()))


class Restoring:
    """What a task has to read before its first event."""

    def __init__(self, backend: Backend, loads: Iterable[Load]) -> None:
        self._backend = backend
        self._loads = deque(loads)
        self.total = sum(load.left for load in self._loads)

    @property
    def left(self) -> int:
        """How many offsets are still to be read."""
        return sum(load.left for load in self._loads)

    @property
    def what(self) -> str:
        """The partition that is being read."""
        return str(self._loads[0].at) if self._loads else "nothing"

    def some(self, clock: Clock, until: float) -> bool:
        """Read on until about a time (monotonic seconds); True when everything is there.

        Something is read in any case, so that it comes to an end beside tasks that take all time.
        Raises SerdeError for what cannot be read.
        """
        read = False
        while self._loads:
            load = self._loads[0]
            # Retention goes on meanwhile, and may take what was not read yet.
            start = self._backend.offsets(load.at).start
            load.position = max(load.position, start, load.reached())
            if load.position >= load.end:
                self._loads.popleft()
                continue
            if read and clock.monotonic() >= until:
                return False
            read = True
            batches = self._backend.fetch({load.at: load.position}, max_bytes=FETCH_BYTES)
            if not batches:
                # It is committed, and whoever did that is about to write its marker here.
                return False
            for batch in batches:
                load.take(before(batch.columns(), load.end))
                load.position = batch.next_offset
        return True

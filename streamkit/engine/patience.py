"""For how long a task waits for what does not come. Then time goes on without it."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from streamkit.dsl.nodes.node import Node
from streamkit.engine.hot.moment import FOREVER, NEVER, EventFrontier
from streamkit.engine.task_time import TaskTime
from streamkit.records import TopicPartition

Quiet: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Which inputs are idle, and which nodes close what they have open."""

IDLE_AFTER = 5_000
"""After so many ms at its end an input no longer holds time back."""


class Patience:
    """With each input, and with all of them, for nodes that have a `close_after_idle`."""

    def __init__(self, time: TaskTime, idle_after: int, *, alone: bool) -> None:
        """`idle_after` in ms. `alone`: nobody else is told whether it is idle, and no event waits
        for its turn until it is."""
        self._time = time
        self._idle_after = idle_after
        self._matters = not alone or len(time.frontiers) > 1
        """Whether it changes anything that an input is idle: a single one holds nobody back."""

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many ms of silence something is to be decided, ascending."""
        closing = (_patience(node) for _, node in self._time.timed)
        return tuple(sorted({self._idle_after, *(ms for ms in closing if ms is not None)}))

    def ends(self, silence: Mapping[TopicPartition, int]) -> Quiet | None:
        """Which inputs are idle, and which nodes close what they have open, once inputs have stood
        at their end for so long (ms); None: nothing new is to be done."""
        quiet, idle = FOREVER, []
        for partition, frontier in self._time.frontiers.items():
            still = silence.get(partition, 0)
            if not isinstance(frontier, EventFrontier):
                still = still if frontier.is_idle else 0
            elif self._matters and (frontier.is_idle or still >= self._idle_after):
                idle.append(str(partition))
            quiet = min(quiet, still)
        closed = []
        for _, node in self._time.timed:
            patience = _patience(node)
            if patience is not None and quiet >= patience:
                closed.append(node.name)
        if not self._time.can_close(closed):
            closed = []
        if closed or idle != self._time.idle:
            return tuple(idle), tuple(closed)
        return None

    def begins(self, has_more: Callable[[TopicPartition], bool]) -> Quiet | None:
        """Which inputs stay idle: those that have nothing more yet; None: all of them do."""
        idle, more = [], False
        for partition, frontier in self._time.frontiers.items():
            if isinstance(frontier, EventFrontier) and frontier.is_idle:
                if has_more(partition):
                    more = True
                else:
                    idle.append(str(partition))
        return (tuple(idle), ()) if more else None

    def leaves_out(self) -> Quiet | None:
        """Which inputs are idle at the end of all there is: those that were, and those that never
        had an event; None: nothing new is to be done."""
        idle = [
            str(partition)
            for partition, frontier in self._time.frontiers.items()
            if isinstance(frontier, EventFrontier)
            and (frontier.is_idle or frontier.latest == NEVER)
        ]
        return (tuple(idle), ()) if self._matters and idle != self._time.idle else None


def _patience(node: Node) -> int | None:
    """After how many ms of silence of all inputs what the node has open closes; None: never."""
    patience: int | None = getattr(node, "close_after_idle", None)
    return patience

"""Which tasks upstream count though they said that they were idle.

An upstream task that is idle holds no time back. That is so until it has processed its next record;
but records that lie unread before it, as its process was stopped or is busy with others, are no
silence. Who asks the log says so here, before what others have handed over since is processed:
else time went on with that, and what the task hands over in the end were late.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress

import msgspec

from streamkit.engine.headers import WATERMARK, Marker
from streamkit.engine.hot.moment import Frontier
from streamkit.engine.journal import Counted
from streamkit.engine.watermarks import RetryFrontier, UpstreamFrontier
from streamkit.records import Columns, TopicPartition


class Counting:
    """Of one task, by the inputs that others hand over in."""

    def __init__(self, frontiers: Mapping[TopicPartition, Frontier]) -> None:
        self._frontiers = {
            partition: frontier
            for partition, frontier in frontiers.items()
            if isinstance(frontier, UpstreamFrontier) and not isinstance(frontier, RetryFrontier)
        }
        self._wanted: dict[TopicPartition, frozenset[int]] = {}

    def idle(self, partition: TopicPartition) -> list[int]:
        """The tasks that said last that they are idle, and are taken for it."""
        frontier = self._frontiers.get(partition)
        if frontier is None:
            return []
        return [n for n, m in frontier.told.items() if m.idle and n not in frontier.counted]

    def counted(self, partition: TopicPartition) -> frozenset[int]:
        """Those that said so, and count."""
        frontier = self._frontiers.get(partition)
        return frozenset() if frontier is None else frontier.counted

    def count(self, partition: TopicPartition, tasks: Collection[int]) -> None:
        """Have these count, and no others, before the next record is processed."""
        self._wanted[partition] = frozenset(tasks)

    def due(self) -> dict[str, tuple[int, ...]] | None:
        """All that are to count, by input, when these are others than now."""
        wanted, self._wanted = self._wanted, {}
        if all(tasks == self._frontiers[at].counted for at, tasks in wanted.items()):
            return None
        now = {at: wanted.get(at, one.counted) for at, one in self._frontiers.items()}
        return {str(at): tuple(sorted(tasks)) for at, tasks in now.items() if tasks}

    def take(self, step: Counted) -> None:
        """As was decided."""
        for partition, frontier in self._frontiers.items():
            frontier.counted = frozenset(step.tasks.get(str(partition), ()))


def overtaken(columns: Columns, idle: Collection[int], unread: Collection[int]) -> set[int]:
    """The tasks, of those taken for idle, that others go ahead of in what was handed over: where
    these say how far they are before it does, or while it has more to read (`unread`)."""
    order: dict[int, None] = {}
    for headers in columns.headers or ():
        name, data = headers[-1] if headers else ("", None)
        if name == WATERMARK and data is not None:
            with suppress(msgspec.DecodeError):  # who processes it says so
                order[Marker.read(data).task] = None
    first = next(iter(order), None)
    if first is None:
        return set()
    return {task for task in idle if task != first and (task in order or task in unread)}

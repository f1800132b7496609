"""Waiting for records, in the log of a directory."""

import threading
from collections.abc import Callable, Iterable, Sequence

from streamkit.backends.settling import Settling
from streamkit.clock import Clock
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

_SETTLE_SECONDS = 1.0
"""Who waits for records looks this often whether a dead producer's transaction is in the way."""


class Waiting:
    """Sleeps until there is something to read. Used from several threads."""

    def __init__(self, log: Log, settling: Settling, clock: Clock) -> None:
        self._log = log
        self._settling = settling
        self._clock = clock
        self._wakes = 0
        self._seen = threading.local()
        self._settled_at = -_SETTLE_SECONDS
        self._stuck: dict[TopicPartition, tuple[int, int]] = {}
        """Last stable offsets that readers wait at, and since when (ms)."""

    def wait(
        self,
        partitions: Sequence[tuple[Partition, int]],
        timeout: float,
        *,
        committed: bool,
        changed: Callable[[], bool],
    ) -> bool:
        """Until one of them can be read at its offset, `changed`, a topic changed, or `wake`.

        The last two since the thread waited before: between two waits it looks at what there is,
        and something may come right behind that. False when `timeout` seconds are over.
        `committed`: records that are.
        """
        seen = getattr(self._seen, "wakes", 0)
        now = self._log.topics()
        topics = getattr(self._seen, "topics", now)
        found = False

        def ready() -> bool:
            nonlocal found, now
            now = self._log.topics()
            found = (
                self._wakes != seen
                or any(_is_over(partition, at, committed) for partition, at in partitions)
                or changed()
                or now != topics
            )
            return found

        deadline = self._clock.monotonic() + timeout
        while True:
            if committed:
                self._settle_for(partitions)
            left = min(deadline - self._clock.monotonic(), _SETTLE_SECONDS)
            self._log.wait(ready, max(0.0, left))
            if found or ready():
                self._seen.wakes, self._seen.topics = self._wakes, now
                return True
            # Another backend on the same log was woken, and the wait went on for too short a time.
            if self._clock.monotonic() >= deadline:
                self._seen.topics = now
                return False

    def wake(self) -> None:
        """End a `wait` of another thread now."""
        self._wakes += 1
        self._log.wake()

    def _settle_for(self, partitions: Iterable[tuple[Partition, int]]) -> None:
        """Who waits for the end of a transaction sees to it that it ends, whoever is dead."""
        if self._log.read_only:
            return
        open_in = [one for one, _ in partitions if one.stable_offset != one.end_offset]
        now = self._clock.monotonic()
        if not open_in or now - self._settled_at < _SETTLE_SECONDS / 2:
            return
        self._settled_at = now
        stuck: dict[Partition, int] = {}
        for partition in open_in:
            stable = partition.stable_offset
            seen, since = self._stuck.get(partition.tp, (-1, 0))
            if seen == stable:
                stuck[partition] = since
            else:
                self._stuck[partition.tp] = stable, self._clock.now()
        self._settling.settle(stuck)


def end_of(partition: Partition, committed: bool) -> int:
    """Where a partition ends for its readers: of committed records, or of all."""
    return partition.stable_offset if committed else partition.end_offset


def _is_over(partition: Partition, at: int, committed: bool) -> bool:
    """Whether `fetch` has something to say about an offset: records, or that it does not exist."""
    end = end_of(partition, committed)
    return end > at or (end < at and at > partition.end_offset)

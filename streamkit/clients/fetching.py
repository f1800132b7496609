"""Fetching: what a consumer does when it is asked for the next record."""

from collections.abc import Mapping

from streamkit.backends.base import Backend
from streamkit.backends.values import Isolation
from streamkit.clients.chunk import Chunk
from streamkit.clients.following import Following
from streamkit.clients.group_offsets import GroupOffsets
from streamkit.clients.reading import Reading
from streamkit.clock import Clock
from streamkit.errors import OffsetOutOfRange, UnknownPartition
from streamkit.records import TopicPartition

_LATER_SECONDS = 0.05
"""How often a consumer looks whether a transaction that it waits for has ended."""


class Fetching:
    """Fetches from the backend where `reading` stands, and waits when there is nothing."""

    def __init__(
        self,
        backend: Backend,
        reading: Reading,
        following: Following,
        offsets: GroupOffsets,
        *,
        latest: bool,
        isolation: Isolation,
        max_bytes: int,
        clock: Clock,
    ) -> None:
        """`latest`: what retention has removed is followed by what comes after the log's end."""
        self._backend = backend
        self._reading = reading
        self._following = following
        self._offsets = offsets
        self._latest = latest
        self._isolation = isolation
        self._max_bytes = max_bytes
        self._monotonic = clock.monotonic

    def fill(self, timeout: float, ends: dict[TopicPartition, int] | None = None) -> bool:
        """See to it that the current chunk has a record; False when none comes in time.

        Being asked for the next record, it takes all earlier ones for done. With `ends` it gives
        nothing after them, and notes there the present ends of partitions that are new to it.
        """
        deadline = self._monotonic() + timeout
        try:
            return self._filled(deadline, ends)
        except UnknownPartition:
            self._following.look()  # what has this name by now may have fewer
            raise

    def _filled(self, deadline: float, ends: dict[TopicPartition, int] | None) -> bool:
        reading, following = self._reading, self._following
        while True:
            reading.require_open()
            reading.retire()
            following.keep()
            if ends is not None:
                for partition in reading.positions.keys() - ends.keys():
                    ends[partition] = self._end(partition)
            if reading.chunk is not None:
                return True
            if reading.fetched:
                self._take(reading.fetched.popleft(), ends)
                continue
            wanted = reading.wanted()
            if ends is not None:
                wanted = reading.behind(ends)
                if not wanted and not following.later:
                    return False
            if self._fetch(wanted):
                continue
            left = deadline - self._monotonic()
            if left <= 0:
                return False
            left = self._offsets.seconds_left(left)
            if following.later:
                left = min(left, _LATER_SECONDS)
            self._backend.wait(wanted, left, isolation=self._isolation)

    def _take(self, chunk: Chunk, ends: Mapping[TopicPartition, int] | None) -> None:
        if chunk.records:
            self._reading.open(chunk, None if ends is None else ends[chunk.partition])
        elif self._reading.pass_over(chunk):
            self._offsets.passed_over(chunk)

    def _fetch(self, wanted: Mapping[TopicPartition, int]) -> bool:
        try:
            batches = self._backend.fetch(
                wanted, max_bytes=self._max_bytes, isolation=self._isolation
            )
        except OffsetOutOfRange:
            self._following.look()
            if not self._reading.reset_lost(self._backend, latest=self._latest):
                raise
            return True
        self._following.look()
        for batch in batches:
            self._reading.add(batch)
        return bool(batches)

    def _end(self, partition: TopicPartition) -> int:
        if self._isolation == "read_committed":
            return self._backend.end(partition)
        return self._backend.offsets(partition).log_end

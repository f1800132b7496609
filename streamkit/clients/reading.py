"""Where a consumer stands, and the records that were fetched from there on."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streamkit.backends.base import Backend, Batch
from streamkit.clients.chunk import Chunk
from streamkit.errors import SerdeError, UnknownPartition, UsageError
from streamkit.records import Record, TopicPartition

_log = logging.getLogger(__name__)


class Reading:
    """The position of each partition that is read, and chunks of records on their way.

    `positions` are behind all that is done with; how far the user has got in `chunk`, the one that
    records are given out of now, the chunk itself knows. `fetched` comes after it. A paused
    partition's chunks wait in `paused`.
    """

    def __init__(self, decode: Callable[[bytes | None], Any] | None) -> None:
        """`decode`: what values go through; None leaves them bytes."""
        self._decode = decode
        self.positions: dict[TopicPartition, int] = {}
        self.chunk: Chunk | None = None
        self.fetched: deque[Chunk] = deque()
        self.paused: dict[TopicPartition, list[Chunk]] = {}
        self.closed = False

    def require_open(self) -> None:
        if self.closed:
            raise UsageError("the consumer is closed")

    def require(self, partition: TopicPartition) -> TopicPartition:
        if partition not in self.positions:
            raise UnknownPartition(f"{partition} is not among the partitions that are read here")
        return TopicPartition(*partition)

    # Where it stands.

    def wanted(self) -> dict[TopicPartition, int]:
        """What is to be fetched: all that is not paused."""
        if not self.paused:
            return self.positions
        return {tp: at for tp, at in self.positions.items() if tp not in self.paused}

    def behind(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """What is to be fetched up to these ends."""
        return {tp: at for tp, at in self.wanted().items() if at < ends.get(tp, 0)}

    def position(self, partition: TopicPartition) -> int:
        """The offset after all that was given out of a partition."""
        chunk = self.chunk
        if chunk is not None and chunk.partition == partition and partition in self.positions:
            return chunk.position
        return self.positions[self.require(partition)]

    def given_out(self) -> dict[TopicPartition, int]:
        """The offsets after all that was given out."""
        return {partition: self.position(partition) for partition in self.positions}

    def finished(self) -> dict[TopicPartition, int]:
        """The offsets after all that the user has surely done with."""
        finished = dict(self.positions)
        if self.chunk is not None and self.chunk.partition in finished:
            finished[self.chunk.partition] = self.chunk.finished
        return finished

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.require(partition)
        self.forget([partition])
        self.positions[partition] = offset

    def reset_lost(self, backend: Backend, *, latest: bool) -> bool:
        """Move positions that the log does not have (any more), and say so aloud.

        `latest`: to the log's end, when it is retention that has removed them.
        """
        moved = False
        for partition, at in self.positions.items():
            offsets = backend.offsets(partition)
            if offsets.start <= at <= offsets.log_end:
                continue
            if at > offsets.end:
                to = offsets.end
                what = "does not exist: the log ends before it; going back to its end,"
            else:
                to = offsets.end if latest else offsets.start
                what = f"was removed by retention; {to - at} offsets further on, going on at"
            _log.warning("%s: offset %d %s %d", partition, at, what, to)
            self.positions[partition] = to
            moved = True
        return moved

    # What is on its way.

    def add(self, batch: Batch) -> None:
        """Take what was fetched at a position."""
        start, records = self.positions[batch.partition], batch.records()
        self.fetched.append(Chunk(batch.partition, records, start, batch.next_offset))

    def open(self, chunk: Chunk, end: int | None) -> None:
        """Let records be given out of a chunk, with `end` none after that."""
        if end is not None:
            chunk.cut(end)
        if self._decode is not None and not chunk.decoded:
            _decode_values(chunk, self._decode)
        self.chunk = chunk

    def pass_over(self, chunk: Chunk) -> bool:
        """Go on after a stretch in which there is nothing to see: markers, and what was aborted.

        False when reading goes on elsewhere by now.
        """
        if self.positions.get(chunk.partition) != chunk.start:
            return False
        self.positions[chunk.partition] = chunk.end
        return True

    def retire(self) -> None:
        """Be done with what was given out; forget the chunk when that is all of it."""
        chunk = self.chunk
        if chunk is None:
            return
        chunk.done = None
        if chunk.partition in self.positions:
            self.positions[chunk.partition] = chunk.position
        if chunk.taken == len(chunk.records):
            self.chunk = None

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Throw away what was fetched of partitions and not given out yet."""
        gone = set(partitions)
        self.fetched = deque(c for c in self.fetched if c.partition not in gone)
        for partition in gone & self.paused.keys():
            self.paused[partition] = []
        if self.chunk is not None and self.chunk.partition in gone:
            self.chunk.stop()
            self.chunk = None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        chosen = [self.require(partition) for partition in partitions]
        for partition in chosen:
            if partition in self.paused:
                continue
            kept = [chunk for chunk in self.fetched if chunk.partition == partition]
            self.fetched = deque(c for c in self.fetched if c.partition != partition)
            if self.chunk is not None and self.chunk.partition == partition:
                kept.insert(0, self.chunk.split())
            self.paused[partition] = [chunk for chunk in kept if chunk.records]

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        chosen = [self.require(partition) for partition in partitions]
        for partition in chosen:
            self.fetched.extend(self.paused.pop(partition, ()))


def _decode_values(chunk: Chunk, decode: Callable[[bytes | None], Any]) -> None:
    """Decode as far as it goes: what is before a wrong value is given out before the error."""
    decoded: list[Record[Any]] = []
    for r in chunk.records:
        try:
            value = decode(r.value)
        except SerdeError as error:
            if not decoded:
                raise SerdeError(f"{r.coordinates}: {error}") from error
            chunk.end = r.offset
            break
        decoded.append(Record(r.topic, r.partition, r.offset, r.timestamp, r.key, value, r.headers))
    chunk.records, chunk.decoded = decoded, True
    chunk.iterator = iter(decoded)

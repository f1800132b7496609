"""Records on their way: one batch being filled per partition, and what chooses the partition."""

import os
from collections import deque
from collections.abc import Callable
from itertools import count

from streamkit import codec
from streamkit.backends.values import TopicInfo
from streamkit.clients.topic_config import (
    compression_of,
    is_compacted,
    max_batch_bytes,
    segment_bytes,
)
from streamkit.codec import partition_for
from streamkit.codec.buffer import Encoded
from streamkit.errors import UnknownPartition
from streamkit.records import TopicPartition

_AT_ONCE = 6
"""Batches. With fewer, an append costs more than they do; with many more, they would have left the
processor's cache before they are written."""

_start = count(os.getpid())  # several producers do not all begin with partition 0


class Buffer:
    """The batch that is being filled for one partition, and what could not be written yet."""

    __slots__ = ("_compression", "append", "builder", "lane", "partition", "topic", "unwritten")

    def __init__(self, topic: "TopicBuffers", partition: TopicPartition) -> None:
        self.topic = topic
        self.partition = partition
        self.unwritten: deque[Encoded] = deque()
        self.lane = codec.Lane(self)
        self._begin()

    def _begin(self) -> None:
        self._compression = self.topic.compression
        self.builder = codec.Builder(self._compression)
        self.append = self.builder.append
        self.lane.builder = self.builder

    def take_out(self) -> None:
        """The batch that was filled is to be written; another one begins.

        That is compressed as the topic says by then.
        """
        self.lane.open = False
        # One compiled call: an interrupt while the batch is made would else lose it between leaving
        # the builder and getting here.
        self.unwritten.extend(map(codec.Builder.take, (self.builder,)))
        self.follow()

    def follow(self) -> None:
        """Compress as the topic says, from the next batch on."""
        if self._compression != self.topic.compression and not len(self.builder):
            self._begin()


class TopicBuffers:
    """What sending to a topic needs to know. `sticky` takes the records without a key."""

    __slots__ = (
        "_asked_bytes",
        "_look",
        "_turns",
        "batch_bytes",
        "buffers",
        "compacted",
        "compression",
        "count",
        "info",
        "lanes",
        "most_batches",
        "sticky",
    )

    def __init__(self, info: TopicInfo, batch_bytes: int, look: Callable[[], TopicInfo]) -> None:
        """`look` gives what the topic is by now."""
        self._asked_bytes = batch_bytes
        self._look = look
        self.count = 0
        self.buffers: list[Buffer] = []
        self.lanes = codec.Lanes()
        self._turns = next(_start)
        self.follow(info)

    def follow(self, info: TopicInfo) -> None:
        """The topic has other configs or more partitions.

        Records that were sent before stay where they were put: those with the same key go to
        another partition from now on, as with Kafka's producers.
        """
        self.info = info
        self.compression = compression_of(info.config)
        self.compacted = is_compacted(info.config)
        # Half, so that a batch that is not full yet has room for one more large record.
        self.batch_bytes = min(self._asked_bytes, max_batch_bytes(info.config) // 2)
        # So many are appended at once: a few, within a segment.
        self.most_batches = max(1, min(_AT_ONCE, segment_bytes(info.config) // self.batch_bytes))
        self.buffers += (
            Buffer(self, TopicPartition(info.name, number))
            for number in range(self.count, info.partitions)
        )
        self.count = len(self.buffers)
        self.lanes.lanes = [buffer.lane for buffer in self.buffers]
        for buffer in self.buffers:
            buffer.follow()
            buffer.lane.limit = self.batch_bytes
        self._stick()

    def turn(self, written: Buffer) -> None:
        """After a batch, what has no key goes to the next partition."""
        if written is self.sticky and self.count > 1:
            self._turns += 1
            self._stick()

    def _stick(self) -> None:
        self.sticky = self.buffers[self._turns % self.count]
        self.lanes.sticky = None if self.compacted else self.sticky.lane

    def buffer(self, partition: int) -> Buffer:
        if not isinstance(partition, int):
            raise UnknownPartition(
                f"topic {self.info.name!r} has no partition {partition!r}: they are numbers"
            )
        if partition >= self.count:
            info = self._look()
            if info.topic_id == self.info.topic_id:  # else the next append says so
                self.follow(info)
        if not 0 <= partition < self.count:
            raise UnknownPartition(
                f"topic {self.info.name!r} has no partition {partition}: "
                f"it has 0 to {self.count - 1}"
            )
        return self.buffers[partition]

    def choose(self, key: bytes | None, partition: int | None) -> Buffer:
        if partition is not None:
            return self.buffer(partition)
        return self.sticky if key is None else self.buffers[partition_for(key, self.count)]

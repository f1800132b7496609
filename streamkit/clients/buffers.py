"""Records on their way: one batch being filled per partition, and what chooses the partition."""

import os
from collections import deque
from itertools import count

from streamkit import codec
from streamkit.backends.base import TopicInfo
from streamkit.clients.topic_config import compression_of, is_compacted, max_batch_bytes
from streamkit.codec import partition_for
from streamkit.errors import UnknownPartition
from streamkit.records import TopicPartition

_start = count(os.getpid())  # several producers do not all begin with partition 0


class Buffer:
    """The batch that is being filled for one partition, and what could not be written yet."""

    __slots__ = ("append", "builder", "partition", "topic", "unwritten")

    def __init__(self, topic: "TopicBuffers", partition: TopicPartition) -> None:
        self.topic = topic
        self.partition = partition
        self.builder = codec.Builder(topic.compression)
        self.append = self.builder.append
        self.unwritten: deque[bytes] = deque()


class TopicBuffers:
    """What sending to a topic needs to know. `sticky` takes the records without a key."""

    __slots__ = (
        "batch_bytes",
        "buffers",
        "compacted",
        "compression",
        "count",
        "sticky",
        "topic_id",
    )

    def __init__(self, info: TopicInfo, batch_bytes: int) -> None:
        self.topic_id = info.topic_id
        self.compression = compression_of(info.config)
        self.compacted = is_compacted(info.config)
        self.count = info.partitions
        # Half, so that a batch that is not full yet has room for one more large record.
        self.batch_bytes = min(batch_bytes, max_batch_bytes(info.config) // 2)
        self.buffers = [
            Buffer(self, TopicPartition(info.name, number)) for number in range(self.count)
        ]
        self.sticky = self.buffers[next(_start) % self.count]

    def turn(self, written: Buffer) -> None:
        """After a batch, what has no key goes to the next partition."""
        if written is self.sticky:
            self.sticky = self.buffers[(written.partition.partition + 1) % self.count]

    def buffer(self, partition: int) -> Buffer:
        if not 0 <= partition < self.count:
            raise UnknownPartition(
                f"topic {self.sticky.partition.topic!r} has no partition {partition}: "
                f"it has 0 to {self.count - 1}"
            )
        return self.buffers[partition]

    def choose(self, key: bytes | None, partition: int | None) -> Buffer:
        if partition is not None:
            return self.buffer(partition)
        return self.sticky if key is None else self.buffers[partition_for(key, self.count)]

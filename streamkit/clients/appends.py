"""How a producer's batches get into the log: each into its own topic, and once."""

from collections.abc import Iterable
from functools import partial
from itertools import count

from streamkit.backends.base import Backend
from streamkit.backends.values import Acks
from streamkit.clients.buffers import Buffer
from streamkit.clients.sent_topics import SentTopics
from streamkit.clients.sequences import Sequences
from streamkit.clients.transactional import TransactionalAppends
from streamkit.codec.buffer import Encoded
from streamkit.errors import UnknownPartition, UnknownTopic
from streamkit.records import TopicPartition


class Appends:
    """Appends one producer's batches. For one thread at a time; `sync` for any."""

    def __init__(
        self,
        backend: Backend,
        topics: SentTopics,
        *,
        acks: Acks,
        idempotent: bool,
        transactional: TransactionalAppends | None,
    ) -> None:
        """`idempotent`: with sequences, so that what is tried again is not appended twice."""
        self._backend = backend
        self._topics = topics
        self._acks = acks
        self._transactional = transactional
        self.idempotent = idempotent or transactional is not None
        self._sequences: Sequences | None = None
        self._number = count()
        # What was appended last to each partition and is not known to be on stable storage yet.
        self.unsynced: dict[TopicPartition, int] = {}

    def start_anew(self) -> None:
        """In a forked child: the id, and what is not synced yet, are the parent's."""
        self._sequences = None
        self.unsynced.clear()

    def append(self, buffer: Buffer, *batches: Encoded, waiting: Iterable[Buffer]) -> int:
        """Append batches to the topic that their records were sent to; the first offset.

        All of them or none; only one at a time for a producer with an id. `waiting`: where more
        is about to go.
        """
        name = buffer.partition.topic
        try:
            info = self._backend.topic(name)
            if info.topic_id != buffer.topic.info.topic_id:
                # Its partitions may be others: a key's records would go to the wrong one.
                raise UnknownTopic(
                    f"topic {name!r} was deleted and made anew since it was sent to; what is sent "
                    "now goes to the new one"
                )
            if info is not buffer.topic.info and info != buffer.topic.info:
                buffer.topic.follow(info)
            if self.idempotent:
                (batch,) = batches
                offset = self._append_once(buffer, batch, waiting)
            else:
                offset = self._backend.append_encoded(buffer.partition, *batches, acks=1)
        except (UnknownTopic, UnknownPartition):
            self._topics.forget(buffer.topic)
            raise
        if self._acks == "all":
            self.unsynced[buffer.partition] = next(self._number)
        return offset

    def _append_once(self, buffer: Buffer, batch: Encoded, waiting: Iterable[Buffer]) -> int:
        """Append a batch as this producer's, with the sequence that comes next."""
        place = buffer.topic.info.topic_id, buffer.partition
        if self._transactional is None:
            append = partial(self._backend.append_encoded, buffer.partition, acks=1)
            if self._sequences is None:
                self._sequences = Sequences((self._backend.producer_id(), 0))
            return self._sequences.append(place, batch, append)
        soon = (one.partition for one in waiting)
        return self._transactional.append(*place, batch, soon=soon)

    def sync(self, partition: TopicPartition) -> None:
        """Return when what was appended to a partition before the call is on stable storage."""
        self._backend.sync([partition])

    def synced(self, partition: TopicPartition, last: int) -> None:
        """Up to `last`, of `unsynced`, a partition is on stable storage."""
        if self.unsynced.get(partition) == last:
            del self.unsynced[partition]

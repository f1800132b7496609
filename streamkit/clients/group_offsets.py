"""What a consumer commits for its group, by itself or in a transaction."""

from collections.abc import Mapping

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import CommittedOffset
from streamkit.clients.chunk import Chunk
from streamkit.clients.read_topics import ReadTopics
from streamkit.clients.reading import Reading
from streamkit.clock import Clock
from streamkit.errors import Fenced
from streamkit.records import TopicPartition

_COMMIT_SECONDS = 1.0


class GroupOffsets:
    """How far the group is, as this consumer knows, in the partitions that it reads.

    Without a group it remembers where reading began, and has nothing to commit.
    """

    def __init__(
        self,
        backend: Backend,
        group: str | None,
        reading: Reading,
        topics: ReadTopics,
        *,
        member: Membership | None,
        auto_commit: bool,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._group = group
        self._reading = reading
        self._topics = topics
        self._member = member
        self._monotonic = clock.monotonic
        self.auto_commit = auto_commit and group is not None
        self._committed: dict[TopicPartition, int] = {}
        # Where reading began, and up to where it was committed or handed to a transaction.
        self._began: dict[TopicPartition, int] = {}
        self._handed: dict[TopicPartition, int] = {}
        # Moved to another member before what was read of them was handed over.
        self._lost: set[TopicPartition] = set()
        self._committed_at = self._monotonic()

    # What is read, and from where.

    def pending(self) -> frozenset[TopicPartition]:
        """The partitions that an open transaction commits offsets of."""
        return self._backend.pending(self._group) if self._group is not None else frozenset()

    def known(self) -> dict[TopicPartition, CommittedOffset]:
        """What is committed, whoever committed it."""
        return self._backend.committed(self._group) if self._group is not None else {}

    def begin(self, partition: TopicPartition, offset: int, *, committed: bool) -> None:
        """Reading begins at an offset that is, or is not, the committed one."""
        if committed:
            self._committed[partition] = offset
        self._began[partition] = self._handed[partition] = offset

    def leave(self, partition: TopicPartition, at: int | None) -> None:
        """A partition is no longer read, from the position `at` on."""
        if at is not None and self._handed.pop(partition, at) != at:
            self._lost.add(partition)
        self._committed.pop(partition, None)
        self._began.pop(partition, None)

    def passed_over(self, chunk: Chunk) -> None:
        """There was nothing in it to be handed over."""
        if self._handed.get(chunk.partition) == chunk.start:
            self._handed[chunk.partition] = chunk.end

    # Committing.

    def uncommitted(self) -> bool:
        """Whether there is something to commit without being told to."""
        return self.auto_commit and self._reading.positions != self._committed

    def seconds_left(self, most: float) -> float:
        """How long to sleep, `most` at most: what is uncommitted is not to wait for too long."""
        return min(most, _COMMIT_SECONDS) if self.uncommitted() else most

    def commit_when_due(self) -> None:
        if self._monotonic() - self._committed_at >= _COMMIT_SECONDS and self.uncommitted():
            self.commit(self._reading.positions)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit those of these offsets that are not committed yet."""
        assert self._group is not None
        topics, ids = self._backend.topics(), self._topics.ids
        new = {
            tp: at
            for tp, at in positions.items()
            if self._committed.get(tp) != at
            # Of a topic that was deleted meanwhile there is nothing to remember.
            and tp.topic in topics
            and topics[tp.topic].topic_id == ids[tp.topic]
        }
        self._committed_at = self._monotonic()
        if new:
            offsets = {tp: CommittedOffset(at) for tp, at in new.items()}
            self._backend.commit(self._group, offsets, member=self._member)
            self._committed.update(new)
            self._handed.update(new)

    def commit_asked(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> None:
        """Commit what the user says is done: all that was given out, or these."""
        if offsets is None:
            self.commit(self._reading.given_out())
        else:
            self._commit_these(offsets)
        chunk = self._reading.chunk
        if chunk is not None and (offsets is None or chunk.partition in offsets):
            committed = self._committed.get(chunk.partition, chunk.position)
            chunk.done = min(committed, chunk.position)

    def _commit_these(self, offsets: Mapping[TopicPartition, int | CommittedOffset]) -> None:
        assert self._group is not None
        if self._member is None:
            for partition in offsets:
                self._reading.require(partition)
        chosen = _noted(offsets)
        self._backend.commit(self._group, chosen, member=self._member)
        new = {tp: at.offset for tp, at in chosen.items()}
        self._committed.update(new)
        self._handed.update(new)

    # In transactions.

    def handing_over(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> tuple[str, dict[TopicPartition, CommittedOffset], Membership | None]:
        """What a transaction is to commit: all that was given out, or these."""
        assert self._group is not None
        if self._lost:
            raise Fenced(
                f"{', '.join(map(str, sorted(self._lost)))} moved to another member of group"
                f" {self._group!r}, which reads again what was read here and not committed:"
                " abort the transaction, and rewind() the consumer"
            )
        if offsets is None:
            chosen = {
                tp: CommittedOffset(at)
                for tp, at in self._reading.given_out().items()
                if self._handed.get(tp) != at or self._committed.get(tp) != at
            }
        else:
            chosen = _noted(offsets)
        self._handed.update({tp: at.offset for tp, at in chosen.items()})
        return self._group, chosen, self._member

    def rewind(self) -> None:
        """Go back to what is committed, or to where reading began."""
        self._lost.clear()
        known = self.known()
        for partition in list(self._reading.positions):
            committed = known.get(partition)
            at = self._began[partition] if committed is None else committed.offset
            self._reading.seek(partition, at)
            self._handed[partition] = at


def _noted(
    offsets: Mapping[TopicPartition, int | CommittedOffset],
) -> dict[TopicPartition, CommittedOffset]:
    return {
        TopicPartition(*tp): CommittedOffset(at) if isinstance(at, int) else at
        for tp, at in offsets.items()
    }

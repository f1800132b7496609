"""Which partitions a consumer reads: those it was told, or its share of a group's."""

from collections.abc import Iterable

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import Isolation
from streamkit.clients.group_offsets import GroupOffsets
from streamkit.clients.read_topics import ReadTopics
from streamkit.clients.reading import Reading
from streamkit.clients.start import Point, place
from streamkit.errors import Fenced
from streamkit.records import TopicPartition


class Following:
    """Begins with partitions and lets them go, as the topics and the group's other members want.

    `later`: to be begun once the transaction has ended that commits offsets of them.
    """

    def __init__(
        self,
        backend: Backend,
        reading: Reading,
        topics: ReadTopics,
        offsets: GroupOffsets,
        *,
        member: Membership | None,
        start: Point,
        isolation: Isolation,
    ) -> None:
        self._backend = backend
        self._reading = reading
        self._topics = topics
        self._offsets = offsets
        self._member = member
        self._start = start
        self._isolation = isolation
        self.later: set[TopicPartition] = set()

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Find where to begin with partitions that are new here."""
        # In this order: an offset that was pending may have been committed by then.
        pending = self._offsets.pending()
        known = self._offsets.known()
        chosen = {}
        for partition in partitions:
            if partition in pending:
                self.later.add(partition)
                continue
            self.later.discard(partition)
            if partition in known:
                at = known[partition].offset
            else:
                # All that a partition holds that was added meanwhile came after we began.
                added = self._topics.is_added(partition)
                at = chosen[partition] = place(
                    self._backend,
                    partition,
                    "earliest" if added else self._start,
                    self._isolation,
                )
            self._reading.positions[partition] = at
            self._offsets.begin(partition, at, committed=partition in known)
        if chosen and self._offsets.auto_commit and self._start != "earliest":
            # Else a crash before the first commit would choose again, later, and leave a gap.
            self._offsets.commit(chosen)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these no longer."""
        self._reading.forget(partitions)
        for partition in partitions:
            self.later.discard(partition)
            self._offsets.leave(partition, self._reading.positions.pop(partition, None))
            self._reading.paused.pop(partition, None)
        self._topics.keep(self._reading.positions)

    def look(self) -> None:
        """Read a topic that has grown whole. UnknownTopic when one is not the same any more."""
        if self._topics.look():
            self.read_named()

    def read_named(self) -> None:
        """Read what the topics have, as the group says if there is one."""
        if self._member is not None:
            self._member.update(self._topics.counts)
            return
        named = self._topics.partitions()
        self.drop(self._reading.positions.keys() - set(named))
        self.begin(partition for partition in named if partition not in self._reading.positions)

    def keep(self) -> None:
        """Hand over what others wait for, take what is free, commit when it is time.

        Called when the next record is asked for: everything up to the positions is done with.
        """
        self._offsets.commit_when_due()
        if self._member is None:
            if self.later:
                self.begin(list(self.later))
            return
        positions = self._reading.positions
        try:
            ownership = self._member.poll()
        except Fenced:
            self.drop([*positions, *self.later])
            raise
        if ownership.revoking:
            if self._offsets.auto_commit:
                self._offsets.commit(positions)
            self.drop(ownership.revoking)
            self._member.release(ownership.revoking)
        # Not only what was gained just now: an error may have come between it and its beginning.
        if new := ownership.owned - ownership.revoking - positions.keys():
            self.begin(tp for tp in sorted(new) if self._topics.exists(tp))

"""The transaction that a process commits its work with: one after the other, over all its tasks."""

from collections.abc import Iterable, Mapping

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.clients.transactional import TransactionalAppends
from streamkit.codec.buffer import Encoded
from streamkit.records import TopicPartition

TIMEOUT = 60.0
"""Seconds after which others abort an open transaction whose process lives and does nothing. One is
begun when there is something to append, which is nearly always in a commit."""


class WorkTransaction:
    """What the tasks of a process give and keep, and how far they have read: committed as one.

    After an error it is to be aborted: `broken` says that a part of it may be missing.
    """

    def __init__(self, backend: Backend, group: str, transactional_id: str) -> None:
        self._transactions = backend.transactions(transactional_id, timeout=TIMEOUT)
        self._appends = TransactionalAppends(backend, self._transactions, transactional_id)
        self._group = group
        self.begun = False
        """Whether there is something to commit."""
        self.broken = False
        self._soon: Iterable[TopicPartition] = ()

    def expect(self, partitions: Iterable[TopicPartition]) -> None:
        """Where something is about to be appended: said to the coordinator all at once with the
        next append, as each time it is told is an append of its own."""
        self._soon = partitions

    def append(self, topic_id: str, partition: TopicPartition, batch: Encoded) -> int:
        """Append a batch; its first offset."""
        self.begun = self.broken = True
        offset = self._appends.append(topic_id, partition, batch, soon=self._soon)
        self._soon = ()
        self.broken = False
        return offset

    def commit(
        self,
        offsets: Mapping[TopicPartition, CommittedOffset],
        member: Membership,
        units: Iterable[Unit],
        after: Iterable[TopicPartition] = (),
    ) -> None:
        """Commit what was appended, with offsets; on stable storage when it returns.

        `after`: partitions that are so before it is decided.
        `units`: what the member has to own for that. Raises Fenced, ProducerFenced, OutcomeUnknown.
        """
        assert not self.broken, "a transaction of which something is missing is aborted"
        self.begun = self.broken = True
        self._soon = ()
        if offsets:
            self._transactions.commit_offsets(self._group, offsets, member=member, units=units)
        self._transactions.commit(after=after)
        self.begun = self.broken = False

    def abort(self) -> None:
        """Take back what was appended since the last commit."""
        self._soon = ()
        if self.begun:
            self._transactions.abort()
        self.begun = self.broken = False

    def close(self) -> None:
        """Abort what is open."""
        self._transactions.close()

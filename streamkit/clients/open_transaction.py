"""A producer's open transaction: it begins, is committed whole, or is dropped."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from streamkit.backends.base import Membership, Transactions
from streamkit.backends.values import CommittedOffset
from streamkit.clients.sent_topics import SentTopics
from streamkit.clients.writer import Writer
from streamkit.errors import InvalidTxnState, StreamkitError, UsageError
from streamkit.records import TopicPartition


class OpenTransaction:
    """Whether a producer has a transaction open, and how it ends.

    For `Transaction`, which keeps each to one thread.
    """

    def __init__(self, transactions: Transactions, topics: SentTopics, writer: Writer) -> None:
        self._transactions = transactions
        self._topics = topics
        self._writer = writer
        self._open = False
        self._read: set[TopicPartition] = set()
        """Of which offsets are committed: a power cut must not take the records before those."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held while something is sent."""
        return self._writer.lock

    def start_anew(self) -> None:
        """In a forked child: the transaction is the parent's."""
        self._topics.within = {}
        self._read.clear()
        self._open = False

    def begin(self) -> None:
        with self._writer.lock:
            if self._writer.closed:
                raise UsageError("the producer is closed")
            if self._open:
                raise UsageError(
                    "the producer's last transaction is still open, and it has one at a time: end"
                    " it first, or have each thread use a producer with an id of its own"
                )
            self._transactions.begin()
            self._open = True

    def commit_offsets(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        member: Membership | None,
    ) -> None:
        with self._writer.lock:
            self._read.update(offsets)
            try:
                self._transactions.commit_offsets(group, offsets, member=member)
            except (StreamkitError, OSError) as error:
                self._writer.spoiled = self._writer.spoiled or error
                raise

    def commit(self) -> None:
        with self._writer.lock:
            for buffer in list(self._writer.waiting):
                self._writer.write(buffer)
            if self._writer.error is not None:
                self._writer.raise_error()
            if self._writer.spoiled is not None:
                raise InvalidTxnState(
                    "the transaction is not committed, because part of it is missing:"
                    f" {self._writer.spoiled}"
                ) from self._writer.spoiled
            self._transactions.commit(after=self._read)
            self._end()

    def drop(self) -> bool:
        """Abort the present transaction; False when there was nothing to abort."""
        with self._writer.lock:
            if not self._open:
                return False
            self._writer.waiting.clear()
            self._topics.within = {}
            self._end()
            return self._transactions.abort()

    def _end(self) -> None:
        self._open = False
        self._read.clear()
        self._writer.forget()

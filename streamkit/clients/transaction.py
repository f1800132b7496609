"""One transaction of a producer."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from streamkit.backends.values import CommittedOffset
from streamkit.clients.consumer import Consumer
from streamkit.clients.open_transaction import OpenTransaction
from streamkit.clients.sent_topics import SentTopics
from streamkit.errors import StreamkitError, UsageError
from streamkit.records import Headers, TopicPartition

if TYPE_CHECKING:  # a producer makes its transactions
    from streamkit.clients.producer import Producer


class Transaction:
    """What is sent in it can be read when it is committed, all at once, or never.

        with producer.transaction() as transaction:
            transaction.send("orders", {"id": 1})
            transaction.commit_offsets("billing", {TopicPartition("carts", 0): 17})

    It is committed at the end of the block, and is on stable storage then. An error in the block
    aborts it. For the thread that began it; a producer has one at a time.
    """

    def __init__(self, producer: "Producer", topics: SentTopics, open_: OpenTransaction) -> None:
        """Use `Producer.transaction`."""
        self._producer = producer
        self._topics = topics
        self._open = open_
        self._thread: int | None = None
        self._over = False

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
    ) -> None:
        """As `Producer.send`. Raises ProducerFenced when the producer's time is over."""
        self._require_open()
        with self._open.lock:
            outside, self._topics.opened = self._topics.opened, self._topics.within
            try:
                self._producer.send(
                    topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers
                )
            finally:
                self._topics.opened = outside

    def send_many(
        self,
        topic: str,
        values: Iterable[Any],
        *,
        keys: Iterable[Any] | None = None,
        partition: int | None = None,
        timestamps: Sequence[int] | int | None = None,
    ) -> None:
        """As `Producer.send_many`."""
        self._require_open()
        with self._open.lock:
            outside, self._topics.opened = self._topics.opened, self._topics.within
            try:
                self._producer.send_many(
                    topic, values, keys=keys, partition=partition, timestamps=timestamps
                )
            finally:
                self._topics.opened = outside

    def commit_offsets(
        self,
        group: "str | Consumer[Any]",
        offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None,
    ) -> None:
        """Commit offsets of a group if, and when, the transaction is committed.

        Of a consumer that is the group's member (with `auto_commit=False`): the positions after
        all records that it gave out, or `offsets`. Raises Fenced when a partition is no longer its
        own; then another member reads the same records, and the transaction is to be aborted. With
        a group's name, name the `offsets` as well; nobody is asked then who owns the partitions.
        """
        self._require_open()
        if isinstance(group, Consumer):
            self._open.commit_offsets(*group.handing_over(offsets))
        elif offsets is None:
            raise UsageError(f"name the offsets to commit for group {group!r}, or a consumer of it")
        else:
            chosen = {
                TopicPartition(*tp): CommittedOffset(at) if isinstance(at, int) else at
                for tp, at in offsets.items()
            }
            self._open.commit_offsets(group, chosen, None)

    def __enter__(self) -> "Transaction":
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> "Transaction":
        import asyncio

        await asyncio.to_thread(self._begin)
        self._thread = threading.get_ident()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import asyncio

        await asyncio.to_thread(self._end, error)

    def _begin(self) -> None:
        if self._over or self._thread is not None:
            raise UsageError("a transaction is begun once; ask the producer for another one")
        self._open.begin()
        self._thread = threading.get_ident()

    def _end(self, error: BaseException | None) -> None:
        self._over = True
        if error is None:
            try:
                self._open.commit()
            except BaseException as problem:
                self._abort_after(problem)
                raise
        else:
            self._abort_after(error)

    def _abort_after(self, error: BaseException) -> None:
        """Abort; what goes wrong with that is told with the error that is under way."""
        try:
            if self._open.drop():
                error.add_note("the transaction was aborted")
        except (StreamkitError, OSError) as problem:
            if str(problem) != str(error):
                error.add_note(f"the transaction could not be aborted by its producer: {problem}")

    def _require_open(self) -> None:
        if self._over:
            raise UsageError("the transaction is over; begin another one")
        if self._thread is None:
            raise UsageError("write: with producer.transaction() as transaction: …")
        if self._thread != threading.get_ident():
            raise UsageError(
                "a transaction is for the thread that began it: have each thread use a producer of"
                " its own, with a transactional id of its own"
            )

"""Appending records, one by one or in lists, in batches of a good size."""

import atexit
import os
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import isfinite
from types import TracebackType
from typing import Any, NamedTuple

from streamkit import codec
from streamkit.backends.base import Transactions
from streamkit.backends.values import Acks
from streamkit.clients.appends import Appends
from streamkit.clients.buffers import TopicBuffers
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.encoding import encode, encode_all
from streamkit.clients.open_transaction import OpenTransaction
from streamkit.clients.sent_topics import SentTopics
from streamkit.clients.transaction import Transaction
from streamkit.clients.transactional import TransactionalAppends
from streamkit.clients.writer import Writer
from streamkit.clock import Clock, SystemClock
from streamkit.codec import partition_for
from streamkit.errors import (
    InvalidRecord,
    InvalidRequiredAcks,
    InvalidTxnTimeout,
    StreamkitError,
    TransactionError,
    UsageError,
)
from streamkit.records import Headers, TopicPartition


class Appended(NamedTuple):
    """Where a record stands in the log."""

    partition: TopicPartition
    offset: int


class Producer:
    """Appends to the topics of a log. Safe to use from several threads.

        with Producer("./data") as producer:
            producer.send("orders", {"id": 1}, key="customer-7")

    Records wait in memory until there are `batch_bytes` of them for a partition, or `linger`
    seconds have passed; `flush` (and leaving the `with`) appends them all and, with acks="all",
    returns when they are on stable storage. Memory is bounded by two batches per partition.

    An error in the background is raised by the next `send`, `flush` or `close`. What `send`
    raises an error for was not taken. Records that could not be appended because of the log
    itself (a full disk, say: LogError) are kept and tried again with every call, so that `flush`
    raises only if they still cannot be; those that the topic can't take are given up, and the
    error says which.

    With a `transactional_id` everything is sent in transactions:

        with producer.transaction() as transaction:
            transaction.send("orders", {"id": 1}, key="customer-7")
    """

    def __init__(
        self,
        log: LogLike = None,
        *,
        acks: Acks = "all",
        batch_bytes: int = 64 << 10,
        linger: float = 0.005,
        create_topics: int = 0,
        idempotent: bool = False,
        transactional_id: str | None = None,
        transaction_timeout: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        """`log`: a path, url or Backend; None is STREAMKIT_LOG, else ./streamkit-data.

        `create_topics`: how many partitions a missing topic is made with; 0: UnknownTopic.
        `idempotent`: what is tried again, after an interrupt say, is not appended twice.
        `transactional_id`: a name for what this producer does that outlives it. Another producer
        that takes the name fences this one and ends its transaction. `transaction_timeout`, in
        seconds: a transaction that is open for longer is aborted.
        """
        if acks not in ("all", 1):
            raise InvalidRequiredAcks(f'acks={acks!r}: it is "all" or 1')
        if batch_bytes < 1 or linger < 0 or create_topics < 0:
            raise UsageError("batch_bytes is at least 1; linger and create_topics are not negative")
        if not isinstance(transactional_id, str | None):
            raise UsageError(f"transactional_id={transactional_id!r}: it is text")
        if not isfinite(transaction_timeout):
            raise InvalidTxnTimeout(
                f"transaction_timeout={transaction_timeout}: it is a number of seconds"
            )
        if transactional_id is not None and acks != "all":
            raise UsageError(f'acks={acks!r}: a transaction is on stable storage; leave it "all"')
        self._backend, self._owned = connect(log)
        self._acks = acks
        self._now = (clock or SystemClock()).now
        self._transactional_id = transactional_id
        self._transactions: Transactions | None = None
        if transactional_id is not None:
            try:
                self._transactions = self._backend.transactions(
                    transactional_id, timeout=transaction_timeout
                )
            except BaseException:
                if self._owned:
                    self._backend.close()
                raise
        self._topics = SentTopics(self._backend, batch_bytes=batch_bytes, create=create_topics)
        transactional = None
        if transactional_id is not None and self._transactions is not None:
            transactional = TransactionalAppends(
                self._backend, self._transactions, transactional_id
            )
        appends = Appends(
            self._backend,
            self._topics,
            acks=acks,
            idempotent=idempotent,
            transactional=transactional,
        )
        self._writer = Writer(
            self._topics,
            appends,
            linger=linger,
            transactional=transactional_id is not None,
            clock=clock or SystemClock(),
        )
        self._open: OpenTransaction | None = None
        if self._transactions is not None:
            self._open = OpenTransaction(self._transactions, self._topics, self._writer)
        self._begin()
        if codec.QuickSend is not None and transactional_id is None:
            # A call of this method costs more than all it does for a plain record. So it is
            # called for the others only, and when there is something to be told or to wait for.
            quick = codec.QuickSend(self.send, self._writer.write_filled, system_time=clock is None)
            self._topics.lanes = quick.topics
            self.send = quick.send  # type: ignore[method-assign]
        atexit.register(self.close)
        _producers.add(self)

    def _begin(self) -> None:
        self._acquire, self._release = self._writer.lock.acquire, self._writer.lock.release

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
        """Take one record, to be appended with the next batch of its partition.

        Bytes are taken as they are, str as UTF-8, None as null, everything else as JSON.
        A record goes to `partition`, else to its key's (murmur2, as Kafka's Java client), else to
        the one that the current batch goes to. `timestamp` in ms; None is now.
        Raises UnknownTopic, UnknownPartition, InvalidRecord, RecordTooLarge, SerdeError.
        """
        if type(value) is not bytes:
            value = encode(value)
        if key is not None and type(key) is not bytes:
            key = encode(key)
        if timestamp is None:
            timestamp = self._now()
        # Not `with`, and no calls that can be spared: at two million a second each one shows.
        self._acquire()
        try:
            if self._writer.error is not None:
                self._writer.raise_error()
            target = self._topics.opened.get(topic)
            if target is None:
                target = self._topic(topic)
            if partition is not None:
                buffer = target.buffer(partition)
            elif key is None:
                buffer = target.sticky
            else:
                buffer = target.buffers[partition_for(key, target.count)]
            if key is None and target.compacted:
                raise _no_key(topic)
            if buffer.unwritten:
                self._writer.write(buffer)
            size = buffer.append(value, key, timestamp, headers)
            if size >= target.batch_bytes:
                self._writer.write_full(buffer)
            elif buffer not in self._writer.waiting:
                self._writer.wait_for_more(buffer)
        finally:
            self._release()

    def send_many(
        self,
        topic: str,
        values: Iterable[Any],
        *,
        keys: Iterable[Any] | None = None,
        partition: int | None = None,
        timestamps: Sequence[int] | int | None = None,
    ) -> None:
        """Append many records of one topic now, in few batches; much faster than one by one.

        As `send` for each, except that nothing waits for more. What was sent before to the same
        partitions is appended before. An error may leave some of them appended.
        """
        if isinstance(values, str | bytes):
            raise UsageError(
                f"send_many takes a list of values, and got one {type(values).__name__}"
            )
        raw = encode_all(values)
        raw_keys = None if keys is None else encode_all(keys)
        if raw_keys is not None and len(raw_keys) != len(raw):
            raise UsageError(f"{len(raw)} values and {len(raw_keys)} keys: not as many")
        if isinstance(timestamps, Sequence) and len(timestamps) != len(raw):
            raise UsageError(f"{len(raw)} values and {len(timestamps)} timestamps: not as many")
        when = self._now() if timestamps is None else timestamps
        with self._writer.lock:
            target = self._topics.opened.get(topic) or self._topic(topic)
            if self._writer.error is not None:
                self._writer.raise_error()
            if target.compacted and (raw_keys is None or None in raw_keys):
                raise _no_key(topic)
            self._writer.write_all(target, raw, raw_keys, when, partition)

    def send_and_wait(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
    ) -> Appended:
        """Append one record now, after all that was sent before to its partition.

        Returns where it stands; with acks="all", when it is on stable storage.
        """
        value = value if type(value) is bytes else encode(value)
        key = key if key is None or type(key) is bytes else encode(key)
        with self._writer.lock:
            target = self._topics.opened.get(topic) or self._topic(topic)
            if self._writer.error is not None:
                self._writer.raise_error()
            buffer = target.choose(key, partition)
            if key is None and target.compacted:
                raise _no_key(topic)
            self._writer.write(buffer)
            batch = codec.encode(
                [value],
                keys=[key],
                timestamps=self._now() if timestamp is None else [timestamp],
                headers=[headers] if headers else None,
                compression=target.compression,
            )
            offset = self._writer.append(buffer, batch)
        if self._acks == "all":  # outside the lock, so that other threads share the wait
            self._writer.sync(buffer.partition)
        return Appended(buffer.partition, offset)

    def transaction(self) -> Transaction:
        """A new transaction, for a `with` or `async with`; one at a time.

        Raises UsageError for a producer without a transactional id.
        """
        if self._open is None:
            raise UsageError(
                "transactions need a name that outlives the producer:"
                ' Producer(…, transactional_id="…")'
            )
        return Transaction(self, self._topics, self._open)

    def flush(self) -> None:
        """Append all that was sent; with acks="all", return when it is on stable storage."""
        self._writer.flush()

    async def aflush(self) -> None:
        """`flush`, while other coroutines go on."""
        import asyncio  # here: most programs that produce have no use for it, and it is not small

        await asyncio.to_thread(self.flush)

    def close(self) -> None:
        """Flush, and let go of the log. The second time it does nothing."""
        with self._writer.lock:
            if self._writer.closed:
                return
            try:
                if self._open is not None:
                    with suppress(TransactionError):  # it was ended by others
                        self._open.drop()
                self._writer.closing = True
                self.flush()
            except (StreamkitError, OSError) as error:
                if lost := self._writer.left():
                    error.add_note(f"the producer is closed nevertheless; lost: {lost}")
                raise
            finally:
                self._writer.close()
                self._topics.clear()  # so that what is sent now is refused
                atexit.unregister(self.close)
                try:
                    if self._transactions is not None:
                        self._transactions.close()
                finally:
                    if self._owned:
                        self._backend.close()

    def __enter__(self) -> "Producer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Producer":
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def _topic(self, name: str) -> TopicBuffers:
        if self._writer.closed:
            raise UsageError("the producer is closed")
        if self._open is not None and self._topics.opened is not self._topics.within:
            raise UsageError(
                "a producer with a transactional id sends within transactions only: "
                "with producer.transaction() as transaction: transaction.send(…)"
            )
        return self._topics.open(name)

    def _after_fork(self) -> None:
        """In a child: what the parent has not written yet is the parent's to write."""
        self._topics.clear()
        if self._open is not None:
            self._open.start_anew()
        self._writer.start_anew()
        self._begin()


_producers: "weakref.WeakSet[Producer]" = weakref.WeakSet()


def _start_anew_in_child() -> None:
    for producer in list(_producers):
        producer._after_fork()


os.register_at_fork(after_in_child=_start_anew_in_child)


def _no_key(topic: str) -> InvalidRecord:
    return InvalidRecord(
        f"topic {topic!r} is compacted: only the last record of each key is kept, so every record "
        "needs a key"
    )

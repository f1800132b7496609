"""Appending records, one by one or in lists, in batches of a good size."""

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count, islice
from math import inf
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple

from streamkit import codec
from streamkit.backends.base import Acks, CommittedOffset, Membership, Transactions
from streamkit.clients.buffers import Buffer, TopicBuffers
from streamkit.clients.connection import LogLike, connect
from streamkit.clients.sequences import Sequences
from streamkit.clients.transaction import Transaction
from streamkit.clock import Clock, SystemClock
from streamkit.codec import partition_for
from streamkit.errors import (
    InvalidProducerEpoch,
    InvalidRecord,
    InvalidRequiredAcks,
    InvalidTxnState,
    ProducerFenced,
    RecordTooLarge,
    StreamkitError,
    TopicExists,
    TransactionError,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import Headers, TopicPartition
from streamkit.serde import Untyped, serde_for

_RETRY_SECONDS = 1.0
"""How long a batch that could not be written waits until the background tries it again."""

_FEW = 64
"""Lists up to this long wait for more, as records do: a batch each would be waste."""


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
    itself (a full disk, say: LogError) are kept and tried again with every call; those that the
    topic can't take are given up, and the error says which.

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
        if transactional_id is not None and acks != "all":
            raise UsageError(f'acks={acks!r}: a transaction is on stable storage; leave it "all"')
        self._backend, self._owned = connect(log)
        self._acks = acks
        self._batch_bytes = batch_bytes
        self._linger = linger
        self._create_topics = create_topics
        self._now = (clock or SystemClock()).now
        self._monotonic = (clock or SystemClock()).monotonic
        self._topics: dict[str, TopicBuffers] = {}
        self._lanes: dict[str, codec.Lanes] = {}
        # What was appended last to each partition and is not known to be on stable storage yet.
        self._unsynced: dict[TopicPartition, int] = {}
        self._appends = count()
        self._error: BaseException | None = None
        self._closed = False
        self._transactional_id = transactional_id
        self._idempotent = idempotent or transactional_id is not None
        self._sequences: Sequences | None = None
        self._transactions: Transactions | None = None
        self._current: Transaction | None = None
        self._spoiled: BaseException | None = None
        self._sendable: dict[str, TopicBuffers] = {}
        self._begin()
        if codec.QuickSend is not None and transactional_id is None:
            # A call of this method costs more than all it does for a plain record. So it is
            # called for the others only, and when there is something to be told or to wait for.
            quick = codec.QuickSend(self.send, self._write_filled, system_time=clock is None)
            self._lanes = quick.topics
            self.send = quick.send  # type: ignore[method-assign]
        if transactional_id is not None:
            try:
                self._transactions = self._backend.transactions(
                    transactional_id, timeout=transaction_timeout
                )
            except BaseException:
                if self._owned:
                    self._backend.close()
                raise
        atexit.register(self.close)
        _producers.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._waiting: dict[Buffer, float] = {}
        self._something = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._asleep_until = inf

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
            value = _encode(value)
        if key is not None and type(key) is not bytes:
            key = _encode(key)
        if timestamp is None:
            timestamp = self._now()
        # Not `with`, and no calls that can be spared: at two million a second each one shows.
        self._acquire()
        try:
            if self._error is not None:
                self._raise()
            target = self._topics.get(topic)
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
                self._write(buffer)
            size = buffer.append(value, key, timestamp, headers)
            if size >= target.batch_bytes:
                self._write_full(buffer)
            elif buffer not in self._waiting:
                self._wait_for_more(buffer)
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
        raw = _encode_all(values)
        raw_keys = None if keys is None else _encode_all(keys)
        if raw_keys is not None and len(raw_keys) != len(raw):
            raise UsageError(f"{len(raw)} values and {len(raw_keys)} keys: not as many")
        if isinstance(timestamps, Sequence) and len(timestamps) != len(raw):
            raise UsageError(f"{len(raw)} values and {len(timestamps)} timestamps: not as many")
        when = self._now() if timestamps is None else timestamps
        with self._lock:
            target = self._topics.get(topic) or self._topic(topic)
            if self._error is not None:
                self._raise()
            if target.compacted and (raw_keys is None or None in raw_keys):
                raise _no_key(topic)
            try:
                self._send_all(target, raw, raw_keys, when, partition)
            finally:
                # Also what an error leaves half way waits for more, and no longer than usual.
                for buffer in target.buffers:
                    begun = buffer.unwritten or len(buffer.builder)
                    if begun and buffer not in self._waiting:
                        self._wait_for_more(buffer)

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
        value = value if type(value) is bytes else _encode(value)
        key = key if key is None or type(key) is bytes else _encode(key)
        with self._lock:
            target = self._topics.get(topic) or self._topic(topic)
            if self._error is not None:
                self._raise()
            buffer = target.choose(key, partition)
            if key is None and target.compacted:
                raise _no_key(topic)
            self._write(buffer)
            batch = codec.encode(
                [value],
                keys=[key],
                timestamps=self._now() if timestamp is None else timestamp,
                headers=[headers] if headers else None,
                compression=target.compression,
            )
            offset = self._append(buffer, batch)
        if self._acks == "all":  # outside the lock, so that other threads share the wait
            self._backend.sync([buffer.partition])
        return Appended(buffer.partition, offset)

    def transaction(self) -> Transaction:
        """A new transaction, for a `with` or `async with`; one at a time.

        Raises UsageError for a producer without a transactional id.
        """
        if self._transactions is None:
            raise UsageError(
                "transactions need a name that outlives the producer:"
                ' Producer(…, transactional_id="…")'
            )
        return Transaction(self)

    def flush(self) -> None:
        """Append all that was sent; with acks="all", return when it is on stable storage."""
        with self._lock:
            for buffer in list(self._waiting):
                try:
                    self._write(buffer)
                except (StreamkitError, OSError) as error:
                    self._remember(error)
            unsynced = dict(self._unsynced)
        for partition, last in unsynced.items():
            try:
                self._backend.sync([partition])
            except (StreamkitError, OSError) as error:
                self._remember(error)
                if not isinstance(error, UsageError):
                    continue
            # Only now: another thread's flush must not return before its records are there, too.
            with self._lock:
                if self._unsynced.get(partition) == last:
                    del self._unsynced[partition]
        with self._lock:
            if self._error is not None:
                self._raise()

    async def aflush(self) -> None:
        """`flush`, while other coroutines go on."""
        import asyncio  # here: most programs that produce have no use for it, and it is not small

        await asyncio.to_thread(self.flush)

    def close(self) -> None:
        """Flush, and let go of the log. The second time it does nothing."""
        with self._lock:
            if self._closed:
                return
            try:
                with suppress(TransactionError):  # it was ended by others
                    self._drop_transaction()
                self.flush()
            except (StreamkitError, OSError) as error:
                if self._waiting:
                    error.add_note("the producer is closed nevertheless: they are lost")
                raise
            finally:
                self._closed = True
                self._topics.clear()  # so that what is sent now is refused
                self._lanes.clear()
                self._something.notify_all()
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
        if self._closed:
            raise UsageError("the producer is closed")
        if self._transactions is not None and self._topics is not self._sendable:
            raise UsageError(
                "a producer with a transactional id sends within transactions only: "
                "with producer.transaction() as transaction: transaction.send(…)"
            )
        try:
            info = self._backend.topic(name)
        except UnknownTopic:
            if not self._create_topics:
                raise
            try:
                info = self._backend.create_topic(name, self._create_topics)
            except TopicExists:  # by somebody else, just now
                info = self._backend.topic(name)
        look = partial(self._backend.topic, name)
        target = self._topics[name] = TopicBuffers(info, self._batch_bytes, look)
        self._lanes[name] = target.lanes
        return target

    def _raise(self) -> None:
        error, self._error = self._error, None
        assert error is not None
        raise error

    def _remember(self, error: BaseException) -> None:
        """Keep the first error for the next call, and say there what else was given up.

        Other later errors are echoes of the first: their records are kept and tried again.
        """
        with self._lock:
            for target in self._topics.values():
                for buffer in target.buffers:
                    buffer.lane.open = False
            if self._error is None:
                self._error = error
            elif isinstance(error, UsageError):
                for text in (f"also: {error}", *getattr(error, "__notes__", ())):
                    self._error.add_note(text)

    def _write_filled(self, buffer: Buffer) -> None:
        """As `_write_full`, for who has not the lock."""
        with self._lock:
            self._write_full(buffer)

    def _write_full(self, buffer: Buffer) -> None:
        try:
            self._write(buffer)
        except RecordTooLarge:
            raise  # it can only be about the record that has just been sent
        except (StreamkitError, OSError) as error:
            self._remember(error)  # that record was taken, so the next call has to tell

    def _write(self, buffer: Buffer, *, full_only: bool = False) -> None:
        """Append what the buffer holds, or what is full of it.

        A record that is too large is given up alone.
        """
        refused: RecordTooLarge | None = None
        buffer.lane.open = False
        while buffer.unwritten or (not full_only and len(buffer.builder)):
            if not buffer.unwritten:
                buffer.take_out()
                buffer.topic.turn(buffer)
            try:
                self._append_all(buffer, buffer.unwritten)
            except RecordTooLarge as error:
                buffer.unwritten.popleft()
                error.add_note("that record was given up")
                refused = refused or error
                self._spoiled = self._spoiled or error
            except (StreamkitError, OSError) as error:
                where = f"{_size(buffer.unwritten)} sent to {buffer.partition}"
                if isinstance(error, UsageError):
                    buffer.unwritten.clear()
                    error.add_note(f"given up: {where}")
                    self._spoiled = self._spoiled or error
                elif self._transactions is not None:
                    # Even if nothing else waits here: the commit tries it again, or fails.
                    self._waiting.setdefault(buffer, inf)
                    error.add_note(f"not appended to the transaction: {where}")
                else:
                    self._waiting[buffer] = self._monotonic() + _RETRY_SECONDS
                    error.add_note(f"kept, and will be tried again: {where}")
                if refused is not None:
                    self._remember(refused)
                raise
        if not len(buffer.builder):
            self._waiting.pop(buffer, None)
        if refused is not None:
            raise refused

    def _append_all(self, buffer: Buffer, batches: "deque[bytes]") -> None:
        """Append batches, taking out each that is there; one that is too large goes as two."""
        if len(batches) > 1 and not self._idempotent:
            with suppress(RecordTooLarge):  # then one by one
                while batches:
                    some = list(islice(batches, buffer.topic.most_batches))
                    self._append(buffer, *some)
                    for _ in some:
                        batches.popleft()
        while batches:
            try:
                self._append(buffer, batches[0])
            except RecordTooLarge:
                columns = codec.columns(batches[0])
                if len(columns) == 1:
                    raise
                middle = len(columns) // 2
                first, second = (
                    codec.encode(
                        columns.values[part],
                        keys=columns.keys[part],
                        timestamps=columns.timestamps[part],
                        headers=None if columns.headers is None else columns.headers[part],
                        compression=buffer.topic.compression,
                    )
                    for part in (slice(0, middle), slice(middle, None))
                )
                # In this order: an interrupt in between loses nothing.
                batches.insert(1, second)
                batches[0] = first
            else:
                batches.popleft()

    def _append(self, buffer: Buffer, *batches: bytes) -> int:
        """Append batches to the topic that their records were sent to; the first offset.

        All of them or none; only one at a time for a producer with an id.
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
            if info != buffer.topic.info:
                buffer.topic.follow(info)
            if self._idempotent:
                (batch,) = batches
                offset = self._append_once(buffer, batch)
            else:
                offset = self._backend.append_encoded(buffer.partition, *batches, acks=1)
        except (UnknownTopic, UnknownPartition):
            if self._topics.get(name) is buffer.topic:
                del self._topics[name]  # ask anew: it may come back
                self._lanes.pop(name, None)
            raise
        if self._acks == "all":
            self._unsynced[buffer.partition] = next(self._appends)
        return offset

    def _append_once(self, buffer: Buffer, batch: bytes) -> int:
        """Append a batch as this producer's, with the sequence that comes next."""
        append = partial(self._backend.append_encoded, buffer.partition, acks=1)
        place = buffer.topic.info.topic_id, buffer.partition
        if self._transactions is None:
            if self._sequences is None:
                self._sequences = Sequences((self._backend.producer_id(), 0))
            return self._sequences.append(place, batch, append)
        # All that is known by now: each step of the coordinator is an append of its own.
        self._transactions.add({buffer.partition, *(one.partition for one in self._waiting)})
        producer = self._transactions.producer
        if self._sequences is None or self._sequences.producer != producer:
            self._sequences = Sequences(producer, transactional=True)
        try:
            return self._sequences.append(place, batch, append)
        except InvalidProducerEpoch as error:
            raise ProducerFenced(
                f"transactional id {self._transactional_id!r}: the transaction was ended by"
                " others, because it took longer than its time-out or another producer has taken"
                f" the id; begin a new producer ({error})"
            ) from error

    # Transactions: for `Transaction`, which keeps them to one thread.

    def _begin_transaction(self, transaction: Transaction) -> None:
        with self._lock:
            if self._closed:
                raise UsageError("the producer is closed")
            if self._current is not None:
                raise UsageError(
                    "the producer's last transaction is still open, and it has one at a time: end"
                    " it first, or have each thread use a producer with an id of its own"
                )
            assert self._transactions is not None
            self._transactions.begin()
            self._current = transaction

    def _commit_offsets(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        member: Membership | None,
    ) -> None:
        with self._lock:
            assert self._transactions is not None
            try:
                self._transactions.commit_offsets(group, offsets, member=member)
            except (StreamkitError, OSError) as error:
                self._spoiled = self._spoiled or error
                raise

    def _commit_transaction(self) -> None:
        with self._lock:
            assert self._transactions is not None
            for buffer in list(self._waiting):
                self._write(buffer)
            if self._error is not None:
                self._raise()
            if self._spoiled is not None:
                raise InvalidTxnState(
                    "the transaction is not committed, because part of it is missing:"
                    f" {self._spoiled}"
                ) from self._spoiled
            self._transactions.commit()
            self._forget_transaction()

    def _drop_transaction(self) -> bool:
        """Abort the present transaction; False when there was nothing to abort."""
        with self._lock:
            if self._current is None:
                return False
            assert self._transactions is not None
            self._waiting.clear()
            self._sendable = {}
            self._forget_transaction()
            return self._transactions.abort()

    def _forget_transaction(self) -> None:
        self._current = self._error = self._spoiled = None
        self._unsynced.clear()

    def _send_all(
        self,
        target: TopicBuffers,
        values: list[bytes | None],
        keys: list[bytes | None] | None,
        when: Sequence[int] | int,
        partition: int | None,
    ) -> None:
        at = waiting = 0
        while True:
            if partition is not None:
                buffers = [target.buffer(partition)]
            else:
                # Looked at anew after every batch: the topic may have grown, its turn have come.
                buffers = [target.sticky] if keys is None else target.buffers
            for buffer in buffers:
                if buffer.unwritten and buffer in self._waiting:
                    self._write(buffer)  # it could not be written before
            builders = [buffer.builder for buffer in buffers]
            at, full = codec.fill_batches(builders, values, keys, when, at, target.batch_bytes)
            if full < 0:
                break
            buffers[full].take_out()
            target.turn(buffers[full])
            waiting += 1
            if waiting >= target.most_batches:
                waiting = 0
                self._write_full_of(target)
        self._write_full_of(target)
        if len(values) > _FEW:
            for buffer in buffers:
                self._write(buffer)

    def _write_full_of(self, target: TopicBuffers) -> None:
        for buffer in target.buffers:
            if buffer.unwritten:
                self._write(buffer, full_only=True)

    def _wait_for_more(self, buffer: Buffer) -> None:
        due = self._waiting[buffer] = self._monotonic() + self._linger
        if self._transactions is not None:
            return  # nobody can read it before the end of the transaction
        if self._linger == 0:
            self._write_full(buffer)
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._write_after_linger, name="streamkit-producer", daemon=True
            )
            self._thread.start()
        elif due < self._asleep_until:
            self._something.notify()
        buffer.lane.open = not buffer.unwritten

    def _write_after_linger(self) -> None:
        with self._lock:
            while not self._closed:
                if not self._waiting:
                    self._asleep_until = inf
                    self._something.wait()
                    continue
                buffer, due = min(self._waiting.items(), key=itemgetter(1))
                left = due - self._monotonic()
                if left > 0:
                    # The buffer may be full before. Then it wakes for nothing, but only this once.
                    self._asleep_until = due
                    self._something.wait(left)
                    continue
                try:
                    self._write(buffer)
                except (StreamkitError, OSError) as error:
                    self._remember(error)

    def _after_fork(self) -> None:
        """In a child: what the parent has not written yet is the parent's to write."""
        self._topics.clear()
        self._lanes.clear()
        self._sendable = {}
        self._sequences = None
        self._forget_transaction()
        self._begin()


_producers: "weakref.WeakSet[Producer]" = weakref.WeakSet()


def _start_anew_in_child() -> None:
    for producer in list(_producers):
        producer._after_fork()


os.register_at_fork(after_in_child=_start_anew_in_child)


def _encode(value: Any) -> bytes | None:
    """What goes into the log for a key or value that is not bytes already."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return _encode_untyped(value)


_encode_untyped = serde_for(Untyped).encode


def _encode_all(values: Iterable[Any]) -> list[bytes | None]:
    """A list of one's own: the caller's may change."""
    some = list(values)
    return some if codec.are_bytes(some) else [v if type(v) is bytes else _encode(v) for v in some]


def _size(batches: Iterable[bytes]) -> str:
    number = sum(codec.read_header(batch).count for batch in batches)
    return f"{number} record{'s' if number != 1 else ''}"


def _no_key(topic: str) -> InvalidRecord:
    return InvalidRecord(
        f"topic {topic!r} is compacted: only the last record of each key is kept, so every record "
        "needs a key"
    )

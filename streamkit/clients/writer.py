"""Batches that wait, are written when they are full or late, and are tried again."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from math import inf
from operator import itemgetter

from streamkit import codec
from streamkit.clients.appends import Appends
from streamkit.clients.buffers import Buffer, TopicBuffers
from streamkit.clients.halves import halves
from streamkit.clients.sent_topics import SentTopics
from streamkit.clock import Clock
from streamkit.codec.buffer import Encoded
from streamkit.errors import RecordTooLarge, StreamkitError, UsageError, counted
from streamkit.records import TopicPartition

_RETRY_SECONDS = 1.0
"""How long a batch that could not be written waits until the background tries it again."""

_FEW = 64
"""Lists up to this long wait for more, as records do: a batch each would be waste."""


class Writer:
    """Writes the buffers of one producer. `lock` is held by who touches a buffer.

    `waiting`: the buffers that hold something, and when (monotonic seconds) it is to be written.
    `closing`: what can't be written now never will be. `error`: what the next call of the producer
    has to raise. `spoiled`: the first error for which
    something was given up; a transaction that it belonged to is not committed.
    """

    def __init__(
        self,
        topics: SentTopics,
        appends: Appends,
        *,
        linger: float,
        transactional: bool,
        clock: Clock,
    ) -> None:
        """`transactional`: nothing is written before it must, nor by a thread of its own."""
        self._topics = topics
        self._appends = appends
        self._linger = linger
        self._transactional = transactional
        self._monotonic = clock.monotonic
        self.error: BaseException | None = None
        self.spoiled: BaseException | None = None
        self.closing = False
        self.closed = False
        self._begin()

    def _begin(self) -> None:
        self.lock = threading.RLock()
        self.waiting: dict[Buffer, float] = {}
        self._something = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._asleep_until = inf

    def start_anew(self) -> None:
        """In a forked child: what the parent has not written yet is the parent's to write."""
        self._appends.start_anew()
        self.error = self.spoiled = None
        self._begin()

    def close(self) -> None:
        """End the thread. For who has the lock."""
        self.closed = True
        self._something.notify_all()

    def left(self) -> str:
        """What still waits, in words; nothing: "". For who has the lock."""
        return ", ".join(
            f"{counted(number, 'record')} sent to {buffer.partition}"
            for buffer in self.waiting
            if (number := _count(buffer.unwritten) + len(buffer.builder))
        )

    def forget(self) -> None:
        """Of what was sent until now, nothing is to be told or synced any more."""
        self.error = self.spoiled = None
        self._appends.unsynced.clear()

    def raise_error(self) -> None:
        """Raise what is to be told. Once."""
        error, self.error = self.error, None
        assert error is not None
        raise error

    def remember(self, error: BaseException) -> None:
        """Keep the first error for the next call, and say there what else was given up.

        One for which nothing was given up tells no more than that its records are kept and tried
        again: so it gives way to one that does, and others like it are echoes.
        """
        with self.lock:
            self._topics.close_lanes()
            if self.error is None:
                self.error = error
            elif isinstance(error, UsageError):
                if not isinstance(self.error, UsageError):
                    self.error = error
                    return
                for text in (f"also: {error}", *getattr(error, "__notes__", ())):
                    self.error.add_note(text)

    def flush(self) -> None:
        """Append all that was sent; with acks="all", return when it is on stable storage."""
        with self.lock:
            if not isinstance(self.error, UsageError):
                self.error = None  # what it is about is tried again here: that is what counts
            for buffer in list(self.waiting):
                try:
                    self.write(buffer)
                except (StreamkitError, OSError) as error:
                    self.remember(error)
            unsynced = dict(self._appends.unsynced)
        for partition, last in unsynced.items():
            try:
                self._appends.sync(partition)
            except (StreamkitError, OSError) as error:
                self.remember(error)
                if not isinstance(error, UsageError):
                    continue
            # Only now: another thread's flush must not return before its records are there, too.
            with self.lock:
                self._appends.synced(partition, last)
        with self.lock:
            if self.error is not None:
                self.raise_error()

    def sync(self, partition: TopicPartition) -> None:
        """Return when what was appended to a partition is on stable storage. Without the lock."""
        with self.lock:
            last = self._appends.unsynced.get(partition)
        if last is not None:  # else another thread has seen to it
            self._appends.sync(partition)
            with self.lock:
                self._appends.synced(partition, last)

    def write_filled(self, buffer: Buffer) -> None:
        """As `write_full`, for who has not the lock: the background may have been quicker, and
        refused the record that is being sent."""
        with self.lock:
            self.write_full(buffer)
            if isinstance(self.error, RecordTooLarge):
                self.raise_error()

    def write_full(self, buffer: Buffer) -> None:
        """Write what has just got full; errors that are not about the last record come later."""
        try:
            self.write(buffer)
        except RecordTooLarge:
            raise  # it can only be about the record that has just been sent
        except (StreamkitError, OSError) as error:
            self.remember(error)  # that record was taken, so the next call has to tell

    def write(self, buffer: Buffer, *, full_only: bool = False) -> None:
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
                self.spoiled = self.spoiled or error
            except (StreamkitError, OSError) as error:
                where = f"{counted(_count(buffer.unwritten), 'record')} sent to {buffer.partition}"
                if isinstance(error, UsageError):
                    buffer.unwritten.clear()
                    error.add_note(f"given up: {where}")
                    self.spoiled = self.spoiled or error
                elif self._transactional:
                    # Even if nothing else waits here: the commit tries it again, or fails.
                    self.waiting.setdefault(buffer, inf)
                    error.add_note(f"not appended to the transaction: {where}")
                else:
                    self.waiting[buffer] = self._monotonic() + _RETRY_SECONDS
                    if not self.closing:
                        error.add_note(f"kept, and will be tried again: {where}")
                if refused is not None:
                    self.remember(refused)
                raise
        if not len(buffer.builder):
            self.waiting.pop(buffer, None)
        if refused is not None:
            raise refused

    def _append_all(self, buffer: Buffer, batches: "deque[Encoded]") -> None:
        """Append batches, taking out each that is there; one that is too large goes as two."""
        if len(batches) > 1 and not self._appends.idempotent:
            with suppress(RecordTooLarge):  # then one by one
                while batches:
                    some = list(islice(batches, buffer.topic.most_batches))
                    self.append(buffer, *some)
                    for _ in some:
                        batches.popleft()
        while batches:
            try:
                self.append(buffer, batches[0])
            except RecordTooLarge:
                parts = halves(batches[0], buffer.topic.compression)
                if parts is None:
                    raise
                first, second = parts
                # In this order: an interrupt in between loses nothing.
                batches.insert(1, second)
                batches[0] = first
            else:
                batches.popleft()

    def append(self, buffer: Buffer, *batches: Encoded) -> int:
        """Append batches now; the first offset. For who has the lock."""
        return self._appends.append(buffer, *batches, waiting=self.waiting)

    def write_all(
        self,
        target: TopicBuffers,
        values: list[bytes | None],
        keys: list[bytes | None] | None,
        when: Sequence[int] | int,
        partition: int | None,
    ) -> None:
        """Write records of one topic now; few of them wait for more. For who has the lock."""
        try:
            self._write_all(target, values, keys, when, partition)
        finally:
            # Also what an error leaves half way waits for more, and no longer than usual.
            for buffer in target.buffers:
                begun = buffer.unwritten or len(buffer.builder)
                if begun and buffer not in self.waiting:
                    self.wait_for_more(buffer)

    def _write_all(
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
                if buffer.unwritten and buffer in self.waiting:
                    self.write(buffer)  # it could not be written before
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
        if len(values) > _FEW:
            for buffer in buffers:  # so that the rest goes with what is full, and not by itself
                if len(buffer.builder):
                    buffer.take_out()
                    target.turn(buffer)
        self._write_full_of(target)

    def _write_full_of(self, target: TopicBuffers) -> None:
        for buffer in target.buffers:
            if buffer.unwritten:
                self.write(buffer, full_only=True)

    def wait_for_more(self, buffer: Buffer) -> None:
        """See to it that what the buffer holds is written soon. For who has the lock."""
        due = self.waiting[buffer] = self._monotonic() + self._linger
        if self._transactional:
            return  # nobody can read it before the end of the transaction
        if self._linger == 0:
            self.write_full(buffer)
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
        with self.lock:
            while not self.closed:
                if not self.waiting:
                    self._asleep_until = inf
                    self._something.wait()
                    continue
                buffer, due = min(self.waiting.items(), key=itemgetter(1))
                left = due - self._monotonic()
                if left > 0:
                    # The buffer may be full before. Then it wakes for nothing, but only this once.
                    self._asleep_until = due
                    self._something.wait(left)
                    continue
                try:
                    self.write(buffer)
                except (StreamkitError, OSError) as error:
                    self.remember(error)


def _count(batches: Iterable[Encoded]) -> int:
    return sum(codec.read_header(batch).count for batch in batches)

"""Compacting one partition: a round of bounded steps, beside those who read and append.

What stays is decided in `compaction`, how files are replaced in `swap`.
"""

import errno
import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from streamkit.clock import Clock
from streamkit.codec import LatestOffsets
from streamkit.errors import CorruptBatch
from streamkit.log.block import ControlBlock
from streamkit.log.cleaned import note_cleaned, read_cleaned
from streamkit.log.compaction import (
    Dirt,
    Transactions,
    grouped,
    last_batches,
    measured,
)
from streamkit.log.config import TopicConfig
from streamkit.log.control import End, Synced
from streamkit.log.files import Buffer, Files, OpenFile
from streamkit.log.finished import FinishedSegments
from streamkit.log.retention import Extent
from streamkit.log.rewrite import Rewrite
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, TXNINDEX, Tally, file_name
from streamkit.log.segments import Segments
from streamkit.log.swap import CLEANED, decide, decided, discard, finish, install, settle
from streamkit.log.view import existing
from streamkit.records import TopicPartition
from streamkit.transactions.producer import Producer
from streamkit.transactions.txnindex import Aborted

logger = logging.getLogger(__name__)

WRITE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Compacted:
    """How far a round is. `read` and `written` are bytes of `.log` files, in this round.

    `read` counts the dirty part twice: once for its keys, and once for what is kept of it.
    """

    read: int
    written: int
    removed_records: int
    clean_to: int
    """The offset up to which the partition is clean when the round is done."""

    done: bool


class Cleaner:
    """Compacts one partition. For one thread at a time; other processes are kept out by a lock.

    A round that is not gone on with, because its process was killed, leaves files that the next one
    finishes or removes.
    """

    def __init__(
        self,
        tp: TopicPartition,
        segments: Segments,
        *,
        files: Files,
        clock: Clock,
        end: Callable[[], End],
        block: Callable[[], ControlBlock],
        locked: Callable[[], AbstractContextManager[ControlBlock]],
        sync_locked: Callable[[], AbstractContextManager[None]],
        sync: Callable[[], None],
        producers: Callable[[], list[Producer]],
        aborted: Callable[[int, int], list[Aborted]],
    ) -> None:
        """The callables are the partition's own: its published end, its control block, its locks
        (of appends and of syncs), what it knows of producers and of aborted transactions."""
        self._tp = tp
        self._segments = segments
        self._finished = FinishedSegments(tp, segments, files=files)
        self._files = files
        self._clock = clock
        self._end = end
        self._block = block
        self._locked = locked
        self._sync_locked = sync_locked
        self._sync = sync
        self._producers = producers
        self._aborted = aborted
        self._directory = segments.directory
        self._root = os.path.dirname(segments.directory)
        self._lock: OpenFile | None = None
        self._root_lock: OpenFile | None = None
        self._steps: Iterator[int] | None = None
        self._written = self._removed = self._clean_to = 0

    def dirt(self, config: TopicConfig) -> Dirt:
        """How much there is to compact."""
        end = self._end()
        return self._measured(self._finished.extents(end), end, config)

    def step(
        self, config: TopicConfig, budget: int, *, memory: int, force: bool
    ) -> Compacted | None:
        """Go on with the round, or begin one; None when there is none to be begun.

        That is when the partition is not dirty enough, which `force` passes over, or when another
        process is at it.
        """
        if self._steps is None:
            if not force and not self.dirt(config).due(config):
                return None
            if not self._take_lock():
                return None
            self._finished.read = self._written = self._removed = 0
            self._steps = self._round(config, memory)
        until = self._finished.read + budget
        try:
            for _ in self._steps:
                if self._finished.read >= until:
                    return self._state(done=False)
        except BaseException:
            with suppress(OSError):  # else the next round removes it
                discard(self._files, self._segments)
            self.close()
            raise
        self.close()
        return self._state(done=True)

    def _state(self, *, done: bool) -> Compacted:
        return Compacted(self._finished.read, self._written, self._removed, self._clean_to, done)

    def close(self) -> None:
        """Give up the round; the next one begins anew."""
        self._steps = None
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                lock.unlock()
            finally:
                lock.abandon()  # else what an error refers to would hold the lock

    def forked(self) -> None:
        """In a forked child: the round is the parent's."""
        for lock in (self._lock, self._root_lock):
            if lock is not None:
                lock.abandon()
        self._lock = self._root_lock = None
        self._steps = None

    def _take_lock(self) -> bool:
        path = os.path.join(self._directory, "cleaner")
        self._lock = OpenFile(self._files, path, os.O_RDWR | os.O_CREAT)
        if not self._lock.try_lock():
            self._lock = None
            return False
        return True

    # A round.

    def _round(self, config: TopicConfig, memory: int) -> Iterator[int]:
        """Yields now and then; between two yields no more than a batch is decoded."""
        try:
            yield from self._cleaned_round(config, memory)
        except FileNotFoundError:
            if self._block().file.gone:
                raise  # with the whole partition
            logger.info("%s: a round of compaction given up: segments were removed", self._tp)

    def _cleaned_round(self, config: TopicConfig, memory: int) -> Iterator[int]:
        self._tidy()
        end = self._settled_end()
        extents = self._finished.extents(end)
        now = self._clock.now()
        dirt = self._measured(extents, end, config)
        latest = LatestOffsets(memory)
        # Of all finished segments: their indexes are written anew. The first may begin below the
        # start offset; what was aborted there would be a committed record from then on.
        first = extents[0].base if extents else end.active_base
        aborted = self._aborted(first, end.active_base) if end.producers_end >= 0 else None
        self._clean_to = yield from self._note_keys(
            extents, dirt, Transactions(aborted or ()), latest
        )
        rewrite = Rewrite(
            config=config,
            clean_to=self._clean_to,
            now=now,
            latest=latest,
            aborted=aborted,
            last=last_batches(self._producers()),
        )
        below = [extent for extent in extents if extent.base < self._clean_to]
        for group in grouped(below, config.segment_bytes):
            changed = yield from self._write(group, rewrite)
            if not changed:
                discard(self._files, self._segments)
            else:
                self._replace(group)
        self._note()
        logger.info(
            "%s: compacted up to offset %d: %d bytes became %d",
            self._tp,
            self._clean_to,
            sum(extent.size for extent in below),
            self._written,
        )

    def _tidy(self) -> None:
        """Finish or remove what one who was killed has left."""
        if decided(self._files, self._directory):
            with self._locked() as block:
                finish(self._files, self._segments, block, block.end() or self._end())
        discard(self._files, self._segments)

    def _settled_end(self) -> End:
        """The published end, once no walk after a power cut begins in what is finished by then.

        The position up to which the log is known to be synced is one in a file. With another file
        in its place, it would be in the middle of a batch, which would be cut as a torn one.
        """
        end = self._end()
        self._sync()
        block = self._block()
        with self._sync_locked():
            synced = block.synced()
            if synced is None or synced.base < end.active_base:
                # All that is before the active segment was synced just now. What others have
                # appended and finished since may not be.
                self._files.fsync_dir(self._directory)
                block.publish_synced(Synced(end.active_base, 0, end.active_base))
                block.flush()
        return end

    def _measured(self, extents: list[Extent], end: End, config: TopicConfig) -> Dirt:
        now = self._clock.now()
        first_dirty = read_cleaned(self._files, self._root).get(self._tp, -1)
        dirty = next((extent for extent in extents if extent.end > first_dirty), None)
        return measured(
            extents,
            first_dirty,
            config,
            active_base=end.active_base,
            stable_offset=end.stable_offset,
            oldest_dirty=now if dirty is None else self._finished.first_time(dirty, now),
            now=now,
        )

    def _note_keys(
        self,
        extents: list[Extent],
        dirt: Dirt,
        transactions: Transactions,
        latest: LatestOffsets,
    ) -> Generator[int, None, int]:
        """Note the keys of the dirty part; returns the offset up to which they all are."""
        for extent in extents:
            if extent.end <= dirt.first_dirty or extent.base >= dirt.uncleanable:
                continue
            for header, batch, position in self._finished.batches(extent):
                if header.base_offset >= dirt.uncleanable:
                    break
                yield 0
                if header.next_offset <= dirt.first_dirty or header.control:
                    continue
                if not transactions.is_aborted(header):
                    try:
                        latest.add(batch, dirt.first_dirty)
                    except CorruptBatch as error:
                        self._finished.raise_corrupt(extent, position, error)
                    if latest.full:
                        return header.next_offset
        return dirt.uncleanable

    def _write(self, group: list[Extent], rewrite: Rewrite) -> Generator[int, None, bool]:
        """Write what stays of some segments into the `.cleaned` files of one.

        Returns whether it is anything else than before.
        """
        base = group[0].base
        target = self._created(base, LOG)
        tally = Tally(base, rewrite.config.index_interval_bytes)
        buffers: list[Buffer] = []
        pending = written = 0
        changed = len(group) > 1
        for extent in group:
            for header, batch, position in self._finished.batches(extent):
                final = extent is group[-1] and position + header.size >= extent.size
                try:
                    kept = rewrite.kept(header, batch, final=final)
                except CorruptBatch as error:
                    self._finished.raise_corrupt(extent, position, error)
                changed = changed or kept is None or kept[0] is not batch
                if kept is not None:
                    data, timestamp, removed = kept
                    tally.add(header.last_offset, timestamp, written + pending, len(data))
                    buffers.append(data)
                    pending += len(data)
                    self._removed += removed
                else:
                    self._removed += header.count
                if pending >= WRITE_BYTES:
                    target.write(buffers, written)
                    written, pending, buffers = written + pending, 0, []
                yield 0
        target.write(buffers, written)
        written += pending
        self._written += written
        tally.seal()
        if not changed:
            return False
        entries = rewrite.entries(base, group[-1].end)
        files = [target]
        for suffix, content in (
            (INDEX, tally.index),
            (TIMEINDEX, tally.timeindex),
            (TXNINDEX, entries),
        ):
            if content is not None:
                file = self._created(base, suffix)
                if content:
                    file.write([content], 0)
                files.append(file)
        for file in files:
            file.sync()
        # Its age counts from its last append, not from now.
        self._files.date(self._cleaned(base, LOG), group[-1].appended)
        return True

    def _created(self, base: int, suffix: str) -> OpenFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        return OpenFile(self._files, self._cleaned(base, suffix), flags)

    def _cleaned(self, base: int, suffix: str) -> str:
        return os.path.join(self._directory, file_name(base, suffix + CLEANED))

    def _replace(self, group: list[Extent]) -> None:
        """Put what was written in the place of what it was made from.

        Raises FileNotFoundError when that, or what was written, was removed meanwhile.
        """
        bases = [extent.base for extent in group]
        base = bases[0]
        with self._locked() as block:
            end = block.end() or self._end()
            if not set(bases) <= set(existing(self._files, self._directory, end)):
                discard(self._files, self._segments)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._directory)
            decide(self._files, self._directory, base)
        # Not under the append lock: producers need not wait for it.
        self._files.fsync_dir(self._directory)
        with self._locked() as block:
            end = block.end() or self._end()
            install(self._files, self._segments, block, end, base, bases[1:])
        settle(self._files, self._segments, base)

    def _note(self) -> None:
        """Note how far the partition is clean, unless it was deleted meanwhile."""
        with self._root_locked():
            if not self._block().file.gone:
                note_cleaned(self._files, self._root, self._tp, self._clean_to)

    @contextmanager
    def _root_locked(self) -> Iterator[None]:
        path = os.path.join(self._root, "control")
        lock = self._root_lock = OpenFile(self._files, path, os.O_RDWR | os.O_CREAT)
        try:
            lock.lock()
            yield
        finally:
            self._root_lock = None
            try:
                lock.unlock()
            finally:
                lock.abandon()

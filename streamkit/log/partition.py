"""One partition: append, read, sync, seek by time; many threads and processes at once."""

import errno
import fcntl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, NoReturn

import msgspec

from streamkit.clock import Clock
from streamkit.codec import HEADER_BYTES, check, columns, headers, read_header, stamp
from streamkit.codec.header import BatchHeader
from streamkit.errors import (
    CorruptBatch,
    CorruptLog,
    OffsetOutOfRange,
    OutOfSpace,
    ReadOnlyLog,
    RecordTooLarge,
    StorageFailed,
    UnknownTopic,
)
from streamkit.log.block import ControlBlock
from streamkit.log.config import TopicConfig
from streamkit.log.control import End
from streamkit.log.files import Buffer, Files, write_all
from streamkit.log.opening import ReadOnlyEnd, open_block
from streamkit.log.recovery import cut_tail
from streamkit.log.segment import Tally, whole_batches
from streamkit.log.segments import Segments
from streamkit.log.stamping import with_append_time
from streamkit.log.sync import Syncer, raise_sticky
from streamkit.records import TopicPartition

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
BROKEN = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO})
MAX_INDEX_BYTES = 10 << 20
MAX_RELATIVE_OFFSET = 2**31 - 1
NEVER = 2**63 - 1
NEXT_POSITIONS = 64
"""How many readers' next positions are remembered."""


class Partition:
    """Safe to use from any thread, and beside other processes on the same directory."""

    def __init__(
        self,
        tp: TopicPartition,
        directory: str,
        config: TopicConfig,
        *,
        files: Files,
        clock: Clock,
        fsync: Literal["always", "never"],
        read_only: bool,
        notify: Callable[[], None],
    ) -> None:
        """`notify` is called after every append, without any lock held."""
        self.tp = tp
        self.config = config
        self.directory = directory
        self._files = files
        self._clock = clock
        self._fsync = fsync
        self._read_only = read_only
        self._notify = notify
        self._segments = Segments(files, directory, writable=not read_only)
        self._syncer = Syncer(files, self._segments)
        self._mutex = threading.Lock()
        self._opening = threading.Lock()
        self._block: ControlBlock | None = None
        self._frozen = ReadOnlyEnd(files, self._segments, interval=config.index_interval_bytes)
        self._tail_checked = False
        self._next: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Partition {self.tp} in {self.directory}>"

    # Where it starts and ends.

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return self._end().start_offset

    @property
    def end_offset(self) -> int:
        """The offset after the last."""
        return self._end().end_offset

    @property
    def synced_offset(self) -> int:
        """Everything before it is on stable storage."""
        source = self._frozen if self._read_only else self._writable_block()
        synced = source.synced()
        return synced.offset if synced is not None else self.start_offset

    @property
    def leader_epoch(self) -> int:
        """Raised whenever a torn tail was cut."""
        return self._end().leader_epoch

    # Append.

    def append(self, batches: Sequence[Buffer], *, acks: Literal["all", 1] = "all") -> int:
        """Append encoded batches in this order and return the first one's new base offset.

        They are published together when they fit one segment, else segment by segment; a batch is
        always whole or not there. With `acks="all"` they are on stable storage on return, with 1
        in the page cache. Raises RecordTooLarge, CorruptBatch (a batch that is not well-formed),
        OutOfSpace, StorageFailed, ReadOnlyLog.
        """
        checked = [self._checked(batch) for batch in batches]
        block = self._writable_block()
        with self._mutex:
            try:
                self._files.flock(block.fd, fcntl.LOCK_EX)
                first = self._append_locked(block, checked)
            finally:
                self._files.flock(block.fd, fcntl.LOCK_UN)
        self._notify()
        if acks == "all":
            self.sync()
        return first

    def _checked(self, batch: Buffer) -> tuple[Buffer, BatchHeader]:
        header = check(batch)
        if header.size != len(batch):
            raise CorruptBatch(
                f"{self.tp}: {len(batch)} bytes to append, but the batch in them has {header.size}",
                header.size,
            )
        limit = min(self.config.max_message_bytes, self.config.segment_bytes)
        if header.size > limit:
            name = "max.message.bytes" if limit < self.config.segment_bytes else "segment.bytes"
            raise RecordTooLarge(
                f"{self.tp}: a batch of {header.size} bytes, but the topic's {name} is {limit};"
                " send smaller batches or raise it"
            )
        if self.config.timestamp_type == "LogAppendTime":
            now = self._clock.now()
            batch = with_append_time(bytes(batch), header, now)
            header = msgspec.structs.replace(header, max_timestamp=now)
        return batch, header

    def _append_locked(
        self, block: ControlBlock, checked: Sequence[tuple[Buffer, BatchHeader]]
    ) -> int:
        raise_sticky(block, self.directory)
        if block.gone:
            self._raise_gone()
        end = block.end()
        if end is None:
            self._raise_overwritten()
        if block.dirty or not self._tail_checked:
            end = self._take_back_tail(block, end)
        first = end.end_offset
        rest = list(checked)
        while rest:
            count = self._fitting(end, rest)
            if count == 0:
                end = self._roll(block, end)
                continue
            end = self._write(block, end, rest[:count])
            del rest[:count]
        return first

    def _take_back_tail(self, block: ControlBlock, end: End) -> End:
        block.dirty = True
        cut = cut_tail(self._files, self._segments, end)
        if cut is not end:
            block.publish(cut)
        block.dirty = False
        self._tail_checked = True
        return cut

    def _fitting(self, end: End, rest: Sequence[tuple[Buffer, BatchHeader]]) -> int:
        """How many of the batches go into the active segment now; 0: it is over, roll first."""
        config = self.config
        if end.end_position == 0:
            room = config.segment_bytes
        else:
            room = config.segment_bytes - end.end_position
            total = sum(header.size for _, header in rest)
            if total > room and total <= config.segment_bytes:
                return 0  # all of them in the next segment, published at once
            if self._clock.now() - end.segment_created >= config.segment_ms:
                return 0
            if end.index_bytes >= MAX_INDEX_BYTES:
                return 0
        offset = end.end_offset
        count = 0
        for _, header in rest:
            room -= header.size
            offset += header.last_offset_delta + 1
            if room < 0 or offset - end.active_base > MAX_RELATIVE_OFFSET:
                break
            count += 1
        return count

    def _write(
        self, block: ControlBlock, end: End, batches: Sequence[tuple[Buffer, BatchHeader]]
    ) -> End:
        """One pwritev, the index entries, and then the publication of all of it."""
        log = self._segments.file(end.active_base)
        tally = Tally(
            end.active_base,
            self.config.index_interval_bytes,
            max_timestamp=end.max_timestamp,
            max_timestamp_offset=end.max_timestamp_offset,
            indexed_timestamp=end.indexed_timestamp,
            unindexed=end.unindexed_bytes,
        )
        buffers: list[Buffer] = []
        offset, position = end.end_offset, end.end_position
        for batch, header in batches:
            buffers.append(stamp(batch, offset, end.leader_epoch))
            buffers.append(memoryview(batch)[16:])
            last = offset + header.last_offset_delta
            tally.add(last, header.max_timestamp, position, header.size)
            offset = last + 1
            position += header.size
        block.dirty = True
        try:
            write_all(self._files, log.fd, buffers, end.end_position)
            self._segments.add_entries(end.active_base, tally, end.index_bytes, end.timeindex_bytes)
        except OSError as error:
            self._take_back(block, end, error)
        after = msgspec.structs.replace(
            end,
            end_position=position,
            end_offset=offset,
            stable_offset=offset,
            segment_created=end.segment_created if end.end_position else self._clock.now(),
            max_timestamp=tally.max_timestamp,
            max_timestamp_offset=tally.max_timestamp_offset,
            indexed_timestamp=tally.indexed_timestamp,
            index_bytes=end.index_bytes + len(tally.index),
            timeindex_bytes=end.timeindex_bytes + len(tally.timeindex),
            unindexed_bytes=tally.unindexed,
        )
        block.publish(after)
        block.dirty = False
        return after

    def _roll(self, block: ControlBlock, end: End) -> End:
        """Finish the active segment and begin the next at the end offset."""
        tally = Tally(
            end.active_base,
            0,
            max_timestamp=end.max_timestamp,
            max_timestamp_offset=end.max_timestamp_offset,
            indexed_timestamp=end.indexed_timestamp,
        )
        tally.seal()
        block.dirty = True
        try:
            self._segments.add_entries(end.active_base, tally, end.index_bytes, end.timeindex_bytes)
            self._segments.create(end.end_offset)
        except OSError as error:
            self._take_back(block, end, error)
        after = msgspec.structs.replace(
            end,
            active_base=end.end_offset,
            end_position=0,
            segment_created=self._clock.now(),
            max_timestamp=-1,
            max_timestamp_offset=-1,
            indexed_timestamp=-1,
            index_bytes=0,
            timeindex_bytes=0,
            unindexed_bytes=0,
        )
        block.publish(after)
        block.dirty = False
        if self._fsync == "always":
            # In the background, and so that a walk after a power cut has one segment, not all.
            threading.Thread(target=self._sync_rolled, daemon=True).start()
        return after

    def _take_back(self, block: ControlBlock, end: End, error: OSError) -> NoReturn:
        """Undo a write that failed half way, and say why it did."""
        if error.errno in BROKEN:
            block.errno = error.errno or errno.EIO
        with suppress(OSError):  # then it stays dirty, and the next append tries again
            self._take_back_tail(block, end)
        raise_sticky(block, self.directory)
        what = f"{self.tp}@{end.end_offset}: the append to {self.directory} failed"
        if error.errno in FULL:
            raise OutOfSpace(
                f"{what}: {error.strerror}. Nothing of it was kept; free some space, send it again"
            ) from error
        raise StorageFailed(f"{what}: {error}. Nothing of it was kept") from error

    def _sync_rolled(self) -> None:
        with suppress(StorageFailed, UnknownTopic, OSError):  # sticky: the next append raises it
            self.sync()

    # Sync.

    def sync(self) -> None:
        """Return when everything appended before the call is on stable storage.

        Raises StorageFailed, also when an earlier sync of any process did.
        """
        if self._fsync == "never":
            return
        block = self._writable_block()
        end = block.end()
        if end is not None:
            self._syncer.sync(block, end)

    # Read.

    def read(self, offset: int, max_bytes: int = 1 << 20) -> bytes:
        """Whole batches, the first of which holds `offset` or is the next one after it.

        At least one batch, about `max_bytes`; b"" at the end. Checksums are not looked at: that is
        for whoever decodes (see `verify`). Raises OffsetOutOfRange, and CorruptLog when the bytes
        at `offset` are no batch.
        """
        while True:
            end = self._end()
            if offset == end.end_offset:
                return b""
            if not end.start_offset <= offset < end.end_offset:
                raise OffsetOutOfRange(
                    f"{self.tp}@{offset}: the partition has offsets {end.start_offset} to"
                    f" {end.end_offset - 1}"
                    if end.end_offset > end.start_offset
                    else f"{self.tp}@{offset}: the partition is empty, it goes on at"
                    f" {end.end_offset}"
                )
            base = self._segments.base_for(offset, end)
            limit = end.end_position if base == end.active_base else self._segments.size(base)
            known = self._next.get(offset)
            if known is not None and known[0] == base:
                position = known[1]
            else:
                position = self._position(base, offset, end)
            data = self._read_at(base, position, limit, offset, max_bytes)
            if data:
                return data
            # The rest of this segment is gone (compacted): the next one goes on.
            offset = next(other for other in self._segments.bases(end) if other > base)

    def _read_at(self, base: int, position: int, limit: int, offset: int, max_bytes: int) -> bytes:
        """Read on from `position`, where a batch starts, to the first that holds `offset`."""
        size = max_bytes
        while position < limit:
            size = max(min(size, limit - position), 0)
            data = self._pread(base, position, size, offset)
            if len(data) < size:
                self._raise_corrupt(base, position + len(data), offset, "the file ends here")
            try:
                found = whole_batches(data, offset, limit - position)
            except CorruptBatch as error:
                self._raise_corrupt(base, position + error.position, offset, str(error), error)
            if found.start < found.end:
                self._remember(found.next_offset, base, position + found.end)
                whole = found.start == 0 and found.end == len(data)
                return data if whole else data[found.start : found.end]
            position += found.start
            size = max(max_bytes, found.wanted)
        return b""

    def _remember(self, next_offset: int, base: int, position: int) -> None:
        if len(self._next) >= NEXT_POSITIONS:
            self._next = {}
        self._next[next_offset] = (base, position)

    def _pread(self, base: int, position: int, size: int, offset: int) -> bytes:
        try:
            return self._segments.read(base, position, size)
        except FileNotFoundError:
            self._raise_gone()
        except OSError as error:
            raise StorageFailed(
                f"{self.tp}@{offset}: reading {self._segments.path(base)} at byte {position}"
                f" failed: {error.strerror}; check the disk"
            ) from error

    def _position(self, base: int, offset: int, end: End) -> int:
        """Where to begin to look for `offset`; a lost or lying index is rebuilt."""
        limit = end.index_bytes if base == end.active_base else MAX_INDEX_BYTES * 2
        position = self._segments.position(base, offset, limit)
        if position is None and not self._read_only:
            self._reindex(base)
            position = self._segments.position(base, offset, limit)
        return position or 0

    def _reindex(self, base: int) -> None:
        """Make a segment's indexes anew from its batches' headers."""
        block = self._writable_block()
        with self._mutex:
            try:
                self._files.flock(block.fd, fcntl.LOCK_EX)
                end = block.end()
                if end is None or block.dirty:
                    return  # the next append sets that right first
                active = base == end.active_base
                size = end.end_position if active else self._segments.size(base)
                tally = Tally(base, self.config.index_interval_bytes)
                self._segments.scan(base, size, tally, check_from=size)
                if not active:
                    tally.seal()
                self._segments.rewrite_indexes(base, tally)
                if active:
                    block.publish(
                        msgspec.structs.replace(
                            end,
                            indexed_timestamp=tally.indexed_timestamp,
                            index_bytes=len(tally.index),
                            timeindex_bytes=len(tally.timeindex),
                            unindexed_bytes=tally.unindexed,
                        )
                    )
            finally:
                self._files.flock(block.fd, fcntl.LOCK_UN)

    def verify(self, offset: int, max_bytes: int = 1 << 20) -> None:
        """Look at the checksums of what `read(offset, max_bytes)` returns.

        For whoever could not decode it: raises CorruptLog, naming the file and the byte.
        """
        end = self._end()
        base = self._segments.base_for(offset, end)
        limit = end.end_position if base == end.active_base else self._segments.size(base)
        position = self._position(base, offset, end)
        while position < limit and max_bytes > 0:
            head = self._pread(base, position, HEADER_BYTES, offset)
            try:
                header = read_header(head)
                if header.next_offset > offset:
                    check(self._pread(base, position, header.size, offset))
                    offset = header.next_offset
                    max_bytes -= header.size
            except CorruptBatch as error:
                self._raise_corrupt(base, position, offset, str(error), error)
            position += header.size

    # Seek by time.

    def offset_at(self, timestamp: int) -> int | None:
        """The first offset whose record's timestamp is >= `timestamp` (ms); None: there is none."""
        end = self._end()
        for base in self._segments.bases(end):
            active = base == end.active_base
            if self._largest_timestamp(base, end) < timestamp:
                continue
            before = self._segments.time_before(
                base, timestamp, end.timeindex_bytes if active else MAX_INDEX_BYTES * 2
            )
            told = before is not None and self._is_entry(before, end)
            offset = max(before[1] if before is not None and told else base, end.start_offset)
            following = self._first_at(offset, timestamp, end)
            if following is not None:
                return following
        return None

    def _largest_timestamp(self, base: int, end: End) -> int:
        """The largest timestamp in a segment, or a bound for it where no index tells."""
        if base == end.active_base:
            return end.max_timestamp
        entry = self._segments.time_before(base, NEVER, MAX_INDEX_BYTES * 2)
        return entry[0] if entry is not None and self._is_entry(entry, end) else NEVER

    def _is_entry(self, entry: tuple[int, int], end: End) -> bool:
        """Whether the time index entry is true of the batch that it names."""
        timestamp, offset = entry
        if not end.start_offset <= offset < end.end_offset:
            return False
        header = read_header(self.read(offset, HEADER_BYTES))
        return header.last_offset == offset and header.max_timestamp == timestamp

    def _first_at(self, offset: int, timestamp: int, end: End) -> int | None:
        while offset < end.end_offset:
            data = self.read(offset)
            for at, header in headers(data):
                offset = header.next_offset
                if header.max_timestamp < timestamp:
                    continue
                found = columns(data[at : at + header.size], end.start_offset)
                for record, time in zip(found.offsets, found.timestamps, strict=True):
                    if time >= timestamp:
                        return record
        return None

    # Opening, closing.

    def _end(self) -> End:
        if self._read_only:
            end = self._frozen.end()
        else:
            end = (self._block or self._writable_block()).end()
        if end is None:
            self._raise_overwritten()
        return end

    def _writable_block(self) -> ControlBlock:
        block = self._block
        if block is not None:
            return block
        if self._read_only:
            raise ReadOnlyLog(f"{self.tp}: {self.directory} was opened read-only")
        with self._opening:
            if self._block is None:
                try:
                    self._block = open_block(
                        self._files,
                        self._segments,
                        self._syncer.locked(),
                        interval=self.config.index_interval_bytes,
                        now=self._clock.now(),
                    )
                except FileNotFoundError:
                    self._raise_gone()
                except OSError as error:
                    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                        raise ReadOnlyLog(
                            f"{self.directory}: {error.strerror}; open the log read-only, or let"
                            " this user write there"
                        ) from error
                    raise
            return self._block

    def forked(self) -> None:
        """In a forked child: let go of locks and files that are the parent's.

        The child's copies of descriptors share the parent's flocks; the child opens its own.
        """
        self._mutex = threading.Lock()
        self._opening = threading.Lock()
        self._syncer.forked()
        self.close()

    def close(self) -> None:
        """Let go of the files. Used again, it opens them again."""
        self._block = None
        self._tail_checked = False
        self._frozen = ReadOnlyEnd(
            self._files, self._segments, interval=self.config.index_interval_bytes
        )
        self._segments.close()

    # What goes wrong.

    def _raise_gone(self) -> NoReturn:
        raise UnknownTopic(f"{self.tp}: deleted; its directory {self.directory} is gone")

    def _raise_overwritten(self) -> NoReturn:
        raise CorruptLog(
            f"{self.directory}/control: overwritten by something else. Stop all processes that use"
            " this log and delete the file: it is made anew from the log"
        )

    def _raise_corrupt(
        self, base: int, position: int, offset: int, problem: str, cause: Exception | None = None
    ) -> NoReturn:
        raise CorruptLog(
            f"{self.tp}@{offset}: {self._segments.path(base)} is corrupt at byte {position}:"
            f" {problem}. Restore the file from a backup, or go on reading after the damage"
        ) from cause

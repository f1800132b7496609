"""Reading a partition: by offset, by time, and what is said when its bytes are damaged."""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from streamkit.codec import HEADER_BYTES, check, columns, headers, read_header
from streamkit.errors import CorruptBatch, CorruptLog, OffsetOutOfRange, StorageFailed
from streamkit.log.control import End
from streamkit.log.files import OpenFile
from streamkit.log.segment import INDEX, MAX_INDEX_BYTES, TIMEINDEX, whole_batches
from streamkit.log.segments import Segments
from streamkit.log.view import View
from streamkit.records import TopicPartition

NEVER = 2**63 - 1
"""Later than every timestamp."""

LARGE = 128 << 10
"""From how many bytes on malloc fetches every block from the kernel, page by page."""

ATTEMPTS = 10
"""How often a file may be gone when it is about to be opened, until it counts as lost."""

T = TypeVar("T")


class Reader:
    """Reads below the published end; takes no lock."""

    def __init__(
        self,
        tp: TopicPartition,
        segments: Segments,
        *,
        end: Callable[[], End],
        reindex: Callable[[int], None],
        sparse: bool,
    ) -> None:
        """`reindex(base)` makes a segment's indexes anew, if this process may write.

        `sparse`: offsets may be missing in the middle, as compaction leaves it.
        """
        self.sparse = sparse
        self._tp = tp
        self._segments = segments
        self._end = end
        self._reindex = reindex

    def read(self, offset: int, max_bytes: int = 1 << 20) -> bytes:
        """Whole batches, the first of which holds `offset` or is the next one after it.

        At least one batch, about `max_bytes`; b"" at the end. Checksums are not looked at: that is
        for whoever decodes (see `verify`). Raises OffsetOutOfRange, and CorruptLog when the bytes
        at `offset` are no batch.
        """
        return self._looked(lambda end, view: self._read_in(view, end, offset, max_bytes), offset)

    def _looked(self, look: Callable[[End, View], T], offset: int) -> T:
        """What `look` finds; it looks again when files were replaced or removed under it."""
        gone: FileNotFoundError | None = None
        for _ in range(ATTEMPTS):
            end = self._end()
            view = self._segments.view(end)
            try:
                return look(end, view)
            except FileNotFoundError as error:
                self._segments.relist()
                gone = error
            except CorruptLog:
                # What was removed before the segments were listed, and after the end was asked
                # for, is missing there, and no damage.
                if self._end().rewrites == end.rewrites:
                    raise
        self._raise_corrupt(view.base_for(offset, end), 0, offset, "the file is gone", gone)

    def _read_in(self, view: View, end: End, offset: int, max_bytes: int) -> bytes:
        if offset == end.end_offset:
            return b""
        self._require_within(offset, end)
        base = view.base_for(offset, end)
        while True:
            log = view.file(base)
            limit = end.end_position if base == end.active_base else log.size()
            position = view.recall(offset, log)
            if position is None:
                position = self._position(view, base, log, offset, end)
            data = self._read_at(view, base, log, position, limit, offset, max_bytes)
            if data:
                self._require_dense(base, limit, offset, int.from_bytes(data[:8], "big"))
                return data
            following = view.after(base)
            if following is None:
                # No compaction takes away what is last, so this is not for dense topics alone.
                self._require_all(base, limit, offset, end.end_offset)
                return b""
            self._require_dense(base, limit, offset, following)
            base, offset = following, max(following, offset)

    def _require_within(self, offset: int, end: End) -> None:
        if not end.start_offset <= offset < end.end_offset:
            raise OffsetOutOfRange(
                f"{self._tp}@{offset}: the partition has offsets {end.start_offset} to"
                f" {end.end_offset - 1}"
                if end.end_offset > end.start_offset
                else f"{self._tp}@{offset}: the partition is empty, it goes on at {end.end_offset}"
            )

    def _read_at(
        self,
        view: View,
        base: int,
        log: OpenFile,
        position: int,
        limit: int,
        offset: int,
        max_bytes: int,
    ) -> bytes:
        """Read on from `position`, where a batch starts, to the first that holds `offset`."""
        size = max_bytes
        if LARGE <= size < limit - position:
            # To end with a batch, so that nothing has to be cut off: copying so many bytes costs
            # several times what reading them does.
            size = max(view.boundary(base, position + size) - position, LARGE)
        while position < limit:
            size = min(size, limit - position)
            data = self._pread(log, position, size, offset)
            if len(data) < size:  # somebody cut the file; what is left can be read
                limit = position + len(data)
            try:
                found = whole_batches(data, offset, limit - position)
            except CorruptBatch as error:
                self._raise_corrupt(base, position + error.position, offset, str(error), error)
            if found.start < found.end:
                view.remember(found.next_offset, log, position + found.end)
                whole = found.start == 0 and found.end == len(data)
                return data if whole else data[found.start : found.end]
            position += found.start
            size = max(max_bytes, found.wanted)
        return b""

    def _require_dense(self, base: int, size: int, offset: int, found: int) -> None:
        """Nothing but compaction takes offsets out of the middle."""
        if not self.sparse:
            self._require_all(base, size, offset, found)

    def _require_all(self, base: int, size: int, offset: int, found: int) -> None:
        if found > offset:
            self._raise_corrupt(
                base,
                size,
                offset,
                f"offsets {offset} to {found - 1} are missing; {found} is the next there is",
            )

    def _pread(self, log: OpenFile, position: int, size: int, offset: int) -> bytes:
        try:
            return log.read(size, position)
        except OSError as error:
            raise StorageFailed(
                f"{self._tp}@{offset}: reading {log.path} at byte {position} failed:"
                f" {error.strerror}; check the disk"
            ) from error

    def _position(self, view: View, base: int, log: OpenFile, offset: int, end: End) -> int:
        """Where to begin to look for `offset`; a lost or lying index is rebuilt first."""
        limit = end.index_bytes if base == end.active_base else MAX_INDEX_BYTES * 2
        if not view.trust_index(base, log, limit):
            self._reindex(base)
            view.forget(base, INDEX)
            view.forget(base, TIMEINDEX)
            limit = self._end().index_bytes if base == end.active_base else limit
        return view.position(base, log, offset, limit)

    def verify(self, offset: int, max_bytes: int = 1 << 20) -> None:
        """Look at the checksums of what `read(offset, max_bytes)` returns.

        For whoever could not decode it: raises CorruptLog, naming the file and the byte.
        """
        self._looked(lambda end, view: self._verify_in(view, end, offset, max_bytes), offset)

    def _verify_in(self, view: View, end: End, offset: int, max_bytes: int) -> None:
        base = view.base_for(offset, end)
        log = view.file(base)
        limit = end.end_position if base == end.active_base else log.size()
        position = self._position(view, base, log, offset, end)
        while position < limit and max_bytes > 0:
            head = self._pread(log, position, HEADER_BYTES, offset)
            try:
                header = read_header(head)
                if header.next_offset > offset:
                    check(self._pread(log, position, header.size, offset))
                    offset = header.next_offset
                    max_bytes -= header.size
            except CorruptBatch as error:
                self._raise_corrupt(base, position, offset, str(error), error)
            position += header.size

    def offset_at(self, timestamp: int) -> int | None:
        """The first offset whose record's timestamp is >= `timestamp` (ms); None: there is none."""
        while True:
            end = self._end()
            try:
                return self._offset_at(self._segments.view(end), end, timestamp)
            except OffsetOutOfRange:
                if self._end().start_offset == end.start_offset:
                    raise  # else it was removed while it was looked at

    def _offset_at(self, view: View, end: End, timestamp: int) -> int | None:
        for base in view.bases:
            active = base == end.active_base
            if self._largest_timestamp(view, base, end) < timestamp:
                continue
            before = view.time_before(
                base, timestamp, end.timeindex_bytes if active else MAX_INDEX_BYTES * 2
            )
            told = before is not None and self._is_entry(before, end)
            offset = max(before[1] if before is not None and told else base, end.start_offset)
            following = self._first_at(offset, timestamp, end)
            if following is not None:
                return following
        return None

    def _largest_timestamp(self, view: View, base: int, end: End) -> int:
        """The largest timestamp in a segment, or a bound for it where no index tells."""
        if base == end.active_base:
            return end.max_timestamp
        known = view.largest.get(base)  # a finished segment's does not change
        if known is not None:
            return known
        entry = view.time_before(base, NEVER, MAX_INDEX_BYTES * 2)
        if entry is None or not self._is_entry(entry, end):
            return NEVER
        view.largest[base] = entry[0]
        return entry[0]

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
                try:
                    found = columns(data[at : at + header.size], end.start_offset)
                except CorruptBatch:
                    self.verify(header.base_offset)
                    raise
                for record, time in zip(found.offsets, found.timestamps, strict=True):
                    if time >= timestamp:
                        return record
        return None

    def _raise_corrupt(
        self, base: int, position: int, offset: int, problem: str, cause: Exception | None = None
    ) -> NoReturn:
        raise CorruptLog(
            f"{self._tp}@{offset}: {self._segments.path(base)} is corrupt at byte {position}:"
            f" {problem}. Restore the file from a backup, or let `streamkit fsck --repair` put the"
            " damage aside; what follows it can be read"
        ) from cause

"""Reading a partition: by offset, by time, and what is said when its bytes are damaged."""

from collections.abc import Callable
from typing import NoReturn

from streamkit.codec import HEADER_BYTES, check, columns, headers, read_header
from streamkit.errors import CorruptBatch, CorruptLog, OffsetOutOfRange, StorageFailed
from streamkit.log.control import End
from streamkit.log.segment import MAX_INDEX_BYTES, whole_batches
from streamkit.log.segments import Segments
from streamkit.records import TopicPartition

NEVER = 2**63 - 1
"""Later than every timestamp."""

LARGE = 128 << 10
"""From how many bytes on malloc fetches every block from the kernel, page by page."""

NEXT_POSITIONS = 64
"""How many readers' next positions are remembered."""


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
        self._next: dict[int, tuple[int, int]] = {}
        self._largest: dict[int, int] = {}

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
                    f"{self._tp}@{offset}: the partition has offsets {end.start_offset} to"
                    f" {end.end_offset - 1}"
                    if end.end_offset > end.start_offset
                    else f"{self._tp}@{offset}: the partition is empty, it goes on at"
                    f" {end.end_offset}"
                )
            base = self._segments.base_for(offset, end)
            limit = self._limit(base, offset, end)
            known = self._next.get(offset)
            if known is not None and known[0] == base:
                position = known[1]
            else:
                position = self._position(base, offset, end)
            data = self._read_at(base, position, limit, offset, max_bytes)
            if data:
                self._require_dense(base, offset, int.from_bytes(data[:8], "big"))
                return data
            following = [other for other in self._segments.bases(end) if other > base]
            self._require_dense(base, offset, following[0] if following else end.end_offset)
            offset = following[0] if following else end.end_offset

    def forget(self) -> None:
        """The files may be others from now on."""
        self._next = {}
        self._largest = {}

    def _limit(self, base: int, offset: int, end: End) -> int:
        """How many bytes of the segment can be read."""
        if base == end.active_base:
            return end.end_position
        try:
            return self._segments.size(base)
        except FileNotFoundError as error:
            self._raise_corrupt(base, 0, offset, "the file is gone", error)

    def _read_at(self, base: int, position: int, limit: int, offset: int, max_bytes: int) -> bytes:
        """Read on from `position`, where a batch starts, to the first that holds `offset`."""
        size = max_bytes
        if LARGE <= size < limit - position:
            # To end with a batch, so that nothing has to be cut off: copying so many bytes costs
            # several times what reading them does.
            size = max(self._segments.boundary(base, position + size) - position, LARGE)
        while position < limit:
            size = min(size, limit - position)
            data = self._pread(base, position, size, offset)
            if len(data) < size:  # somebody cut the file; what is left can be read
                limit = position + len(data)
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

    def _require_dense(self, base: int, offset: int, found: int) -> None:
        """Nothing but compaction takes offsets out of the middle."""
        if found > offset and not self.sparse:
            self._raise_corrupt(
                base,
                self._limit(base, offset, self._end()),
                offset,
                f"offsets {offset} to {found - 1} are missing; {found} is the next there is",
            )

    def _remember(self, next_offset: int, base: int, position: int) -> None:
        if len(self._next) >= NEXT_POSITIONS:
            self._next = {}
        self._next[next_offset] = (base, position)

    def _pread(self, base: int, position: int, size: int, offset: int) -> bytes:
        try:
            return self._segments.read(base, position, size)
        except OSError as error:
            raise StorageFailed(
                f"{self._tp}@{offset}: reading {self._segments.path(base)} at byte {position}"
                f" failed: {error.strerror}; check the disk"
            ) from error

    def _position(self, base: int, offset: int, end: End) -> int:
        """Where to begin to look for `offset`; a lost or lying index is rebuilt first."""
        limit = end.index_bytes if base == end.active_base else MAX_INDEX_BYTES * 2
        if not self._segments.trust_index(base, limit):
            self._reindex(base)
            limit = self._end().index_bytes if base == end.active_base else limit
        return self._segments.position(base, offset, limit)

    def verify(self, offset: int, max_bytes: int = 1 << 20) -> None:
        """Look at the checksums of what `read(offset, max_bytes)` returns.

        For whoever could not decode it: raises CorruptLog, naming the file and the byte.
        """
        end = self._end()
        base = self._segments.base_for(offset, end)
        limit = self._limit(base, offset, end)
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
        known = self._largest.get(base)  # a finished segment's does not change
        if known is not None:
            return known
        entry = self._segments.time_before(base, NEVER, MAX_INDEX_BYTES * 2)
        if entry is None or not self._is_entry(entry, end):
            return NEVER
        self._largest[base] = entry[0]
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
            f" {problem}. Restore the file from a backup, or go on reading after the damage"
        ) from cause

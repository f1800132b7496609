"""The segment files of one partition: which there are, open, and where in them an offset stands."""

import logging
import os
from bisect import bisect_right
from contextlib import suppress

from streamkit.codec import HEADER_BYTES, read_header
from streamkit.errors import CorruptBatch
from streamkit.log.control import End, Synced
from streamkit.log.files import Files, OpenFile
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY, last_at_most
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, Scan, Tally, base_of, file_name, scan

logger = logging.getLogger(__name__)

OPEN_FILES = 8
"""Files kept open per partition."""


class Segments:
    """Readers of all threads share one; what changes files is called under the append lock."""

    def __init__(self, files: Files, directory: str, *, writable: bool) -> None:
        self.directory = directory
        self._files = files
        self._flags = os.O_RDWR if writable else os.O_RDONLY
        self._open: dict[str, OpenFile] = {}
        self._listed: tuple[int, int, list[int]] = (-1, -1, [])
        self._trusted: set[int] = set()

    def bases(self, end: End) -> list[int]:
        """The base offsets of the segments that exist by `end`, ascending; the active one last."""
        active, start, bases = self._listed
        if active != end.active_base or start != end.start_offset:
            bases = [base for base in self.listed() if base <= end.active_base]
            self._listed = (end.active_base, end.start_offset, bases)
        return bases

    def listed(self) -> list[int]:
        """The base offsets of all `.log` files there are."""
        names = self._files.listdir(self.directory)
        return sorted(base for name in names if (base := base_of(name)) is not None)

    def base_for(self, offset: int, end: End) -> int:
        """The segment in which `offset` stands, if it does."""
        if offset >= end.active_base:
            return end.active_base
        bases = self.bases(end)
        return bases[max(bisect_right(bases, offset) - 1, 0)]

    def path(self, base: int, suffix: str = LOG) -> str:
        return os.path.join(self.directory, file_name(base, suffix))

    def file(self, base: int, suffix: str = LOG, *, create: bool = False) -> OpenFile:
        """The file, kept open. Raises FileNotFoundError."""
        name = file_name(base, suffix)
        file = self._open.get(name)
        if file is None:
            flags = self._flags | os.O_CREAT if create else self._flags
            file = OpenFile(self._files, os.path.join(self.directory, name), flags)
            oldest = list(self._open)[: len(self._open) + 1 - OPEN_FILES]
            for old in oldest:
                self._open.pop(old, None)
            self._open[name] = file
        return file

    def read(self, base: int, position: int, size: int) -> bytes:
        return self.file(base).read(size, position)

    def size(self, base: int) -> int:
        return self.file(base).size()

    def close(self) -> None:
        """Let go of all files; they are opened again when needed."""
        self._open = {}
        self._listed = (-1, -1, [])
        self._trusted = set()

    def begins_at(self, place: Synced, interval: int) -> bool:
        """Whether the batch of that offset begins, or would, at that position of that segment."""
        try:
            size = self.size(place.base)
        except FileNotFoundError:
            return False
        found = self.scan(
            place.base, place.position, Tally(place.base, interval), check_from=place.position
        )
        whole = found.problem is None and size >= place.position
        return whole and found.next_offset == place.offset

    # Where an offset stands.

    def trust_index(self, base: int, index_bytes: int) -> bool:
        """Whether the segment's index is there and its last entry is true; asked once, it stays so.

        `index_bytes`: how much of the index file counts.
        """
        if base in self._trusted:
            return True
        self._trusted.add(base)  # also when not: it is rebuilt once, not at every read
        try:
            index = self.file(base, INDEX)
            self.file(base, TIMEINDEX)
        except FileNotFoundError:
            return False
        size = index.size()
        count = min(size, index_bytes) // OFFSET_ENTRY.size
        whole = size % OFFSET_ENTRY.size == 0 or size > index_bytes
        return whole and (count == 0 or self._holds(base, *self._entry(base, index, count - 1)))

    def position(self, base: int, offset: int, index_bytes: int) -> int:
        """Where a batch starts, at `offset` or before it, as near as the index knows."""
        try:
            index = self.file(base, INDEX)
        except FileNotFoundError:
            return 0
        count = min(index.size(), index_bytes) // OFFSET_ENTRY.size
        number = last_at_most(lambda n: self._entry(base, index, n)[0], count, offset)
        while number >= 0:
            last_offset, position = self._entry(base, index, number)
            if last_offset <= offset and self._holds(base, last_offset, position):
                return position
            number -= 1  # an entry that lies, or a damaged batch: the one before may do
        return 0

    def boundary(self, base: int, position: int) -> int:
        """The last start of a batch that the index knows at or before byte `position`: a hint."""
        try:
            index = self.file(base, INDEX)
        except FileNotFoundError:
            return 0
        count = index.size() // OFFSET_ENTRY.size
        number = last_at_most(lambda n: self._entry(base, index, n)[1], count, position)
        return self._entry(base, index, number)[1] if number >= 0 else 0

    def _entry(self, base: int, index: OpenFile, number: int) -> tuple[int, int]:
        data = index.read(OFFSET_ENTRY.size, number * OFFSET_ENTRY.size)
        if len(data) < OFFSET_ENTRY.size:  # somebody makes the index anew just now
            return base, 0
        relative, position = OFFSET_ENTRY.unpack(data)
        return base + relative, position

    def _holds(self, base: int, last_offset: int, position: int) -> bool:
        # No entry points to byte 0, so the zeros of a lost page do not pass for one.
        if position <= 0:
            return False
        try:
            header = read_header(self.read(base, position, HEADER_BYTES))
        except CorruptBatch:
            return False
        return header.last_offset == last_offset

    def time_before(self, base: int, timestamp: int, index_bytes: int) -> tuple[int, int] | None:
        """The last time entry that is not above `timestamp`; None when there is none."""
        try:
            index = self.file(base, TIMEINDEX)
        except FileNotFoundError:
            return None
        count = min(index.size(), index_bytes) // TIME_ENTRY.size

        def entry(number: int) -> tuple[int, int]:
            at = number * TIME_ENTRY.size
            data = index.read(TIME_ENTRY.size, at)
            if len(data) < TIME_ENTRY.size:  # somebody makes the index anew just now
                return -1, base
            time, relative = TIME_ENTRY.unpack(data)
            return time, base + relative

        number = last_at_most(lambda number: entry(number)[0], count, timestamp)
        return None if number < 0 else entry(number)

    # What changes files.

    def create(self, base: int) -> None:
        """Make an empty segment, whatever a killed process may have left of it."""
        for suffix in (INDEX, TIMEINDEX, LOG):
            # Not kept open: it is not published yet. If this process is interrupted now, the next
            # appender removes the file, and makes another one of that name.
            self._open.pop(file_name(base, suffix), None)
            path = self.path(base, suffix)
            OpenFile(self._files, path, self._flags | os.O_CREAT).truncate(0)
        self._trusted.discard(base)

    def add_entries(self, base: int, tally: Tally, index_at: int, timeindex_at: int) -> None:
        """Write the entries that `tally` has collected behind those there are."""
        if tally.index:
            self.file(base, INDEX, create=True).write([tally.index], index_at)
        if tally.timeindex:
            self.file(base, TIMEINDEX, create=True).write([tally.timeindex], timeindex_at)

    def scan(
        self,
        base: int,
        size: int,
        tally: Tally,
        *,
        start: int = 0,
        offset: int | None = None,
        check_from: int = 0,
    ) -> Scan:
        """`segment.scan` of the segment's first `size` bytes."""
        return scan(
            lambda position, count: self.read(base, position, count),
            size,
            tally,
            start=start,
            offset=base if offset is None else offset,
            check_from=check_from,
        )

    def rewrite_indexes(self, base: int, tally: Tally) -> None:
        """Replace both indexes by what a scan found."""
        for suffix, data in ((INDEX, tally.index), (TIMEINDEX, tally.timeindex)):
            file = self.file(base, suffix, create=True)
            file.truncate(0)
            if data:
                file.write([data], 0)
        self._trusted.discard(base)

    def cut_indexes(self, base: int, index_bytes: int, timeindex_bytes: int) -> None:
        """Take off entries beyond those that count."""
        for suffix, size in ((INDEX, index_bytes), (TIMEINDEX, timeindex_bytes)):
            with suppress(FileNotFoundError):
                file = self.file(base, suffix)
                if file.size() > size:
                    file.truncate(size)

    def remove(self, base: int) -> None:
        """Unlink a segment's files."""
        for suffix in (LOG, INDEX, TIMEINDEX):
            self._open.pop(file_name(base, suffix), None)
            with suppress(FileNotFoundError):
                self._files.unlink(self.path(base, suffix))
        self._listed = (-1, -1, [])

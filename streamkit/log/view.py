"""The segments of a partition as they were listed at one time, and where an offset stands in them.

Files are opened when they are asked for, after the listing.
"""

import os
from bisect import bisect_right

from streamkit.codec import HEADER_BYTES, read_header
from streamkit.errors import CorruptBatch
from streamkit.log.control import End
from streamkit.log.files import Files, OpenFile
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY, last_at_most
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, base_of, file_name

OPEN_FILES = 8
"""Files kept open per partition."""

NEXT_POSITIONS = 64
"""How many readers' next positions are remembered."""


class View:
    """What readers of all threads share until the next rewrite, roll or removal.

    Every file is opened after the listing was made, and whoever replaces segments first puts the
    new file in place and then removes those that are merged in it. So each offset is found by way
    of one view, whatever is replaced meanwhile: a file opened before an older listing, used with a
    younger one, could have lost what the younger one no longer lists.

    `key` is what of the control block the listing went by.
    """

    def __init__(self, files: Files, directory: str, flags: int, end: End | None) -> None:
        self.key = None if end is None else key_of(end)
        self.bases: list[int] = [] if end is None else existing(files, directory, end)
        self.largest: dict[int, int] = {}
        """The largest timestamps of finished segments, as far as they were asked for."""
        self.trusted: set[int] = set()
        """Segments whose indexes were looked at."""
        self._files = files
        self._directory = directory
        self._flags = flags
        self._open: dict[tuple[int, str], OpenFile] = {}
        self._next: dict[int, tuple[OpenFile, int]] = {}

    def file(self, base: int, suffix: str = LOG, *, create: bool = False) -> OpenFile:
        """The file, kept open. Raises FileNotFoundError."""
        name = (base, suffix)
        file = self._open.get(name)
        if file is None:
            flags = self._flags | os.O_CREAT if create else self._flags
            path = os.path.join(self._directory, file_name(base, suffix))
            file = OpenFile(self._files, path, flags)
            oldest = list(self._open)[: len(self._open) + 1 - OPEN_FILES]
            for old in oldest:
                self._open.pop(old, None)
                self._next = {}  # else it would keep that file open
            self._open[name] = file
        return file

    def forget(self, base: int, suffix: str) -> None:
        """The file of that name is going to be another one."""
        self._open.pop((base, suffix), None)

    def base_for(self, offset: int, end: End) -> int:
        """The segment in which `offset` stands, if it does."""
        if offset >= end.active_base:
            return end.active_base
        return self.bases[max(bisect_right(self.bases, offset) - 1, 0)]

    def after(self, base: int) -> int | None:
        """The segment that follows; None: it is the last."""
        at = bisect_right(self.bases, base)
        return self.bases[at] if at < len(self.bases) else None

    def remember(self, next_offset: int, log: OpenFile, position: int) -> None:
        """A reader has read `log` up to there, and will go on with `next_offset`."""
        if len(self._next) >= NEXT_POSITIONS:
            self._next = {}
        self._next[next_offset] = (log, position)

    def recall(self, offset: int, log: OpenFile) -> int | None:
        """Where `offset` stands in that very file, if a reader was about to go on there."""
        known = self._next.get(offset)
        return known[1] if known is not None and known[0] is log else None

    # By the indexes. They are hints: what an entry points to is looked at in the very log file that
    # is going to be read, as an index may be older or younger than it.

    def trust_index(self, base: int, log: OpenFile, index_bytes: int) -> bool:
        """Whether the segment's index is there and its last entry is true; asked once, it stays so.

        `index_bytes`: how much of the index file counts.
        """
        if base in self.trusted:
            return True
        self.trusted.add(base)  # also when not: it is rebuilt once, not at every read
        try:
            index = self.file(base, INDEX)
            self.file(base, TIMEINDEX)
        except FileNotFoundError:
            return False
        size = index.size()
        count = min(size, index_bytes) // OFFSET_ENTRY.size
        whole = size % OFFSET_ENTRY.size == 0 or size > index_bytes
        return whole and (count == 0 or _holds(log, *_entry(base, index, count - 1)))

    def position(self, base: int, log: OpenFile, offset: int, index_bytes: int) -> int:
        """Where a batch starts, at `offset` or before it, as near as the index knows."""
        try:
            index = self.file(base, INDEX)
        except FileNotFoundError:
            return 0
        count = min(index.size(), index_bytes) // OFFSET_ENTRY.size
        number = last_at_most(lambda n: _entry(base, index, n)[0], count, offset)
        while number >= 0:
            last_offset, position = _entry(base, index, number)
            if last_offset <= offset and _holds(log, last_offset, position):
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
        number = last_at_most(lambda n: _entry(base, index, n)[1], count, position)
        return _entry(base, index, number)[1] if number >= 0 else 0

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


def _entry(base: int, index: OpenFile, number: int) -> tuple[int, int]:
    data = index.read(OFFSET_ENTRY.size, number * OFFSET_ENTRY.size)
    if len(data) < OFFSET_ENTRY.size:  # somebody makes the index anew just now
        return base, 0
    relative, position = OFFSET_ENTRY.unpack(data)
    return base + relative, position


def _holds(log: OpenFile, last_offset: int, position: int) -> bool:
    # No entry points to byte 0, so the zeros of a lost page do not pass for one.
    if position <= 0:
        return False
    try:
        header = read_header(log.read(HEADER_BYTES, position))
    except CorruptBatch:
        return False
    return header.last_offset == last_offset


def key_of(end: End) -> tuple[int, int, int]:
    return end.active_base, end.start_offset, end.rewrites


def existing(files: Files, directory: str, end: End) -> list[int]:
    """The base offsets of the segments that exist by `end`, ascending; the active one last.

    Files wholly below the start offset are not among them: somebody is about to remove them.
    """
    bases = [base for base in listed(files, directory) if base <= end.active_base]
    return bases[max(bisect_right(bases, end.start_offset) - 1, 0) :]


def listed(files: Files, directory: str) -> list[int]:
    """The base offsets of all `.log` files there are."""
    return sorted(base for name in files.listdir(directory) if (base := base_of(name)) is not None)

"""What the bytes of a segment mean: where batches start and end, and what its indexes say."""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from streamkit.codec import HEADER_BYTES, check, read_header
from streamkit.errors import CorruptBatch, MalformedBatch, TruncatedBatch
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY

LOG = ".log"
INDEX = ".index"
TIMEINDEX = ".timeindex"
TXNINDEX = ".txnindex"
SNAPSHOT = ".snapshot"

SCAN_BYTES = 1 << 20
MAX_SPAN = 2**31
"""Offsets that one segment can have: its indexes count them from its base in 32 bits."""
MAX_INDEX_BYTES = 10 << 20
"""An index this long ends its segment, as Kafka's segment.index.bytes does."""

_HEAD = Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta."""


def file_name(base: int, suffix: str) -> str:
    """The name of one of a segment's files: its base offset in 20 digits, and the suffix."""
    return f"{base:020d}{suffix}"


def base_of(name: str) -> int | None:
    """The base offset of the segment whose `.log` is called so; None: some other file."""
    stem = name.removesuffix(LOG)
    return int(stem) if stem != name and len(stem) == 20 and stem.isdecimal() else None


class Tally:
    """What a segment's indexes hold and have still to be given, batch by batch."""

    __slots__ = (
        "base",
        "index",
        "indexed_timestamp",
        "interval",
        "max_timestamp",
        "max_timestamp_offset",
        "timeindex",
        "unindexed",
    )

    def __init__(
        self,
        base: int,
        interval: int,
        max_timestamp: int = -1,
        max_timestamp_offset: int = -1,
        indexed_timestamp: int = -1,
        unindexed: int = 0,
    ) -> None:
        self.base = base
        self.interval = interval
        self.max_timestamp = max_timestamp
        self.max_timestamp_offset = max_timestamp_offset
        self.indexed_timestamp = indexed_timestamp
        self.unindexed = unindexed
        self.index = bytearray()
        """Entries that have still to be written to the `.index`."""
        self.timeindex = bytearray()

    def add(self, last_offset: int, max_timestamp: int, position: int, size: int) -> None:
        """Take note of the batch of `size` bytes at `position`."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.unindexed > self.interval:
            self.index += OFFSET_ENTRY.pack(last_offset - self.base, position)
            self.seal()
            self.unindexed = 0
        self.unindexed += size

    def seal(self) -> None:
        """Note the largest timestamp so far, as is done with every index entry and at the end."""
        if self.max_timestamp > self.indexed_timestamp:
            self.timeindex += TIME_ENTRY.pack(
                self.max_timestamp, self.max_timestamp_offset - self.base
            )
            self.indexed_timestamp = self.max_timestamp


@dataclass(frozen=True, slots=True)
class Scan:
    """How far a segment's bytes are good batches."""

    end: int
    next_offset: int
    tally: Tally
    problem: CorruptBatch | None
    """Why it ended before the bytes did; None: every byte is part of a good batch."""


def scan(
    read: Callable[[int, int], bytes],
    size: int,
    tally: Tally,
    *,
    start: int = 0,
    offset: int = 0,
    check_from: int = 0,
    dense: bool = False,
) -> Scan:
    """Walk a segment of `size` bytes from byte `start`; `read(position, count)` gives its bytes.

    No batch may begin below `offset`. Checksums are looked at from byte `check_from` on; before
    it, only headers are. What is found goes into `tally`. `dense`: no offset may be missing.
    """
    position, expected, wanted = start, offset, SCAN_BYTES
    while position < size:
        asked = min(wanted, size - position)
        data = read(position, asked)
        last = position + asked == size or len(data) < asked
        at, wanted = 0, SCAN_BYTES
        try:
            while at < len(data):
                if not last and len(data) - at < HEADER_BYTES:
                    break
                header = read_header(data, at)
                if at + header.size > len(data):
                    if not last:
                        wanted = max(SCAN_BYTES, header.size)
                        break
                    raise TruncatedBatch(f"{header.size} bytes, {len(data) - at} are there", at)
                if position + at >= check_from:
                    check(data, at)
                if header.base_offset < expected:
                    problem = f"offset {header.base_offset} where {expected} or more belongs"
                    raise MalformedBatch(problem, at)
                # The base offset is under no checksum.
                if header.last_offset - tally.base >= MAX_SPAN:
                    problem = f"offset {header.base_offset} in the segment of {tally.base}"
                    raise MalformedBatch(problem, at)
                if dense and header.base_offset > expected:
                    problem = f"offset {header.base_offset} where {expected} belongs"
                    raise MalformedBatch(problem, at)
                tally.add(header.last_offset, header.max_timestamp, position + at, header.size)
                expected = header.next_offset
                at += header.size
            if len(data) < asked:
                raise TruncatedBatch(f"the file ends after {position + len(data)} bytes", at)
        except CorruptBatch as problem:
            return Scan(position + at, expected, tally, problem)
        position += at
    return Scan(position, expected, tally, None)


@dataclass(frozen=True, slots=True)
class Whole:
    """Which of some bytes are the whole batches asked for: `data[start:end]`."""

    start: int
    end: int
    next_offset: int
    wanted: int
    """When nothing is whole: how many bytes from `start` on the first batch has."""


def whole_batches(data: bytes, offset: int, limit: int) -> Whole:
    """The batches of `data` that hold `offset` or come after it, without the cut one at the end.

    `data` starts at a batch; `limit` counts the bytes up to the segment's end, which no batch may
    pass. A batch that cannot be right ends the result; when it is the first, raises CorruptBatch.
    """
    start = at = 0
    next_offset = -1
    left = len(data) - HEADER_BYTES
    while at <= left:
        base, length, _, magic, _, _, delta = _HEAD.unpack_from(data, at)
        size = length + 12
        if (
            magic != 2
            or size < HEADER_BYTES
            or delta < 0
            or base < next_offset
            or at + size > limit
        ):
            if start < at:
                return Whole(start, at, next_offset, 0)
            read_header(data, at)  # says what is wrong, if the header alone can tell
            raise CorruptBatch(
                f"a batch of {size} bytes with offset {base}; {limit - at} bytes are left"
                f" and offset {next_offset} was expected",
                at,
            )
        if at + size > len(data):
            return Whole(start, at, next_offset, size if start == at else 0)
        at += size
        next_offset = base + delta + 1
        if next_offset <= offset:
            start = at
    if at < limit < at + HEADER_BYTES and start == at:
        raise TruncatedBatch(f"{limit - at} bytes are left, too few for a batch", at)
    return Whole(start, at, next_offset, HEADER_BYTES if start == at else 0)

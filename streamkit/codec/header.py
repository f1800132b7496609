"""The 61 bytes before a batch's records.

     0       8      12     16    17    21         23              27             35
     | base  | batch | lead-| ma- | crc | attri-  | last offset   | base         | max
     | offset| length| er   | gic |     | butes   | delta         | timestamp    | timestamp
     |       |       | epoch|     |     |         |               |              |
     43            51              53              57             61
     | producer id | producer epoch| base sequence | record count | records ...

All big-endian. The batch length counts what follows it: the size is 12 more. The CRC-32C covers
byte 21 to the end, so whoever appends may set the base offset and the leader epoch without it.
"""

from collections.abc import Iterator
from struct import Struct

import msgspec

from streamkit.codec.buffer import Buffer, view
from streamkit.codec.compression import CODECS, Compression
from streamkit.codec.crc import crc32c
from streamkit.errors import BadCrc, MalformedBatch, TruncatedBatch, UnknownMagic

HEADER_BYTES = 61
MAGIC = 2
MAX_OFFSET = 2**63 - 1
CRC_START = 21
"""The first byte under the checksum."""
SHORTEST_RECORD = 7
"""Length, attributes, two deltas, two lengths and a header count take at least a byte each."""

LAYOUT = Struct(">qiibIhiqqqhii")
_UNCHECKED = Struct(">qii")
_LENGTH = Struct(">i")
_LENGTH_AT = 8
_MAGIC_AT = 16

COMPRESSION_BITS = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What a batch says of itself.

    `size` is in bytes and counts the whole batch. Timestamps are in milliseconds. With
    `has_delete_horizon`, `base_timestamp` is the time from which the batch's tombstones may go.
    `count` may be smaller than the offsets spanned, even 0: compaction leaves such batches.
    """

    base_offset: int
    size: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Where to read on after this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        return CODECS[self.attributes & COMPRESSION_BITS]

    @property
    def log_append_time(self) -> bool:
        """Every record's time is `max_timestamp`, the time of the append."""
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        """The batch marks the end of a transaction or the like; its records are not data."""
        return bool(self.attributes & CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        return bool(self.attributes & DELETE_HORIZON)


def read_header(buf: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`. Neither the checksum nor the records are looked at.

    Raises TruncatedBatch when fewer than 61 bytes are left, UnknownMagic, and MalformedBatch when
    the fields contradict each other.
    """
    header = _parse(view(buf), position)
    _require_sense(header, position)
    return header


def check(buf: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`, which is there as a whole and has the right checksum.

    Records are not decoded. Raises TruncatedBatch, UnknownMagic, BadCrc and MalformedBatch.
    """
    return open_batch(view(buf), position)[0]


def open_batch(seen: memoryview, position: int) -> tuple[BatchHeader, bytes]:
    """What `check` does, and a copy of the batch from byte 21: what the checksum covers."""
    header = _parse(seen, position)
    if header.size > len(seen) - position:
        raise TruncatedBatch(
            f"batch at byte {position}: {header.size} bytes long, but only"
            f" {len(seen) - position} are there",
            position,
        )
    body = bytes(seen[position + CRC_START : position + header.size])
    found = crc32c(body)
    if found != header.crc:
        raise BadCrc(
            f"batch at byte {position} (offset {header.base_offset}, {header.size} bytes):"
            f" checksum {found:08x}, expected {header.crc:08x}",
            position,
        )
    _require_sense(header, position)
    return header, body


def headers(buf: Buffer, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of every batch from `position` to the end of `buf`.

    Raises what `read_header` does, and TruncatedBatch when the last batch is not there as a whole;
    the error's position is then how far the whole batches reach.
    """
    seen = view(buf)
    while position < len(seen):
        header = read_header(seen, position)
        if header.size > len(seen) - position:
            raise TruncatedBatch(
                f"batch at byte {position}: {header.size} bytes long, but only"
                f" {len(seen) - position} are there",
                position,
            )
        yield position, header
        position += header.size


def stamp(batch: Buffer, base_offset: int, leader_epoch: int) -> bytes:
    """The first 16 bytes of `batch` with these two fields set.

    They are all that an append changes: write them and then `memoryview(batch)[16:]`.
    """
    (length,) = _LENGTH.unpack_from(batch, _LENGTH_AT)
    return _UNCHECKED.pack(base_offset, length, leader_epoch)


def _parse(seen: memoryview, position: int) -> BatchHeader:
    """The fields as they stand; what is sure afterwards is the magic and that the size is >= 61."""
    left = len(seen) - position
    if left < HEADER_BYTES:
        raise TruncatedBatch(
            f"batch at byte {position}: a header takes {HEADER_BYTES} bytes, only {left} are there",
            position,
        )
    (
        base_offset,
        length,
        leader_epoch,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    ) = LAYOUT.unpack_from(seen, position)
    if magic != MAGIC:
        raise UnknownMagic(
            f"batch at byte {position}: format version {magic}; only {MAGIC} can be read, which"
            " Kafka writes since 0.11",
            position,
        )
    if length + 12 < HEADER_BYTES:
        raise MalformedBatch(
            f"batch at byte {position}: says it is {length + 12} bytes long, less than its header",
            position,
        )
    return BatchHeader(
        base_offset,
        length + 12,
        leader_epoch,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    )


def _require_sense(header: BatchHeader, position: int) -> None:
    """Hold the fields against each other, so that nobody allocates or loops by a lying count."""
    span = header.last_offset_delta + 1
    codec = header.attributes & COMPRESSION_BITS
    if header.base_offset < 0 or span < 1 or header.base_offset > MAX_OFFSET - span:
        problem = f"offsets {header.base_offset} to {header.last_offset}"
    elif not 0 <= header.count <= span:
        problem = f"{header.count} records in {span} offsets"
    elif codec >= len(CODECS):
        problem = f"compression codec {codec}; known are 0 to {len(CODECS) - 1}"
    elif codec == 0 and header.count * SHORTEST_RECORD > header.size - HEADER_BYTES:
        problem = f"{header.count} records in {header.size - HEADER_BYTES} bytes"
    else:
        return
    raise MalformedBatch(f"batch at byte {position}: {problem}", position)

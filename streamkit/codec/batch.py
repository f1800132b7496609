"""A finished batch: records, sealed behind their header."""

from struct import error as StructError

from streamkit.codec.compression import MAX_INFLATED, Compression, codec_number, compress
from streamkit.codec.crc import crc32c
from streamkit.codec.header import (
    CONTROL,
    CRC_START,
    HEADER_BYTES,
    LAYOUT,
    MAGIC,
    TRANSACTIONAL,
)
from streamkit.errors import InvalidRecord, RecordTooLarge

MAX_TIMESTAMP = 2**63 - 1
MAX_BATCH = 2**31 - 1
"""The most bytes a batch can have: its length is a signed 32-bit number."""


def require_room(size: int, compression: Compression) -> None:
    """Raises RecordTooLarge when `size` bytes of records do not fit a batch."""
    limit = MAX_BATCH - HEADER_BYTES if compression == "none" else MAX_INFLATED
    if size > limit:
        raise RecordTooLarge(
            f"a batch of {size} bytes of records; one with compression {compression} holds"
            f" {limit} at most: append fewer records at once"
        )


def seal(
    records: bytes,
    *,
    count: int,
    base_timestamp: int,
    max_timestamp: int,
    compression: Compression,
    leader_epoch: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """The batch at base offset 0 around `count` encoded records of offset deltas 0, 1, 2 …"""
    attributes, payload = 0, records
    if compression != "none":
        attributes, payload = codec_number(compression), compress(compression, records)
    if transactional:
        attributes |= TRANSACTIONAL
    if control:
        attributes |= CONTROL
    size = HEADER_BYTES + len(payload)
    require_room(len(payload), "none")
    try:
        header = LAYOUT.pack(
            0,
            size - 12,
            leader_epoch,
            MAGIC,
            0,
            attributes,
            count - 1,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            count,
        )
    except StructError as error:
        raise InvalidRecord(
            f"a batch header cannot hold leader_epoch={leader_epoch} producer_id={producer_id}"
            f" producer_epoch={producer_epoch} base_sequence={base_sequence}: {error}"
        ) from error
    body = header[CRC_START:] + payload
    return header[: CRC_START - 4] + crc32c(body).to_bytes(4, "big") + body

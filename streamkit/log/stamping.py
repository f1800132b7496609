"""Setting the time of append into a finished batch."""

from struct import Struct

from streamkit.codec.crc import crc32c
from streamkit.codec.header import CRC_START, LOG_APPEND_TIME, BatchHeader

_ATTRIBUTES = Struct(">h")
_TIMESTAMP = Struct(">q")
_CRC = Struct(">I")
_MAX_TIMESTAMP_AT = 35


def with_append_time(batch: bytes, header: BatchHeader, now: int) -> bytes:
    """The batch with `now` (ms) as the time of all its records, and the checksum that goes with it.

    The records keep their own time deltas inside; readers go by the header's bit.
    """
    stamped = bytearray(batch)
    _ATTRIBUTES.pack_into(stamped, CRC_START, header.attributes | LOG_APPEND_TIME)
    _TIMESTAMP.pack_into(stamped, _MAX_TIMESTAMP_AT, now)
    _CRC.pack_into(stamped, CRC_START - 4, crc32c(stamped[CRC_START:]))
    return bytes(stamped)

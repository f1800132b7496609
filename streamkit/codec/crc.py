"""CRC-32C (Castagnoli), the checksum of a record batch."""

import google_crc32c

from streamkit.codec.buffer import Buffer


def crc32c(data: Buffer) -> int:
    """The checksum of `data` as an unsigned 32-bit number.

    Anything but `bytes` is copied first, because the C function takes nothing else: 60 KB cost
    about 2 µs, far below the checksum of a slower implementation that would not need the copy.
    """
    return int(google_crc32c.value(data if isinstance(data, bytes) else bytes(data)))

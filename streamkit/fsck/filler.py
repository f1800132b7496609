"""Batches without records, which stand for offsets that are lost.

Compaction leaves such batches as well, so every reader of the format passes over them.
"""

from streamkit.codec.crc import crc32c
from streamkit.codec.header import CRC_START, HEADER_BYTES, LAYOUT, MAGIC

MAX_DELTA = 2**31 - 1
_NONE = -1


def fillers(first: int, last: int, leader_epoch: int) -> bytes:
    """Batches for the offsets `first` to `last`; b"" when there are none."""
    made = b""
    while first <= last:
        delta = min(last - first, MAX_DELTA)
        fields = (0, delta, _NONE, _NONE, _NONE, _NONE, _NONE, 0)
        head = (first, HEADER_BYTES - 12, leader_epoch, MAGIC)
        body = LAYOUT.pack(*head, 0, *fields)[CRC_START:]
        made += LAYOUT.pack(*head, crc32c(body), *fields)
        first += delta + 1
    return made

"""Kafka's sparse indexes of a segment, as bytes.

    .index      | relative offset int32 | position int32 |               8 bytes
    .timeindex  | timestamp int64 | relative offset int32 |             12 bytes

An `.index` entry names a batch: its *last* offset (relative to the segment's base) and the byte
where it starts. A `.timeindex` entry says that no record up to that offset is later than
`timestamp`. Both are hints: what they point to is verified, and they are rebuilt when they lie.
"""

import struct
from collections.abc import Callable

OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")


def last_at_most(key_at: Callable[[int], int], count: int, target: int) -> int:
    """The number of the last of `count` ascending entries whose key is <= target; -1: none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if key_at(middle) <= target:
            low = middle + 1
        else:
            high = middle
    return low - 1

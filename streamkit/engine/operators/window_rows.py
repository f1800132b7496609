"""What the stores of windows are keyed by: bytes in the order of the times they stand for.

ordered(start) key                       a window of fixed size
"k" key                                  what is open of a key
"k" length of key, key, ordered(time)    what a key had at a time
"t" ordered(time) key                    at that time something is due for the key
"""

from struct import Struct

_OFFSET = 1 << 63
"""Added to times, so that none is negative: a hopping window may begin before 1970."""

BY_KEY = b"k"
BY_TIME = b"t"
_pack = Struct(">Q").pack


def ordered(time: int) -> bytes:
    """A time as 8 bytes, which compare as times do."""
    return _pack(time + _OFFSET)


def time_of(data: bytes) -> int:
    """The time of 8 ordered bytes."""
    return int.from_bytes(data, "big") - _OFFSET


_begins = Struct(">cI").pack


def moments(key: bytes) -> bytes:
    """Begins the rows of what a key had at its times, and those of no other key."""
    return _begins(BY_KEY, len(key)) + key

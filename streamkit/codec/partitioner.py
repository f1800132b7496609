"""Which partition a key belongs to: murmur2, seeded and mixed exactly as Kafka's Java client does.

The two must agree for ever: a key that moved to another partition would lose its order and its
state. The same holds for the names of groups and transactions, which Kafka hashes in another way.
"""

from functools import lru_cache

from streamkit.codec.buffer import Buffer

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: Buffer) -> int:
    """The hash of `data` as an unsigned 32-bit number."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k ^= k >> 24
        h = h * _M & _MASK ^ k * _M & _MASK
    if whole < length:
        h ^= int.from_bytes(data[whole:], "little")
        h = h * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ h >> 15


def partition_for(key: Buffer, count: int) -> int:
    """The partition, 0 … count-1, of a key among `count` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % count


@lru_cache(maxsize=1024)
def partition_of_name(name: str, count: int) -> int:
    """Which of `count` partitions of an internal topic keeps this group or transactional id.

    The absolute value of what Java calls the string's hash code, and 0 for the one number that
    has none: dropping the sign bit instead gives another partition for half of all names.
    """
    code = 0
    raw = name.encode("utf-16-be", "surrogatepass")  # Java hashes UTF-16 units
    for at in range(0, len(raw), 2):
        code = (31 * code + (raw[at] << 8 | raw[at + 1])) & _MASK
    signed = code - (1 << 32) if code >= 1 << 31 else code
    return 0 if signed == -(1 << 31) else abs(signed) % count

"""Which partition a key belongs to: murmur2, seeded and mixed exactly as Kafka's Java client does.

The two must agree for ever: a key that moved to another partition would lose its order and its
state.
"""

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

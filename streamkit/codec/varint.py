"""Zig-zag varints, as records use them: 7 bits a byte, the low ones first.

(v << 1) ^ (v >> 63) maps 0, -1, 1, -2 ... to 0, 1, 2, 3 ..., so that small numbers of either sign
are short. Bit 7 of a byte says that another one follows.
"""


def _encode(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


# Lengths and deltas within a batch are nearly always in this range.
SMALL = 8192
_TABLE = tuple(_encode(number) for number in range(SMALL))


def encode(number: int) -> bytes:
    """The varint of a signed 64-bit number; a 32-bit one comes out the same as in 32-bit code."""
    return _TABLE[number] if 0 <= number < SMALL else _encode(number)


def decode32(data: bytes, position: int) -> tuple[int, int]:
    """The signed 32-bit number at `position`, and the position after it.

    Raises ValueError when it is longer than 32 bits or cut off by the end of the data.
    """
    return _decode(data, position, 32)


def decode64(data: bytes, position: int) -> tuple[int, int]:
    """The signed 64-bit number at `position`, and the position after it; raises ValueError."""
    return _decode(data, position, 64)


def _decode(data: bytes, position: int, bits: int) -> tuple[int, int]:
    result = shift = 0
    try:
        while (byte := data[position]) & 0x80:
            result |= (byte & 0x7F) << shift
            position += 1
            shift += 7
            if shift >= bits:
                raise ValueError(f"a varint is longer than {bits} bits")
    except IndexError:
        raise ValueError("a varint is cut off") from None
    result |= byte << shift
    if result >> bits:
        raise ValueError(f"a varint is longer than {bits} bits")
    return (result >> 1) ^ -(result & 1), position + 1

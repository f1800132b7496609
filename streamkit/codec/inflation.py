"""How large LZ4 and Zstandard frames can become, read from their block headers alone.

The decompressors ask for memory as they go and take no limit, so the limit has to be found out
before they start. A frame is a row of blocks, each with a stored length and a largest content.
"""

_LZ4_MAGIC = 0x184D2204
_LZ4_RATIO = 255
_LZ4_RAW = 0x80000000
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_BLOCK = 128 << 10
_SKIPPABLE = 0x184D2A50
_SKIPPABLE_MASK = 0xFFFFFFF0


def lz4_bound(data: bytes) -> int:
    """The most bytes that the LZ4 frames in `data` can inflate to.

    Exact but for each frame's last block. Raises ValueError when the frames are cut or broken.
    """
    bound = position = 0
    while position < len(data):
        magic = _number(data, position, 4)
        if magic & _SKIPPABLE_MASK == _SKIPPABLE:
            position += 8 + _number(data, position + 4, 4)
            continue
        if magic != _LZ4_MAGIC:
            raise ValueError(f"not an LZ4 frame: it begins with {magic:08x}")
        flags = _number(data, position + 4, 1)
        block_code = _number(data, position + 5, 1) >> 4 & 7
        if block_code < 4:
            raise ValueError(f"LZ4 block size code {block_code}; 4 to 7 exist")
        largest = 1 << 8 + 2 * block_code
        # Magic, flags, block size, header checksum; then what the flags say.
        position += 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
        while length := _number(data, position, 4):
            position += 4 + (length & ~_LZ4_RAW) + (4 if flags & 0x10 else 0)
            raw = bool(length & _LZ4_RAW)
            stored = length & ~_LZ4_RAW
            bound += stored if raw else min(largest, stored * _LZ4_RATIO)
        position += 4 + (4 if flags & 0x04 else 0)
    _require_end(data, position)
    return bound


def zstd_bound(data: bytes) -> int:
    """The most bytes that the Zstandard frames in `data` can inflate to.

    Exact but for compressed blocks, which hold 128 KB each at most. Raises ValueError when the
    frames are cut or broken, or declare a content that their blocks cannot hold.
    """
    bound = position = 0
    while position < len(data):
        magic = _number(data, position, 4)
        if magic & _SKIPPABLE_MASK == _SKIPPABLE:
            position += 8 + _number(data, position + 4, 4)
            continue
        if magic != _ZSTD_MAGIC:
            raise ValueError(f"not a Zstandard frame: it begins with {magic:08x}")
        descriptor = _number(data, position + 4, 1)
        single = descriptor >> 5 & 1
        position += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
        size_bytes = ((1 if single else 0), 2, 4, 8)[descriptor >> 6]
        declared = _number(data, position, size_bytes) + (256 if size_bytes == 2 else 0)
        position += size_bytes
        blocks = 0
        last = False
        while not last:
            block = _number(data, position, 3)
            last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
            if kind == 3:
                raise ValueError("a Zstandard block of the reserved kind")
            position += 3 + (1 if kind == 1 else length)
            blocks += _ZSTD_BLOCK if kind == 2 else length
        if declared > blocks:
            raise ValueError(f"{declared} bytes declared in blocks that hold {blocks} at most")
        bound += declared if size_bytes else blocks
        position += 4 if descriptor & 0x04 else 0
    _require_end(data, position)
    return bound


def _number(data: bytes, position: int, size: int) -> int:
    _require_end(data, position + size)
    return int.from_bytes(data[position : position + size], "little")


def _require_end(data: bytes, position: int) -> None:
    if position > len(data):
        raise ValueError("compressed data is cut off")

"""The four ways a batch's records can be compressed, framed as Kafka's clients frame them."""

import zlib
from struct import Struct
from typing import Literal, TypeAlias, get_args

import cramjam

from streamkit.codec.buffer import Buffer
from streamkit.codec.inflation import lz4_bound, zstd_bound
from streamkit.errors import ConfigError, nearest

Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]

CODECS: tuple[Compression, ...] = get_args(Compression)
"""In the order of their numbers in a batch's attributes."""

MAX_INFLATED = 128 << 20
"""How many bytes of records one compressed batch may hold, written or read.

A reader must have a limit (a few KB of zstd can ask for gigabytes), and a writer must keep to the
same one, or it would write what nobody can read.
"""

_SNAPPY_BLOCK = 32 << 10
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_VERSIONS = Struct(">ii")
_XERIAL_START = len(_XERIAL) + _XERIAL_VERSIONS.size
_LENGTH = Struct(">i")
# The densest thing in snappy's format: a copy of 64 bytes takes 3.
_SNAPPY_RATIO = 22

_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_GZIP_LEVEL = 6
_LZ4_LEVEL = 0  # cramjam's default is the high-compression mode: a tenth of the speed
_ZSTD_LEVEL = 1


def codec_number(compression: str) -> int:
    """A compression's number in a batch's attributes. Raises ConfigError for an unknown one."""
    try:
        return CODECS.index(compression)
    except ValueError:
        raise ConfigError(
            f"unknown compression {compression!r}{nearest(compression, CODECS)}"
        ) from None


def compress(compression: Compression, data: bytes) -> bytes:
    """`data` in the framing that Kafka's Java client reads."""
    match compression:
        case "gzip":
            return zlib.compress(data, _GZIP_LEVEL, _GZIP_FORMAT)
        case "snappy":
            return _snappy_compress(data)
        case "lz4":
            # Independent blocks and no checksum of the content: the Java client refuses the one
            # and skips the other. Blocks are of 64 KB.
            stream = cramjam.lz4.Compressor(
                level=_LZ4_LEVEL, content_checksum=False, block_linked=False
            )
            stream.compress(data)
            return bytes(stream.finish())
        case "zstd":
            return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL))
    return data


def decompress(compression: Compression, data: bytes, limit: int = MAX_INFLATED) -> bytes:
    """What was compressed. Raises ValueError when it is broken or would be over `limit` bytes.

    The limit holds before memory is asked for, not after.
    """
    try:
        match compression:
            case "gzip":
                return _gzip_decompress(data, limit)
            case "snappy":
                return _snappy_decompress(data, limit)
            case "lz4":
                _require_within(lz4_bound(data), limit)
                return bytes(cramjam.lz4.decompress(data))
            case "zstd":
                return _zstd_decompress(data, limit)
    except (zlib.error, cramjam.DecompressionError) as error:
        raise ValueError(f"{compression} data is broken: {error}") from error
    return data


def _require_within(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"{size} bytes when inflated; a compressed batch may hold {limit} at most")


def _gzip_decompress(data: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while data:  # one member after the other, as gzip allows
        stream = zlib.decompressobj(_GZIP_FORMAT)
        part = stream.decompress(data, limit - size + 1)
        size += len(part)
        _require_within(size, limit)
        if not stream.eof:
            raise ValueError("gzip data is cut off")
        parts.append(part)
        data = stream.unused_data
    return b"".join(parts)


def _zstd_decompress(data: bytes, limit: int) -> bytes:
    bound = zstd_bound(data)
    _require_within(bound, limit)
    # Into room of that size: a frame that holds more than it declares is found out only at its end.
    room = bytearray(bound)
    size = cramjam.zstd.decompress_into(data, room)
    return bytes(memoryview(room)[:size])


def _snappy_compress(data: bytes) -> bytes:
    """Xerial's framing: magic, version 1, readable from version 1, blocks after their lengths."""
    parts = [_XERIAL, _XERIAL_VERSIONS.pack(1, 1)]
    for start in range(0, len(data), _SNAPPY_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _SNAPPY_BLOCK]))
        parts += (_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _snappy_decompress(data: bytes, limit: int) -> bytes:
    """Xerial's framing, or one bare block, which librdkafka writes."""
    if not data.startswith(_XERIAL):
        return _snappy_block(data, limit)
    parts: list[bytes] = []
    position = _XERIAL_START
    while position < len(data):
        if position + _LENGTH.size > len(data):
            raise ValueError("snappy data is cut off")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if not 0 <= length <= len(data) - position:
            raise ValueError(f"a snappy block of {length} bytes where {len(data) - position} are")
        part = _snappy_block(data[position : position + length], limit)
        limit -= len(part)
        parts.append(part)
        position += length
    return b"".join(parts)


def _snappy_block(block: Buffer, limit: int) -> bytes:
    size = cramjam.snappy.decompress_raw_len(block)
    if size > len(block) * _SNAPPY_RATIO:
        raise ValueError(f"a snappy block of {len(block)} bytes says it inflates to {size}")
    _require_within(size, limit)
    return bytes(cramjam.snappy.decompress_raw(block))

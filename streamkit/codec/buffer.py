"""What the codec reads from: anything whose bytes lie in one piece."""

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

Encoded: TypeAlias = bytes | memoryview
"""A finished batch: bytes, or a view of the memory that it was made in."""


def view(buf: Buffer) -> memoryview:
    """`buf` as unsigned bytes, without a copy. Raises TypeError when it is not contiguous."""
    seen = memoryview(buf)
    if seen.format == "B" and seen.ndim == 1 and seen.contiguous:
        return seen
    return seen.cast("B")

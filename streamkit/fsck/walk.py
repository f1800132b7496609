"""A segment's bytes from one end to the other, also over damage: where good batches begin again."""

import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from streamkit.codec import HEADER_BYTES, BatchHeader, check
from streamkit.errors import CorruptBatch
from streamkit.log.segment import MAX_SPAN

READ_BYTES = 4 << 20
MAX_OFFSET = 2**63 - 1

_BEGIN = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta."""
_MAGIC_AT = 16
_MAGIC = b"\x02"

Read: TypeAlias = Callable[[int, int], bytes]
"""`read(position, size)`: that many bytes of the segment, fewer where it ends."""


class Stands(msgspec.Struct, frozen=True, gc=False):
    """A whole batch at `position` whose checksum fits."""

    position: int
    header: BatchHeader
    data: memoryview
    """The batch's own bytes."""


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are no batch, up to where the next good one begins or the segment ends.

    `offset` is what was expected there: the one after the last good batch.
    """

    position: int
    size: int
    offset: int
    problem: str

    @property
    def end(self) -> int:
        return self.position + self.size


def walk(
    read: Read, size: int, *, offset: int, start: int = 0, below: int = -1
) -> Iterator[Stands | Damage]:
    """Every batch, and what is between them that is none, of a segment's first `size` bytes.

    Begins at byte `start`, where the first batch has an offset of at least `offset`. No batch of
    the segment has an offset of `below` or more. Every checksum is looked at. Offsets may be
    missing between two batches: that is for whoever knows whether they may.
    """
    if below < 0:
        below = min(offset + MAX_SPAN, MAX_OFFSET)
    position = start
    wanted = READ_BYTES
    while position < size:
        data = memoryview(read(position, min(wanted, size - position)))
        whole = len(data) == min(wanted, size - position)
        last = not whole or position + len(data) == size
        at, wanted = 0, READ_BYTES
        while at < len(data):
            left = len(data) - at
            if not last and left < HEADER_BYTES:
                break
            length = _length(data, at) if left >= HEADER_BYTES else 0
            if not last and left < length <= size - position - at:
                wanted = max(READ_BYTES, length)
                break
            try:
                header = check(data[at : at + length] if length else data, 0 if length else at)
                _require_order(header, offset, below)
                if header.base_offset > offset:
                    _require_own_offset(read, position + at, size, offset, header)
            except CorruptBatch as error:
                found = _next_good(read, position + at, size, offset, below, length)
                problem = _without_place(str(error))
                yield Damage(position + at, found - position - at, offset, problem)
                position, at = found, -1
                break
            yield Stands(position + at, header, data[at : at + header.size])
            offset = header.next_offset
            at += header.size
        if at >= 0:
            position += at
            if not whole and at >= len(data):
                yield Damage(position, size - position, offset, "the file ends before them")
                return


def _length(data: memoryview, at: int) -> int:
    """What the batch says its size is; 0 when that cannot be."""
    length: int = _BEGIN.unpack_from(data, at)[1] + 12
    return length if length >= HEADER_BYTES else 0


def _require_order(header: BatchHeader, offset: int, below: int) -> None:
    if header.base_offset < offset:
        raise CorruptBatch(f"offset {header.base_offset} where {offset} or more belongs")
    if header.next_offset > below:
        raise CorruptBatch(
            f"offsets {header.base_offset} to {header.last_offset}, and {below} begins elsewhere"
        )


def _require_own_offset(
    read: Read, position: int, size: int, offset: int, header: BatchHeader
) -> None:
    """The base offset is not under the checksum: the batch behind tells whether it is a lie."""
    at = position + header.size
    head = read(at, HEADER_BYTES) if at + HEADER_BYTES <= size else b""
    if len(head) < HEADER_BYTES:
        return
    base, _, _, magic, *_ = _BEGIN.unpack_from(head)
    if magic == 2 and offset < base < header.next_offset:
        raise CorruptBatch(
            f"offset {header.base_offset} where {offset} belongs: {base} comes behind it"
        )


def _without_place(problem: str) -> str:
    """The codec counts bytes from where it was given them, which says nothing here."""
    begin, colon, rest = problem.partition(": ")
    return rest if colon and begin.startswith("batch at byte") else problem


def _next_good(read: Read, position: int, size: int, offset: int, below: int, length: int) -> int:
    """Where after a bad batch at `position` the next good one begins; `size` when none does."""

    def good(at: int) -> bool:
        head = read(at, HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            return False
        base, claimed, _, magic, _, _, delta = _BEGIN.unpack_from(head)
        if magic != 2 or delta < 0 or not offset <= base <= below - 1 - delta:
            return False
        if not HEADER_BYTES <= claimed + 12 <= size - at:
            return False
        try:
            check(read(at, claimed + 12))
        except CorruptBatch:
            return False
        return True

    # Most damage is within one batch, whose length is still right.
    if length and position + length < size and good(position + length):
        return position + length
    at = position + 1
    while at < size:
        window = read(at, min(READ_BYTES, size - at))
        if len(window) < HEADER_BYTES:
            return size
        magic = window.find(_MAGIC, _MAGIC_AT)
        while magic >= 0:
            if magic - _MAGIC_AT + 28 <= len(window):  # else the next window has it
                base = int.from_bytes(window[magic - 16 : magic - 8], "big", signed=True)
                if offset <= base < below and good(at + magic - _MAGIC_AT):
                    return at + magic - _MAGIC_AT
            magic = window.find(_MAGIC, magic + 1)
        at += max(len(window) - HEADER_BYTES, 1)
    return size

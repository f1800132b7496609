"""The control block: what of a partition's files exists, as 4 KiB of bytes.

It decides where the log ends; the size of a file never does. Two records live in it, each twice:

    0      512     1024    1536                        4094   4095   4096
    | end A | end B | sync A | sync B |       zeros      | errno | dirty |

`End` is written under the append lock, `Synced` under the sync lock, always over the *older* copy
and with the next generation, so that a writer killed in the middle leaves the newer one whole:

    0      4          12                        n        n+4
    | magic | generation | fields, big-endian ... | CRC-32 |

`errno` (a failed write or fsync, or `CUT`; 0: none) and `dirty` (an append is under way, or died)
are single bytes: storing one is atomic, so they need no copies.
"""

import mmap
import struct
import zlib
from typing import Generic, TypeAlias, TypeVar

import msgspec

PAGE_BYTES = 4096
ERRNO_AT = 4094
DIRTY_AT = 4095

CUT = 255
"""In place of an errno, of which none is as high: what was synced is missing at the end."""

Page: TypeAlias = bytes | bytearray | mmap.mmap


class End(msgspec.Struct, frozen=True, gc=False):
    """What is published of a partition. Positions are bytes in the active segment."""

    boot_id: bytes
    """The boot that wrote this (16 bytes): after another one the page cache is gone."""

    leader_epoch: int
    active_base: int
    """Base offset, hence the name, of the segment that is appended to."""

    end_position: int
    end_offset: int
    start_offset: int
    stable_offset: int
    """LSO: the first offset of the earliest open transaction, else `end_offset`. It stays when
    retention removes that offset: below `start_offset`, the start counts instead."""

    segment_created: int
    """Wall-clock ms of the active segment's first append: what segment.ms counts from."""

    max_timestamp: int
    """The largest timestamp in the active segment (-1: none) …"""

    max_timestamp_offset: int
    """… and the last offset of the first batch that has it."""

    indexed_timestamp: int
    """The timestamp of the last entry of the time index (-1: none)."""

    index_bytes: int
    timeindex_bytes: int
    unindexed_bytes: int
    """Bytes appended since the last entry of the index."""

    txnindex_bytes: int
    """Bytes of the active segment's index of aborted transactions that count."""

    rewrites: int
    """Raised whenever files of finished segments were replaced or removed: readers of all
    processes then let go of what they have open and list the directory again."""

    producers_end: int
    """All batches that have a producer id stand below this offset; -1: the log never had one."""

    def rolled(self, now: int) -> "End":
        """The same end, in a new segment that is still empty."""
        return msgspec.structs.replace(
            self,
            active_base=self.end_offset,
            end_position=0,
            segment_created=now,
            max_timestamp=-1,
            max_timestamp_offset=-1,
            indexed_timestamp=-1,
            index_bytes=0,
            timeindex_bytes=0,
            unindexed_bytes=0,
            txnindex_bytes=0,
        )


class Synced(msgspec.Struct, frozen=True, gc=False):
    """Up to where a partition is on stable storage: a position in the segment `base`."""

    base: int
    position: int
    offset: int


T = TypeVar("T", End, Synced)


class Copies(Generic[T]):
    """Where and how one record is kept twice in a page."""

    def __init__(self, kind: type[T], magic: bytes, layout: str, places: tuple[int, int]) -> None:
        self._kind: type[T] = kind
        self._magic = magic
        self._layout = struct.Struct(">4sQ" + layout)
        self._places = places
        a, b = places
        self.generations = struct.Struct(f">{a + 4}xQ{b - a - 8}xQ").unpack_from
        """Both copies' generations; the greater is the newest that was begun, it may not be whole.
        For who looks at every turn: without a call more than it takes."""
        self._crc = struct.Struct(">I")

    def store(
        self, page: bytearray | mmap.mmap, value: T, seen: tuple[int, T] | None = None
    ) -> tuple[int, T]:
        """Put `value` over the older copy, or over the one that a killed writer left torn.

        `seen` is what was stored or decoded last: while it is the newest it is whole, and need
        not be looked at again.
        """
        one, other = self.generations(page)
        newest: int = one if one > other else other
        found = seen if seen is not None and seen[0] == newest else self.decode(page)
        # With no whole copy, what stands for the generations may be anything.
        generation = found[0] + 1 if found else newest % 2**62 + 1
        data = self._layout.pack(self._magic, generation, *msgspec.structs.astuple(value))
        data += self._crc.pack(zlib.crc32(data))
        at = self._places[generation & 1]
        page[at : at + len(data)] = data
        return generation, value

    def generation(self, page: Page) -> int:
        """The newest generation that was begun; it may not be whole."""
        newest: int = max(self.generations(page))
        return newest

    def decode(self, page: Page) -> tuple[int, T] | None:
        """The newest whole copy and its generation; None when neither is whole."""
        newest = self.generation(page) & 1
        return self._copy(page, self._places[newest]) or self._copy(page, self._places[newest ^ 1])

    def _copy(self, page: Page, at: int) -> tuple[int, T] | None:
        # One slice, then checks on it alone: a writer may be storing into the page meanwhile.
        size = self._layout.size
        data = page[at : at + size + 4]
        if zlib.crc32(data[:size]) != self._crc.unpack_from(data, size)[0]:
            return None
        magic, generation, *fields = self._layout.unpack_from(data)
        if magic != self._magic:
            return None
        return generation, self._kind(*fields)


END: Copies[End] = Copies(End, b"SKE1", "16siqqqqqqqqqqqqqqq", (0, 512))
SYNCED: Copies[Synced] = Copies(Synced, b"SKS1", "qqq", (1024, 1536))

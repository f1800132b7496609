"""What the batches of a partition's files say of its producers: a walk that reads headers only."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import TypeAlias

from streamkit.codec import HEADER_BYTES, BatchHeader, read_header
from streamkit.errors import CorruptBatch, MalformedBatch
from streamkit.log.index import OFFSET_ENTRY
from streamkit.log.segment import INDEX, SCAN_BYTES
from streamkit.log.segments import Segments
from streamkit.log.snapshots import Snapshots
from streamkit.transactions.markers import Marker, read_marker
from streamkit.transactions.producer import Producer
from streamkit.transactions.producers import Producers
from streamkit.transactions.txnindex import Aborted

logger = logging.getLogger(__name__)

_HEAD = Struct(">qi4xb4x2xi16xq")
"""Base offset, length, magic, last offset delta, producer id."""

Found: TypeAlias = tuple[BatchHeader, Marker | None]


@dataclass(frozen=True, slots=True)
class Followed:
    """The producers at the end of a walk, and what to put into each walked segment's `.txnindex`.

    `producers_end` is as in the control block.
    """

    producers: Producers
    aborted: dict[int, list[Aborted]]
    producers_end: int


def follow_from(
    snapshots: Snapshots,
    segments: Segments,
    bases: Sequence[int],
    size_of: Callable[[int], int],
    *,
    name: str,
    reach: int,
    plain_until: int = 0,
    settled: int = 0,
) -> Followed:
    """The producers at the end of these segments, from the newest snapshot at or below `reach`.

    `size_of(base)` is how many bytes of a segment count. With no snapshot that can be read, the
    walk begins with the first segment. Below `plain_until` no batch has a producer id. `settled` is
    a last stable offset that was published: what a snapshot has open from before it was ended, were
    the marker gone by compaction. `name` is the partition's, for messages.
    """
    began, entries = _newest(snapshots, bases[0], reach)
    if began < plain_until:
        began, entries = plain_until, []
    never = not entries and began in (0, plain_until)
    producers = Producers(name, entries, began)
    producers.settle(settled)
    first = max(bisect_right(bases, began) - 1, 0)
    aborted: dict[int, list[Aborted]] = {}
    last = -1
    for base in bases[first:]:
        aborted[base], seen = follow(segments, producers, base, 0, size_of(base))
        last = max(last, seen)
    return Followed(producers, aborted, last if never else max(last, began))


def _newest(snapshots: Snapshots, start: int, reach: int) -> tuple[int, list[Producer]]:
    for offset in reversed(snapshots.offsets()):
        if start <= offset <= reach and (found := snapshots.read(offset)) is not None:
            return offset, found
    return start, []


def follow(
    segments: Segments, producers: Producers, base: int, position: int, size: int
) -> tuple[list[Aborted], int]:
    """Take in what stands in a segment from byte `position` to `size` and was not followed yet.

    Returns the aborted transactions whose markers are there, and the offset after the last batch
    that has a producer id (-1: there is none).
    """
    aborted: list[Aborted] = []
    last = -1
    for header, marker in _batches(segments, base, position, size):
        if header.base_offset < producers.end_offset:
            continue  # the snapshot has it
        ended = producers.follow(header, header.base_offset, marker)
        if ended is not None:
            aborted.append(ended)
        last = header.next_offset
    return aborted, last


def _batches(segments: Segments, base: int, position: int, size: int) -> Iterator[Found]:
    """The batches with a producer id. What is damaged is passed over as far as the index helps."""
    expected, wanted = base, SCAN_BYTES
    while position < size:
        asked = min(wanted, size - position)
        data = segments.read(base, position, asked)
        wanted, at, again = SCAN_BYTES, 0, False
        try:
            while at + HEADER_BYTES <= len(data):
                first, length, magic, delta, producer_id = _HEAD.unpack_from(data, at)
                after = at + length + 12
                if magic != 2 or length < HEADER_BYTES - 12 or delta < 0 or first < expected:
                    read_header(data, at)
                    raise MalformedBatch(f"offset {first}, {expected} or more belongs here", at)
                if position + after > size:
                    raise MalformedBatch(f"{after - at} bytes, {size - position - at} are left", at)
                if producer_id >= 0:
                    header = read_header(data, at)
                    if header.control and after > len(data) == asked:
                        wanted, again = max(SCAN_BYTES, header.size), True
                        break  # its record is to be read: from its beginning, then
                    marker = None
                    if header.control:
                        try:
                            marker = read_marker(data, at)
                        except CorruptBatch as error:
                            # Its length may still be right, and it ended some transaction. That
                            # this one's records are seen is better than that they are lost.
                            _complain(segments, base, position + at, error)
                            marker = Marker(commit=True, coordinator_epoch=-1)
                    yield header, marker
                expected = first + delta + 1
                at = after
            if at == 0 and not again:
                raise MalformedBatch(f"the file ends after {position + len(data)} bytes", at)
            position += at
        except CorruptBatch as error:
            _complain(segments, base, position + at, error)
            position = _next_start(segments, base, position + at, size)


def _complain(segments: Segments, base: int, position: int, error: CorruptBatch) -> None:
    logger.error(
        "%s: corrupt at byte %d, producers there are not known: %s",
        segments.path(base),
        position,
        error,
    )


def _next_start(segments: Segments, base: int, position: int, size: int) -> int:
    """The first batch after byte `position` that the segment's index knows, else `size`."""
    try:
        index = segments.file(base, INDEX)
    except FileNotFoundError:
        return size
    data = index.read(index.size() // OFFSET_ENTRY.size * OFFSET_ENTRY.size, 0)
    entries: Iterator[tuple[int, int]] = OFFSET_ENTRY.iter_unpack(data)
    for relative, start in entries:
        if start > position:
            with suppress(CorruptBatch):
                header = read_header(segments.read(base, start, HEADER_BYTES))
                if header.last_offset == base + relative:
                    return start
    return size

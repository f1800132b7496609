"""What a reader sees who reads committed records only."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TypeAlias

import msgspec

from streamkit.codec import BatchHeader, headers
from streamkit.codec.buffer import Buffer, view
from streamkit.transactions.txnindex import Aborted

Ranges: TypeAlias = Mapping[int, list[tuple[int, int]]]
"""First and last offsets of aborted transactions by producer id, ascending."""

_first = itemgetter(0)


class Committed(msgspec.Struct, frozen=True):
    """What is visible of a fetched run of batches: byte ranges in it, and where to read on.

    Neighbours are one range, so that a run without aborted transactions and markers is one piece.
    `next_offset` is behind the last batch that was decided on, seen or not; None when there was
    none below the last stable offset.
    """

    spans: list[tuple[int, int]]
    next_offset: int | None


def committed(buf: Buffer, aborted: Iterable[Aborted], stable_offset: int) -> Committed:
    """Leave out control batches, batches of aborted transactions, and all from `stable_offset` on.

    `aborted` are the transactions that `txnindex.aborted_in` gives for the offsets of the run. The
    last stable offset must have been read before the index was: what was open then may since have
    been aborted, and an index read earlier would not say so. Raises what `codec.headers` does.
    """
    ranges = _ranges(aborted)
    spans: list[tuple[int, int]] = []
    start = end = 0
    next_offset = None
    for position, header in headers(view(buf)):
        if header.base_offset >= stable_offset:
            break
        next_offset = header.next_offset
        if is_visible(header, ranges):
            if position != end:
                if end > start:
                    spans.append((start, end))
                start = position
            end = position + header.size
    if end > start:
        spans.append((start, end))
    return Committed(spans, next_offset)


def is_visible(header: BatchHeader, ranges: Ranges) -> bool:
    """Whether a batch below the last stable offset is data that was not aborted."""
    if header.control:
        return False
    if not header.transactional or header.producer_id not in ranges:
        return True
    # A producer has one transaction after the other, so the last that began before it is the one.
    aborted = ranges[header.producer_id]
    before = bisect_right(aborted, header.base_offset, key=_first)
    return before == 0 or aborted[before - 1][1] <= header.base_offset


def _ranges(aborted: Iterable[Aborted]) -> Ranges:
    ranges: dict[int, list[tuple[int, int]]] = {}
    for entry in aborted:
        ranges.setdefault(entry.producer_id, []).append((entry.first_offset, entry.last_offset))
    for of_one in ranges.values():
        of_one.sort()
    return ranges

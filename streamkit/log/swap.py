"""Finished segments removed and replaced, so that a kill at any instant leaves a log.

What is called here needs the append lock, if it says nothing else. The order of a replacement is
Kafka's, with its names, so that a broker can finish it as well:

    <base>.index.cleaned, .timeindex.cleaned, .txnindex.cleaned, .log.cleaned      written, synced
    … the same with .swap                      renamed, the .log last; directory synced
                                               ── from here on the replacement will be made
    <base>.index, .timeindex, .log, .txnindex  renamed over; .log.swap stays, as a second name
    the segments that are merged in it         removed
    control block                              published with `rewrites` + 1
                                               directory synced
    <base>.log.swap                            removed

A reader that opened the old files goes on with them. One that opens a file later finds it, or the
one it is merged in: that is why removing comes after renaming. While `.log.swap` is there, what
follows it can be done again.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from streamkit.log.block import ControlBlock
from streamkit.log.control import End
from streamkit.log.segments import Segments


def remove_before(
    segments: Segments, block: ControlBlock, end: End, offset: int, *, durable: bool
) -> End:
    """Let the partition start at `offset`, and remove the segments wholly below it.

    The start is published first: a kill leaves files that nobody reads, and that the next call
    removes. With `durable` it is on stable storage before the first file goes, as a power cut could
    undo the removal of some. The active segment always stays.
    """
    start = min(max(offset, end.start_offset), end.end_offset)
    gone = below(segments.listed(), min(start, end.active_base))
    if start > end.start_offset or gone:
        end = msgspec.structs.replace(
            end,
            start_offset=start,
            rewrites=end.rewrites + 1,
        )
        block.publish(end)
        if durable and gone:
            block.flush()
    for base in gone:
        segments.remove(base)
    return end


def below(bases: Sequence[int], offset: int) -> list[int]:
    """Of the segments of ascending `bases` those that end at or below `offset`."""
    return [base for base, following in pairwise(bases) if following <= offset]

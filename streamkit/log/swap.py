"""Finished segments removed and replaced, so that a kill at any instant leaves a log.

The steps of a replacement are Kafka's, with its names, so that a broker can finish one as well:

    <base>.index.cleaned, .timeindex.cleaned, .txnindex.cleaned, .log.cleaned      written, synced
    the same with .swap                        renamed, the .log last; directory synced
                                               ── from here on the replacement will be made
    <base>.index, .timeindex, .log, .txnindex  renamed over; .log.swap stays, as a second name
    control block                              published with `rewrites` + 1
    the segments that are merged in it         removed; directory synced
    <base>.log.swap                            removed

A reader that has the old files open goes on with them. One that opens a file later finds it, or the
one it is merged in, because removing comes last. Whoever reads a log and then its index of aborted
transactions never has an index too young: it comes after the log, and names all transactions of
which the log before had records. While `.log.swap` is there, all that follows it can be done again.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import msgspec

from streamkit.log.block import ControlBlock
from streamkit.log.control import End
from streamkit.log.files import Files, OpenFile
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, TXNINDEX, Tally, file_name, scan
from streamkit.log.segments import Segments
from streamkit.log.view import listed

logger = logging.getLogger(__name__)

CLEANED = ".cleaned"
SWAP = ".swap"
DELETED = ".deleted"
"""Kafka's suffix of files that are about to be removed, and here of one that gets its name next."""

SUFFIXES = (INDEX, TIMEINDEX, TXNINDEX, LOG)
"""Of what a replacement consists. The log last: with its name a replacement is decided."""


def remove_before(
    segments: Segments, block: ControlBlock, end: End, offset: int, *, durable: bool
) -> End:
    """Let the partition start at `offset`, and remove the segments wholly below it.

    The start is published first: a kill leaves files that nobody reads, and that the next call
    removes. With `durable` it is on stable storage before the first file goes, as a power cut could
    undo the removal of some. The active segment always stays. Needs the append lock.
    """
    start = min(max(offset, end.start_offset), end.end_offset)
    gone = below(segments.listed(), min(start, end.active_base))
    if start > end.start_offset or gone:
        end = msgspec.structs.replace(end, start_offset=start, rewrites=end.rewrites + 1)
        block.publish(end)
        if durable and gone:
            block.flush()
    for base in gone:
        segments.remove(base)
    return end


def below(bases: Sequence[int], offset: int) -> list[int]:
    """Of the segments of ascending `bases` those that end at or below `offset`."""
    return [base for base, following in pairwise(bases) if following <= offset]


def decide(files: Files, directory: str, base: int) -> None:
    """Give the `.cleaned` files of a segment, which are synced, the names of a replacement.

    Needs the append lock: under it the directory is known to be the partition's still. Decided for
    good once the directory was synced. Raises FileNotFoundError when somebody has removed them.
    """
    for suffix in SUFFIXES:
        path = os.path.join(directory, file_name(base, suffix))
        if suffix != TXNINDEX or files.exists(path + CLEANED):
            files.rename(path + CLEANED, path + SWAP)


def install(
    files: Files,
    segments: Segments,
    block: ControlBlock,
    end: End,
    base: int,
    merged: Sequence[int],
) -> End:
    """Put a replacement in place, which was decided, of the segments `base` and `merged`.

    Needs the append lock. The directory is to be synced, and `settle` called, afterwards. Raises
    FileNotFoundError when somebody else has finished it.
    """
    dirty = block.dirty
    # Killed in the middle, the next one who takes the lock finishes it (`finish`): the files would
    # be others than what is published says.
    block.dirty = True
    _place(files, segments, base)
    end = msgspec.structs.replace(end, rewrites=end.rewrites + 1)
    block.publish(end)
    for other in merged:
        segments.remove(other)
    segments.relist()
    block.dirty = dirty
    return end


def _place(files: Files, segments: Segments, base: int) -> None:
    """Give the files of a replacement their names."""
    log = segments.path(base)
    for suffix in (INDEX, TIMEINDEX):
        with suppress(FileNotFoundError):
            files.rename(segments.path(base, suffix) + SWAP, segments.path(base, suffix))
    with suppress(FileNotFoundError):
        files.unlink(log + DELETED)
    files.link(log + SWAP, log + DELETED)
    files.rename(log + DELETED, log)
    with suppress(FileNotFoundError):
        files.rename(segments.path(base, TXNINDEX) + SWAP, segments.path(base, TXNINDEX))


def settle(files: Files, segments: Segments, base: int) -> None:
    """Bring a replacement to stable storage that is in place. Needs no lock."""
    files.fsync_dir(segments.directory)
    with suppress(FileNotFoundError):
        files.unlink(segments.path(base) + SWAP)
    # Back after a power cut, it would replace what may be another segment by then.
    files.fsync_dir(segments.directory)


def finish(files: Files, segments: Segments, block: ControlBlock, end: End) -> End:
    """Put in place what one who is dead has decided. Needs the append lock."""
    for base in decided(files, segments.directory):
        swapped = segments.path(base) + SWAP
        logger.info("%s: put in place, its process was killed", swapped)
        end = install(files, segments, block, end, base, _merged(files, segments, base))
        settle(files, segments, base)
    return end


def discard(files: Files, segments: Segments) -> None:
    """Remove what was not decided. Needs the lock of who cleans the partition."""
    kept = {file_name(base, "") for base in decided(files, segments.directory)}
    for name in files.listdir(segments.directory):
        undecided = name.endswith(SWAP) and name[:20] not in kept
        if undecided or name.endswith((CLEANED, DELETED)):
            with suppress(FileNotFoundError):
                files.unlink(os.path.join(segments.directory, name))


def recover_swaps(files: Files, segments: Segments, start: int) -> None:
    """Finish or remove what somebody left, a Kafka broker perhaps, before the log is walked.

    `start` is the start offset as far as it is known. Needs the append lock. A process that cleans
    the partition just now finds its files gone, and begins again.
    """
    directory = segments.directory
    names = files.listdir(directory)
    # A broker renames the log first: with one of its files still to be renamed, it is not decided.
    half = [int(name[:20]) for name in names if name.endswith(CLEANED) and name[:20].isdecimal()]
    for base in decided(files, directory):
        if half and base >= min(half):
            files.unlink(segments.path(base) + SWAP)
            continue
        merged = _merged(files, segments, base)
        _place(files, segments, base)
        files.fsync_dir(directory)
        for other in merged:
            segments.remove(other)
        settle(files, segments, base)
        logger.info("%s: replaced by what was cleaned of it", segments.path(base))
    discard(files, segments)
    for base in below(segments.listed(), start):
        segments.remove(base)
    segments.relist()


def decided(files: Files, directory: str) -> list[int]:
    """The base offsets of segments whose replacement is decided and not yet settled."""
    tail = LOG + SWAP
    names = [name.removesuffix(tail) for name in files.listdir(directory) if name.endswith(tail)]
    return sorted(int(stem) for stem in names if len(stem) == 20 and stem.isdecimal())


def _merged(files: Files, segments: Segments, base: int) -> list[int]:
    """The other segments of which a replacement holds what is left."""
    file = OpenFile(files, segments.path(base) + SWAP, os.O_RDONLY)
    size = file.size()
    found = scan(
        lambda position, count: file.read(count, position),
        size,
        Tally(base, 0),
        offset=base,
        check_from=size,
    )
    others = listed(files, segments.directory)
    return [other for other in others if base < other < found.next_offset]

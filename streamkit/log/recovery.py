"""Where a partition ends when its control block does not say: found by walking its files."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from streamkit.log.boot import boot_id
from streamkit.log.checkpoints import EPOCHS, decode_epochs, encode_epochs
from streamkit.log.config import TopicConfig
from streamkit.log.control import End, Synced
from streamkit.log.files import Files, read_whole, write_new
from streamkit.log.following import Followed, follow_from
from streamkit.log.segment import TXNINDEX, Scan, Tally, file_name
from streamkit.log.segments import Segments
from streamkit.log.snapshots import Snapshots
from streamkit.log.starts import noted_start
from streamkit.log.swap import recover_swaps
from streamkit.log.telling import tell
from streamkit.transactions.txnindex import Aborted, encode_entries

logger = logging.getLogger(__name__)

CUT = ".cut"
"""Suffix of what was cut off a log that had also lost the position it was synced to."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a walk has found; `aborted` are the aborted transactions of the segments walked.

    `cut`: records are missing at the end that had been synced. `end` says then that the log ends
    where it was synced to, so that no offset is given twice, and includes every byte that is left.
    """

    end: End
    synced: Synced
    aborted: Mapping[int, list[Aborted]]
    cut: bool


def recover(
    files: Files,
    segments: Segments,
    known: End | None,
    synced: Synced | None,
    *,
    config: TopicConfig,
    now: int,
    writable: bool,
) -> Recovered:
    """Walk the log from where it was last synced to the first batch that is not whole.

    `known` and `synced` are what the control block last said, None when it is lost. What is not
    whole is a torn tail: it is taken off, with all segments after it, and the leader epoch raised.
    Below the synced position nothing is taken off: it is corrupt then, and whoever reads it is
    told. Needs the append and the sync lock. With `writable` False no file is changed.
    """
    if writable:
        recover_swaps(files, segments, known.start_offset if known is not None else 0)
    bases = segments.listed()
    if not bases:
        first = known.start_offset if known is not None else 0
        if writable:
            segments.create(first)
            files.fsync_dir(segments.directory)
        bases = [first]
    start = known.start_offset if known is not None else bases[0]
    start = max(start, noted_start(files, segments.directory))
    said = synced
    lost = synced is None or not holds(segments, bases, synced)
    missing = range(0)
    if synced is not None and lost and bases[-1] <= synced.base and start < synced.offset:
        synced, missing = _what_is_left(segments, bases[-1], synced, dense=not config.sparse)
    elif synced is None or lost:
        if synced is not None and synced.base in bases:
            tell(
                logger,
                logging.WARNING,
                "%s: shorter than the %d bytes that were synced; what follows it goes on",
                segments.path(synced.base),
                synced.position,
                each=True,
            )
        synced = _newest(segments, bases, synced)
        if writable:
            # From here on it counts as synced, and may be a copy that was just made.
            for base in bases[: bases.index(synced.base)]:
                segments.file(base).sync()
    found = _walk(segments, synced.base, synced, config)
    if missing:
        found.tally.seal()  # restored from a backup, it may be a finished segment
    walk = [base for base in bases if base >= synced.base]
    active = walk[0]
    for base in walk[1:]:
        # A segment that lost its last batches whole ends well, but not where the next one begins.
        # Only compaction makes such a gap, too.
        gap = base > found.next_offset and not config.sparse
        if found.problem is not None or base < found.next_offset or gap:
            break
        if writable:
            found.tally.seal()
            segments.rewrite_indexes(active, found.tally)
        active, found = base, _walk(segments, base, synced, config)
    torn = found.problem is not None or active != walk[-1]
    if torn:
        tell(
            logger,
            logging.WARNING,
            "%s: a torn tail begins at byte %d (offset %d): %s",
            segments.path(active),
            found.end,
            found.next_offset,
            found.problem or f"the next segment is {walk[walk.index(active) + 1]}",
            each=writable,
        )
    # Not below the start: what is appended there would be taken for deleted after the next walk.
    end_offset = max(found.next_offset, start)
    snapshots = Snapshots(files, segments.directory)
    if writable and snapshots.remove_above(end_offset):
        # Back after another power cut, one would speak of a log that has gone on otherwise.
        files.fsync_dir(segments.directory)
    if writable and torn:
        if lost:
            _keep(files, segments, active, found)
        _cut(files, segments, active, found.end, remove=walk[walk.index(active) + 1 :])
    if writable:
        segments.rewrite_indexes(active, found.tally)
        if lost:
            files.fsync_dir(segments.directory)  # what is synced from now on must have a name
    epoch = _epoch(files, segments.directory, end_offset, cut=torn, writable=writable)
    followed = _follow(segments, snapshots, bases, active, found, known, synced.base, end_offset)
    if writable:
        _write_aborted(files, segments, followed, synced.base, trusted=known is None)
    tally = found.tally
    same = known is not None and known.active_base == active
    end = End(
        boot_id=boot_id(),
        leader_epoch=epoch,
        active_base=active,
        end_position=found.end,
        end_offset=end_offset,
        start_offset=min(max(start, bases[0]), end_offset),
        stable_offset=followed.producers.stable_offset,
        segment_created=known.segment_created if known is not None and same else now,
        max_timestamp=tally.max_timestamp,
        max_timestamp_offset=tally.max_timestamp_offset,
        indexed_timestamp=tally.indexed_timestamp,
        index_bytes=len(tally.index),
        timeindex_bytes=len(tally.timeindex),
        unindexed_bytes=tally.unindexed,
        txnindex_bytes=len(encode_entries(followed.aborted.get(active, ()))),
        rewrites=known.rewrites + 1 if known is not None else 0,
        producers_end=followed.producers_end,
    )
    if missing and said is not None:
        synced = said  # for the next walk to know it as well
    return Recovered(end, synced, followed.aborted, bool(missing))


def holds(segments: Segments, bases: list[int], synced: Synced) -> bool:
    """Whether the segment is there, and as long as what was synced of it."""
    return synced.base in bases and _size(segments, synced.base) >= synced.position


def _size(segments: Segments, base: int) -> int:
    try:
        return segments.size(base)
    except FileNotFoundError:  # read-only, and there is no segment at all
        return 0


def _newest(segments: Segments, bases: list[int], synced: Synced | None) -> Synced:
    """Where a walk begins when it is not known up to where the log was synced.

    `synced`: a position that is gone, as a broker has compacted or retention has removed its
    segment. Those behind it are what remains of the log then, be they empty.
    """
    # A segment is synced soon after the roll that ended it; the active one may not be. An
    # empty one may be left of a roll that never was, its removal undone by a power cut.
    later = [base for base in bases if synced is not None and base > synced.base] or bases
    newest = next((base for base in reversed(later[1:]) if segments.size(base) > 0), later[0])
    return Synced(newest, 0, newest)


def _follow(
    segments: Segments,
    snapshots: Snapshots,
    bases: list[int],
    active: int,
    found: Scan,
    known: End | None,
    since: int,
    end_offset: int,
) -> Followed:
    """The producers at the end that was found, and the transactions aborted from `since` on."""

    def size_of(base: int) -> int:
        return found.end if base == active else segments.size(base)

    # A log that had no producers needs no walk from its beginning.
    plain = known.end_offset if known is not None and known.producers_end < 0 else 0
    followed = follow_from(
        snapshots,
        segments,
        [base for base in bases if base <= active],
        size_of,
        name=os.path.basename(segments.directory),
        reach=min(since, found.next_offset),
        plain_until=min(plain, found.next_offset),
    )
    followed.producers.advance(end_offset)
    return followed


def _write_aborted(
    files: Files, segments: Segments, followed: Followed, since: int, *, trusted: bool
) -> None:
    """Make the indexes of aborted transactions anew from segment `since` on.

    With `trusted`, earlier segments that have none get an empty one: a Kafka broker makes the file
    for the first transaction that is aborted, and from now on a missing one is a lost one.
    """
    for base in segments.listed():
        there = files.exists(segments.path(base, TXNINDEX))
        if base >= since and (there or followed.producers_end >= 0):
            segments.rewrite_aborted(base, encode_entries(followed.aborted.get(base, ())))
        elif trusted and not there and followed.producers_end >= 0:
            segments.add_aborted(base, b"", 0)


def _walk(segments: Segments, base: int, synced: Synced, config: TopicConfig) -> Scan:
    """Walk one segment, with checksums from the synced position on."""
    tally = Tally(base, config.index_interval_bytes)
    size = _size(segments, base)
    if base != synced.base:
        return segments.scan(base, size, tally)
    found = segments.scan(base, synced.position, tally, check_from=synced.position)
    if found.problem is not None:
        tell(
            logger,
            logging.ERROR,
            "%s: corrupt at byte %d (offset %d), which was synced: %s",
            segments.path(base),
            found.end,
            found.next_offset,
            found.problem,
            each=True,
        )
    return segments.scan(
        base,
        size,
        tally,
        start=synced.position,
        offset=synced.offset,
        check_from=synced.position,
    )


def _what_is_left(
    segments: Segments, base: int, synced: Synced, *, dense: bool
) -> tuple[Synced, range]:
    """What was synced of the last segment there is, of a log that was synced beyond its last byte.

    And which offsets are missing behind it. If there are any, all of it was synced: a torn tail is
    of what was not, so that whatever has happened here, nothing is to be taken off.
    """
    size = _size(segments, base)
    found = segments.scan(base, size, Tally(base, 0), check_from=size, dense=dense)
    missing = range(found.next_offset, synced.offset)
    if missing:
        tell(
            logger,
            logging.ERROR,
            "%s: ends at byte %d (offset %d), but the log was synced up to offset %d: the file was"
            " cut or is an older copy, or what followed it was removed. Appends are refused",
            segments.path(base),
            found.end,
            found.next_offset,
            synced.offset,
            each=True,
        )
        return Synced(base, size, synced.offset), missing
    if found.next_offset == synced.offset:  # an empty segment was removed
        return Synced(base, found.end, synced.offset), missing
    return Synced(base, 0, base), missing  # other files, a broker's perhaps


def _keep(files: Files, segments: Segments, base: int, found: Scan) -> None:
    """Put aside what will be cut: without the synced position it may be damaged, not torn."""
    data = segments.read(base, found.end, segments.size(base) - found.end)
    path = os.path.join(segments.directory, file_name(found.next_offset, CUT))
    write_new(files, path, data)
    logger.warning("%s: holds the %d bytes that were cut", path, len(data))


def _cut(files: Files, segments: Segments, base: int, size: int, *, remove: list[int]) -> None:
    for later in remove:
        logger.warning("%s: removed, it follows a torn tail", segments.path(later))
        segments.remove(later)
    # Later segments gone for good first: cut and still there, they would follow a gap.
    files.fsync_dir(segments.directory)
    segments.file(base).truncate(size)
    # Not durable, the cut could come back under what is appended next.
    segments.file(base).sync()


def cut_tail(files: Files, segments: Segments, end: End) -> End:
    """Take back what a killed writer left beyond the published end. Needs the append lock."""
    for base in segments.listed():
        if base > end.active_base:
            segments.remove(base)
    segments.cut_indexes(end.active_base, end.index_bytes, end.timeindex_bytes, end.txnindex_bytes)
    file = segments.file(end.active_base)
    surplus = file.size() - end.end_position
    if surplus <= 0:
        return end
    file.truncate(end.end_position)
    epoch = _epoch(files, segments.directory, end.end_offset, cut=True, writable=True)
    logger.info(
        "%s: cut %d unpublished bytes of a killed writer after offset %d",
        file.path,
        surplus,
        end.end_offset - 1,
    )
    return msgspec.structs.replace(end, leader_epoch=epoch)


def last_epoch(files: Files, directory: str) -> int | None:
    """The newest leader epoch that the partition's directory tells of; None: it tells of none."""
    epochs = _epochs(files, directory)
    return epochs[-1][0] if epochs else None


def _epochs(files: Files, directory: str) -> list[tuple[int, int]]:
    try:
        return decode_epochs(read_whole(files, os.path.join(directory, EPOCHS)))
    except (FileNotFoundError, ValueError):
        return []


def _epoch(files: Files, directory: str, end_offset: int, *, cut: bool, writable: bool) -> int:
    """The leader epoch to append with: the last one, or the next when something was cut."""
    epochs = _epochs(files, directory)
    newest = epochs[-1][0] if epochs else 0
    if epochs and not cut:
        return newest
    kept = [(epoch, start) for epoch, start in epochs if start < end_offset]
    epoch = newest + 1 if cut else newest
    if writable:
        path = os.path.join(directory, EPOCHS)
        write_new(files, path, encode_epochs([*kept, (epoch, end_offset if epochs else 0)]))
    return epoch

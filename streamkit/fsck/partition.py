"""One partition, every byte of it: batches, their indexes, producers, and where it ends."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamkit.errors import CorruptBatch, CorruptLog, LogError, UnsupportedFormat
from streamkit.fsck.beside import (
    ANEW,
    check_control,
    check_epochs,
    check_leftovers,
    check_topic_id,
)
from streamkit.fsck.finding import Finding, Lost
from streamkit.fsck.latest import Latest
from streamkit.fsck.place import REBUILD, Findings, Hole, Place
from streamkit.fsck.segment import SegmentCheck, WalkedSegment
from streamkit.fsck.walk import Stands, walk
from streamkit.log.control import End
from streamkit.log.files import Files, OpenFile, read_whole
from streamkit.log.opening import CONTROL, ReadOnlyEnd
from streamkit.log.segment import LOG, SNAPSHOT, file_name
from streamkit.log.segments import Segments
from streamkit.log.view import existing
from streamkit.transactions.producer import NONE, Producer
from streamkit.transactions.producers import Producers
from streamkit.transactions.snapshot import decode_snapshot

PASSES = 5
"""How often a partition is walked again because its files were replaced meanwhile."""
PAUSE_SECONDS = 0.2
"""… and after how long: a round of compaction replaces one segment after the other."""

Progress = Callable[[int], None]
"""Called with the number of bytes that were looked at since the last call."""


@dataclass(slots=True)
class Checked:
    """What a partition is like. `end` None: it was deleted meanwhile."""

    place: Place
    findings: list[Finding] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    end: End | None = None
    open_transactions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Producer id to first offset and epoch."""

    latest: Latest | None = None
    bytes: int = 0
    batches: int = 0


class Replaced(Exception):
    """Segments were compacted or removed under us: look again."""


def check_partition(
    files: Files, place: Place, *, records: bool = False, progress: Progress = lambda size: None
) -> Checked:
    """Look at every byte. `records`: collect the latest value of every key as well.

    Takes no lock, changes nothing, and goes by what is published: others may append, compact and
    remove segments meanwhile. What they may have caused is believed when it is seen twice.
    """
    before: Checked | None = None
    for _ in range(PASSES):
        segments = Segments(files, place.directory, writable=False)
        source = ReadOnlyEnd(files, segments, config=place.config)
        try:
            found = _Pass(files, place, segments, source, records, progress).run()
            if not found.findings or source.end() == found.end:
                return found
        except (Replaced, FileNotFoundError):
            if not files.exists(place.directory):
                return Checked(place)
            time.sleep(PAUSE_SECONDS)
            continue
        if before is not None:
            seen = {(one.kind, one.file, one.position) for one in before.findings}
            found.findings = [
                one for one in found.findings if (one.kind, one.file, one.position) in seen
            ]
            return found
        before = found
    raise LogError(
        f"{place.directory}: its segments are being replaced all the time; check it once more"
    )


class _Pass:
    """One walk over the partition."""

    def __init__(
        self,
        files: Files,
        place: Place,
        segments: Segments,
        source: ReadOnlyEnd,
        records: bool,
        progress: Progress,
    ) -> None:
        self._files = files
        self._place = place
        self._segments = segments
        self._source = source
        self._progress = progress
        self._findings = Findings(place)
        self._found = Checked(place, self._findings.items, latest=Latest() if records else None)
        self._producers = Producers(str(place.tp))
        self._snapshots: list[int] = []

    def run(self) -> Checked:
        found = self._found
        if self._source.end() is None:
            raise Replaced
        synced = self._source.synced()
        found.end = end = self._source.end()  # not before it, as both grow
        if end is None:
            raise Replaced
        names = set(self._files.listdir(self._place.directory))
        check_leftovers(self._files, self._findings, names)
        check_control(self._files, self._findings, names, end, synced)
        check_epochs(self._files, self._findings, names, end)
        check_topic_id(self._files, self._findings, names)
        self._snapshots = sorted(
            int(name[:20]) for name in names if name.endswith(SNAPSHOT) and name[:20].isdecimal()
        )
        bases = existing(self._files, self._place.directory, end)
        offset = self._begin(bases, end)
        for number in range(len(bases)):
            offset = self._segment(bases, number, offset, end)
        self._hold_snapshots(end.end_offset)
        for left in self._snapshots:
            name = file_name(left, SNAPSHOT)
            self._findings.add("note", "leftover", name, "from beyond the end", "remove it")
        self._compare_end(end, offset)
        if self._source.walks:
            self._look_beyond(end)
        for first, producer in self._producers.open_transactions.items():
            entry = self._producers.get(producer)
            if entry is not None:
                found.open_transactions[producer] = (first, entry.epoch)
        return found

    def _begin(self, bases: Sequence[int], end: End) -> int:
        """The first offset there is, and the producers as they were there."""
        first = bases[0] if bases else end.end_offset
        if first > end.start_offset:
            self._findings.add(
                "error",
                "gap",
                file_name(end.start_offset, LOG),
                f"the log begins at offset {end.start_offset}, but the first segment at {first}",
                f"let the log begin at {first}",
                offset=end.start_offset,
                lost=Lost(end.start_offset, first - 1),
            )
        # Those before it are of segments that are being removed, or whose removal was killed.
        self._snapshots = [at for at in self._snapshots if at >= first]
        if first in self._snapshots:
            self._snapshots.remove(first)
            entries = self._snapshot(first)
            self._producers = Producers(str(self._place.tp), entries or (), first)
        return first

    def _segment(self, bases: Sequence[int], number: int, offset: int, end: End) -> int:
        """Look at one segment; gives the offset behind it."""
        base = bases[number]
        following = bases[number + 1] if number + 1 < len(bases) else None
        if base > offset and not self._place.config.sparse:
            # Told by the segment before, if there is one.
            offset = base
        check = SegmentCheck(
            self._files,
            self._findings,
            self._segments,
            base,
            begin=bases[0],
            producers=self._producers,
            latest=self._found.latest,
            sure=not self._found.holes,
            progress=self._progress,
            at_batch=self._hold_snapshots,
        )
        check.open(end if following is None else None)
        # Opened before anybody replaced them, all of them stay what they were.
        if (self._source.end() or end).rewrites != end.rewrites:
            raise Replaced
        below = end.end_offset if following is None else following
        walked: WalkedSegment = check.walk(below)
        for hole in walked.holes:
            below_start = hole.last < end.start_offset
            self._findings.hole(hole, LOG, below_start=below_start)
        self._found.holes += walked.holes
        self._found.bytes += walked.bytes
        self._found.batches += walked.batches
        return max(walked.next_offset, below if walked.holes else 0)

    def _compare_end(self, end: End, offset: int) -> None:
        """Hold what is published against what the batches say."""
        if self._source.cut:
            # What is lost is told by the last hole.
            first = self._found.holes[-1].first if self._found.holes else end.end_offset
            self._findings.add(
                "error",
                "end",
                CONTROL,
                f"all below offset {end.end_offset} was on stable storage, and what is there ends"
                f" at {first}: files were cut or removed, or are older copies. Appends are refused,"
                " so that no offset is given twice. If there is a backup of the partition's files,"
                " restore them",
                f"let the log go on at offset {end.end_offset}",
                offset=first,
            )
        if offset != end.end_offset and not self._place.config.sparse:
            self._findings.add(
                "error",
                "end",
                CONTROL,
                f"the log is said to end at offset {end.end_offset}, but its batches end at"
                f" {offset}",
                ANEW,
                offset=offset,
            )
        if self._found.holes:
            return  # a marker may have stood there
        stable = self._producers.stable_offset
        if not self._producers.open_transactions:
            stable = end.end_offset
        start = end.start_offset  # what began below it is open from there on
        if max(end.stable_offset, start) != max(stable, start):
            self._findings.add(
                "error",
                "stable-offset",
                CONTROL,
                f"committed records are said to end at offset {end.stable_offset}, but the batches"
                f" say {stable}",
                ANEW,
                offset=stable,
            )

    def _look_beyond(self, end: End) -> None:
        """The end was found by walking: whoever opens the log to write cuts what is behind it."""
        cut = good = 0
        last = end.end_offset
        for base in (base for base in self._segments.listed() if base >= end.active_base):
            log = OpenFile(self._files, self._segments.path(base), os.O_RDONLY)
            start = end.end_position if base == end.active_base else 0
            cut += log.size() - start
            behind, next_offset = _good_batches(log, start, max(base, end.end_offset))
            good += behind
            last = max(last, next_offset)
        if cut:
            more = f", and {good} good batches behind it" if good else ""
            self._findings.add(
                "warning" if good else "note",
                "torn",
                file_name(end.active_base, LOG),
                f"a torn tail of {cut:,} bytes{more}: whoever opens the log to write cuts it",
                "cut it",
                position=end.end_position,
                offset=end.end_offset,
                lost=Lost(end.end_offset, last - 1) if good else None,
            )

    def _hold_snapshots(self, offset: int) -> None:
        """Compare the snapshots made at or before `offset` with the producers by then."""
        while self._snapshots and self._snapshots[0] <= offset:
            at = self._snapshots.pop(0)
            for said in self._snapshot(at) or ():
                true = self._producers.get(said.producer_id)
                if true is None or self._found.holes:
                    continue  # where its batches are gone, the snapshot is what remembers it
                if _is_wrong(said, true, sparse=self._place.config.sparse):
                    self._findings.add(
                        "warning",
                        "snapshot",
                        file_name(at, SNAPSHOT),
                        f"producer {said.producer_id}: epoch, sequence and open transaction"
                        f" {_essence(said)}, but the batches say {_essence(true)}",
                        REBUILD,
                        offset=at,
                    )
                    break

    def _snapshot(self, at: int) -> list[Producer] | None:
        name = file_name(at, SNAPSHOT)
        try:
            data = read_whole(self._files, os.path.join(self._place.directory, name))
            return decode_snapshot(data, name)
        except FileNotFoundError:
            return None  # an older one, removed meanwhile
        except (CorruptLog, CorruptBatch, UnsupportedFormat) as error:
            # Written without care, as a kill in the middle costs the next process a longer walk.
            self._findings.add("note", "snapshot", name, str(error), "remove it")
            return None


def _good_batches(log: OpenFile, start: int, offset: int) -> tuple[int, int]:
    """How many there are from byte `start` on, whatever is between them, and where they end."""
    count = 0
    for found in walk(
        lambda position, size: log.read(size, position), log.size(), offset=offset, start=start
    ):
        if isinstance(found, Stands):
            count += 1
            offset = found.header.next_offset
    return count, offset


def _is_wrong(said: Producer, true: Producer, *, sparse: bool) -> bool:
    """Whether a snapshot says what was never so, `true` being what the batches say."""
    if not sparse:
        return _essence(said) != _essence(true)
    # Compaction takes away batches that the snapshot was made of, but never the last ones alone.
    if said.epoch != true.epoch:
        return said.epoch < true.epoch
    return (said.open_from == NONE and true.open_from != NONE) or _last(said) < _last(true)


def _last(producer: Producer) -> int:
    return producer.batches[-1].last_offset if producer.batches else NONE


def _essence(producer: Producer) -> tuple[int, int, int]:
    return producer.epoch, producer.last_sequence, producer.open_from

"""One segment: every batch, and its indexes held against them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from streamkit.errors import CorruptBatch, UnsupportedFormat
from streamkit.fsck.indexes import OffsetIndex, TimeIndex, TransactionIndex
from streamkit.fsck.latest import Latest
from streamkit.fsck.place import REBUILD, Findings, Hole
from streamkit.fsck.walk import Damage, Stands, walk
from streamkit.log.control import End
from streamkit.log.files import Files, OpenFile, read_whole
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, TXNINDEX, file_name
from streamkit.log.segments import Segments
from streamkit.transactions.markers import Marker, read_marker
from streamkit.transactions.producers import Producers
from streamkit.transactions.txnindex import decode_entries


@dataclass(slots=True)
class WalkedSegment:
    """`next_offset` is behind the last good batch, or the base when there is none."""

    next_offset: int
    holes: list[Hole] = field(default_factory=list)
    bytes: int = 0
    batches: int = 0


class SegmentCheck:
    """Open it, then walk it: what is open stays what it is when others replace the files."""

    def __init__(
        self,
        files: Files,
        findings: Findings,
        segments: Segments,
        base: int,
        *,
        begin: int,
        producers: Producers,
        latest: Latest | None,
        sure: bool,
        progress: Callable[[int], None],
        at_batch: Callable[[int], None],
    ) -> None:
        """`begin`: the log's first offset. `at_batch` is called with each batch's, before it.

        `sure`: no batch is missing before this segment, so that the producers are what they were.
        """
        self._files = files
        self._findings = findings
        self._segments = segments
        self._base = base
        self._begin = begin
        self._producers = producers
        self._latest = latest
        self._sure = sure
        self._progress = progress
        self._at_batch = at_batch

    def open(self, end: End | None) -> None:
        """Open the files; `end` is given for the active segment, of which only a part counts.

        Raises FileNotFoundError when the `.log` is gone.
        """
        path = self._segments.path(self._base)
        self._log = OpenFile(self._files, path, os.O_RDONLY)
        self._sealed = end is None
        self._size = self._log.size() if end is None else end.end_position
        limits = (
            (None, None, None)
            if end is None
            else (end.index_bytes, end.timeindex_bytes, end.txnindex_bytes)
        )
        self._index = OffsetIndex(self._bytes(INDEX, limits[0]), self._base)
        self._times = TimeIndex(self._bytes(TIMEINDEX, limits[1]), self._base)
        name = file_name(self._base, TXNINDEX)
        try:
            entries = decode_entries(self._bytes(TXNINDEX, limits[2]), name)
        except UnsupportedFormat as error:
            entries = []
            self._findings.add("error", "txnindex", name, str(error), REBUILD)
        self._aborted = TransactionIndex(
            entries, begin=self._begin, sparse=self._findings.place.config.sparse
        )

    def _bytes(self, suffix: str, limit: int | None) -> bytes:
        try:
            data = read_whole(self._files, self._segments.path(self._base, suffix))
        except FileNotFoundError:
            if suffix != TXNINDEX:
                name = file_name(self._base, suffix)
                self._findings.add("warning", suffix[1:], name, "missing", REBUILD)
            return b""
        return data if limit is None else data[:limit]

    def walk(self, below: int) -> WalkedSegment:
        """Look at every batch; those of the segment have offsets lower than `below`."""
        sparse = self._findings.place.config.sparse
        done = WalkedSegment(self._base)
        pending: Damage | None = None

        def hole(until: int, position: int, *, sparse: bool = sparse) -> None:
            """What is missing before the offset `until`, which stands at `position`."""
            nonlocal pending
            first = done.next_offset
            if pending is not None:
                problem = f"{pending.size:,} bytes that are no batch: {pending.problem}"
                at, size, pending = pending.position, pending.size, None
                done.holes.append(Hole(self._base, at, size, first, until - 1, problem))
            elif until > first and not sparse:
                problem = f"offsets {first} to {until - 1} are missing; {until} is the next"
                done.holes.append(Hole(self._base, position, 0, first, until - 1, problem))

        for found in walk(
            lambda position, count: self._log.read(count, position),
            self._size,
            offset=self._base,
            below=max(below, self._base),
        ):
            if isinstance(found, Damage):
                pending = found
                self._progress(found.size)
                continue
            header = found.header
            if pending is not None or header.base_offset > done.next_offset:
                hole(header.base_offset, found.position)
            self._at_batch(header.base_offset)
            self._batch(found, sure=self._sure and not done.holes)
            done.next_offset = header.next_offset
            done.batches += 1
            done.bytes += header.size
            self._progress(header.size)
        if pending is not None or below > done.next_offset:
            # No compaction takes away what is last in a log.
            hole(below, self._size, sparse=sparse and self._sealed)
        if not done.holes:  # else an index may be right about what is gone
            self._finish(sure=self._sure)
        return done

    def _batch(self, found: Stands, *, sure: bool) -> None:
        header = found.header
        self._index.batch(found.position, header)
        self._times.batch(header)
        marker: Marker | None = None
        try:
            if header.producer_id >= 0:
                marker = read_marker(found.data) if header.control else None
                ended = self._producers.follow(header, header.base_offset, marker)
                if marker is not None and sure:
                    self._aborted.marker(header, commit=marker.commit, ended=ended)
            if self._latest is not None:
                name = f"{self._findings.place.tp}/{file_name(self._base, LOG)}"
                self._latest.batch(found, marker, name)
        except CorruptBatch as error:
            self._findings.add(
                "error",
                "records",
                file_name(self._base, LOG),
                f"the checksum fits, but the records cannot be read: {error}",
                position=found.position,
                offset=header.base_offset,
            )

    def _finish(self, *, sure: bool) -> None:
        self._index.finish()
        self._times.finish(sealed=self._sealed)
        for suffix, lie in ((INDEX, self._index.problem), (TIMEINDEX, self._times.problem)):
            if lie is not None:
                name = file_name(self._base, suffix)
                self._findings.add("warning", suffix[1:], name, lie[1], REBUILD, position=lie[0])
        if sure:
            self._aborted.finish()
            for offset, text in self._aborted.problems:
                name = file_name(self._base, TXNINDEX)
                self._findings.add("error", "txnindex", name, text, REBUILD, offset=offset)

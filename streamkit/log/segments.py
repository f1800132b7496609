"""The segment files of one partition: which there are, open, and what changes them."""

import os
from contextlib import suppress

from streamkit.log.control import End, Synced
from streamkit.log.files import Files, OpenFile
from streamkit.log.segment import (
    INDEX,
    LOG,
    SNAPSHOT,
    TIMEINDEX,
    TXNINDEX,
    Scan,
    Tally,
    file_name,
    scan,
)
from streamkit.log.view import View, key_of, listed


class Segments:
    """Readers of all threads share one; what changes files is called under the append lock."""

    def __init__(self, files: Files, directory: str, *, writable: bool) -> None:
        self.directory = directory
        self._files = files
        self._flags = os.O_RDWR if writable else os.O_RDONLY
        self.current = View(files, directory, self._flags, None)
        """The segments as they were listed last: for who needs no list, only the file of one."""

    def view(self, end: End) -> View:
        """The segments that exist by `end`, with their files.

        All of one read goes through one view. Files are opened as they are asked for, and one may
        be gone by then, replaced or removed by another process: that raises FileNotFoundError, and
        is to be tried again with `relist` and a new view.
        """
        view = self.current
        if view.key != key_of(end):
            self.current = view = View(self._files, self.directory, self._flags, end)
        return view

    def relist(self) -> None:
        """Let go of all files; they are listed and opened again when needed."""
        self.current = View(self._files, self.directory, self._flags, None)

    close = relist

    def bases(self, end: End) -> list[int]:
        """The base offsets of the segments that exist by `end`, ascending; the active one last."""
        return self.view(end).bases

    def listed(self) -> list[int]:
        """The base offsets of all `.log` files there are."""
        return listed(self._files, self.directory)

    def path(self, base: int, suffix: str = LOG) -> str:
        return os.path.join(self.directory, file_name(base, suffix))

    def file(self, base: int, suffix: str = LOG, *, create: bool = False) -> OpenFile:
        """The file, kept open. Raises FileNotFoundError."""
        return self.current.file(base, suffix, create=create)

    def read(self, base: int, position: int, size: int) -> bytes:
        return self.file(base).read(size, position)

    def size(self, base: int) -> int:
        return self.file(base).size()

    def begins_at(self, place: Synced, interval: int) -> bool:
        """Whether the batch of that offset begins, or would, at that position of that segment."""
        try:
            size = self.size(place.base)
        except FileNotFoundError:
            return False
        found = self.scan(
            place.base, place.position, Tally(place.base, interval), check_from=place.position
        )
        whole = found.problem is None and size >= place.position
        return whole and found.next_offset == place.offset

    def batches_end(self, end: End) -> int:
        """The offset behind the last batch of the active segment: `end` may say more than is there.

        Where the segment is damaged, the offset of the damage.
        """
        base = end.active_base
        try:
            near = self.view(end).boundary(base, end.end_position)
            for start in (near, 0):  # what the index says may not be so
                found = self.scan(
                    base,
                    end.end_position,
                    Tally(base, 0),
                    start=start,
                    check_from=end.end_position,
                )
                if found.end > start:
                    return found.next_offset
        except FileNotFoundError:
            pass
        return base

    # What changes files.

    def create(self, base: int, *, txnindex: bool = False) -> None:
        """Make an empty segment, whatever a killed process may have left of it.

        `txnindex`: the log has had producers, so from now on a missing index of aborted
        transactions is a lost one.
        """
        if not txnindex:
            self.current.forget(base, TXNINDEX)
            with suppress(FileNotFoundError):
                self._files.unlink(self.path(base, TXNINDEX))
        for suffix in (*((TXNINDEX,) if txnindex else ()), INDEX, TIMEINDEX, LOG):
            # Not kept open: it is not published yet. If this process is interrupted now, the next
            # appender removes the file, and makes another one of that name.
            self.current.forget(base, suffix)
            path = self.path(base, suffix)
            OpenFile(self._files, path, self._flags | os.O_CREAT).truncate(0)
        self.current.trusted.discard(base)

    def add_entries(self, base: int, tally: Tally, index_at: int, timeindex_at: int) -> None:
        """Write the entries that `tally` has collected behind those there are."""
        if tally.index:
            self.file(base, INDEX, create=True).write([tally.index], index_at)
        if tally.timeindex:
            self.file(base, TIMEINDEX, create=True).write([tally.timeindex], timeindex_at)

    def scan(
        self,
        base: int,
        size: int,
        tally: Tally,
        *,
        start: int = 0,
        offset: int | None = None,
        check_from: int = 0,
        dense: bool = False,
    ) -> Scan:
        """`segment.scan` of the segment's first `size` bytes."""
        return scan(
            lambda position, count: self.read(base, position, count),
            size,
            tally,
            start=start,
            offset=base if offset is None else offset,
            check_from=check_from,
            dense=dense,
        )

    def rewrite_indexes(self, base: int, tally: Tally) -> None:
        """Replace both indexes by what a scan found."""
        # Without an `.index` both are made anew: so it comes last, and a half written `.timeindex`,
        # which would hide the segment's latest records, is never believed.
        with suppress(FileNotFoundError):
            self._files.unlink(self.path(base, INDEX))
        for suffix, data in ((TIMEINDEX, tally.timeindex), (INDEX, tally.index)):
            # Opened by its name: what is open already may have been replaced.
            self.current.forget(base, suffix)
            file = OpenFile(self._files, self.path(base, suffix), self._flags | os.O_CREAT)
            file.truncate(0)
            if data:
                file.write([data], 0)
        self.current.trusted.discard(base)

    def add_aborted(self, base: int, entries: bytes, at: int) -> None:
        """Write entries of the index of aborted transactions; it is made if it is not there."""
        file = self.file(base, TXNINDEX, create=True)
        if entries:
            file.write([entries], at)

    def rewrite_aborted(self, base: int, entries: bytes) -> None:
        """Replace the index of aborted transactions."""
        self.file(base, TXNINDEX, create=True).truncate(0)
        self.add_aborted(base, entries, 0)

    def cut_indexes(
        self, base: int, index_bytes: int, timeindex_bytes: int, txnindex_bytes: int
    ) -> None:
        """Take off entries beyond those that count."""
        sizes = ((INDEX, index_bytes), (TIMEINDEX, timeindex_bytes), (TXNINDEX, txnindex_bytes))
        for suffix, size in sizes:
            with suppress(FileNotFoundError):
                file = self.file(base, suffix)
                if file.size() > size:
                    file.truncate(size)

    def remove(self, base: int) -> None:
        """Unlink a segment's files."""
        # The log first: who has read it and then finds its index of aborted transactions missing
        # can tell by the log's being gone that there was one.
        for suffix in (LOG, INDEX, TIMEINDEX, TXNINDEX, SNAPSHOT):
            with suppress(FileNotFoundError):
                self._files.unlink(self.path(base, suffix))
        self.relist()

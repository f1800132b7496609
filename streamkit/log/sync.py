"""Group commit: one fdatasync serves every thread and process that waits for one."""

import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from streamkit.errors import CorruptLog, StorageFailed
from streamkit.log.block import ControlBlock
from streamkit.log.control import CUT, End, Synced
from streamkit.log.files import Files, OpenFile
from streamkit.log.segment import INDEX, SNAPSHOT, TIMEINDEX, TXNINDEX
from streamkit.log.segments import Segments
from streamkit.log.view import View

ATTEMPTS = 10
"""How often a file may be gone when it is about to be opened, until it counts as lost."""


class Syncer:
    """Brings one partition to stable storage.

    Whoever gets the sync lock syncs everything published by then; who waited for the lock
    meanwhile finds its records synced and returns. The lock is a flock on the partition's
    directory, which nobody ever replaces, and separate from the append lock: appends go on.
    """

    def __init__(self, files: Files, segments: Segments) -> None:
        self._files = files
        self._segments = segments
        self._mutex = threading.Lock()
        self._held: set[OpenFile] = set()
        self._own: OpenFile | None = None
        """The directory, for `sync`: under the mutex, as threads with one open file share locks."""

    def sync(self, block: ControlBlock, end: End) -> None:
        """Return when everything before `end` is on stable storage. Raises StorageFailed."""
        if self._mutex.locked() and self._done(block, end):
            return
        with self._mutex:
            directory = self._own
            if directory is None:
                directory = OpenFile(self._files, self._segments.directory, os.O_RDONLY)
                self._own = directory
            try:
                if not directory.try_lock():
                    if self._done(block, end):
                        return
                    directory.lock()
                self._lead(block, end)
            finally:
                directory.unlock()  # not held, it does nothing: no interrupt comes in between

    def forget(self) -> None:
        """Let go of the directory: the one of that name may be another."""
        self._own = None

    def _lead(self, block: ControlBlock, end: End) -> None:
        """Sync everything published by now, if not all before `end` is. Needs the sync lock."""
        if block.errno:
            raise_sticky(block, self._segments)
        synced = block.synced()
        if synced is not None and _covers(synced, end):
            return
        for attempt in range(ATTEMPTS):
            newest = block.end() or end
            try:
                if synced is not None and synced.base == newest.active_base:
                    self._bring(block, newest, [self._segments.current.file(synced.base)])
                else:
                    since = synced.base if synced is not None else -1
                    self._bring(block, newest, self._since(since, newest), rolled=True)
                return
            except FileNotFoundError:  # removed since it was listed, or lost
                self._segments.relist()
                if attempt == ATTEMPTS - 1:
                    raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sync lock against other processes."""
        directory = OpenFile(self._files, self._segments.directory, os.O_RDONLY)
        # Kept where a forked child finds and closes it: else it would hold the lock as well.
        self._held.add(directory)
        try:
            directory.lock()
            yield
        finally:
            self._held.discard(directory)
            try:
                directory.unlock()
            finally:
                directory.abandon()  # else what an error refers to would hold the lock

    def forked(self) -> None:
        """In a forked child: let go of what only the parent's threads hold."""
        self._mutex = threading.Lock()
        if self._own is not None:
            self._held.add(self._own)
        for directory in self._held:
            directory.abandon()
        self._held = set()
        self._own = None

    def _done(self, block: ControlBlock, end: End) -> bool:
        if block.errno:
            raise_sticky(block, self._segments)
        synced = block.synced()
        return synced is not None and _covers(synced, end)

    def _bring(
        self, block: ControlBlock, end: End, opened: Iterable[OpenFile], *, rolled: bool = False
    ) -> None:
        """`rolled`: also where the finished ones were all removed since, as the name of the active
        one is not synced."""
        try:
            for file in opened:
                file.sync()
            if rolled:
                self._files.fsync_dir(self._segments.directory)
            block.publish_synced(Synced(end.active_base, end.end_position, end.end_offset))
            if rolled:
                block.flush()
        except OSError as error:
            self.failed(block, error)

    def failed(self, block: ControlBlock, error: OSError) -> NoReturn:
        """Note and say that a sync has failed. Needs the sync lock."""
        if block.file.gone:  # deleted meanwhile, and no disk has failed; or the file was lost
            raise error
        # The kernel may have dropped the pages and marked them clean: a second fsync would
        # succeed and prove nothing. So nobody tries, until the log was walked again.
        block.errno = error.errno or 5
        raise_sticky(block, self._segments)
        raise error

    def _since(self, since: int, end: End) -> list[OpenFile]:
        """The files of all segments from `since` on that have to be on stable storage."""
        view = self._segments.view(end)
        bases = view.bases[bisect_left(view.bases, since) :]
        finished = bases[:-1]
        opened = [view.file(base) for base in bases]
        for suffix in (INDEX, TIMEINDEX):  # nobody will write them again
            opened += [view.file(base, suffix, create=True) for base in finished]
        if finished and end.producers_end >= 0:
            # Lost, the snapshots would make a walk longer, but without an index of aborted
            # transactions nobody would walk at all.
            opened += _there(view, *((base, TXNINDEX) for base in finished))
            opened += _there(view, *((base, SNAPSHOT) for base in bases[1:]))
        return opened


def _covers(synced: Synced, end: End) -> bool:
    """Whether everything before `end` is on stable storage."""
    # An empty segment that was begun by age holds nothing, but has a name to be synced.
    return synced.offset >= end.end_offset and synced.base >= end.active_base


def _there(view: View, *names: tuple[int, str]) -> Iterator[OpenFile]:
    for base, suffix in names:
        with suppress(FileNotFoundError):
            yield view.file(base, suffix)


def raise_sticky(block: ControlBlock, segments: Segments) -> None:
    """Say why nothing may be appended to this partition, if so.

    Raises StorageFailed when a write or fsync has failed before, CorruptLog when records that were
    synced are missing at its end.
    """
    errno = block.errno
    if errno == CUT:
        raise_cut(segments, block.end())
    if errno:
        raise StorageFailed(
            f"{segments.directory}: the storage failed ({os.strerror(errno)}), so appends are"
            " refused; reads go on. Repair or replace the disk, then run `streamkit fsck --repair`"
            " or reboot"
        )


def raise_cut(segments: Segments, end: End | None) -> NoReturn:
    """Raises CorruptLog, which names the offsets that were synced and are missing at the end."""
    name = os.path.basename(segments.directory)
    if end is None:
        raise CorruptLog(
            f"{name}: its control block was overwritten; run `streamkit fsck --repair`"
        )
    first = segments.batches_end(end)
    last = end.end_offset - 1
    raise CorruptLog(
        f"{name}@{first}: offsets {first} to {last} were on stable storage and are gone:"
        f" {segments.path(end.active_base)} was cut or is an older copy, or what followed it was"
        " removed. Appends are refused, so that no offset is given twice; what is there can be"
        " read. Restore the partition's files from a backup, or run `streamkit fsck --repair`:"
        f" the log then goes on at offset {end.end_offset}"
    )

"""A partition's control file, mapped: the shell around `control`."""

import mmap

from streamkit.log.control import DIRTY_AT, END, ERRNO_AT, PAGE_BYTES, SYNCED, End, Synced
from streamkit.log.files import OpenFile

SOUND = bytes(PAGE_BYTES - ERRNO_AT)

RETRIES = 100
"""Both copies are in the making at once only if writers lap a reader; so often they never do."""


class ControlBlock:
    """The mapped page. Reading needs no lock; `publish` the append lock, `publish_synced` the sync.

    Its file is what the append lock is taken on.
    """

    def __init__(self, file: OpenFile, *, writable: bool) -> None:
        """Map the file, which must have its full size."""
        self.file = file
        """If it is `gone`, so is the partition: a lock on it keeps nobody out."""
        self.page: mmap.mmap = file.map(PAGE_BYTES, writable=writable)
        self._seen: tuple[int, End] | None = None
        self._seen_synced: tuple[int, Synced] | None = None

    def end(self) -> End | None:
        """What is published; None when the block is not valid and has to be rebuilt."""
        page = self.page
        seen = self._seen
        if seen is not None:
            one, other = END.generations(page)
            if seen[0] == (one if one > other else other):
                return seen[1]
        for _ in range(RETRIES):
            found = END.decode(page)
            if found is not None:
                self._seen = found
                return found[1]
        return None

    def publish(self, end: End) -> None:
        self._seen = END.store(self.page, end, self._seen)

    def synced(self) -> Synced | None:
        page = self.page
        seen = self._seen_synced
        if seen is not None:
            one, other = SYNCED.generations(page)
            if seen[0] == (one if one > other else other):
                return seen[1]
        for _ in range(RETRIES):
            found = SYNCED.decode(page)
            if found is not None:
                self._seen_synced = found
                return found[1]
        return None

    def publish_synced(self, synced: Synced) -> None:
        self._seen_synced = SYNCED.store(self.page, synced, self._seen_synced)

    @property
    def dirty(self) -> bool:
        """An append is under way or its process died: bytes may lie beyond the end."""
        return self.page[DIRTY_AT] != 0

    @dirty.setter
    def dirty(self, dirty: bool) -> None:
        self.page[DIRTY_AT] = dirty

    @property
    def troubled(self) -> bool:
        """Whether it has an `errno` or is `dirty`."""
        return self.page[ERRNO_AT:PAGE_BYTES] != SOUND

    @property
    def errno(self) -> int:
        """Why appends are refused: the error of a failed write or fsync, or `CUT`; 0: no reason."""
        return self.page[ERRNO_AT]

    @errno.setter
    def errno(self, errno: int) -> None:
        self.page[ERRNO_AT] = errno

    def flush(self) -> None:
        """Store the page now, so that a walk after a power cut starts near the end."""
        self.page.flush()

    def abandon(self) -> None:
        """Close everything now, whoever still holds this object. For a forked child only."""
        self.page.close()
        self.file.abandon()

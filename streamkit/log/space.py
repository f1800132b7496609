"""A disk that fills up: producers are refused, while offsets and transactions still find room.

All processes of a log share one mapped page, the file `maintenance` in its root:

    0          8                          4095   4096
    | last pass |          zeros           | full |

`last pass`: when somebody last did maintenance, in microseconds of the monotonic clock (int64).
`full`: the ballast was given up; a single byte, so that every append can look at it. The flock on
the file is what one takes who does maintenance.

The ballast is a file of a MiB that is good for nothing. When an append to a topic of the log's own
meets a full disk, or the making of such a topic or of a member's file does, the ballast is removed
and it is done again. From then on producers
are refused in all processes, or they would take that room as well. As soon as there is room for a
new ballast they go on.
"""

import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TypeVar

from streamkit.clock import Clock
from streamkit.errors import OutOfSpace
from streamkit.log.control import PAGE_BYTES
from streamkit.log.failure import FULL, failure
from streamkit.log.files import Files, OpenFile
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)

PAGE = "maintenance"
BALLAST = "ballast"
BALLAST_BYTES = 1 << 20
RETRY_SECONDS = 1.0
"""How often, at most, a process tries whether there is room again."""

_LAST_PASS = struct.Struct(">q")
_FULL_AT = PAGE_BYTES - 1
_NOTHING_KNOWN = bytes(PAGE_BYTES)

T = TypeVar("T")


class Space:
    """What one process knows of the room that is left. Safe to use from any thread."""

    def __init__(
        self, files: Files, root: str, *, clock: Clock, ask: Callable[[], None] = lambda: None
    ) -> None:
        """`ask` has maintenance done soon; it does not wait for it."""
        self._files = files
        self._root = root
        self._clock = clock
        self._ask = ask
        self._begin()

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._turn = threading.Lock()
        self._file: OpenFile | None = None
        self._page: mmap.mmap | bytes | None = None
        self._next_try = -inf
        self._next_ask = -inf

    # The page.

    def attach(self) -> mmap.mmap | bytes:
        """The page, made if need be; zeros of our own where it can't be made."""
        with self._mutex:
            if not isinstance(self._page, mmap.mmap):
                try:
                    self._page = self._mapped()
                except OSError as error:
                    # A disk that was full before there was a ballast: there is nothing to protect.
                    logger.debug("%s: %s", os.path.join(self._root, PAGE), error)
                    self._page = _NOTHING_KNOWN
            return self._page

    def _mapped(self) -> mmap.mmap:
        if self._file is None:
            path = os.path.join(self._root, PAGE)
            self._file = OpenFile(self._files, path, os.O_RDWR | os.O_CREAT)
        self._file.allocate(PAGE_BYTES)
        return self._file.map(PAGE_BYTES, writable=True)

    def try_lock(self) -> bool:
        """Take the lock on maintenance, if no process has it; whether it was taken.

        Raises StorageFailed.
        """
        file = self._lockable()
        # The flock is the open file's, so it keeps no other thread out that uses this object.
        if not self._turn.acquire(blocking=False):
            return False
        taken = False
        try:
            taken = file.try_lock()
        except OSError as error:
            raise failure(error, f"{file.path}: cannot be locked") from error
        finally:
            if not taken:
                self._turn.release()
        return taken

    def _lockable(self) -> OpenFile:
        """The page's file; there need be no room to map it. Raises StorageFailed."""
        self.attach()
        with self._mutex:
            if self._file is None:
                path = os.path.join(self._root, PAGE)
                try:
                    self._file = OpenFile(self._files, path, os.O_RDWR | os.O_CREAT)
                except OSError as error:
                    raise failure(error, f"{path}: cannot be opened") from error
            return self._file

    def unlock(self) -> None:
        """Let go of the lock, which this process must have."""
        if self._file is not None:
            self._file.unlock()
        self._turn.release()

    @property
    def last_pass(self) -> int:
        """When a process last did maintenance: microseconds of the monotonic clock; 0: never."""
        found: int = _LAST_PASS.unpack_from(self._page or self.attach())[0]
        return found

    def note_pass(self, now: int) -> None:
        """Note that maintenance is done now. Needs the lock, but for the first of all."""
        page = self.attach()
        if isinstance(page, mmap.mmap):
            _LAST_PASS.pack_into(page, 0, now)

    # Full, and not any more.

    @property
    def full(self) -> bool:
        """Whether producers are refused."""
        return (self._page or self.attach())[_FULL_AT] != 0

    def admit(self, tp: TopicPartition) -> None:
        """Let a producer append. Raises OutOfSpace while what is left is kept for others."""
        if (self._page or self.attach())[_FULL_AT] and not self._relieved():
            raise OutOfSpace(
                f"{tp}: the disk of {self._root} is full, and what is left is kept for offsets and"
                " transactions; free some space, or let the log delete earlier (retention.ms,"
                " retention.bytes, max.disk.bytes). Producers can go on as soon as there is room"
            )

    def _relieved(self) -> bool:
        """Try whether there is room again; a process without maintenance would never know."""
        now = self._clock.monotonic()
        if now < self._next_try or not self.try_lock():
            return not self.full
        try:
            self._next_try = now + RETRY_SECONDS
            return self.restore()
        finally:
            self.unlock()

    def ran_out(self) -> None:
        """An append has met a full disk: see soon what can be removed."""
        now = self._clock.monotonic()
        if now >= self._next_ask:
            self._next_ask = now + RETRY_SECONDS
            self._ask()

    def pressing(self, act: Callable[[], T]) -> T:
        """Do what must go on when the disk is full: once more, in the room that is kept for it.

        What is left of the first time must not be in the way of the second. Raises OutOfSpace.
        """
        try:
            return self._named(act)
        except OutOfSpace:
            # Also when there is none any more: another process may have given it up just now.
            self.give_up_ballast()
            self.ran_out()
        return self._named(act)

    def _named(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise failure(error, f"{error.filename or self._root}: cannot be written") from error

    def give_up_ballast(self) -> bool:
        """Make room for what must go on; False when there was no ballast (any more).

        Takes no lock: a stopped process must not keep offsets from being committed.
        """
        page = self.attach()
        freed = False
        self._mark_full(page)  # before: a producer would take what becomes free
        for name in (BALLAST, f"{BALLAST}.tmp"):
            with suppress(OSError):  # most likely it is not there
                self._files.unlink(os.path.join(self._root, name))
                freed = True
        self._mark_full(page)  # and after: who has just seen the ballast may have cleared it
        if freed:
            logger.warning(
                "%s: the disk is full. Producers are refused; offsets and transactions go on, in"
                " the %d KiB kept for them",
                self._root,
                BALLAST_BYTES >> 10,
            )
        return freed

    @staticmethod
    def _mark_full(page: mmap.mmap | bytes) -> None:
        if isinstance(page, mmap.mmap):
            page[_FULL_AT] = 1

    def restore(self) -> bool:
        """Have a ballast, and let producers go on; False when the disk is too full for one.

        Needs the lock.
        """
        page = self.attach()
        if not isinstance(page, mmap.mmap):
            return False
        path = os.path.join(self._root, BALLAST)
        if not self._files.exists(path) and not self._made(path):
            return False
        if page[_FULL_AT]:
            page[_FULL_AT] = 0
            if not self._files.exists(path):  # given up again, just now
                page[_FULL_AT] = 1
                return False
            logger.warning("%s: there is room again; producers go on", self._root)
        return True

    def _made(self, path: str) -> bool:
        temporary = f"{path}.tmp"
        try:
            # Else it would fill up, for a moment, what was just given up for offsets.
            if self._files.room(self._root) < 2 * BALLAST_BYTES:
                return False
            file = OpenFile(self._files, temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            # Not zeros: a file system that compresses would keep no room for them.
            file.write([os.urandom(BALLAST_BYTES)], 0)
            file.sync()
            self._files.rename(temporary, path)
        except OSError as error:
            logger.debug("%s: no ballast: %s", path, error)
            with suppress(OSError):
                self._files.unlink(temporary)
            return False
        return True

    def forked(self) -> None:
        """In a forked child: let go of the parent's lock."""
        if self._file is not None:
            self._file.abandon()
        self._begin()

    def close(self) -> None:
        with self._mutex:
            self._file = None
            self._page = None

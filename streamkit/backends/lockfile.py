"""A file held by flock: who holds it lives, and the kernel lets go when a process dies.

flock belongs to the open file, not to the process, so two opens in one process exclude each other
as two processes do, and a forked child would keep its parent's locks alive. So a child closes them
first thing (without unlocking: that would unlock the parent's). Files that are waited for are
never deleted, else two processes could each hold "the" lock on two different files.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from weakref import WeakSet

from streamkit.errors import StorageFailed
from streamkit.log.failure import failure
from streamkit.log.waits import wait_for

_opened: "WeakSet[LockFile]" = WeakSet()


class LockFile:
    """One open lock file. Not for several threads at once; each opens its own."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open without locking. With `create` false the file must exist and is never changed.

        Raises FileNotFoundError, and what `named` does.
        """
        self.path = path
        self.held = False
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
        with named(path, "opened"):
            self._fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
        _opened.add(self)

    def lock(self) -> None:
        """Wait for the lock; aloud, when that takes long."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                wait_for(str(self.path), self._fd)
            except OSError as error:
                self._raise_unlockable(error)
        except OSError as error:
            self._raise_unlockable(error)
        self.held = True

    def try_lock(self) -> bool:
        """Take the lock if it is free now. Raises StorageFailed where nothing can be locked."""
        if not self._flock(fcntl.LOCK_EX):
            return False
        self.held = True
        return True

    def try_share(self) -> bool:
        """Take a share of the lock if nobody has it whole."""
        if not self._flock(fcntl.LOCK_SH):
            return False
        self.held = True
        return True

    def unlock(self) -> None:
        """Let go and keep the file open."""
        if self.held:
            self.held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def free(self) -> bool:
        """Whether nobody holds it. Any number may ask at once without disturbing each other."""
        if not self._flock(fcntl.LOCK_SH):
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def _flock(self, operation: int) -> bool:
        """Whether it was taken; False when somebody else has it."""
        try:
            fcntl.flock(self._fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            self._raise_unlockable(error)
        return True

    def _raise_unlockable(self, error: OSError) -> NoReturn:
        raise StorageFailed(
            f"{self.path}: cannot be locked: {error.strerror}. Such locks say who lives: keep the"
            " log on a local disk, with a file system that has flock; the system's own log may say"
            " more"
        ) from error

    def intact(self) -> bool:
        """Whether the lock is still held, and on the very file that others find at the path."""
        if not self.held:
            return False
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def write(self, content: bytes) -> None:
        """Replace the file's content; only by whoever holds the lock. As `named`."""
        with named(self.path, "written"):
            # In this order: on a full disk a file can be written over, but not begun again.
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))

    def read(self) -> bytes:
        with named(self.path, "read"):
            return os.pread(self._fd, 1 << 20, 0)

    def close(self) -> None:
        """Unlock and close; the second time it does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self.held:
            self.held = False
            # Not by closing alone: a child forked in C code may have inherited the open file.
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def __enter__(self) -> "LockFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _close_in_child(self) -> None:
        fd, self._fd = self._fd, -1
        self.held = False
        if fd >= 0:
            os.close(fd)


@contextmanager
def named(path: Path, done: str) -> Iterator[None]:
    """An error of the disk is one of the log, as in an append: it says which file could not be so.

    That a file is there, is not, or is locked is no such error: those are for who asks for it.
    Raises OutOfSpace, ReadOnlyLog, StorageFailed.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, BlockingIOError):
        raise
    except OSError as error:
        raise failure(error, f"{path}: cannot be {done}") from error


def _close_all_in_child() -> None:
    for file in list(_opened):
        file._close_in_child()


os.register_at_fork(after_in_child=_close_all_in_child)

"""The seam to the file system: everything the log asks of it, so that faults can be put in."""

import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

from streamkit.log.waits import wait_for

Buffer: TypeAlias = bytes | bytearray | memoryview

IOV_MAX = 1024
"""Buffers one pwritev takes on every system we run on."""


class Files(Protocol):
    """What the log does with files. Paths are strings, errors are OSError, as in `os`."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size: int, position: int) -> bytes: ...
    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int: ...
    def size(self, fd: int) -> int: ...
    def stat(self, fd: int) -> os.stat_result: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def allocate(self, fd: int, size: int) -> None:
        """Give the file real blocks: a store into a mapped hole of a full disk is a SIGBUS."""
        ...

    def map(self, fd: int, size: int, *, writable: bool) -> mmap.mmap: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync_dir(self, path: str) -> None: ...
    def flock(self, fd: int, operation: int) -> None: ...
    def share(self, fd: int) -> None:
        """Take a share of the record lock on the file, for as long as it is open.

        BlockingIOError or PermissionError when somebody has it whole.
        """
        ...

    def exists(self, path: str) -> bool: ...
    def measure(self, path: str) -> tuple[int, int]:
        """A file's size in bytes, and when it was last written: wall-clock ms."""
        ...

    def room(self, path: str) -> int:
        """How many bytes are free on the disk of a directory."""
        ...

    def date(self, path: str, written: int) -> None:
        """Say that the file was last written at that time: wall-clock ms."""
        ...

    def listdir(self, path: str) -> list[str]: ...
    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which nothing has yet."""
        ...

    def mkdir(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None: ...


class RealFiles:
    """The operating system's own files."""

    @staticmethod
    def open(path: str, flags: int, mode: int = 0o666) -> int:
        return os.open(path, flags, mode)

    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwritev = staticmethod(os.pwritev)
    truncate = staticmethod(os.ftruncate)
    stat = staticmethod(os.fstat)
    flock = staticmethod(fcntl.flock)
    exists = staticmethod(os.path.exists)
    listdir = staticmethod(os.listdir)
    link = staticmethod(os.link)
    mkdir = staticmethod(os.mkdir)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    rmdir = staticmethod(os.rmdir)

    @staticmethod
    def size(fd: int) -> int:
        return os.fstat(fd).st_size

    @staticmethod
    def measure(path: str) -> tuple[int, int]:
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns // 1_000_000

    @staticmethod
    def room(path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    @staticmethod
    def date(path: str, written: int) -> None:
        os.utime(path, ns=(written * 1_000_000, written * 1_000_000))

    @staticmethod
    def allocate(fd: int, size: int) -> None:
        # Zeros written, not fallocated: it works on every system and file system alike.
        while (missing := size - os.fstat(fd).st_size) > 0:
            os.pwrite(fd, bytes(missing), size - missing)

    @staticmethod
    def map(fd: int, size: int, *, writable: bool) -> mmap.mmap:
        return mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)

    if sys.platform == "linux":

        @staticmethod
        def share(fd: int) -> None:
            whole_file = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, whole_file)

    else:

        @staticmethod
        def share(fd: int) -> None:
            # Here flocks and record locks keep each other out.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    if sys.platform == "darwin":

        @staticmethod
        def fdatasync(fd: int) -> None:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there does not reach the platter

    else:
        fdatasync = staticmethod(os.fdatasync)

    @staticmethod
    def fsync_dir(path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class UnsyncedFiles(RealFiles):
    """The same without fsyncs: quick, and gone with the power."""

    @staticmethod
    def fdatasync(fd: object) -> None:
        return

    @staticmethod
    def fsync_dir(path: str) -> None:
        return


class OpenFile:
    """A descriptor that is closed when the last one who uses it lets go.

    Readers of other threads may be inside `read` when a segment falls out of a cache; closing the
    number under them could hand them another file's bytes. So nobody gets the number: a method
    keeps its object.
    """

    __slots__ = ("_fd", "_files", "path", "unlock")

    def __init__(self, files: Files, path: str, flags: int) -> None:
        self._fd = -1
        self._files = files
        self.path = path
        self._fd = files.open(path, flags | os.O_CLOEXEC)
        # No function of Python's own: the first thing one does is to look for signals, and an
        # interrupt there would leave the lock with a process that goes on without it.
        self.unlock: Callable[[], None] = partial(files.flock, self._fd, fcntl.LOCK_UN)
        """Let go of the flock; not held, it does nothing."""

    def read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes: fewer where the file ends."""
        return self._files.pread(self._fd, size, position)

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        """Write every byte: a short write is followed by the rest, or by the error that cut it."""
        if len(buffers) <= IOV_MAX:
            written = self._files.pwritev(self._fd, buffers, position)
            if written == sum(map(len, buffers)):  # as nearly always
                return
            pending = _without(list(buffers), written)
            position += written
        else:
            pending = list(buffers)
        while pending:
            chunk = pending[:IOV_MAX]
            written = self._files.pwritev(self._fd, chunk, position)
            position += written
            pending = _without(chunk, written) + pending[IOV_MAX:]

    def size(self) -> int:
        return self._files.size(self._fd)

    def truncate(self, size: int) -> None:
        self._files.truncate(self._fd, size)

    def sync(self) -> None:
        """Return when the file's bytes and size are on stable storage."""
        self._files.fdatasync(self._fd)

    def lock(self) -> None:
        """Wait for the flock that everybody takes on this file; aloud, when that takes long."""
        try:
            self._files.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait_for(self.path, self._fd, self._files.flock)

    def try_lock(self) -> bool:
        """Take the flock if nobody holds it; whether it was taken."""
        try:
            self._files.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Take a share of the record lock, which programs in other languages know as well.

        BlockingIOError or PermissionError when somebody has it whole.
        """
        self._files.share(self._fd)

    @property
    def gone(self) -> bool:
        """The file was unlinked: a lock on it keeps nobody out."""
        return self._files.stat(self._fd).st_nlink == 0

    def allocate(self, size: int) -> None:
        self._files.allocate(self._fd, size)

    def map(self, size: int, *, writable: bool) -> mmap.mmap:
        return self._files.map(self._fd, size, writable=writable)

    def abandon(self) -> None:
        """Close it now, whoever still holds this object. For a forked child: it has one thread."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self.unlock = _nothing  # the number may be another file's by then
            self._files.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # an interrupt may have come before it has one
            self.abandon()


def _nothing() -> None:
    return


def _without(buffers: list[Buffer], written: int) -> list[Buffer]:
    """What is left of the buffers after so many bytes."""
    done = 0
    while done < len(buffers) and written >= len(buffers[done]):
        written -= len(buffers[done])
        done += 1
    left = buffers[done:]
    if written:
        left[0] = memoryview(left[0])[written:]
    return left


def write_new(files: Files, path: str, data: bytes) -> None:
    """Replace a small file whole: readers see the old or the new one, also after a power cut."""
    temporary = f"{path}.tmp"
    try:
        file = OpenFile(files, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        file.write([data], 0)
        file.sync()
        files.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            files.unlink(temporary)
        raise
    files.fsync_dir(os.path.dirname(path))


def read_whole(files: Files, path: str) -> bytes:
    """All bytes of a small file."""
    file = OpenFile(files, path, os.O_RDONLY)
    return file.read(file.size(), 0)

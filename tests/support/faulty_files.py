"""The real files, until told to fail: in one operation, from it on, or by dying there.

    files.fail["fdatasync"] = OSError(...)          every one, until it is taken away again
    files.fail["pwritev"] = 100                     so many bytes still fit the disk
    files.fault = Fault(at=7, error=OSError(...))   the 7th operation of those that can fail

Operations of the thread that made the object are counted, as those of others come when they like.
"""

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from streamkit.log.files import Buffer, RealFiles

CHANGES = frozenset(
    {"open", "pwritev", "truncate", "allocate", "fdatasync", "fsync_dir", "mkdir", "rename"}
    | {"link", "unlink", "rmdir", "date"}
)
"""Operations between which a kill makes a difference. "open" makes a file, "reopen" does not."""

TAKES_SPACE = frozenset({"open", "pwritev", "allocate", "fdatasync", "mkdir", "rename", "link"})
READS = frozenset({"reopen", "pread", "listdir", "measure", "map", "flock", "share"})
ALL = CHANGES | READS


class Killed(BaseException):
    """In place of a system call: the process is no more."""


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th of some operations, counted from 1.

    `error` is raised before the operation does anything; with `short`, a write writes half of its
    bytes first, without an `error` nothing else. `lasting`: also at all that follow.
    """

    at: int
    error: OSError | Killed | None = None
    operations: frozenset[str] = ALL
    short: bool = False
    lasting: bool = False


class FaultyFiles(RealFiles):
    """For one thread and what it waits for. `synced` false spares the disk: nothing is fsynced."""

    def __init__(self, fault: Fault | None = None, *, synced: bool = True) -> None:
        self.fail: dict[str, OSError | int] = {}
        self.calls: list[str] = []
        self.fault = fault
        self.count = 0
        """Operations so far of those that the fault counts."""

        self.hit: str | None = None
        """The operation at which the fault came; None: it did not yet."""

        self._synced = synced
        self._dead = False
        self._fds: set[int] = set()
        self._maps: list[mmap.mmap] = []
        self._thread = threading.get_ident()

    def bury(self) -> None:
        """Close what a killed process had open, whoever still holds it, as the kernel does.

        Its other threads must have ended.
        """
        self._dead = True
        while self._fds:
            os.close(self._fds.pop())
        while self._maps:
            self._maps.pop().close()  # a map has a descriptor of its own, which holds the locks

    def _before(self, name: str) -> bool:
        """Fail if it is time to; true: only half of a write is to be done."""
        if self._dead and threading.get_ident() == self._thread:
            raise Killed
        self.calls.append(name)
        error = self.fail.get(name)
        if isinstance(error, OSError):
            raise error
        fault = self.fault
        if fault is None or name not in fault.operations:
            return False
        if threading.get_ident() != self._thread:
            return False
        self.count += 1
        if self.count != fault.at and not (fault.lasting and self.count > fault.at):
            return False
        first, self.hit = self.hit is None, self.hit or name
        if isinstance(fault.error, Killed):
            if not (fault.short and name == "pwritev"):
                self._dead = True
                raise fault.error
            return True
        if fault.short and first and name == "pwritev":
            return True
        if fault.error is not None:
            raise fault.error
        return False

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:  # type: ignore[override]
        self._before("open" if flags & os.O_CREAT and not os.path.exists(path) else "reopen")
        fd = os.open(path, flags, mode)
        self._fds.add(fd)
        return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        if fd in self._fds:  # else it was closed by the kill, and is another file's by now
            self._fds.discard(fd)
            os.close(fd)

    def pread(self, fd: int, size: int, position: int) -> bytes:  # type: ignore[override]
        self._before("pread")
        return os.pread(fd, size, position)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        if self._before("pwritev"):
            data = b"".join(buffers)
            written = os.pwrite(fd, data[: max(len(data) // 2, 1)], position)
            fault = self.fault
            if fault is not None and isinstance(fault.error, Killed):
                self._dead = True
                raise fault.error
            return written
        room = self.fail.get("pwritev")
        if not isinstance(room, int):
            return os.pwritev(fd, buffers, position)
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.pwrite(fd, b"".join(buffers)[:room], position)
        self.fail["pwritev"] = room - written
        return written

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._before("truncate")
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._before("allocate")
        RealFiles.allocate(fd, size)

    def map(self, fd: int, size: int, *, writable: bool) -> mmap.mmap:  # type: ignore[override]
        self._before("map")
        made = RealFiles.map(fd, size, writable=writable)
        self._maps.append(made)
        return made

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._before("fdatasync")
        if self._synced:
            os.fdatasync(fd)

    def fsync_dir(self, path: str) -> None:  # type: ignore[override]
        self._before("fsync_dir")
        if self._synced:
            RealFiles.fsync_dir(path)

    def flock(self, fd: int, operation: int) -> None:  # type: ignore[override]
        if operation & ~fcntl.LOCK_NB != fcntl.LOCK_UN:  # letting go does not fail
            self._before("flock")
        RealFiles.flock(fd, operation)

    def share(self, fd: int) -> None:  # type: ignore[override]
        self._before("share")
        RealFiles.share(fd)

    def listdir(self, path: str) -> list[str]:  # type: ignore[override]
        self._before("listdir")
        return os.listdir(path)

    def measure(self, path: str) -> tuple[int, int]:  # type: ignore[override]
        self._before("measure")
        return RealFiles.measure(path)

    def date(self, path: str, written: int) -> None:  # type: ignore[override]
        self._before("date")
        RealFiles.date(path, written)

    def link(self, source: str, target: str) -> None:  # type: ignore[override]
        self._before("link")
        os.link(source, target)

    def mkdir(self, path: str) -> None:  # type: ignore[override]
        self._before("mkdir")
        os.mkdir(path)

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        self._before("rename")
        os.rename(source, target)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        self._before("unlink")
        os.unlink(path)

    def rmdir(self, path: str) -> None:  # type: ignore[override]
        self._before("rmdir")
        os.rmdir(path)

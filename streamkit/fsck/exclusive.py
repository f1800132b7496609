"""Having a log to oneself: the lock that a Kafka broker takes, and who has a share of it."""

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from streamkit.errors import LogInUse
from streamkit.log.broker import BROKER_LOCK


@contextmanager
def exclusively(root: str) -> Iterator[None]:
    """Nobody else opens the log to write meanwhile. Raises LogInUse, naming who has it open."""
    path = os.path.join(root, BROKER_LOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            _lock(fd)
        except OSError:
            named = ", ".join(f"{pid} ({name})" for pid, name in holders(path)) or "another process"
            raise LogInUse(
                f"{root}: open in {named}; stop what uses the log, or repair a copy with --to"
            ) from None
        yield
    finally:
        os.close(fd)


if sys.platform == "linux":

    def _lock(fd: int) -> None:
        whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, whole_file)

else:

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holders(path: str) -> list[tuple[int, str]]:
    """The other processes that have the file open, and their commands, as far as can be seen.

    By their open files: a lock that belongs to an open file, as ours do, tells of no process.
    """
    wanted = os.stat(path)
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []  # not Linux
    for pid in pids:
        if pid == os.getpid():
            continue
        with suppress(OSError):  # ended meanwhile, or somebody else's
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    there = os.stat(f"/proc/{pid}/fd/{fd}")
                    if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                        found.append((pid, _command(pid)))
                        break
    return found


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")
    return " ".join(word for word in words if word)[:80]

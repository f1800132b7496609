"""Waiting for a lock, aloud: who waits for long says which process has it.

Locks are held for microseconds, that of a sync for as long as an fdatasync takes. Who waits for
seconds waits for a process that was stopped in the middle of something, or whose disk hangs. It
has to: no lock of a living process is ever broken. Waiting in the kernel is fair and costs nothing,
but nothing can be said meanwhile; so a thread looks after those who wait, as long as there are any.
"""

import fcntl
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread, get_ident
from time import monotonic, sleep

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
AGAIN_SECONDS = 30.0
"""After so long it is said again."""

_LOOK_SECONDS = 0.5
_IDLE_LOOKS = 120
"""So often the thread looks for somebody who waits; then it ends, until there is one."""


@dataclass(slots=True)
class _Wait:
    path: str
    began: float
    say_at: float


class _Waits:
    """Those of this process who wait, by their threads."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """In a forked child: those who wait, and the thread, are the parent's."""
        self._by_thread: dict[int, _Wait] = {}
        self._starting = Lock()
        self._watched = False

    def wait(self, path: str, lock: Callable[[], None]) -> None:
        """Call `lock`, which returns when it has the lock on the file at `path`."""
        me, now = get_ident(), monotonic()
        try:
            self._by_thread[me] = _Wait(path, now, now + PATIENCE_SECONDS)
            if not self._watched:
                self._watch()
            lock()
        finally:
            self._by_thread.pop(me, None)

    def _watch(self) -> None:
        with self._starting:
            if not self._watched:
                with suppress(RuntimeError):  # the interpreter is ending: nothing is said then
                    Thread(target=self._look_after, name="streamkit-waits", daemon=True).start()
                    self._watched = True

    def _look_after(self) -> None:
        idle = 0
        while True:
            sleep(_LOOK_SECONDS)
            waits = self._by_thread.copy()
            for wait in waits.values():
                self._say(wait)
            idle = 0 if waits else idle + 1
            if idle >= _IDLE_LOOKS:
                with self._starting:
                    # Who waits is noted first and looks for the thread then: nobody is overlooked.
                    if not self._by_thread:
                        self._watched = False
                        return

    @staticmethod
    def _say(wait: _Wait) -> None:
        now = monotonic()
        if now >= wait.say_at:
            wait.say_at = now + AGAIN_SECONDS
            logger.warning(
                "waiting since %.0f s for the lock on %s, which %s has",
                now - wait.began,
                wait.path,
                holder(wait.path),
            )


_waits = _Waits()
os.register_at_fork(after_in_child=_waits.forked)


def wait_for(path: str, fd: int, flock: Callable[[int, int], None] = fcntl.flock) -> None:
    """Wait, aloud, for the whole flock on a file that somebody has locked just now."""
    _waits.wait(path, lambda: flock(fd, fcntl.LOCK_EX))


def holder(path: str) -> str:
    """How to speak of who has the flock on a file."""
    try:
        pid = _holder(os.stat(path), _locks())
    except OSError:
        pid = 0
    return "another thread of this process" if pid == os.getpid() else process(pid)


def _locks() -> list[str]:
    """What the kernel says of all locks; nothing on systems that do not say."""
    if sys.platform != "linux":
        return []
    with open("/proc/locks") as file:
        return file.readlines()


def _holder(file: os.stat_result, locks: list[str]) -> int:
    """The process id of who has the flock on a file; 0: nobody knows.

    A line is `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`, with an arrow after the colon for
    who waits. Some file systems say another device there: then the number of the file has to do.
    """
    whole = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    alike = 0
    for line in locks:
        words = line.split()
        if words[1:2] == ["FLOCK"] and words[5].endswith(f":{file.st_ino}"):
            alike = max(int(words[4]), 0)
            if words[5] == whole:
                return alike
    return alike


def process(pid: int) -> str:
    """How to speak of a process: with its state, when that is why it does not let go."""
    if pid <= 0:
        return "a process"
    try:
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return f"process {pid}"
    if state in "Tt":
        return f"process {pid} (which is stopped: continue it with kill -CONT {pid}, or end it)"
    if state == "D":
        return f"process {pid} (which waits for its disk)"
    return f"process {pid}"

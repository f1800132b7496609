"""Waiting for other threads and processes: a file that writers touch, inotify, and polling."""

import ctypes
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from streamkit.log.files import Files, OpenFile

POLL_SECONDS = 0.05
"""The longest anybody sleeps before looking again, whatever was or was not told."""

IN_MODIFY, IN_CLOSE_WRITE = 0x2, 0x8
IN_MOVED, IN_CREATE, IN_DELETE = 0xC0, 0x100, 0x200
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC

TOUCH = (b"\n",)


class Inotify:
    """One inotify instance: a descriptor that is readable when a watched path has changed."""

    def __init__(self) -> None:
        """Raises OSError where there is none, or when the user has used up all of them."""
        self.fd = -1
        if not sys.platform.startswith("linux"):
            raise OSError("no inotify on this system")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def add(self, path: str, mask: int) -> None:
        if self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)

    def drain(self) -> None:
        """Read what has gathered; that it did is all there is to know."""
        # Not until there is nothing left: who sleeps on it is then woken once more.
        with suppress(BlockingIOError):  # another thread was quicker
            os.read(self.fd, 4096)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Sleeper:
    """What one waiting thread sleeps on, besides inotify."""

    def __init__(self) -> None:
        self._read, self._write = -1, -1
        if sys.platform.startswith("linux"):
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
        self.woken = False

    @property
    def fd(self) -> int:
        return self._read

    def rouse(self) -> None:
        try:
            os.write(self._write, struct.pack("=Q", 1))
        except BlockingIOError:
            return  # roused often and not yet up: once more changes nothing

    def clear(self) -> None:
        os.read(self._read, 4096)

    def __del__(self) -> None:
        for fd in {self._read, self._write} - {-1}:
            os.close(fd)


class Wake:
    """The waiters of this process, and the file that connects them with other processes."""

    def __init__(self, files: Files, path: str, *, writable: bool) -> None:
        """`path`: the wake file. Read-only logs wait for it, but cannot touch it."""
        self._files = files
        self._path = path
        self._writable = writable
        self._watched: list[str] = []
        self._start()

    def _start(self) -> None:
        self._sleepers: set[Sleeper] = set()
        self._idle: list[Sleeper] = []
        self._lock = threading.Lock()
        self._inotify: Inotify | None = None
        self._tried = False
        self._file: OpenFile | None = None

    def notify(self) -> None:
        """Wake the waiters of all processes; they look whether it is for them."""
        if self._sleepers:
            self.rouse()
        if not self._writable:
            return
        try:
            file = self._file
            if file is None:
                file = self._file = OpenFile(self._files, self._path, os.O_WRONLY | os.O_CREAT)
            file.write(TOUCH, 0)
        except OSError:
            return  # a full disk: what was published stays so, and polling finds it

    def rouse(self, but: Sleeper | None = None) -> None:
        """Let the waiters of this process look again, `but` that one."""
        if self._sleepers:
            with self._lock:
                for sleeper in self._sleepers:
                    if sleeper is not but:
                        sleeper.rouse()

    def end_waits(self) -> None:
        """Make every `wait` of this process return now."""
        with self._lock:
            for sleeper in self._sleepers:
                sleeper.woken = True
                sleeper.rouse()

    def watch(self, directory: str) -> None:
        """Wake also when a file of this directory appears, goes, or is closed by its writer."""
        with self._lock:
            known = directory in self._watched
            if not known and (self._inotify is None or self._add(self._inotify, directory)):
                self._watched.append(directory)

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Sleep until `ready()`; it is asked after every wake-up and at least every 50 ms.

        True when it is, or after `end_waits`; False when `timeout` seconds are over.
        """
        if ready():
            return True
        deadline = time.monotonic() + timeout
        poll = select.poll()
        with self._lock:
            inotify = self._watching()
            # Kept from one wait to the next: to open and close it would be a good part of a wait.
            sleeper = self._idle.pop() if self._idle else Sleeper()
            sleeper.woken = False
            self._sleepers.add(sleeper)
        try:
            poll.register(sleeper.fd, select.POLLIN)
            if inotify is not None:
                poll.register(inotify.fd, select.POLLIN)
            while True:
                # Registered first, asked then: what happens in between finds the sleeper.
                if sleeper.woken or ready():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                for fd, _ in poll.poll(min(left, POLL_SECONDS) * 1000):
                    if fd == sleeper.fd:
                        sleeper.clear()
                    elif inotify is not None:
                        inotify.drain()
                        # Another thread may be about to sleep on what was drained.
                        self.rouse(but=sleeper)
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
                # What has roused it since lets the next wait look once more than need be.
                self._idle.append(sleeper)

    def _watching(self) -> Inotify | None:
        if not self._tried:
            self._tried = True
            try:
                self._inotify = Inotify()
            except OSError:
                return None  # polling serves then
            self._add(self._inotify, self._path)
            self._watched = [path for path in self._watched if self._add(self._inotify, path)]
        return self._inotify

    def _add(self, inotify: Inotify, path: str) -> bool:
        mask = IN_MODIFY
        if path != self._path:
            mask = IN_CLOSE_WRITE | IN_MOVED | IN_CREATE | IN_DELETE
        try:
            inotify.add(path, mask)
        except OSError:
            return False  # out of watches, or the path is not there: polling serves then
        return True

    def forked(self) -> None:
        """In a forked child: start with files of its own."""
        self.close()
        self._start()

    def close(self) -> None:
        self._file = None
        self._inotify = None
        self._idle = []
        self._tried = False

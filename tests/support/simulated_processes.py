"""Processes of one machine, simulated in one thread: killed, stopped in the middle, rebooted.

Each has its own files, and locks that it loses when it is killed. It is killed at one of its
operations on files; or stopped there, while another process does something. Who has to wait for a
lock of a process that is stopped is killed while it waits.
"""

import fcntl
import importlib
import mmap
import os
import pkgutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_files import CHANGES, Fault, FaultyFiles, Killed

from streamkit import backends, log
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.lockfile import LockFile
from streamkit.backends.log_transactions import LogTransactions
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clock import ManualClock
from streamkit.log.directory import Log
from streamkit.log.files import Buffer


class Machine:
    """What processes share: a directory, the time, the boot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.boot = 1
        self.written: dict[int, int] = {}
        """When files were last written, by inode."""
        self.running: list[Process] = []
        """Who is doing something, on top of those who are stopped."""

    @property
    def boot_id(self) -> bytes:
        return b"%016d" % self.boot


class UnsyncedPage(mmap.mmap):
    """A mapping that spares the disk."""

    def flush(self, *args: int) -> None:
        return


class SimulatedFiles(FaultyFiles):
    """Files of one simulated process."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(synced=False)
        self.machine = machine
        self.stop: tuple[int, Callable[[], None]] | None = None
        """Before which operation, counted from 1, others are to do what."""

    def _before(self, name: str) -> bool:
        if self.stop is not None:
            left, act = self.stop
            self.stop = (left - 1, act) if left > 1 else None
            if left == 1:
                act()
        return super()._before(name)

    def wait(self) -> None:
        """Somebody else has a lock."""
        assert len(self.machine.running) > 1, "a lock is held, and nobody lives who could let go"
        self._dead = True
        raise Killed

    def flock(self, fd: int, operation: int) -> None:  # type: ignore[override]
        try:
            super().flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if operation & fcntl.LOCK_NB:
                raise
            self.wait()

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        done = super().pwritev(fd, buffers, position)
        self.machine.written[os.fstat(fd).st_ino] = self.machine.clock.now()
        return done

    def map(self, fd: int, size: int, *, writable: bool) -> mmap.mmap:  # type: ignore[override]
        self._before("map")
        made = UnsyncedPage(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        self._maps.append(made)
        return made

    def measure(self, path: str) -> tuple[int, int]:  # type: ignore[override]
        self._before("measure")
        found = os.stat(path)
        return found.st_size, self.machine.written.get(found.st_ino, 0)

    def date(self, path: str, written: int) -> None:  # type: ignore[override]
        self._before("date")
        self.machine.written[os.stat(path).st_ino] = written


class Process:
    """Opens the log when it first needs it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.files = SimulatedFiles(machine)
        self.locks: list[LockFile] = []
        self.transactions: dict[str, LogTransactions] = {}
        self.fenced: set[str] = set()
        """Transactional ids that others have begun to take over."""
        self.superseded: set[str] = set()
        """Transactional ids that others have taken over."""
        self._backend: EmbeddedBackend | None = None

    @property
    def backend(self) -> EmbeddedBackend:
        if self._backend is None:
            clock = self.machine.clock
            opened = Log.open(self.machine.root, files=self.files, clock=clock, maintenance=False)
            self._backend = EmbeddedBackend(opened, OffsetsTopic(opened, clock), clock=clock)
        return self._backend

    @property
    def log(self) -> Log:
        return self.backend._log

    def run(self, act: Callable[[], None], kill: Fault | None = None) -> bool:
        """Do something; False: it was killed."""
        self.files.fault, self.files.count = kill, 0
        self.machine.running.append(self)
        try:
            act()
        except Killed:
            self.bury()
            return False
        finally:
            self.machine.running.pop()
            self.files.fault = self.files.stop = None
        return True

    def bury(self) -> None:
        """Let go of everything, as the kernel does when a process is killed."""
        for lock in self.locks:
            lock.close()
        self.files.bury()

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()


def kill_at(operation: int, *, torn: bool) -> Fault:
    """At the n-th operation that changes something; `torn`: write half of it, if it is a write."""
    return Fault(operation, Killed(), CHANGES, short=torn)


class AtOnce:
    """A thread that does its work when it is started."""

    def __init__(self, target: Callable[[], None], daemon: bool) -> None:
        self.start = target


def simulate(monkeypatch: pytest.MonkeyPatch, machine: Callable[[], Machine]) -> None:
    """Have lock files, boots, threads and waiting simulated as well."""
    opened, locked = LockFile.__init__, LockFile.try_lock

    def open_file(self: LockFile, path: Path, *, create: bool = True) -> None:
        opened(self, path, create=create)
        machine().running[-1].locks.append(self)

    def lock(self: LockFile) -> None:
        files = machine().running[-1].files
        files._before("flock")
        if not locked(self):
            files.wait()

    def sleep(_: float) -> None:
        machine().running[-1].files.wait()

    monkeypatch.setattr(LockFile, "__init__", open_file)
    monkeypatch.setattr(LockFile, "lock", lock)
    simulated = {
        "boot_id": lambda: machine().boot_id,
        "threading": SimpleNamespace(**{**vars(threading), "Thread": AtOnce}),
        "time": SimpleNamespace(**{**vars(time), "sleep": sleep}),
    }
    for package in (log, backends):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for name in simulated.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, simulated[name])

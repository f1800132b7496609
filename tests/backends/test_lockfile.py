"""Lock files on a disk that is full, or fails."""

import errno
import fcntl
import os
import resource
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.lockfile import LockFile
from streamkit.clients.consumer import Consumer
from streamkit.errors import OutOfSpace, StorageFailed


def test_a_full_disk_is_an_error_of_the_log(tmp_path: Path) -> None:
    with LockFile(tmp_path / "member") as file:
        file.lock()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(OutOfSpace, match="member: cannot be written"):
                file.write(b"somebody")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_lock_that_fails_names_the_file_and_what_to_do(tmp_path, monkeypatch):
    def fails(fd, operation):
        if operation & ~fcntl.LOCK_NB != fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with open_backend(tmp_path / "log") as log:
        log.create_topic("a")
        with Consumer(log, "a", group="g"):
            pass
        monkeypatch.setattr(fcntl, "flock", fails)
        told = r"groups/g/coordinator: cannot be locked: No locks available.*local disk"
        with pytest.raises(StorageFailed, match=told):
            log.delete_group("g")
        file = LockFile(tmp_path / "file")
        for ask in (file.lock, file.try_lock, file.try_share, file.free):
            with pytest.raises(StorageFailed, match="file: cannot be locked"):
                ask()
        assert not file.held
        file.close()
        monkeypatch.undo()


def test_what_cannot_be_opened_is_an_error_of_the_log(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageFailed, match="file: cannot be opened: Is a directory"):
        LockFile(tmp_path / "file")

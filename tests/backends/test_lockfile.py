"""Lock files when the disk is full."""

import resource
from pathlib import Path

import pytest

from streamkit.backends.lockfile import LockFile
from streamkit.errors import OutOfSpace


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

"""Who has a transactional id: a file per id, held by flock as long as its producer lives.

The files are in `__transaction_state-0/producers`. Who takes an id over makes a file of its own and
renames it over the one before, which the producer before may go on holding: nobody finds it any
more. All of it under the coordinator's lock.
"""

import hashlib
import os
import uuid
from pathlib import Path
from urllib.parse import quote

from streamkit.backends.lockfile import LockFile, named
from streamkit.errors import UsageError

_NAME_BYTES = 200
_OWNED = ".owned"
_TAKING = ".taking"


class Owners:
    """The owners of transactional ids, by their files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, transactional_id: str) -> LockFile:
        """Make the caller the owner, as long as it keeps the file open."""
        with named(self._folder, "written to"):
            self._folder.mkdir(exist_ok=True)
            for left in self._folder.glob(f"*{_TAKING}"):  # by whoever was killed below
                left.unlink()
        file = LockFile(self._folder / f"{uuid.uuid4().hex}{_TAKING}")
        try:
            file.lock()
            with named(file.path, "renamed"):
                os.rename(file.path, self._path(transactional_id))
            file.path = self._path(transactional_id)
        except BaseException:
            file.close()
            raise
        return file

    def lives(self, transactional_id: str) -> bool:
        """Whether the last one who took the id is alive, running or stopped."""
        try:
            with LockFile(self._path(transactional_id), create=False) as file:
                return not file.free()
        except FileNotFoundError:
            return False

    def forget(self, transactional_id: str) -> None:
        """Remove the file of an id that nobody uses any more."""
        self._path(transactional_id).unlink(missing_ok=True)

    def _path(self, transactional_id: str) -> Path:
        return self._folder / f"{_file_name(transactional_id)}{_OWNED}"


def _file_name(transactional_id: str) -> str:
    """Any text as a file name; a long one is cut, and told from others by its digest."""
    try:
        name = quote(transactional_id, safe="")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"transactional id {transactional_id[:40]!r} cannot be written as UTF-8: {error.reason}"
        ) from None
    if len(name) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(transactional_id.encode()).hexdigest()
    return f"{name[: _NAME_BYTES - len(digest) - 1]}~{digest}"

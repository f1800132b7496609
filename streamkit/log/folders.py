"""A partition's directory: made whole before it is used, renamed before it is emptied."""

import os
import re
import uuid
from contextlib import suppress

from streamkit.log.checkpoints import (
    EPOCHS,
    PARTITION_METADATA,
    decode_partition_metadata,
    encode_epochs,
    encode_partition_metadata,
)
from streamkit.log.control import PAGE_BYTES, SYNCED, Synced
from streamkit.log.files import Buffer, Files, OpenFile, read_whole
from streamkit.log.opening import CONTROL
from streamkit.log.segment import INDEX, LOG, TIMEINDEX, base_of, file_name

DELETED = "-delete"
_DELETED = re.compile(rf"\.[0-9a-f]{{32}}{DELETED}$")
MAX_FILE_NAME = 255


def make_folder(files: Files, path: str, topic_id: bytes) -> None:
    """Make an empty partition. Its own name is durable once the parent was fsynced.

    It gets its name when it is whole: who still waits for an older partition of that name would
    open, and fill, what is half made. Until then its name is one of those that are swept away.
    """
    made = _deleted_name(path)
    files.mkdir(made)
    _write(files, made, PARTITION_METADATA, encode_partition_metadata(topic_id), sync=True)
    # Said before anything is there: after a power cut the log is walked from where it says.
    page = bytearray(PAGE_BYTES)
    SYNCED.store(page, Synced(0, 0, 0))
    _write(files, made, CONTROL, page, sync=True)
    # Torn, it would keep a broker from starting.
    _write(files, made, EPOCHS, encode_epochs([(0, 0)]), sync=True)
    for suffix in (LOG, INDEX, TIMEINDEX):
        _write(files, made, file_name(0, suffix), b"")
    files.fsync_dir(made)
    files.rename(made, path)


def _write(files: Files, folder: str, name: str, data: Buffer, *, sync: bool = False) -> None:
    file = OpenFile(files, os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if data:
        file.write([data], 0)
    if sync:
        file.sync()


def is_deleted(path: str) -> bool:
    """Whether a directory's name says that it was about to be removed."""
    return _DELETED.search(path) is not None


def remove_folder(files: Files, path: str) -> None:
    """Remove a partition's directory; one that is gone is fine."""
    if not files.exists(path):
        return
    if is_deleted(path):
        _end_appends(files, path)
    else:
        path = set_aside(files, path)
        files.fsync_dir(os.path.dirname(path))
    _remove(files, path)


def set_aside(files: Files, path: str) -> str:
    """Rename a partition's directory as Kafka does before it removes it; returns the new name.

    To be on stable storage before it is emptied: a power cut that kept the old name and lost the
    topic's id would leave records that nobody knows of, and that are never removed.
    """
    renamed = _deleted_name(path)
    files.rename(path, renamed)
    _end_appends(files, renamed)
    return renamed


def _end_appends(files: Files, path: str) -> None:
    """Remove the control file: who still has it mapped sees at the next append that it is gone.

    Under the append lock: who has that, a stopped process perhaps, has looked already, and may be
    about to open a file by its name. By then it could be that of a topic which was made again.
    """
    name = os.path.join(path, CONTROL)
    try:
        control = OpenFile(files, name, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        control.lock()
        with suppress(FileNotFoundError):
            files.unlink(name)
    finally:
        control.unlock()


def _deleted_name(path: str) -> str:
    parent, name = os.path.split(path)
    tail = f".{uuid.uuid4().hex}{DELETED}"
    return os.path.join(parent, name[: MAX_FILE_NAME - len(tail)] + tail)


def _remove(files: Files, path: str) -> None:
    for name in files.listdir(path):
        inner = os.path.join(path, name)
        try:
            files.unlink(inner)
        except (IsADirectoryError, PermissionError):  # the second is what macOS calls the first
            _remove(files, inner)
    files.rmdir(path)


def holds_data(files: Files, path: str) -> bool:
    """Whether any segment in the directory has bytes in it."""
    return any(
        OpenFile(files, os.path.join(path, name), os.O_RDONLY).size() > 0
        for name in files.listdir(path)
        if base_of(name) is not None
    )


def topic_id_of(files: Files, path: str) -> str | None:
    """The id (32 hex digits) of the topic that a directory belongs to; None: it tells of none."""
    try:
        data = read_whole(files, os.path.join(path, PARTITION_METADATA))
        return decode_partition_metadata(data).hex()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None

"""The directory of a log: how an empty one is made, and what is beside the partitions."""

import os
import resource
from contextlib import suppress
from uuid import uuid4

from streamkit.errors import LogNotFound, ReadOnlyLog
from streamkit.log.checkpoints import META_PROPERTIES, Properties, encode_id
from streamkit.log.config import METADATA_TOPIC
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile, read_whole, write_new
from streamkit.log.folders import holds_data, make_folder, remove_folder
from streamkit.records import TopicPartition

METADATA = TopicPartition(METADATA_TOPIC, 0)
METADATA_TOPIC_ID = bytes(15) + b"\x01"
"""The id that Kafka reserves for its metadata log."""

CONTROL = "control"
WAKE = "wake"

MAX_OPEN_FILES = 65_536


def read_root(files: Files, root: str, *, create: bool) -> Properties:
    """What a log's directory says of itself; with `create` one is made if there is none.

    Raises LogNotFound, UnsupportedFormat, CorruptLog, ReadOnlyLog (no right to write).
    """
    path = os.path.join(root, META_PROPERTIES)
    if not files.exists(path):
        if not create:
            if files.exists(os.path.join(root, str(METADATA))):
                raise LogNotFound(
                    f"{root}: the log has lost its {META_PROPERTIES}; `streamkit fsck --repair`"
                    " writes it again"
                )
            raise LogNotFound(
                f"{root}: no log here ({META_PROPERTIES} is missing); check the path. A Producer,"
                " an Admin or `streamkit topics create` makes one"
            )
        _make_root(files, root)
    try:
        data = read_whole(files, path)
    except OSError as error:
        raise failure(error, f"{path}: cannot be read") from error
    return Properties.decode(data, path)


def allow_open_files() -> None:
    """Raise the soft limit of open files: a partition in use takes five, and 1,024 are usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _make_root(files: Files, root: str) -> None:
    """Make an empty log. The properties come last: with them it is one."""
    try:
        _make_directory(files, root)
        lock = OpenFile(files, os.path.join(root, CONTROL), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ReadOnlyLog(f"{root}: no log can be made here: {error.strerror}") from error
    try:
        lock.lock()
        path = os.path.join(root, META_PROPERTIES)
        if files.exists(path):
            return  # by another process, while this one waited
        metadata = os.path.join(root, str(METADATA))
        if files.exists(metadata) and not holds_data(files, metadata):
            remove_folder(files, metadata)  # of a process killed half way
        if not files.exists(metadata):
            make_folder(files, metadata, METADATA_TOPIC_ID)
        OpenFile(files, os.path.join(root, WAKE), os.O_WRONLY | os.O_CREAT)
        files.fsync_dir(root)  # all of it has its name before the properties say that it is there
        properties = Properties(encode_id(uuid4().bytes), encode_id(uuid4().bytes))
        write_new(files, path, properties.encode())
    except OSError as error:
        raise failure(error, f"{root}: no log can be made here") from error
    finally:
        lock.unlock()


def _make_directory(files: Files, path: str) -> None:
    """Make it, and what is missing above it: each is durable once its parent was fsynced."""
    parent = os.path.dirname(path)
    if not files.exists(parent):
        _make_directory(files, parent)
    with suppress(FileExistsError):
        files.mkdir(path)
    with suppress(PermissionError):  # not to be read: then it is not ours, and was there before
        files.fsync_dir(parent)

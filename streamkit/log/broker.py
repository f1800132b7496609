"""Kafka's `.lock`: a broker has it whole as long as it runs, and each of us a share of it.

A broker takes a POSIX record lock on the file (Java's FileLock) and ends when it can't. So it must
be such a lock that keeps it away, and not a flock, which Linux does not weigh against those. Ours
belongs to the open file and not to the process ("OFD"): a process loses a plain record lock when it
closes any descriptor of the file, as it would with the second of two logs on the directory. In
between our processes a share keeps nobody out.
"""

import errno
import os
from contextlib import suppress

from streamkit.errors import LogInUse
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile

BROKER_LOCK = ".lock"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
"""A broker's note to itself that all files end with a whole batch, so that it need not look."""


def keep_brokers_out(files: Files, root: str) -> OpenFile:
    """No broker starts on the directory until the file given is closed.

    In a forked child it is the parent's: the child lets go of it and takes its own. Raises
    LogInUse when a broker runs there.
    """
    path = os.path.join(root, BROKER_LOCK)
    try:
        file = OpenFile(files, path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise failure(error, f"{path}: cannot be opened") from error
    try:
        file.share()
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise LogInUse(
                f"{root}: a Kafka broker runs on this directory, or `streamkit fsck --repair`"
                f" ({BROKER_LOCK} is locked); stop it, or open the log read-only"
            ) from error
        raise failure(error, f"{path}: cannot be locked") from error
    _forget_clean_shutdown(files, root)
    return file


def _forget_clean_shutdown(files: Files, root: str) -> None:
    """What we are going to write may be torn when a broker comes back: it has to look."""
    path = os.path.join(root, CLEAN_SHUTDOWN)
    try:
        if files.exists(path):
            with suppress(FileNotFoundError):  # by another of us, just now
                files.unlink(path)
            files.fsync_dir(root)
    except OSError as error:
        raise failure(error, f"{path}: cannot be removed") from error

"""What an error of the operating system means to who uses the log."""

import errno

from streamkit.errors import LogError, OutOfSpace, ReadOnlyLog, StorageFailed

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})
FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def failure(error: OSError, what: str) -> LogError:
    """The error to raise `from` this one. `what`: which file or directory could not be what."""
    if error.errno in FORBIDDEN:
        return ReadOnlyLog(
            f"{what}: {error.strerror}; open the log read-only, or let this user write there"
        )
    if error.errno in FULL:
        return OutOfSpace(f"{what}: {error.strerror}; free some space")
    if error.errno in TOO_MANY:
        return StorageFailed(
            f"{what}: {error.strerror}; nothing is broken: let this process open more (ulimit -n)"
        )
    return StorageFailed(f"{what}: {error.strerror}")

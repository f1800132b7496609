"""Which errors are worth another try, and when."""

from dataclasses import dataclass
from enum import Enum

from streamkit.errors import (
    DataError,
    GroupError,
    LogError,
    OutOfSpace,
    RecordTooLarge,
    TransactionError,
    TransientError,
    UnknownPartition,
    UnknownTopic,
)


class Kind(Enum):
    """What an error means for the connector that met it."""

    TRANSIENT = "transient"
    """Try again: a lost connection, a lock, a missing mount."""

    DATA = "data"
    """The same input will fail again: stop here, somebody has to look at it."""

    FATAL = "fatal"
    """Wrong configuration, or a bug: stop at the start, later try again after a long while."""

    STORAGE = "storage"
    """The log itself is in trouble: the whole worker stops."""


# What the operating system refuses for good; its other refusals may pass (EIO, ESTALE, EMFILE).
_LASTING = (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)


def kind_of(error: BaseException) -> Kind:
    """The kind of any exception that a connector or the log can raise."""
    if isinstance(error, TransientError | OutOfSpace | GroupError | TransactionError):
        return Kind.TRANSIENT
    if isinstance(error, UnknownTopic | UnknownPartition):
        return Kind.TRANSIENT  # deleted under us: the next try looks, waits for it or makes it
    if isinstance(error, DataError | RecordTooLarge):
        return Kind.DATA
    if isinstance(error, LogError):
        return Kind.STORAGE
    if isinstance(error, OSError) and not isinstance(error, _LASTING):
        return Kind.TRANSIENT
    return Kind.FATAL


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between tries, in seconds: doubling from `first` up to `longest`."""

    first: float = 0.3
    longest: float = 60.0

    def delay(self, attempt: int, spread: float) -> float:
        """The delay after failed try number `attempt` (from 1).

        `spread` in [0, 1) comes from a random source: connectors that lost the same database do
        not come back to it all at once. At least half of the full delay is kept.
        """
        full = min(self.longest, self.first * 2.0 ** min(attempt - 1, 60))
        return full * (0.5 + spread / 2)


def restart_delay(failures: int) -> float:
    """Seconds before a failed connector is started again: 2, 6, 12 … minutes, 1 hour at most."""
    return min(3600.0, 60.0 * (failures * failures + failures))

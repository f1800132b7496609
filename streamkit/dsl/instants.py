"""Moments as users write them: a datetime, or milliseconds since 1970-01-01 UTC."""

from datetime import UTC, datetime, timedelta

from streamkit.errors import DataError

LATEST_TIME = 253_402_300_799_999
"""The end of the year 9999 in ms; what is later was not meant as ms."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def instant(at: datetime | int, what: str) -> int:
    """A moment in ms; a datetime without a zone is in UTC. Raises DataError; `what` names it."""
    if isinstance(at, datetime):
        aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        stamp = (aware - _EPOCH) // _MILLISECOND
    elif isinstance(at, int) and not isinstance(at, bool):
        stamp = at
    else:
        raise DataError(f"{what}: {at!r} is no time; it must be a datetime or an int of ms")
    if not 0 <= stamp <= LATEST_TIME:
        raise DataError(f"{what}: {at!r} is not between 1970 and the year 9999, in ms")
    return stamp


def moment(stamp: int) -> datetime:
    """Some ms as a datetime, in UTC."""
    return _EPOCH + timedelta(milliseconds=stamp)

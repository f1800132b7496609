"""Event time: from a field or a function to milliseconds since 1970-01-01 UTC."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from streamkit.dsl.functions import field_getter
from streamkit.dsl.instants import LATEST_TIME as LATEST_TIME
from streamkit.errors import DataError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def event_time(time: str | Callable[[Any], Any], type_: Any, topic: str) -> Callable[[Any], int]:
    """A function from a value to its event time, given a field's name or a function.

    Either gives a datetime (without a zone: UTC), an ISO 8601 text, or an int of milliseconds.
    """
    if isinstance(time, str):
        get, _ = field_getter(type_, time, f"stream {topic!r}, time={time!r}")
        what = f"field {time!r}"
    else:
        get = time
        what = f"time function {getattr(time, '__name__', time)!r}"

    def of(value: Any) -> int:
        stamp = get(value)
        if type(stamp) is int and 0 <= stamp <= LATEST_TIME:
            return stamp
        if type(stamp) is datetime:
            if stamp.tzinfo is None:
                stamp = stamp.replace(tzinfo=UTC)
            milliseconds: int = (stamp - _EPOCH) // _MILLISECOND
        else:
            milliseconds = _other(stamp, what)
        if milliseconds < 0:
            raise DataError(f"{what}: {stamp!r} is before 1970, which a timestamp cannot say")
        if milliseconds > LATEST_TIME:
            raise DataError(f"{what}: {stamp!r} ms is after the year 9999; is it in another unit?")
        return milliseconds

    return of


def _other(stamp: Any, what: str) -> int:
    if isinstance(stamp, int) and not isinstance(stamp, bool):
        return stamp
    if isinstance(stamp, str):
        try:
            stamp = datetime.fromisoformat(stamp)
        except ValueError as error:
            raise DataError(f"{what}: {stamp!r} is no ISO 8601 time") from error
    if isinstance(stamp, datetime):
        if stamp.tzinfo is None:
            stamp = stamp.replace(tzinfo=UTC)
        return int((stamp - _EPOCH) // _MILLISECOND)
    raise DataError(
        f"{what}: {stamp!r} is no time; it must be a datetime, an ISO 8601 text or an int of ms"
    )

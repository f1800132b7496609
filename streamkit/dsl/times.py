"""Event time: from a field or a function to milliseconds since 1970-01-01 UTC."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from streamkit.dsl.fit import check_fit, check_gives_one
from streamkit.dsl.functions import field_getter, function
from streamkit.dsl.instants import LATEST_TIME as LATEST_TIME
from streamkit.errors import DataError, TopologyError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class EventTime:
    """How event time is found in a value: `milliseconds(get(value))`.

    An int of milliseconds that is no bool, not negative and not after `LATEST_TIME` needs no second
    look.
    """

    get: Callable[[Any], Any]
    what: str
    attribute: str | None = None
    """What `get` reads of a value, if it does nothing else."""

    def milliseconds(self, stamp: Any) -> int:
        """What `get` gave, as milliseconds. Raises DataError for what is no time."""
        if type(stamp) is int and 0 <= stamp <= LATEST_TIME:
            return stamp
        if type(stamp) is datetime:
            if stamp.tzinfo is None:
                stamp = stamp.replace(tzinfo=UTC)
            milliseconds: int = (stamp - _EPOCH) // _MILLISECOND
        else:
            milliseconds = _other(stamp, self.what)
        if milliseconds < 0:
            raise DataError(f"{self.what}: {stamp!r} is before 1970, which a timestamp cannot say")
        if milliseconds > LATEST_TIME:
            raise DataError(
                f"{self.what}: {stamp!r} ms is after the year 9999; is it in another unit?"
            )
        return milliseconds


def event_time(time: str | Callable[[Any], Any], type_: Any, topic: str) -> EventTime:
    """How to find the event time of a value, given a field's name or a function.

    Either gives a datetime (without a zone: UTC), an ISO 8601 text, or an int of milliseconds.
    Raises TopologyError when values of that type have no such field, or the function is of others.
    """
    if isinstance(time, str):
        get, _ = field_getter(type_, time, f"stream {topic!r}, time={time!r}")
        what = f"field {time!r}"
        attribute = time if isinstance(get, attrgetter) else None
    else:
        fn = function(time)
        if fn.extras or fn.wants_record:
            raise TopologyError(
                f"stream {topic!r}, time={fn.described}: it takes a value and nothing else"
            )
        check_fit(fn, [(type_, f"the values of {topic!r}")])
        check_gives_one(fn, "a time")
        get, attribute = time, None
        what = f"time function {getattr(time, '__name__', time)!r}"
    return EventTime(get, what, attribute)


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

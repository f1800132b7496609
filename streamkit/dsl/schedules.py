"""When something is to happen by the wall clock: every so often, or by a cron expression."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamkit.dsl.durations import shortest
from streamkit.errors import ConfigError

_RANDOM = re.compile(r"\b[RH]\b", re.IGNORECASE)
"""What croniter chooses itself, another time each time."""


class Schedule(Protocol):
    """Moments in ms since 1970-01-01 UTC."""

    def next_after(self, last: int) -> int:
        """The first after `last`."""
        ...

    def latest(self, now: int) -> int:
        """The last that is not after `now`."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """Every so many ms, counted from 1970: every 15 minutes is on the quarters of an hour."""

    milliseconds: int

    def __post_init__(self) -> None:
        if self.milliseconds < 1:
            raise ConfigError("every 0s: once in a millisecond at most")

    def next_after(self, last: int) -> int:
        return self.latest(last) + self.milliseconds

    def latest(self, now: int) -> int:
        return now - now % self.milliseconds

    def __str__(self) -> str:
        return f"every {shortest(self.milliseconds)}"


@dataclass(frozen=True, slots=True)
class Cron:
    """At the times of a cron expression, in the time of a zone.

    Where clocks are put forward, a time that does not exist is when they are; where they are put
    back, one that there is twice comes twice.
    """

    expression: str
    zone: tzinfo = UTC

    def __post_init__(self) -> None:
        # croniter is imported here: it is slow to import, and most programs have no schedule.
        from croniter import CroniterBadDateError, croniter

        if (
            not isinstance(self.expression, str)
            or _RANDOM.search(self.expression)
            # croniter takes seconds as a sixth field, where others have them first.
            or len(self.expression.split()) not in (1, 5)  # one: @daily
            or not croniter.is_valid(self.expression)
        ):
            raise ConfigError(
                f"schedule {self.expression!r}: expected a cron expression of five fields (minute, "
                "hour, day of the month, month, day of the week), as '*/5 * * * *'"
            )
        try:
            self.next_after(0)
        except CroniterBadDateError as error:
            raise ConfigError(f"schedule {self.expression!r}: there is no such day") from error

    def next_after(self, last: int) -> int:
        """The first time after `last`, in ms since 1970-01-01 UTC."""
        return _ms(self._from(last).get_next(datetime))

    def latest(self, now: int) -> int:
        """The last time that is not after `now`, in ms since 1970-01-01 UTC."""
        return _ms(self._from(now + 1).get_prev(datetime))

    def _from(self, stamp: int) -> Any:
        from croniter import croniter

        return croniter(self.expression, datetime.fromtimestamp(stamp / 1000, self.zone))

    def __str__(self) -> str:
        return f"cron {self.expression} {self.zone}"


def _ms(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def zone_of(tz: str | tzinfo) -> tzinfo:
    """A time zone by its name in the IANA database. Raises ConfigError."""
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"tz={tz!r}: no such time zone; they are as 'Europe/Berlin'") from error

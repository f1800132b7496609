"""Points in time as people write them: `2026-01-31`, `-7d`, `earliest`, `now`."""

import re
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from streamkit.errors import ConfigError

Point: TypeAlias = int | Literal["earliest", "latest"]
"""Milliseconds since 1970-01-01 UTC, or one of the two ends of a log."""

_AGO = re.compile(r"-((?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+)$")
_AGO_UNSIGNED = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+$")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_time(text: str, now: int, *, key: str = "time") -> Point:
    """Read a point in time, relative ones from `now` (ms).

    Times without a zone are UTC. Raises ConfigError naming `key` and what can be written.
    """
    word = text.strip().lower()
    if word in ("earliest", "latest"):
        return "earliest" if word == "earliest" else "latest"
    if word == "now":
        return now
    if word.isdigit():
        return int(word)
    if ago := _AGO.match(word):
        parts = _PART.findall(ago[1])
        return now - round(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if _AGO_UNSIGNED.match(word):
        raise ConfigError(f"{key}: {text!r}: for so long ago write -{word}")
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{key}: {text!r} is not a point in time; write a date (2026-01-31), a date and time "
            "in UTC (2026-01-31T12:00), milliseconds since 1970, -7d or -1h30m, earliest, now or "
            "latest"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)

"""Durations as users write them: "500ms", "30s", "5m", "1h", "2d", or a timedelta."""

import re
from datetime import timedelta
from typing import TypeAlias

from streamkit.errors import ConfigError

Duration: TypeAlias = str | timedelta

_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(duration: Duration, what: str = "duration") -> int:
    """A duration in ms; `what` names it in the error. Parts add up: "1h30m".

    Raises ConfigError when it cannot be read, is negative, or is finer than a millisecond.
    """
    if isinstance(duration, timedelta):
        exact = duration / timedelta(milliseconds=1)
    elif isinstance(duration, str) and re.fullmatch(f"(?:{_PARTS.pattern})+", duration.strip()):
        exact = sum(
            float(number) * _MILLISECONDS[unit] for number, unit in _PARTS.findall(duration)
        )
    else:
        raise ConfigError(
            f"{what}: {duration!r} is no duration; write it like '500ms', '30s', '5m', '1h', '2d'"
        )
    if exact < 0 or exact != int(exact):
        raise ConfigError(f"{what}: {duration!r} is not a whole, positive number of milliseconds")
    return int(exact)


def shortest(duration: int) -> str:
    """Some ms as users write them: `90_000` is "1m30s", 0 is "0s"."""
    parts = []
    left = duration
    for unit, length in reversed(_MILLISECONDS.items()):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"

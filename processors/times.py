"""Durations as everywhere in streamkit, in ms."""

from datetime import timedelta

from streamkit import tumbling


def milliseconds(duration: str | timedelta) -> int:
    """How long "90s" or a timedelta is. Raises ConfigError when it is no duration, or none."""
    return tumbling(duration).size

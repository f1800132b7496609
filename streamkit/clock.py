"""The seam to time: whoever needs the time is handed a Clock."""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Wall-clock time in milliseconds since 1970-01-01 UTC: for data, never for time-outs."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards: for time-outs, never for data."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves when it is told to. It starts at 2026-01-01 UTC."""

    def __init__(self, now: int = 1_767_225_600_000) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        """The time, in ms since 1970-01-01 UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    def advance(self, milliseconds: int) -> None:
        """Let so much time pass."""
        self._now += milliseconds
        self._monotonic += milliseconds / 1000

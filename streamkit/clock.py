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

"""Windows of event time: what they are; the engine keeps their state."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from streamkit.dsl.durations import Duration, milliseconds
from streamkit.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One window `[start, end)`, in ms since 1970-01-01 UTC. A function may ask for it."""

    start: int
    end: int

    @property
    def start_time(self) -> datetime:
        return _EPOCH + timedelta(milliseconds=self.start)

    @property
    def end_time(self) -> datetime:
        return _EPOCH + timedelta(milliseconds=self.end)


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size, one after the other, aligned to 1970-01-01 UTC. All in ms."""

    size: int
    grace: int = 0

    def start(self, timestamp: int) -> int:
        """Where the window begins that the timestamp falls into."""
        return timestamp - timestamp % self.size


def tumbling(size: Duration, *, grace: Duration) -> Tumbling:
    """Windows of one size, one after the other.

    A window closes when the watermark reaches its end plus `grace`: what comes later goes to the
    late topic. `grace` has no default, because a hidden one would decide what is late.
    """
    window = Tumbling(milliseconds(size, "size"), milliseconds(grace, "grace"))
    if window.size == 0:
        raise ConfigError("size: a window has at least one millisecond")
    return window

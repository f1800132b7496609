"""Windows of event time, as data: which there are for an event; the engine keeps their state.

All times are in ms, all windows `[start, end)`. An event is late for a window when its partition
has come `grace` past the window's end; the window closes when all partitions have.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from streamkit.dsl.durations import Duration, milliseconds
from streamkit.errors import ConfigError, TopologyError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One window `[start, end)`, in ms since 1970-01-01 UTC. A function may ask for it."""

    start: int
    end: int

    @property
    def start_time(self) -> datetime:
        """When it begins, in UTC."""
        return _EPOCH + timedelta(milliseconds=self.start)

    @property
    def end_time(self) -> datetime:
        """When it ends, in UTC: what is at that time is not in it."""
        return _EPOCH + timedelta(milliseconds=self.end)


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows of one size that begin every so often, at multiples of `every` since 1970.

    With `every` less than `size` an event is in several of them.
    """

    size: int
    every: int
    grace: int = 0

    def starts(self, timestamp: int) -> range:
        """Where the windows begin that the timestamp falls into, ascending."""
        last = timestamp - timestamp % self.every
        # The first multiple of `every` after timestamp - size.
        first = timestamp - self.size + self.every
        return range(first - first % self.every, last + 1, self.every)

    def missed_at(self, timestamp: int) -> int:
        """How far time has to have come for an event of that time to be in none of them."""
        return timestamp - timestamp % self.every + self.size + self.grace


@dataclass(frozen=True, slots=True)
class Sliding:
    """For each time `t` that an event of a key has, the window of `size` that ends with it.

    It is `(t - size, t]`, which in whole ms is `[t - size + 1, t + 1)`.
    """

    size: int
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """Events of a key that are less than `gap` apart, each from the next.

    It is `[time of its first event, time of its last event + gap)`.
    """

    gap: int
    grace: int = 0

    def missed_at(self, timestamp: int) -> int:
        """How far time has to have come for an event of that time to be in none."""
        return timestamp + 1 + self.grace


WindowKind: TypeAlias = Hopping | Sliding | Session


@dataclass(frozen=True, slots=True)
class Every:
    """Emit what has changed whenever event time passes a multiple of so many ms since 1970."""

    every: int


Emit: TypeAlias = Literal["final", "update"] | Every
"""When a window's value is given: once, when it closes; after each event; or every so often."""


def tumbling(size: Duration, *, grace: Duration = "0s") -> Hopping:
    """Windows of one size, one after the other.

    They are aligned to 1970-01-01 UTC. A window closes when the watermark reaches its end plus
    `grace`; an event that comes after that goes to the late topic.
    """
    window = _positive(size, "size")
    return Hopping(window, window, milliseconds(grace, "grace"))


def hopping(size: Duration, every: Duration, *, grace: Duration = "0s") -> Hopping:
    """Windows of one size that begin every so often, so that they overlap.

    They are aligned to 1970-01-01 UTC. An event is in `size / every` of them, and costs as much.
    """
    window = Hopping(_positive(size, "size"), _positive(every, "every"), milliseconds(grace))
    if window.every > window.size:
        raise ConfigError(
            f"hopping: every {every} is more than the size, {size}: events between two windows "
            "would be in none"
        )
    return window


def sliding(size: Duration, *, grace: Duration = "0s") -> Sliding:
    """For each event, the window of `size` that ends with it: what happened just before it.

    Events of a key at the same millisecond share one. Events are kept for `size`, and each result
    folds those of its window again.
    """
    return Sliding(_positive(size, "size"), milliseconds(grace, "grace"))


def session(gap: Duration, *, grace: Duration = "0s") -> Session:
    """Events of a key until it is silent for `gap`.

    A session is `[first event, last event + gap)`. An event that comes between two sessions makes
    one of them. Late is what is more than `grace` behind its partition, whatever is open: sessions
    then are the same in whatever order partitions were read.
    """
    return Session(_positive(gap, "gap"), milliseconds(grace, "grace"))


def every(duration: Duration) -> Every:
    """For `emit=`: give what has changed whenever event time passes a multiple of the duration."""
    return Every(_positive(duration, "every"))


def check_emit(emit: object, where: str) -> None:
    """Raises TopologyError."""
    if emit not in ("final", "update") and not isinstance(emit, Every):
        raise TopologyError(f"{where}: emit={emit!r}; it is 'final', 'update' or every('10s')")


def _positive(duration: Duration, what: str) -> int:
    size = milliseconds(duration, what)
    if size == 0:
        raise ConfigError(f"{what}: a window has at least one millisecond")
    return size

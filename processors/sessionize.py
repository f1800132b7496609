"""Events of a key that follow one another closely, as one thing: a visit, a ride, a flying day."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct

from streamkit import Record, Stream, session
from streamkit.processors.fields import called

V = TypeVar("V")


class Session(Struct, frozen=True):
    """From its first event to its last, in UTC. The key is the record's."""

    start: datetime
    end: datetime
    events: int

    @property
    def seconds(self) -> float:
        """From its first event to its last; 0.0 of a single one."""
        return (self.end - self.start).total_seconds()


def sessionize(
    stream: Stream[V],
    gap: str | timedelta,
    *,
    grace: str | timedelta = "0s",
    name: str | None = None,
) -> Stream[Session]:
    """One `Session` for events of a key that are less than `gap` apart, when it is over.

    It is over when event time has come `gap` and `grace` past its last event.
    """

    def fold(sofar: Session | None, event: Record[Any]) -> Session:
        time = datetime.fromtimestamp(event.timestamp / 1000, UTC)
        alone = Session(time, time, 1)
        return alone if sofar is None else merge(sofar, alone)

    folding = stream.window(session(gap, grace=grace)).aggregate(merge=merge)
    return folding(called(name or f"{stream.name}-sessionize", fold))


def merge(one: Session, other: Session) -> Session:
    """Of two sessions that turn out to be one."""
    return Session(min(one.start, other.start), max(one.end, other.end), one.events + other.events)

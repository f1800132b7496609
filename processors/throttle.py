"""At most so many events of a key in so much time."""

from datetime import timedelta
from typing import Any, TypeVar

from streamkit import Context, State, Stream
from streamkit.processors.fields import called
from streamkit.processors.times import milliseconds

V = TypeVar("V")


def throttle(
    stream: Stream[V], n: int, *, per: str | timedelta, name: str | None = None
) -> Stream[V]:
    """The first `n` events of a key in any `per` of event time; the others are dropped.

    An event that comes out of order, by up to `per`, counts with all that were let through since
    its time. A key without events for twice as long is forgotten.
    """
    if n < 1:
        raise ValueError(f"throttle: n={n}; at least one event has to go through")
    span = milliseconds(per)
    # Twice as long, so that what events find that are behind does not depend on how far time is.
    kept = State[list[int]](ttl=2 * timedelta(milliseconds=span))

    def passes(event: Any, context: Context, passed: State[list[int]] = kept) -> bool:
        now = context.timestamp
        times = [time for time in passed.get([]) if time > now - span]
        if len(times) >= n:
            return False
        passed.set(sorted([*times, now]))
        return True

    return stream.filter(called(name or f"{stream.name}-throttle", passes))

"""Only the first of events that are the same."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from streamkit import Context, MapState, Stream
from streamkit.processors.fields import called, getter
from streamkit.processors.times import milliseconds

V = TypeVar("V")


def dedupe(
    stream: Stream[V],
    on: str | Callable[[V], Any],
    *,
    within: str | timedelta,
    name: str | None = None,
) -> Stream[V]:
    """The events of a stream without those that came before.

    `on`, a field or a function, says which events are the same: those of one key with an equal one.
    Where the same event may come under several keys, give it one first: `stream.by("id")`. An
    event is remembered for `within` of event time since it first came. One where `on` gives None
    is like no other.
    """
    identity = getter(on, stream)
    span = milliseconds(within)
    # Twice as long, so that what events find that are behind does not depend on how far time is.
    kept = MapState[str, int](ttl=2 * timedelta(milliseconds=span))

    def first(event: Any, context: Context, seen: MapState[str, int] = kept) -> bool:
        same = identity(event)
        if same is None:
            return True
        # Text, as an id is the same whether it came as a number or not.
        before = seen.get(str(same))
        if before is not None and abs(context.timestamp - before) < span:
            return False
        seen[str(same)] = context.timestamp
        return True

    return stream.filter(called(name or f"{stream.name}-dedupe", first))

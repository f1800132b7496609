"""How many events of a key there are per second."""

from datetime import timedelta
from typing import TypeVar

from streamkit import Stream, hopping
from streamkit.processors.fields import called

V = TypeVar("V")


def rate(
    stream: Stream[V],
    *,
    over: str | timedelta = "1m",
    every: str | timedelta | None = None,
    grace: str | timedelta = "0s",
    name: str | None = None,
) -> Stream[float]:
    """Events per second of each key, over the last `over`, given `every` so often (else as often).

    A key without events in a window has no rate there.
    """
    label = name or f"{stream.name}-rate"
    window = hopping(over, every or over, grace=grace)
    seconds = window.size / 1000

    def per_second(events: int) -> float:
        return events / seconds

    counted = stream.window(window).count(name=label)
    return counted.map(called(f"{label}-per-second", per_second))

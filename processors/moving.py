"""What a value was lately, and how unusual the next one is: moving average and z-score."""

from collections.abc import Callable
from datetime import timedelta
from math import sqrt
from statistics import fmean
from typing import Any, TypeVar

from msgspec import Struct

from streamkit import Context, State, Stream
from streamkit.processors.fields import called, getter
from streamkit.processors.times import milliseconds

V = TypeVar("V")


class Moving(Struct, frozen=True):
    """A value beside those of its key before it: their mean and standard deviation.

    `z`: how many deviations it is above the mean; None while there are less than two before it, or
    when all of them are equal.
    """

    value: float
    mean: float | None
    deviation: float | None
    z: float | None


class Lately(Struct, frozen=True):
    """What is kept of a key: its last values, and the latest time of its events."""

    at: int
    values: list[float]


def moving_average(
    stream: Stream[V],
    of: str | Callable[[V], float],
    *,
    last: int,
    forget: str | timedelta | None = None,
    name: str | None = None,
) -> Stream[float]:
    """The mean of the `last` values of each key, after each event; of fewer at the beginning.

    In the order in which events come. A key that has had no event for as long as `forget`, in event
    time, begins anew; without it every key is kept for ever. For a span of time:
    `stream.window(sliding("5m")).mean(of)`.
    """
    value, before, kept = getter(of, stream), _before(forget), _kept(last, forget)

    def mean(event: Any, context: Context, values: State[Lately] = kept) -> float:
        at, lately = before(values.get(), context.timestamp)
        lately = [*lately, float(value(event))][-last:]
        values.set(Lately(at, lately))
        return fmean(lately)

    return stream.map(called(name or f"{stream.name}-moving-average", mean))


def z_score(
    stream: Stream[V],
    of: str | Callable[[V], float],
    *,
    last: int,
    forget: str | timedelta | None = None,
    name: str | None = None,
) -> Stream[Moving]:
    """Each value beside the `last` ones of its key before it; `forget` as for a moving average.

    unusual = z_score(temperatures, "celsius", last=100).filter(lambda m: abs(m.z or 0) > 3)
    """
    value, before, kept = getter(of, stream), _before(forget), _kept(last, forget)

    def score(event: Any, context: Context, values: State[Lately] = kept) -> Moving:
        at, lately = before(values.get(), context.timestamp)
        now = float(value(event))
        values.set(Lately(at, [*lately, now][-last:]))
        if not lately:
            return Moving(now, None, None, None)
        mean = fmean(lately)
        deviation = sqrt(fmean((each - mean) ** 2 for each in lately))
        z = (now - mean) / deviation if deviation else None
        return Moving(now, mean, deviation, z)

    return stream.map(called(name or f"{stream.name}-z-score", score))


def _kept(last: int, forget: str | timedelta | None) -> State[Lately]:
    if last < 1:
        raise ValueError(f"last={last}; at least one value has to be kept")
    if forget is None:
        return State()
    # Twice as long, so that what events find that are behind does not depend on how far time is.
    return State(ttl=2 * timedelta(milliseconds=milliseconds(forget)))


def _before(
    forget: str | timedelta | None,
) -> Callable[[Lately | None, int], tuple[int, list[float]]]:
    """What there is before an event at a time, and the latest time of a key with that."""
    span = None if forget is None else milliseconds(forget)

    def before(kept: Lately | None, now: int) -> tuple[int, list[float]]:
        if kept is None or (span is not None and now - kept.at >= span):
            return now, []
        return max(now, kept.at), kept.values

    return before

"""What a value was lately, and how unusual the next one is: moving average and z-score."""

from collections.abc import Callable
from math import sqrt
from statistics import fmean
from typing import Any, TypeVar

from msgspec import Struct

from streamkit import State, Stream
from streamkit.processors.fields import called, getter

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


def moving_average(
    stream: Stream[V], of: str | Callable[[V], float], *, last: int, name: str | None = None
) -> Stream[float]:
    """The mean of the `last` values of each key, after each event; of fewer at the beginning.

    In the order in which events come. For a span of time: `stream.window(sliding("5m")).mean(of)`.
    """
    value = getter(of, stream)
    _at_least_one(last)

    def mean(event: Any, values: State[list[float]]) -> float:
        kept = [*values.get([]), float(value(event))][-last:]
        values.set(kept)
        return fmean(kept)

    return stream.map(called(name or f"{stream.name}-moving-average", mean))


def z_score(
    stream: Stream[V], of: str | Callable[[V], float], *, last: int, name: str | None = None
) -> Stream[Moving]:
    """Each value beside the `last` ones of its key before it.

    unusual = z_score(temperatures, "celsius", last=100).filter(lambda m: abs(m.z or 0) > 3)
    """
    value = getter(of, stream)
    _at_least_one(last)

    def score(event: Any, values: State[list[float]]) -> Moving:
        before, now = values.get([]), float(value(event))
        values.set([*before, now][-last:])
        if not before:
            return Moving(now, None, None, None)
        mean = fmean(before)
        deviation = sqrt(fmean((each - mean) ** 2 for each in before))
        z = (now - mean) / deviation if deviation else None
        return Moving(now, mean, deviation, z)

    return stream.map(called(name or f"{stream.name}-z-score", score))


def _at_least_one(last: int) -> None:
    if last < 1:
        raise ValueError(f"last={last}; at least one value has to be kept")

"""The things that come up most in each window, over all keys."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from msgspec import Struct

from streamkit import Stream, tumbling
from streamkit.processors.fields import called, getter

V = TypeVar("V")


class Ranked(Struct, frozen=True):
    """A thing, and how often it came, or how much it weighs."""

    item: str
    total: float


def top_k(
    stream: Stream[V],
    n: int,
    of: str | Callable[[V], Any],
    *,
    every: str | timedelta,
    grace: str | timedelta = "0s",
    weight: str | Callable[[V], float] | None = None,
    name: str | None = None,
) -> Stream[list[Ranked]]:
    """The `n` things of each window of `every`, most first; of two that are equal, by name.

    `of`, a field or a function, says which thing an event is about; `weight` how much it counts,
    which is 1 without. An event where `of` gives None is about nothing. Each thing is added up
    where its events are, and what they come to is ranked in one place: that takes as many events
    per window as there are things.
    """
    if n < 1:
        raise ValueError(f"top_k: n={n}; at least one thing is ranked")
    label = name or f"{stream.name}-top"
    thing = getter(of, stream)
    weigh = getter(weight, stream) if weight is not None else None

    def item(event: Any) -> str:
        return str(thing(event))

    def about(event: Any) -> bool:
        return thing(event) is not None

    def add(sofar: Ranked | None, event: Any) -> Ranked:
        more = 1 if weigh is None else weigh(event)
        return Ranked(item(event), more if sofar is None else sofar.total + more)

    def everywhere(total: Ranked) -> str:
        return "all"

    def rank(best: list[Ranked] | None, total: Ranked) -> list[Ranked]:
        rest = best or []
        return sorted([*rest, total], key=lambda one: (-one.total, one.item))[:n]

    window = tumbling(every, grace=grace)
    known = stream.filter(called(f"{label}-about", about))
    totals = known.by(item, name=f"{label}-items").window(window)
    counted: Stream[Ranked] = totals.aggregate(any_order=True)(called(f"{label}-totals", add))
    ranked = counted.by(everywhere, name=f"{label}-all").window(tumbling(every))
    return ranked.aggregate(any_order=True)(called(label, rank))

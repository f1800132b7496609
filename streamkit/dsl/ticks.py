"""Ticks of the wall clock as events: what `@app.every` and `@app.cron` give to functions.

They are records of a topic of the app's own, with one partition. Whoever has its task appends what
is due and reads it as any input: so each tick is there once, whatever is killed, and a replay has
those that there were.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    get_args,
    overload,
)

import msgspec

from streamkit.dsl.context import Context
from streamkit.dsl.functions import function
from streamkit.dsl.instants import moment
from streamkit.dsl.schedules import Schedule
from streamkit.errors import ConfigError, TopologyError

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step

Out = TypeVar("Out")
P = ParamSpec("P")

Missed: TypeAlias = Literal["last", "all", "none"]
"""Which of the ticks that were due while nobody ran are given later."""

SOON = 10_000
"""A tick that is no more than so many ms late was not missed."""
_MOST = 1_000
"""Ticks that are written at once, where all are wanted."""


class Tick(msgspec.Struct, frozen=True):
    """A moment of a schedule that has come."""

    timestamp: int
    """When it was due, in ms since 1970-01-01 UTC. It may be given later."""

    @property
    def time(self) -> datetime:
        """When it was due, in UTC."""
        return moment(self.timestamp)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Which ticks there are. `name` is the key of all of them."""

    name: str
    schedule: Schedule
    missed: Missed

    def __post_init__(self) -> None:
        if self.missed not in get_args(Missed):
            one = ", ".join(f'"{each}"' for each in get_args(Missed))
            raise ConfigError(f"missed={self.missed!r}: it is one of {one}")

    def due(self, first: int, now: int) -> tuple[list[int], int]:
        """Of the ticks from `first` to `now` those to give, and the last that is dealt with."""
        if self.missed == "all":
            times = [first]
            while len(times) < _MOST and (after := self.schedule.next_after(times[-1])) <= now:
                times.append(after)
            return times, times[-1]
        latest = self.schedule.latest(now)
        if self.missed == "none" and now - latest > SOON:
            return [], latest
        return [latest], latest

    def __str__(self) -> str:
        return f"{self.schedule}, missed {self.missed}"


def taking_tick(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose first parameter is a Tick: itself, or one that calls it without.

    Raises TopologyError.
    """
    if not callable(call):
        raise TopologyError(f"expected a function, got {call!r}")
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return call
    parameters = list(signature.parameters.values())
    if parameters and not _is_given_otherwise(call, parameters[0]):
        return call
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        raise TopologyError(f"{call.__name__} is async; let its first parameter be a Tick")

    @wraps(call)
    def without_tick(tick: Tick, *extras: Any) -> Any:
        return call(*extras)

    kind = inspect.Parameter.POSITIONAL_ONLY
    first = inspect.Parameter("tick", kind, annotation=Tick)
    kept = [each.replace(kind=kind) if each.kind < 2 else each for each in parameters]
    without_tick.__signature__ = signature.replace(parameters=[first, *kept])  # type: ignore[attr-defined]
    without_tick.__annotations__ = {"tick": Tick, **inspect.get_annotations(call)}
    return without_tick


def _is_given_otherwise(call: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether a first parameter is a Context or a State, as others ask for after their event."""
    if parameter.kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return parameter.kind is inspect.Parameter.KEYWORD_ONLY
    try:
        return bool(function(call, leading=0).extras)
    except TopologyError:
        return False  # it is said where the tick is first


class Ticking(Protocol):
    """A function of ticks, as `every(...)` and `cron(...)` decorate it."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Tick, P], AsyncIterator[Out]], /
    ) -> "Step[Concatenate[Tick, P], AsyncIterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Tick, P], Coroutine[Any, Any, Out | None]], /
    ) -> "Step[Concatenate[Tick, P], Coroutine[Any, Any, Out | None], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Tick, P], Iterator[Out]], /
    ) -> "Step[Concatenate[Tick, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context, P], Iterator[Out]], /
    ) -> "Step[Concatenate[Context, P], Iterator[Out], Out]": ...

    @overload
    def __call__(self, fn: Callable[[], Iterator[Out]], /) -> "Step[[], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Tick, P], Out | None], /
    ) -> "Step[Concatenate[Tick, P], Out | None, Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context, P], Out | None], /
    ) -> "Step[Concatenate[Context, P], Out | None, Out]": ...

    @overload
    def __call__(self, fn: Callable[[], Out | None], /) -> "Step[[], Out | None, Out]": ...

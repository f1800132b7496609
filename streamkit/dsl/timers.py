"""Timers: a function of a step is called again for a key when event time comes to a moment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from streamkit.dsl.instants import moment

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step

Out = TypeVar("Out")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Timer:
    """What the function of `@step.on_timer` is given: whose timer it is, and when it was due."""

    key: Any
    timestamp: int
    """When it was due, in ms since 1970-01-01 UTC; what the function gives is of that time."""
    name: str | None = None

    @property
    def time(self) -> datetime:
        """When it was due, in UTC."""
        return moment(self.timestamp)


Asked: TypeAlias = list[tuple[str, int | None, bool]]
"""What a function asked for while it ran: a name ("": none), when (None: not any more), and whether
one that is set to a later time stays."""


class Timing(Protocol):
    """A function of a timer, as `on_timer(...)` decorates it."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Timer, P], Iterator[Out]], /
    ) -> "Step[Concatenate[Timer, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Timer, P], Out | None], /
    ) -> "Step[Concatenate[Timer, P], Out | None, Out]": ...

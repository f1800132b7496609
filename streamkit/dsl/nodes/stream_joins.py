"""Joins of two streams: which of their events meet, as data, and the steps that keep them."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import Node, OutputSpec, StreamNode
from streamkit.dsl.stores import StoreSpec
from streamkit.serde import Serde, serde_for

Direction: TypeAlias = Literal["backward", "forward", "nearest"]


@dataclass(frozen=True, slots=True)
class Within:
    """Each event of the left stream meets those of the right that are at most `before` ms earlier
    and `after` ms later. What meets nothing is given alone if `how` says so.
    """

    before: int
    after: int
    how: Literal["inner", "left", "outer"]
    grace: int

    @property
    def alone(self) -> tuple[bool, bool]:
        """Whether events of the left stream are given alone, and those of the right."""
        return self.how != "inner", self.how == "outer"

    @property
    def delay(self) -> int:
        """How much later than its time an event that met nothing is given."""
        left, right = self.alone
        return self.grace + max(self.after * left, self.before * right)


@dataclass(frozen=True, slots=True)
class AsOf:
    """Each event of the left stream meets one of the right, at most `tolerance` ms away: the latest
    before it, the earliest after it, or the nearest, the earlier of two.

    `exact`: one at the same time counts.
    """

    tolerance: int
    direction: Direction
    exact: bool
    how: Literal["inner", "left"]
    grace: int

    @property
    def ahead(self) -> int:
        """How much later than a left event one of the right may be that it meets."""
        return 0 if self.direction == "backward" else self.tolerance

    @property
    def delay(self) -> int:
        """How much later than the time it bears a result may come."""
        # An event that meets a later one bears that one's time.
        waits = self.direction == "nearest" or (self.direction == "forward" and self.how == "left")
        return self.grace + (self.tolerance if waits else 0)


Kind: TypeAlias = Within | AsOf


@dataclass(frozen=True, slots=True, eq=False)
class RightSide(Node):
    """Gives the events of a stream to the join `name`, as those of its right side."""

    parent: StreamNode
    name: str
    kind: Kind

    @property
    def is_keyed(self) -> bool:
        return True

    @property
    def late(self) -> OutputSpec:
        """Where its late events go, as they are."""
        return OutputSpec(f"{self.name}-right-late", self.parent.gives, own=True)

    def stores(self) -> tuple[StoreSpec, ...]:
        """Its events, by key and time, and when something is due for them."""
        return (StoreSpec(f"{self.name}-right", _rows(self.parent.gives, self.kind, 1)),)

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (self.late,)

    def together(self) -> tuple[Any, ...]:
        return (self,)


@dataclass(frozen=True, slots=True, eq=False)
class StreamJoin(StreamNode):
    """A function from an event and one of another stream, of the same key, or None in place of one
    of them. `parent` is its left side. `close_after_idle` in ms of wall clock.
    """

    parent: StreamNode
    right: RightSide
    kind: Kind
    function: Function
    value: Serde
    name: str
    close_after_idle: int | None

    @property
    def is_keyed(self) -> bool:
        return True

    @property
    def is_clocked(self) -> bool:
        return True

    @property
    def delay(self) -> int:
        return self.kind.delay

    @property
    def unique(self) -> str:
        return "store"

    @property
    def late(self) -> OutputSpec:
        """Where late events of the left side go, as they are."""
        return OutputSpec(f"{self.name}-left-late", self.parent.gives, own=True)

    def stores(self) -> tuple[StoreSpec, ...]:
        """The events of its left side, by key and time, and when something is due for them."""
        rows = _rows(self.parent.gives, self.kind, 0)
        return (StoreSpec(f"{self.name}-left", rows), *StreamNode.stores(self))

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (self.late,)

    def together(self) -> tuple[Any, ...]:
        return (self.right,)

    def also_after(self) -> tuple[Node, ...]:
        return (self.right,)


def _rows(events: Serde, kind: Kind, side: int) -> Serde:
    """Keys and times, where a row says until when events are kept; else events: with their places
    among those of their time, or, if those that met nothing are given, with whether they have."""
    event: Any = events.type
    one: Any = event
    if isinstance(kind, AsOf):
        one = tuple[bytes, event]
    elif kind.alone[side]:
        one = tuple[bool, event]
    cell: Any = dict[str, list[int]] | list[one]
    return serde_for(cell)

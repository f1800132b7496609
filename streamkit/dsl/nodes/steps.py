"""Steps from one event to some, or to the same one under another key."""

from dataclasses import dataclass

from streamkit.dsl.failures import Failure
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import StreamNode
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True, eq=False)
class _Made(StreamNode):
    """What a function makes of an event."""

    parent: StreamNode
    function: Function
    value: Serde
    failure: Failure | None = None

    @property
    def is_timeless(self) -> bool:
        return not self.stores()

    @property
    def name(self) -> str:
        return self.function.name


class Process(_Made):
    """A function from an event to nothing (None), one value, or many (an iterator)."""

    __slots__ = ()


class Map(_Made):
    """A function from an event to exactly one value."""

    __slots__ = ()


class FlatMap(_Made):
    """A function from an event to an iterable of values."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Filter(StreamNode):
    """Keeps the events for which the function gives something true."""

    parent: StreamNode
    function: Function
    failure: Failure | None = None

    @property
    def is_timeless(self) -> bool:
        return not self.stores()

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def gives(self) -> Serde:
        return self.parent.gives


@dataclass(frozen=True, slots=True, eq=False)
class By(StreamNode):
    """Gives events another key. `name` names the repartition topic where one is needed.

    `in_order`: all that follows there is given them in order of time.
    """

    parent: StreamNode
    function: Function
    key: Serde
    name: str
    in_order: bool = False

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def keys(self) -> Serde:
        return self.key

    @property
    def gives(self) -> Serde:
        return self.parent.gives

    @property
    def unique(self) -> str:
        return "repartition topic"

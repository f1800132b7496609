"""The steps of a topology, as data. Each has one parent, so that they form trees under sources.

Nodes are compared by identity: two filters with the same function are two filters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.dsl.windows import Tumbling
from streamkit.serde import Serde

Emit: TypeAlias = Literal["final", "update"]
"""When a window's value is given: once, when it closes, or after each event."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamSource:
    """A topic that is read as a stream of events.

    `time` gives a value's event time (None: the record's timestamp); `out_of_order` in ms is how
    far an event may be behind the latest one of its partition. `upstream` names the sub-topology
    that writes the topic when it is a repartition topic; its time comes in marker records then.
    """

    topic: str
    key: Serde
    value: Serde
    time: Callable[[Any], int] | None = None
    out_of_order: int = 0
    upstream: str | None = None

    @property
    def name(self) -> str:
        return self.topic


@dataclass(frozen=True, slots=True, eq=False)
class TableSource:
    """A topic whose latest record per key is the table's row; `everywhere`: in every task whole."""

    topic: str
    key: Serde
    value: Serde
    everywhere: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """A function from an event to nothing (None), one value, or many (an iterator)."""

    parent: "StreamNode"
    function: Function
    value: Serde

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A function from an event to exactly one value."""

    parent: "StreamNode"
    function: Function
    value: Serde

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True, eq=False)
class FlatMap:
    """A function from an event to an iterable of values."""

    parent: "StreamNode"
    function: Function
    value: Serde

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """Keeps the events for which the function gives something true."""

    parent: "StreamNode"
    function: Function

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True, eq=False)
class By:
    """Gives events another key. `name` names the repartition topic where one is needed."""

    parent: "StreamNode"
    function: Function
    key: Serde
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """A function from an event and a table's row to nothing, one value or many.

    `on` gives the key to look up in a global table; None: the event's own key.
    """

    parent: "StreamNode"
    table: TableSource
    how: Literal["inner", "left"]
    on: Function | None
    function: Function
    value: Serde

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """A fold over the events of one key in one window. `name` is the store's.

    `late` is the value's serde for the late topic. `close_after_idle` in ms of wall clock.
    """

    parent: "StreamNode"
    window: Tumbling
    function: Function
    name: str
    value: Serde
    late: Serde
    emit: Emit
    close_after_idle: int | None


@dataclass(frozen=True, slots=True, eq=False)
class To:
    """Writes to a topic. `rekey` gives the record's key where it isn't the event's."""

    parent: "StreamNode"
    topic: str
    key: Serde
    value: Serde
    rekey: Function | None = None

    @property
    def name(self) -> str:
        return self.topic


@dataclass(frozen=True, slots=True, eq=False)
class Repartition:
    """Writes events under their new key to an internal topic, for another sub-topology to read."""

    parent: By
    topic: str
    key: Serde
    value: Serde

    @property
    def name(self) -> str:
        return self.topic


Source: TypeAlias = StreamSource | TableSource

StreamNode: TypeAlias = StreamSource | Process | Map | FlatMap | Filter | By | Join | Aggregate
"""Nodes that give events."""

Node: TypeAlias = StreamNode | To | Repartition

"""Steps that fold the events of one key and one window into a value."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import OutputSpec, StreamNode
from streamkit.dsl.stores import StoreSpec
from streamkit.dsl.windows import Tumbling
from streamkit.serde import Serde, serde_for

Emit: TypeAlias = Literal["final", "update"]
"""When a window's value is given: once, when it closes, or after each event."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate(StreamNode):
    """A fold over the events of one key in one window. `name` is the store's.

    `close_after_idle` in ms of wall clock.
    """

    parent: StreamNode
    window: Tumbling
    function: Function
    name: str
    value: Serde
    emit: Emit
    close_after_idle: int | None

    @property
    def delay(self) -> int:
        return self.window.grace

    @property
    def unique(self) -> str:
        return "store"

    @property
    def late(self) -> OutputSpec:
        """Where late events go, as they are."""
        return OutputSpec(f"{self.name}-late", self.parent.gives, own=True)

    def stores(self) -> tuple[StoreSpec, ...]:
        """That of its windows: number of events and value so far."""
        cell = serde_for(tuple[int, self.value.type])  # type: ignore[name-defined]
        return (StoreSpec(self.name, cell), *StreamNode.stores(self))

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (self.late,)

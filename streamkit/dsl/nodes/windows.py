"""Steps that fold the events of one key and one window into a value."""

from dataclasses import dataclass
from typing import Any

from streamkit.dsl.aggregates import Fold
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import OutputSpec, StreamNode
from streamkit.dsl.stores import StoreSpec
from streamkit.dsl.windows import Emit, Hopping, Session, Sliding, WindowKind
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True, eq=False)
class WindowFold(StreamNode):
    """A fold over the events of one key in one window. `name` is the store's.

    `close_after_idle` in ms of wall clock.
    """

    parent: StreamNode
    window: WindowKind
    fold: Fold
    name: str
    value: Serde
    emit: Emit
    close_after_idle: int | None

    @property
    def function(self) -> Function:
        return self.fold.function

    @property
    def is_clocked(self) -> bool:
        return True

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

    @property
    def events(self) -> str:
        """The store of the events of sessions whose states cannot be merged."""
        return f"{self.name}-events"

    def stores(self) -> tuple[StoreSpec, ...]:
        """What its windows are kept in; the operator of each kind says what the rows are."""
        state: Any = self.fold.state
        event: Any = self.parent.gives.type
        specs: list[StoreSpec] = []
        match self.window:
            case Hopping():
                cell: Any = tuple[int, state, int]
            case Session():
                if self.fold.merge is None:
                    state = None
                    specs = [StoreSpec(self.events, serde_for(list[event]))]
                gone = tuple[int, int, int]
                one: Any = tuple[int, int, int, state, int, list[gone]]
                cell = list[one]
            case Sliding():
                timed: Any = tuple[int, event]
                cell = int | tuple[int, list[timed]]
        return (StoreSpec(self.name, serde_for(cell)), *specs, *StreamNode.stores(self))

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (self.late,)

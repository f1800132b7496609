"""Steps that fold the events of one key into a value."""

from dataclasses import dataclass
from typing import Any

from streamkit.dsl.aggregates import Fold
from streamkit.dsl.failures import Failure
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.stores import StoreSpec
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True, eq=False)
class RunningFold(StreamNode):
    """A fold over all events of one key: its value after each of them. `name` is the store's."""

    parent: StreamNode
    fold: Fold
    name: str
    value: Serde
    failure: Failure | None = None

    @property
    def function(self) -> Function:
        return self.fold.function

    @property
    def unique(self) -> str:
        return "store"

    def stores(self) -> tuple[StoreSpec, ...]:
        """That of its values: number of events, state."""
        state: Any = self.fold.state
        cell: Any = tuple[int, state]
        return (StoreSpec(self.name, serde_for(cell)), *StreamNode.stores(self))

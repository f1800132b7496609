"""What a step does when event time comes to a moment that it asked for."""

from dataclasses import dataclass

from streamkit.dsl.failures import Failure
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.steps import Process
from streamkit.dsl.stores import StoreSpec
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True, eq=False)
class OnTimer(StreamNode):
    """A function from a Timer of a key to nothing, one value or many. `parent` sets the timers.

    It is given none of the events that `parent` gives; its States are those of `parent`.
    """

    parent: Process
    function: Function
    value: Serde
    failure: Failure | None = None

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def store(self) -> str:
        """The store of the timers that are set."""
        return f"{self.parent.name}-timers"

    @property
    def is_keyed(self) -> bool:
        return True

    def stores(self) -> tuple[StoreSpec, ...]:
        """The timers, by key and name and by time, and keys set aside; its States are the
        parent's."""
        return (StoreSpec(self.store, serde_for(int | tuple[int, int])), *self._parked())

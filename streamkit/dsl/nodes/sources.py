"""What is read: a topic as a stream of events, or as a table of rows."""

from dataclasses import dataclass
from typing import TypeAlias

from streamkit.dsl.failures import Failure
from streamkit.dsl.nodes.node import OutputSpec, StreamNode
from streamkit.dsl.ticks import Ticks
from streamkit.dsl.times import EventTime
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True, eq=False)
class StreamSource(StreamNode):
    """A topic that is read as a stream of events.

    `time` gives a value's event time (None: the record's timestamp); `out_of_order` in ms is how
    far an event may be behind the latest one of its partition; `max_ahead` in ms how far it may be
    ahead of the wall clock (None: as far as it likes). `upstream` names the sub-topology that
    writes the topic when it is a repartition topic; its time comes in marker records then. `ticks`
    are what the app itself writes there, by the wall clock.
    """

    topic: str
    key: Serde
    value: Serde
    time: EventTime | None = None
    out_of_order: int = 0
    upstream: str | None = None
    max_ahead: int | None = None
    failure: Failure | None = None
    ticks: Ticks | None = None

    @property
    def name(self) -> str:
        return self.topic

    @property
    def keys(self) -> Serde:
        return self.key

    @property
    def ahead(self) -> OutputSpec:
        """Where events go that are too far ahead of the clock, as they are."""
        return OutputSpec(f"{self.topic}-ahead", self.value, self.key, own=True)

    @property
    def is_clocked(self) -> bool:
        return self.max_ahead is not None

    def outputs(self) -> tuple[OutputSpec, ...]:
        outputs = StreamNode.outputs(self)
        return outputs if self.max_ahead is None else (*outputs, self.ahead)


@dataclass(frozen=True, slots=True, eq=False)
class TableSource:
    """A topic whose latest record per key is the table's row; `everywhere`: in every task whole."""

    topic: str
    key: Serde
    value: Serde
    everywhere: bool = False


Source: TypeAlias = StreamSource | TableSource

"""Steps that write to topics."""

from dataclasses import dataclass

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import Node, OutputSpec, StreamNode
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True, eq=False)
class To(Node):
    """Writes to a topic. `rekey` gives the record's key where it isn't the event's."""

    parent: StreamNode
    topic: str
    key: Serde
    value: Serde
    rekey: Function | None = None

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self.topic

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec(self.topic, self.value, self.key),)


@dataclass(frozen=True, slots=True, eq=False)
class Repartition(Node):
    """Writes events under their key to an internal topic, for another sub-topology to read.

    `placed`: with what tells their order, as others come between them there. `drawn`: with what
    tells them apart, as there they are other records in every run.
    """

    parent: StreamNode
    topic: str
    key: Serde
    value: Serde
    placed: bool = False
    drawn: bool = False

    @property
    def name(self) -> str:
        return self.topic

    @property
    def is_clocked(self) -> bool:
        return True

"""Steps that look up what is known elsewhere about an event."""

from dataclasses import dataclass
from typing import Any, Literal

from streamkit.dsl.failures import Failure
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.nodes.tables import TableNode, parts_of
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True, eq=False)
class Join(StreamNode):
    """A function from an event and a table's row to nothing, one value or many.

    `on` gives the key to look up in a global table; None: the event's own key. `history` in ms: the
    row is the one that was there at the event's time, for events that are no more than so much
    behind their partition's time. None: the row that is there now.
    """

    parent: StreamNode
    table: TableNode
    how: Literal["inner", "left"]
    on: Function | None
    function: Function
    value: Serde
    history: int | None = None
    failure: Failure | None = None

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def is_keyed(self) -> bool:
        return not self.table.everywhere or bool(self.stores())

    def tables(self) -> tuple[TableSource, ...]:
        return tuple(part for part in parts_of(self.table) if isinstance(part, TableSource))

    def together(self) -> tuple[Any, ...]:
        """Each partition of a table is in one task."""
        return tuple(part for part in parts_of(self.table) if not part.everywhere)

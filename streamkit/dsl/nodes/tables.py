"""Tables as data: read from a topic, kept of a stream, or made of two others."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import Node, OutputSpec, StreamNode
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.stores import StoreSpec
from streamkit.serde import Serde, serde_for

How: TypeAlias = Literal["inner", "left", "outer"]


@dataclass(frozen=True, slots=True, eq=False)
class KeptTable(Node):
    """Keeps the latest value per key of a stream, as the rows of a table."""

    parent: StreamNode
    name: str
    value: Serde

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def key(self) -> Serde:
        return self.parent.keys

    @property
    def everywhere(self) -> bool:
        return False

    @property
    def unique(self) -> str:
        return "store"

    def stores(self) -> tuple[StoreSpec, ...]:
        return (StoreSpec(self.name, self.value),)

    def together(self) -> tuple[Any, ...]:
        return (self,)


@dataclass(frozen=True, slots=True, eq=False)
class JoinedTable:
    """A table whose row for a key is made of the rows that two others have for it.

    "inner": where both have one; "left": where the left one has; "outer": where any has.
    """

    left: "TableNode"
    right: "TableNode"
    how: How
    function: Function
    value: Serde

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def key(self) -> Serde:
        return self.left.key

    @property
    def everywhere(self) -> bool:
        return self.left.everywhere


TableNode: TypeAlias = TableSource | KeptTable | JoinedTable


def name_of(table: TableNode) -> str:
    """The topic's, or that of the function that makes it."""
    return table.topic if isinstance(table, TableSource) else table.name


def parts_of(table: TableNode) -> tuple[TableSource | KeptTable, ...]:
    """The tables that it is made of in the end: itself, if it is made of no others."""
    if isinstance(table, JoinedTable):
        return (*parts_of(table.left), *parts_of(table.right))
    return (table,)


@dataclass(frozen=True, slots=True, eq=False)
class RightRows(Node):
    """Gives the changes of a table to the join of tables `name`, as those of its right side."""

    parent: StreamNode
    name: str

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def is_keyed(self) -> bool:
        return True

    def together(self) -> tuple[Any, ...]:
        return (self,)


@dataclass(frozen=True, slots=True, eq=False)
class TableChanges(StreamNode):
    """The changes of a table that is made of two others, of theirs: rows, and None for one that
    is no more. `parent` gives those of the left one.
    """

    parent: StreamNode
    right: RightRows
    table: JoinedTable

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def value(self) -> Serde:
        return self.table.value

    @property
    def functions(self) -> tuple[Function, ...]:
        return (self.table.function,)

    @property
    def unique(self) -> str:
        return "store"

    def stores(self) -> tuple[StoreSpec, ...]:
        """What both tables have for a key, and whether that made a row."""
        left: Any = self.parent.gives.type
        right: Any = self.right.parent.gives.type
        cell: Any = tuple[left | None, right | None, bool]
        return (StoreSpec(f"{self.name}-rows", serde_for(cell)),)

    def together(self) -> tuple[Any, ...]:
        return (self.right,)

    def also_after(self) -> tuple[Node, ...]:
        return (self.right,)


@dataclass(frozen=True, slots=True, eq=False)
class TableTopic(Node):
    """Writes the changes of a table to a topic, which keeps the latest of each key."""

    parent: StreamNode
    topic: str

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self.topic

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec(self.topic, self.parent.gives, compact=True),)

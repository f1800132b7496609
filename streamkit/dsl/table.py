"""Tables: a row per key. Streams are joined with them, and they with each other."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from streamkit.dsl.cut import check_keys
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import function
from streamkit.dsl.graph import check_output
from streamkit.dsl.keywords import tells_keywords
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.tables import (
    How,
    JoinedTable,
    KeptTable,
    RightRows,
    TableChanges,
    TableNode,
    TableTopic,
    name_of,
)
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, serde_for

if TYPE_CHECKING:
    from streamkit.dsl.graph import Graph

T = TypeVar("T")
"""Rows of the table."""
U = TypeVar("U")
"""Rows of the other table."""
Out = TypeVar("Out")
P = ParamSpec("P")
R = TypeVar("R")


class _Rows(Generic[T]):
    def __init__(self, graph: "Graph", node: TableNode) -> None:
        self._graph = graph
        self.node = node

    @property
    def name(self) -> str:
        """The topic's, or that of the function or the stream that it is made of."""
        return name_of(self.node)

    @property
    def type(self) -> Any:
        """What its rows are, as far as annotations tell; for steps that are made for any."""
        return self.node.value.type


class GlobalTable(_Rows[T], Generic[T]):
    """A table that every task holds whole: it is joined by anything, and should be small.

    Its row is the record with the largest offset of its key. It is read to its end before the
    first event, and followed from then on.
    """


@tells_keywords
class Table(_Rows[T], Generic[T]):
    """A table whose partition `p` is held by task `p`: it is joined by key.

    Its row is the record with the largest offset of its key, because that is the one compaction
    keeps; a null value deletes the row. It is read to its end before the first event.
    """

    @overload
    def join(
        self,
        other: "Table[U] | GlobalTable[U]",
        *,
        how: Literal["inner"] = "inner",
        to: str | None = None,
        name: str | None = None,
    ) -> "Matching[T, U]": ...
    @overload
    def join(
        self,
        other: "Table[U] | GlobalTable[U]",
        *,
        how: Literal["left"],
        to: str | None = None,
        name: str | None = None,
    ) -> "Matching[T, U | None]": ...
    @overload
    def join(
        self,
        other: "Table[U] | GlobalTable[U]",
        *,
        how: Literal["outer"],
        to: str | None = None,
        name: str | None = None,
    ) -> "Matching[T | None, U | None]": ...
    def join(
        self,
        other: "Table[Any] | GlobalTable[Any]",
        *,
        how: How = "inner",
        to: str | None = None,
        name: str | None = None,
    ) -> Any:
        """Decorate a function of two rows of one key; what it returns is the row of a table.

        There is a row where both tables have one ("inner"), where this one has ("left"), or where
        one of them has ("outer"), and the function does not return None. It depends on the rows
        alone, and is called when a row is looked up; with `to`, or `.to`, also when one of the
        tables changes: the new row is written, or a null value when it is no more.
        """
        if not isinstance(other, Table | GlobalTable):
            raise TopologyError(
                f"join of table {self.name!r}: {other!r} is no table; give it what app.table(...), "
                "app.global_table(...) or stream.to_table() gives"
            )
        where = f"join of table {self.name!r} with {other.name!r}"
        if how not in ("inner", "left", "outer"):
            raise TopologyError(f"{where}: how={how!r}; it is 'inner', 'left' or 'outer'")
        if isinstance(other, GlobalTable) and how == "outer":
            raise TopologyError(
                f"{where}: a row of a global table is in every task, so there is no task to tell "
                "that it is alone; use how='left', or app.table for both"
            )
        if self._graph is not other._graph:
            raise TopologyError(f"{where}: they are tables of two apps")
        check_keys(self.node.key, other.node, where)

        def decorate(call: Callable[..., Any]) -> "MadeTable[..., Any, Any]":
            fn = function(call, leading=2, name=name)
            if fn.extras or fn.wants_record or fn.many:
                raise TopologyError(
                    f"{fn.described}: a row is made of two rows alone, whenever it is looked up; "
                    "the function takes two values and returns one"
                )
            rows = [(one.node.value.type, f"a row of table {one.name!r}") for one in (self, other)]
            check_fit(fn, rows)
            node = JoinedTable(self.node, other.node, how, fn, serde_for(fn.returns))
            table: MadeTable[..., Any, Any] = MadeTable(call, self._graph, node)
            if to is not None:
                table.to(to)
            return table

        return decorate

    def to(self, topic: str) -> "Table[T]":
        """Write the table's changes to a topic: rows, and null values for those that are no more.

        Of a table that is made of others. The topic is compacted, if it is not there yet. It gets
        the partitions of the tables, and can be read as a table by others. Gives the table.
        """
        check_output(topic)
        if not isinstance(self.node, JoinedTable):
            raise TopologyError(
                f"table {self.name!r}: what it is read from, or kept of, has its changes already"
            )
        self._graph.add(TableTopic(self._changes(self.node), topic))
        return self

    def _changes(self, table: TableNode) -> StreamNode:
        match table:
            case KeptTable():
                return table.parent
            case JoinedTable():
                for node in self._graph.nodes:
                    if isinstance(node, TableChanges) and node.table is table:
                        return node
                if table.right.everywhere:
                    raise TopologyError(
                        f"table {table.name!r}: a global table is in every task, so that its "
                        "changes would be written by all; use app.table for both"
                    )
                if table.value.type is Untyped:
                    raise TopologyError(
                        f"{table.function.described}: annotate what it returns: its rows are to be "
                        "written"
                    )
                left = self._changes(table.left)
                right = RightRows(self._changes(table.right), table.name)
                changes = self._graph.add(TableChanges(left, right, table))
                self._graph.add(right)
                return changes
            case _:
                return self._graph.changes_of(table)


class MadeTable(Table[Out], Generic[P, R, Out]):
    """A table that a function makes; calling it calls the function."""

    def __init__(self, call: Callable[P, R], graph: "Graph", node: TableNode) -> None:
        super().__init__(graph, node)
        self._call = call
        self.__name__ = getattr(call, "__name__", self.name)
        self.__doc__ = call.__doc__
        self.__wrapped__ = call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)


class Matching(Protocol[T, U]):
    """What a join of tables decorates."""

    def __call__(
        self, fn: Callable[[T, U], Out | None], /
    ) -> MadeTable[[T, U], Out | None, Out]: ...

"""Operations that bring events together with what is known elsewhere."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamkit.dsl.chain import Chain
from streamkit.dsl.cut import check_keys
from streamkit.dsl.decorators import Joining
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.table import GlobalTable, Table
from streamkit.errors import TopologyError
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step

V = TypeVar("V")
"""Values of the stream."""
T = TypeVar("T")
"""Rows of a table."""


class Joins(Chain[V], Generic[V]):
    """Part of Stream: joins."""

    @overload
    def join(
        self,
        table: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["inner"] = "inner",
        to: str | None = None,
        name: str | None = None,
    ) -> "Joining[V, T]": ...
    @overload
    def join(
        self,
        table: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["left"],
        to: str | None = None,
        name: str | None = None,
    ) -> "Joining[V, T | None]": ...
    def join(
        self,
        table: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["inner", "left"] = "inner",
        to: str | None = None,
        name: str | None = None,
    ) -> "Joining[V, Any]":
        """Decorate a function of an event and the table's row for it; it returns as `process` does.

        The row is the one under the event's key, or under `on`: a field or a function. With a
        partitioned table `on` gives the events that key (see `by`); with a global table they keep
        theirs. `how="left"` calls the function with None when there is no row; "inner" does not
        call it. Only events make results; a change of the table makes none.
        """
        if how not in ("inner", "left"):
            raise TopologyError(f"join: how={how!r}; it is 'inner' or 'left'")
        if on is not None and isinstance(table, Table) and (on != self._keyed_by or callable(on)):
            return self.by(on, name=None if isinstance(on, str) else name).join(
                table, how=how, to=to, name=name
            )
        source: TableSource = table.node
        look: Function | None = None
        look_key = self._key
        if on is not None and isinstance(table, GlobalTable):
            look, look_key = self._keyed(on, "join(on=...)")
        check_keys(look_key, source, f"join of {self.name!r} with {source.topic!r}")

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fn = function(call, leading=2, name=name)
            row = (source.value.type, f"a row of table {source.topic!r}")
            check_fit(fn, [self._given, row])
            value = serde_for(fn.returns)
            step = self._then(Join(self._node, source, how, look, fn, value), call, value)
            return step if to is None else step._into(to)

        return decorate  # type: ignore[return-value]

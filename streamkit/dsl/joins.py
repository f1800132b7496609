"""Operations that bring events together with what is known elsewhere."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamkit.dsl.cut import check_keys
from streamkit.dsl.decorators import Joining, Meeting
from streamkit.dsl.durations import Duration
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.stream_joins import StreamJoins
from streamkit.dsl.table import GlobalTable, Table
from streamkit.errors import TopologyError
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""
T = TypeVar("T")
"""Rows of a table, or values of another stream."""


class Joins(StreamJoins[V], Generic[V]):
    """Part of Stream: joins."""

    @overload
    def join(
        self,
        other: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["inner"] = "inner",
        to: str | None = None,
        name: str | None = None,
    ) -> "Joining[V, T]": ...
    @overload
    def join(
        self,
        other: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["left"],
        to: str | None = None,
        name: str | None = None,
    ) -> "Joining[V, T | None]": ...
    @overload
    def join(
        self,
        other: "Stream[T]",
        *,
        within: Duration | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        on: str | None = None,
        how: Literal["inner"] = "inner",
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> "Meeting[V, T]": ...
    @overload
    def join(
        self,
        other: "Stream[T]",
        *,
        within: Duration | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        on: str | None = None,
        how: Literal["left"],
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> "Meeting[V, T | None]": ...
    @overload
    def join(
        self,
        other: "Stream[T]",
        *,
        within: Duration | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        on: str | None = None,
        how: Literal["outer"],
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> "Meeting[V | None, T | None]": ...
    def join(
        self,
        other: "Table[T] | GlobalTable[T] | Stream[T]",
        *,
        on: Any = None,
        how: Literal["inner", "left", "outer"] = "inner",
        within: Duration | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> Any:
        """Decorate a function of an event and what is known elsewhere; it returns as `process`
        does.

        With a table that is the table's row under the event's key, or under `on`: a field or a
        function. With a partitioned table `on` gives the events that key (see `by`); with a global
        table they keep theirs. how="left" calls the function with None when there is no row;
        "inner" does not call it. Only events make results; a change of the table makes none.

        With another stream it is each of its events of the same key (or of the same field `on`)
        that is at most `within` apart in time, or at most `before` earlier and `after` later. The
        result comes when the second of the two has come, and bears the later time of both. Under
        how="left" an event that met none is given with None, and under "outer" also one of the
        other stream: when nothing that it could meet is in time any more. `grace` is how much
        longer events that are behind are waited for; those that come even later go to
        `<app>-<name>-left-late` or `-right-late`. `close_after_idle`: see `window`.
        """
        if isinstance(other, Table | GlobalTable):
            return self._look_up(other, on, how, to, name)
        kind = self._within(other, within, before, after, how, grace)
        return self._meet(other, kind, on, close_after_idle, to, name)

    def _look_up(
        self,
        table: "Table[Any] | GlobalTable[Any]",
        on: str | Callable[[Any], Any] | None,
        how: Any,
        to: str | None,
        name: str | None,
    ) -> Any:
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

        return decorate

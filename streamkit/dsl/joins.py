"""Operations that bring events together with what is known elsewhere."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamkit.dsl.cut import check_keys
from streamkit.dsl.decorators import Joining, Meeting
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.failures import OnError
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.tables import KeptTable, parts_of
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
        history: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
    ) -> "Joining[V, T]": ...
    @overload
    def join(
        self,
        other: "Table[T] | GlobalTable[T]",
        *,
        on: str | Callable[[V], Any] | None = None,
        how: Literal["left"],
        history: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
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
        history: Duration | None = None,
        within: Duration | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
    ) -> Any:
        """Decorate a function of an event and what is known elsewhere; it returns as `process`
        does.

        With a table that is the table's row under the event's key, or under `on`: a field or a
        function. With a partitioned table `on` gives the events that key (see `by`); with a global
        table they keep theirs. how="left" calls the function with None when there is no row;
        "inner" does not call it. Only events make results; a change of the table makes none. The
        row is the one that is there when the event is processed; with `history`, the one that was
        there at the event's time, by the timestamps of the table's records: for events that are no
        more than so much behind, and for others the one of that long ago.

        With another stream it is each of its events of the same key (or of the same field `on`)
        that is at most `within` apart in time, or at most `before` earlier and `after` later. The
        result comes when the second of the two has come, and bears the later time of both. Under
        how="left" an event that met none is given with None, and under "outer" also one of the
        other stream: when nothing that it could meet is in time any more. `grace` is how much
        longer events that are behind are waited for; those that come even later go to
        `<app>-<name>-left-late` or `-right-late`. `close_after_idle`: see `window`.

        `on_error`, with a table: see `process`. With a stream it is two events that the function
        fails for; let it give both, and do with them what may fail in a step after it.
        """
        if not isinstance(other, Table | GlobalTable | StreamJoins):
            raise TopologyError(
                f"join of {self.name!r}: {other!r} is neither a stream nor a table; give it what "
                "app.stream(...), app.table(...), app.global_table(...) or a step gives"
            )
        if isinstance(other, Table | GlobalTable):
            others = (within, before, after, close_after_idle)
            if any(each is not None for each in others) or grace != "0s":
                raise TopologyError(
                    f"join of {self.name!r} with table {other.name!r}: within=, before=, after=, "
                    "grace= and close_after_idle= are for a join with a stream"
                )
            since = None if history is None else milliseconds(history, "history")
            return self._look_up(other, on, how, since, to, name, on_error)
        if on_error != "stop":
            raise TopologyError(
                f"join of {self.name!r} with {other.name!r}: on_error= is for a join with a table; "
                "it is two events that the function fails for: let it give both, and do with them "
                "what may fail in a step after it"
            )
        if history is not None:
            raise TopologyError(
                f"join of {self.name!r} with {other.name!r}: history= is for a join with a table"
            )
        kind = self._within(other, within, before, after, how, grace)
        return self._meet(other, kind, on, close_after_idle, to, name)

    def _look_up(
        self,
        table: "Table[Any] | GlobalTable[Any]",
        on: str | Callable[[Any], Any] | None,
        how: Any,
        history: int | None,
        to: str | None,
        name: str | None,
        on_error: OnError,
    ) -> Any:
        where = f"join of {self.name!r} with table {table.name!r}"
        if how not in ("inner", "left"):
            raise TopologyError(f"{where}: how={how!r}; it is 'inner' or 'left'")
        if on is not None and isinstance(table, Table) and (on != self._keyed_by or callable(on)):
            keyed: Joins[Any] = self.by(on, name=None if isinstance(on, str) else name)
            return keyed._look_up(table, None, how, history, to, name, on_error)
        source = table.node
        if table._graph is not self._graph:
            raise TopologyError(f"{where}: they are of two apps")
        if history is not None and any(isinstance(part, KeptTable) for part in parts_of(source)):
            raise TopologyError(
                f"{where}: a table that is kept of a stream has no history; write the stream to a "
                "topic, and read that with app.table"
            )
        look: Function | None = None
        look_key = self._key
        if on is not None and isinstance(table, GlobalTable):
            look, look_key = self._keyed(on, "join(on=...)")
        check_keys(look_key, source, where)

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fn = function(call, leading=2, name=name)
            row = (source.value.type, f"a row of table {table.name!r}")
            check_fit(fn, [self._given, row])
            value = serde_for(fn.returns)
            failure = self._failure(on_error, fn)
            node = Join(self._node, source, how, look, fn, value, history, failure)
            step = self._then(node, call, value)
            return step if to is None else step._into(to)

        return decorate

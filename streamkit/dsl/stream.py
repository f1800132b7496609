"""Streams: what users chain. Everything here adds a node to the app's graph and runs nothing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from streamkit.dsl.cut import check_keys
from streamkit.dsl.decorators import Folding, Joining, Processing
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, field_getter, function
from streamkit.dsl.graph import Graph, check_output
from streamkit.dsl.nodes import (
    Aggregate,
    By,
    Emit,
    Filter,
    FlatMap,
    Join,
    Map,
    Process,
    StreamNode,
    StreamSource,
    TableSource,
    To,
)
from streamkit.dsl.table import GlobalTable, Table
from streamkit.dsl.windows import Tumbling
from streamkit.errors import TopologyError
from streamkit.records import Record
from streamkit.serde import Serde, Untyped, serde_for

V = TypeVar("V")
"""Values of the stream."""
T = TypeVar("T")
"""Rows of a table."""
Out = TypeVar("Out")
"""Values that a function gives."""
R = TypeVar("R")
"""What a function returns: `Out | None`, or an iterator of `Out`."""
P = ParamSpec("P")
E = TypeVar("E")
"""What a function asks for besides its event: a Context or a State. With a ParamSpec instead, mypy
does not see what a lambda gives; where there is more to ask for, `process` takes it."""


class Stream(Generic[V]):
    """Events of one type. Made by `app.stream` and by the operations on a stream."""

    def __init__(
        self, graph: Graph, node: StreamNode, key: Serde, value: Serde, keyed_by: str | None = None
    ) -> None:
        self._graph = graph
        self._node = node
        self._key = key
        self._value = value
        self._keyed_by = keyed_by

    @property
    def name(self) -> str:
        """The topic's or the function's; a lambda has none, and stands for what it is given."""
        node = self._node
        while node.name == "<lambda>" and not isinstance(node, StreamSource):
            node = node.parent
        return node.name

    def _then(
        self, node: StreamNode, call: Callable[..., Any], value: Serde
    ) -> "Step[..., Any, Any]":
        self._graph.add(node)
        return Step(call, self._graph, node, self._key, value, None)

    @property
    def _given(self) -> tuple[Any, str]:
        """What a function of its events is given, for `check_fit`."""
        return self._value.type, f"the values of {self.name!r}"

    def _function(self, call: Callable[..., Any], name: str | None = None) -> Function:
        """A function of one event. Raises TopologyError when it is made for other values."""
        fn = function(call, name=name)
        check_fit(fn, [self._given])
        return fn

    # One event to some.

    @overload
    def process(
        self, fn: Callable[Concatenate[V, P], Iterator[Out]], /
    ) -> "Step[Concatenate[V, P], Iterator[Out], Out]": ...
    @overload
    def process(
        self, fn: Callable[Concatenate[Record[V], P], Iterator[Out]], /
    ) -> "Step[Concatenate[Record[V], P], Iterator[Out], Out]": ...
    @overload
    def process(
        self, fn: Callable[Concatenate[V, P], Out | None], /
    ) -> "Step[Concatenate[V, P], Out | None, Out]": ...
    @overload
    def process(
        self, fn: Callable[Concatenate[Record[V], P], Out | None], /
    ) -> "Step[Concatenate[Record[V], P], Out | None, Out]": ...
    @overload
    def process(
        self,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> Processing[V]: ...
    def process(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Decorate a function from an event to None (nothing), a value, or an iterator of values.

        A list is one value; a generator gives many. `to` writes the values to a topic, under the
        event's key or, with `key`, under a field of the value or what a function makes of it.
        The decorated name is a stream again, and can still be called as the function it is.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            process = self._function(call, name)
            value = serde_for(process.returns)
            step = self._then(Process(self._node, process, value), call, value)
            if to is not None:
                step.to(to, key=key)
            return step

        if to is None and key is not None:
            raise TopologyError("key= names the key of records written with to=; use .by() instead")
        return decorate if fn is None else decorate(fn)

    @overload
    def map(self, fn: Callable[[V], Out]) -> "Step[[V], Out, Out]": ...
    @overload
    def map(self, fn: Callable[[Record[V]], Out]) -> "Step[[Record[V]], Out, Out]": ...
    @overload
    def map(self, fn: Callable[[V, E], Out]) -> "Step[[V, E], Out, Out]": ...
    @overload
    def map(self, fn: Callable[[Record[V], E], Out]) -> "Step[[Record[V], E], Out, Out]": ...
    def map(self, fn: Callable[..., Any]) -> Any:
        """One value for each event, None included."""
        fn_ = self._function(fn)
        value = serde_for(fn_.returns)
        return self._then(Map(self._node, fn_, value), fn, value)

    @overload
    def flat_map(self, fn: Callable[[V], Iterable[Out]]) -> "Step[[V], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self, fn: Callable[[Record[V]], Iterable[Out]]
    ) -> "Step[[Record[V]], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self, fn: Callable[[V, E], Iterable[Out]]
    ) -> "Step[[V, E], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self, fn: Callable[[Record[V], E], Iterable[Out]]
    ) -> "Step[[Record[V], E], Iterable[Out], Out]": ...
    def flat_map(self, fn: Callable[..., Any]) -> Any:
        """All values of the iterable (a list, say) that the function gives for each event."""
        fn_ = self._function(fn)
        value = serde_for(fn_.item)
        return self._then(FlatMap(self._node, fn_, value), fn, value)

    @overload
    def filter(self, fn: Callable[[V], Any]) -> "Step[[V], Any, V]": ...
    @overload
    def filter(self, fn: Callable[[Record[V]], Any]) -> "Step[[Record[V]], Any, V]": ...
    @overload
    def filter(self, fn: Callable[[V, E], Any]) -> "Step[[V, E], Any, V]": ...
    @overload
    def filter(self, fn: Callable[[Record[V], E], Any]) -> "Step[[Record[V], E], Any, V]": ...
    def filter(self, fn: Callable[..., Any]) -> Any:
        """Only the events for which the function gives something true."""
        node = self._graph.add(Filter(self._node, self._function(fn)))
        return Step(fn, self._graph, node, self._key, self._value, self._keyed_by)

    # Where they go.

    def to(self, topic: str, *, key: str | Callable[[V], Any] | None = None) -> "Stream[V]":
        """Write the events to a topic, under their key or under another one. Gives the stream."""
        check_output(topic)
        rekey, key_serde = (None, self._key) if key is None else self._keyed(key, "to(key=...)")
        self._graph.add(To(self._node, topic, key_serde, self._value, rekey))
        return self

    def by(
        self, key: str | Callable[[V], Any], *, type_: Any = None, name: str | None = None
    ) -> "Stream[V]":
        """The same events under another key: a field's name, or a function.

        Where a window, a table or a State follows, events move to the task that owns their new
        key through the topic `<app>-<name>-repartition`; the name is `<stream>-by-<field>` unless
        given. Asking twice for the same field gives the same stream, and one topic.

        `type_` is the key's type where no annotation tells it (a lambda, a field of a dict): str
        unless given.
        """
        fn, key_serde = self._keyed(key, "by", type_)
        label = name or f"{self.name}-by-{fn.name}"
        for node in self._graph.nodes:
            same = isinstance(node, By) and node.parent is self._node and node.name == label
            if same and isinstance(key, str):
                assert isinstance(node, By)
                if node.key.type != key_serde.type:
                    raise TopologyError(
                        f"by {key!r} on {self.name!r} was asked for before with keys of another "
                        "type; say the same type_=, or give this one another name="
                    )
                return Stream(self._graph, node, node.key, self._value, key)
        if name is None and fn.name == "<lambda>":
            raise TopologyError(
                f"by {fn.described}: a lambda has no name to call a topic by; add name=, "
                "or use a field's name or a function"
            )
        node = self._graph.add(By(self._node, fn, key_serde, label))
        return Stream(
            self._graph, node, key_serde, self._value, key if isinstance(key, str) else None
        )

    def _keyed(
        self, key: str | Callable[[Any], Any], what: str, wanted: Any = None
    ) -> tuple[Function, Serde]:
        if isinstance(key, str):
            where = f"{what} on {self.name!r}"
            get, type_ = field_getter(self._value.type, key, where)
            return Function(get, key, where, False, (), type_, False), _key_serde(type_, wanted)
        fn = self._function(key)
        if fn.extras:
            raise TopologyError(f"{what} {fn.described}: a key depends on the event alone")
        return fn, _key_serde(fn.returns, wanted)

    # What is known about them elsewhere.

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

    # In time.

    def window(
        self, window: Tumbling, *, close_after_idle: Duration | None = None
    ) -> "WindowedStream[V]":
        """Group events by key and window.

        A window closes when the watermark reaches its end plus grace; on a stream that falls
        silent that does not happen by itself. With `close_after_idle`, all open windows of a task
        close once its inputs have stood at their end for that long by the wall clock. An event
        that comes for one of them later is late.
        """
        idle = (
            None if close_after_idle is None else milliseconds(close_after_idle, "close_after_idle")
        )
        return WindowedStream(self, window, idle)


class Step(Stream[Out], Generic[P, R, Out]):
    """A stream that a function makes; calling it calls the function."""

    def __init__(
        self,
        call: Callable[P, R],
        graph: Graph,
        node: StreamNode,
        key: Serde,
        value: Serde,
        keyed_by: str | None,
    ) -> None:
        super().__init__(graph, node, key, value, keyed_by)
        self._call = call
        self.__name__ = getattr(call, "__name__", node.name)
        self.__doc__ = call.__doc__
        self.__wrapped__ = call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)

    def _into(self, topic: str) -> "Step[P, R, Out]":
        self.to(topic)
        return self


class WindowedStream(Generic[V]):
    """Events grouped by key and window, to be folded into one value."""

    def __init__(self, stream: Stream[V], window: Tumbling, close_after_idle: int | None) -> None:
        self._stream = stream
        self._window = window
        self._close_after_idle = close_after_idle

    def aggregate(
        self, *, to: str | None = None, emit: Emit = "final", name: str | None = None
    ) -> "Folding[V]":
        """Decorate a function from what there is so far (None at first) and an event to what there
        is then. It may take the `Window` too.

        `emit="final"` gives one value per key and window, when it closes; `"update"` one after
        each event. Its key is the group's, its timestamp the last millisecond of the window; a
        header names store, window and how many events are in it. Late events go, as they are, to
        `<app>-<name>-late`.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fn = function(call, event=1, leading=2, window=True, name=name)
            if fn.returns is Untyped or fn.many:
                raise TopologyError(
                    f"aggregate {fn.described}: annotate what it returns: state is kept as that"
                )
            check_fit(fn, [(fn.returns, "what it returned before"), self._stream._given])
            return self._fold(fn, call, fn.name, fn.returns, emit, to)

        return decorate  # type: ignore[return-value]

    def count(
        self, *, to: str | None = None, emit: Emit = "final", name: str | None = None
    ) -> Stream[int]:
        """How many events there are per key and window; the store's name: `<stream>-count`."""

        def count(sofar: int | None, _: V) -> int:
            return (sofar or 0) + 1

        fn = function(count, event=1, leading=2)
        return self._fold(fn, count, name or f"{self._stream.name}-count", int, emit, to)

    def _fold(
        self,
        fn: Function,
        call: Callable[..., Any],
        name: str,
        type_: Any,
        emit: Emit,
        to: str | None,
    ) -> "Step[..., Any, Any]":
        if emit not in ("final", "update"):
            raise TopologyError(f"{name}: emit={emit!r}; it is 'final' or 'update'")
        stream = self._stream
        value = serde_for(type_)
        node = Aggregate(
            stream._node, self._window, fn, name, value, stream._value, emit, self._close_after_idle
        )
        stream._graph.add(node)
        step: Step[..., Any, Any] = Step(
            call, stream._graph, node, stream._key, value, stream._keyed_by
        )
        return step if to is None else step._into(to)


def _key_serde(type_: Any, wanted: Any) -> Serde:
    """Of the type asked for, else of the annotated one, else text; any key may be missing."""
    if wanted is None:
        wanted = str if type_ in (Untyped, Any, object) else type_
    return serde_for(wanted | None if isinstance(wanted, type) else wanted)


def stream_of(graph: Graph, source: StreamSource) -> Stream[Any]:
    """The stream of a source."""
    return Stream(graph, graph.add(source), source.key, source.value)

"""Streams: what users chain. Everything here adds a node to the app's graph and runs nothing."""

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from streamkit.dsl.connectors import SinkLike, connector_name
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.each import EachEvent
from streamkit.dsl.failures import OnError
from streamkit.dsl.fit import check_gives_one
from streamkit.dsl.flows import Flows
from streamkit.dsl.functions import Function, field_getter
from streamkit.dsl.graph import Graph, check_output
from streamkit.dsl.joins import Joins
from streamkit.dsl.keywords import tells_keywords
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.outputs import To
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.steps import By
from streamkit.dsl.nodes.tables import KeptTable
from streamkit.dsl.nodes.timers import OnTimer
from streamkit.dsl.table import Table
from streamkit.dsl.timed import timer_failure, timer_function
from streamkit.dsl.timers import Timer, Timing
from streamkit.dsl.totals import Totals
from streamkit.dsl.windowed import WindowedStream
from streamkit.dsl.windows import WindowKind
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped, serde_for

V = TypeVar("V")
"""Values of the stream."""
Out = TypeVar("Out")
"""Values that a function gives."""
R = TypeVar("R")
"""What a function returns: `Out | None`, or an iterator of `Out`."""
P = ParamSpec("P")
New = TypeVar("New")
"""Values that a function of a timer gives."""
Q = ParamSpec("Q")


@tells_keywords
class Stream(EachEvent[V], Joins[V], Totals[V], Flows[V], Generic[V]):
    """Events of one type. Made by `app.stream` and by the operations on a stream."""

    def _then(
        self,
        node: StreamNode,
        call: Callable[..., Any],
        value: Serde,
        keyed_by: str | None = None,
    ) -> "Step[..., Any, Any]":
        self._graph.add(node)
        return Step(call, self._graph, node, self._key, value, keyed_by)

    def _as(
        self, node: StreamNode, keyed_by: str | None = None, key: Serde | None = None
    ) -> "Stream[V]":
        return Stream(self._graph, self._graph.add(node), key or self._key, self._value, keyed_by)

    def _written(self, topic: str, key: str | Callable[[V], Any] | None) -> None:
        self.to(topic, key=key)

    # Where they go.

    def to(self, topic: str, *, key: str | Callable[[V], Any] | None = None) -> "Stream[V]":
        """Write the events to a topic, under their key or under another one. Gives the stream."""
        check_output(topic)
        rekey, key_serde = (None, self._key) if key is None else self._keyed(key, "to(key=...)")
        self._graph.add(To(self._node, topic, key_serde, self._value, rekey))
        return self

    def sink(
        self, connector: str | SinkLike, *, name: str | None = None, **options: Any
    ) -> "Stream[V]":
        """Write the events to another system, each once; gives the stream.

        `connector` is the name of one ("SqlSink") or what `streamkit.connect.sink` made, and
        `options` are its options, with _ where their names have a dot: `insert_mode="upsert"`. It
        runs in the processes of the app, beside its steps. What it reads is the topic that the
        stream is written to (`to=`, or `.to(...)` before this); of a stream that is written to none
        the topic `<app>-<name>-sink`. `name` is that of the stream unless given.
        """
        own = name or self.name
        written = [n for n in self._graph.nodes if isinstance(n, To) and n.parent is self._node]
        topic = written[-1].topic if written else connector_name(self._graph.app, own, "sink")
        self._graph.connect("sink", own, topic, connector, options)
        return self if written else self.to(topic)

    def to_table(self, *, name: str | None = None) -> Table[V]:
        """The table of the latest value of each key, as far as events have been processed.

        It is kept in the store `<stream>-table`, or `name`. A null value deletes the row.
        """
        if self._value.type is Untyped:
            raise TopologyError(
                f"to_table of {self.name!r}: the type of its values is unknown; annotate what the "
                "function before returns"
            )
        node = KeptTable(self._node, name or f"{self.name}-table", self._value)
        return Table(self._graph, self._graph.add(node))

    def by(
        self,
        key: str | Callable[[V], Any],
        *,
        type_: Any = None,
        name: str | None = None,
        in_order: bool = False,
    ) -> "Stream[V]":
        """The same events under another key: a field's name, or a function.

        Where a window, a table or a State follows, events move to the task that owns their new
        key through the topic `<app>-<name>-repartition`; the name is `<stream>-by-<field>` unless
        given. Asking twice for the same field gives the same stream, and one topic.

        `type_` is the key's type where no annotation tells it (a lambda, a field of a dict): str
        unless given.

        What follows is given events of several partitions as they come, mixed in another way in
        every run. With `in_order` it is given them in order of event time, those of one time by
        their partitions and offsets, each once the watermark has passed it: what it makes of them
        is the same in every run, and as late as the watermark.
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
                if node.in_order != in_order:
                    raise TopologyError(
                        f"by {key!r} on {self.name!r} was asked for before "
                        f"{'without' if in_order else 'with'} in_order=True; say the same, or give "
                        "this one another name="
                    )
                return Stream(self._graph, node, node.key, self._value, key)
        if name is None and fn.name == "<lambda>":
            raise TopologyError(
                f"by {fn.described}: a lambda has no name to call a topic by; add name=, "
                "or use a field's name or a function"
            )
        node = self._graph.add(By(self._node, fn, key_serde, label, in_order))
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
        check_gives_one(fn, "a key")
        if fn.extras:
            raise TopologyError(f"{what} {fn.described}: a key depends on the event alone")
        return fn, _key_serde(fn.returns, wanted)

    # In time.

    def window(
        self, window: WindowKind, *, close_after_idle: Duration | None = None
    ) -> "WindowedStream[V]":
        """Group events by key and window.

        A window closes when the watermark reaches its end plus grace; on a stream that falls
        silent that does not happen by itself. With `close_after_idle`, all open windows of a task
        close once its inputs have stood at their end for that long by the wall clock. An event
        that comes for one of them later is late.
        """
        if not isinstance(window, WindowKind):
            raise TopologyError(
                f"window of {self.name!r}: {window!r} is no window; give it one, as "
                'window(tumbling("5m")): there are tumbling, hopping, sliding and session'
            )
        idle = (
            None if close_after_idle is None else milliseconds(close_after_idle, "close_after_idle")
        )
        return WindowedStream(self, window, idle)


@tells_keywords
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

    @overload
    def on_timer(
        self, fn: Callable[Concatenate[Timer, Q], Iterator[New]], /
    ) -> "Step[Concatenate[Timer, Q], Iterator[New], New]": ...
    @overload
    def on_timer(
        self, fn: Callable[Concatenate[Timer, Q], New | None], /
    ) -> "Step[Concatenate[Timer, Q], New | None, New]": ...
    @overload
    def on_timer(
        self,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> Timing: ...
    def on_timer(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> Any:
        """Decorate what is done when a timer is due that this step has set: `Context.timer`.

        A function from a Timer to None (nothing), a value, or an iterator of values, as for
        `process`. Its State parameters are those of the step, by their names. What it gives is a
        stream of its own, of the time of the timer. `on_error`: see `process`, without retry; the
        record of a timer that is set aside has its key, its time, and its name for a value.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            timed, setting = timer_function(call, self._node, name)
            for other in self._graph.nodes:
                if isinstance(other, OnTimer) and other.parent is setting:
                    raise TopologyError(
                        f"{timed.described}: {other.function.described} is called for the timers "
                        f"of {self.name!r} already; it can tell them apart by Timer.name"
                    )
            value = serde_for(timed.returns)
            node = OnTimer(setting, timed, value, timer_failure(on_error, timed))
            step = self._then(node, call, value, self._keyed_by)
            if to is not None:
                step.to(to, key=key)
            return step

        return decorate if fn is None else decorate(fn)

    def calling(self, call: Callable[..., Any]) -> "Step[P, R, Out]":
        """The same, when called calling this: what its function was made of."""
        self._call = call
        self.__wrapped__ = call
        return self

    def _into(self, topic: str) -> "Step[P, R, Out]":
        self.to(topic)
        return self


def _key_serde(type_: Any, wanted: Any) -> Serde:
    """Of the type asked for, else of the annotated one, else text; any key may be missing."""
    if wanted is None:
        wanted = str if type_ in (Untyped, Any, object) else type_
    return serde_for(wanted | None if isinstance(wanted, type) else wanted)


def stream_of(graph: Graph, source: StreamSource) -> Stream[Any]:
    """The stream of a source."""
    return Stream(graph, graph.add(source), source.key, source.value)

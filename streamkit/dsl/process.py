"""`process`: a function of each event, wherever and whenever it is called."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from streamkit.dsl.chain import Chain
from streamkit.dsl.decorators import Batching, Plain, Processing
from streamkit.dsl.durations import Duration
from streamkit.dsl.failures import OnError
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.steps import Process
from streamkit.dsl.nodes.waiting import Order, Waiting
from streamkit.dsl.waits import Options, check_waits, waits
from streamkit.errors import TopologyError
from streamkit.records import Record
from streamkit.serde import Untyped, serde_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from streamkit.dsl.stream import Step

V = TypeVar("V")
"""Values of the stream."""
Out = TypeVar("Out")
"""Values that a function gives."""
P = ParamSpec("P")


class Processes(Chain[V], Generic[V]):
    """Part of Stream: one event to none, one or many."""

    @overload
    def process(
        self, fn: Callable[Concatenate[V, P], Plain | None], /
    ) -> "Step[Concatenate[V, P], Plain | None, Plain]": ...
    @overload
    def process(
        self, fn: "Callable[Concatenate[V, P], AsyncIterator[Out]]", /
    ) -> "Step[Concatenate[V, P], AsyncIterator[Out], Out]": ...
    @overload
    def process(
        self, fn: "Callable[Concatenate[Record[V], P], AsyncIterator[Out]]", /
    ) -> "Step[Concatenate[Record[V], P], AsyncIterator[Out], Out]": ...
    @overload
    def process(
        self, fn: "Callable[Concatenate[V, P], Coroutine[Any, Any, Out | None]]", /
    ) -> "Step[Concatenate[V, P], Coroutine[Any, Any, Out | None], Out]": ...
    @overload
    def process(
        self, fn: "Callable[Concatenate[Record[V], P], Coroutine[Any, Any, Out | None]]", /
    ) -> "Step[Concatenate[Record[V], P], Coroutine[Any, Any, Out | None], Out]": ...
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
        batch: int,
        within: Duration | None = None,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
        concurrency: int | None = None,
        timeout: Duration | None = None,
        workers: int | None = None,
    ) -> Batching[V]: ...
    @overload
    def process(
        self,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
        concurrency: int | None = None,
        order: Order | None = None,
        timeout: Duration | None = None,
        workers: int | None = None,
    ) -> Processing[V]: ...
    def process(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
        concurrency: int | None = None,
        order: Order | None = None,
        timeout: Duration | None = None,
        batch: int | None = None,
        within: Duration | None = None,
        workers: int | None = None,
    ) -> Any:
        """Decorate a function from an event to None (nothing), a value, or an iterator of values.

        A list is one value; a generator gives many. `to` writes the values to a topic, under the
        event's key or, with `key`, under a field of the value or what a function makes of it.
        The decorated name is a stream again, and can still be called as the function it is.

        `on_error` is what becomes of an event for which it raises: "stop" the app, "skip" it,
        "dlq" or dlq(...) for a topic of such events, retry(...). Nothing of the call is left: what
        it changed in a State is undone, and what it sent is not sent.

        An `async def` is called for up to `concurrency` events at once (64). Results come in the
        `order` of the "partition"; with "key" only those of one key do, of which then one is called
        at a time. `timeout` limits one call.

        With `batch` the function takes a list of up to so many events (or a RecordBatch or a
        DataFrame) as soon as they are there, or the oldest has waited `within` ("1s"), and gives
        a list or an iterator of results, or None. As many as were taken belong to the events one
        by one; else all bear the key and time of the last.

        With `workers` the function is called in so many other processes, for what computes long.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            process = self._function(call, name, can_wait=True, batched=batch is not None)
            value, failure = (
                serde_for(process.returns),
                self._failure(on_error, process, retries=True),
            )
            options: Options = (concurrency, order, timeout, batch, within, workers)
            how = waits(process, options, failure)
            node: StreamNode = Process(self._node, process, value, failure)
            if how is not None:
                known = self._value.type is not Untyped or isinstance(self._node, StreamSource)
                check_waits(process, how, known, self.name)
                node = Waiting(self._node, process, value, how, failure)
            step = self._then(node, call, value)
            if to is not None:
                step.to(to, key=key)
            return step

        if to is None and key is not None:
            raise TopologyError("key= names the key of records written with to=; use .by() instead")
        return decorate if fn is None else decorate(fn)

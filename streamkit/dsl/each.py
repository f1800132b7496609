"""Operations on each event by itself."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from streamkit.dsl.chain import Chain
from streamkit.dsl.decorators import Processing
from streamkit.dsl.nodes.steps import Filter, FlatMap, Map, Process
from streamkit.errors import TopologyError
from streamkit.records import Record
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step

V = TypeVar("V")
"""Values of the stream."""
Out = TypeVar("Out")
"""Values that a function gives."""
P = ParamSpec("P")
E = TypeVar("E")
"""What a function asks for besides its event: a Context or a State. With a ParamSpec instead, mypy
does not see what a lambda gives; where there is more to ask for, `process` takes it."""


class EachEvent(Chain[V], Generic[V]):
    """Part of Stream: one event to some."""

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
        node = Filter(self._node, self._function(fn))
        return self._then(node, fn, self._value, self._keyed_by)

"""Operations on each event by itself."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, overload

from streamkit.dsl.failures import OnError
from streamkit.dsl.fit import check_gives_one
from streamkit.dsl.nodes.steps import Filter, FlatMap, Map
from streamkit.dsl.process import Processes
from streamkit.records import Record
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from streamkit.dsl.stream import Step

V = TypeVar("V")
"""Values of the stream."""
U = TypeVar("U")
"""What values are for which a function gives True."""
Out = TypeVar("Out")
"""Values that a function gives."""
E = TypeVar("E")
"""What a function asks for besides its event: a Context or a State. With a ParamSpec instead, mypy
does not see what a lambda gives; where there is more to ask for, `process` takes it."""


class EachEvent(Processes[V], Generic[V]):
    """Part of Stream: one event to some."""

    @overload
    def map(
        self, fn: Callable[[V], Out], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[V], Out, Out]": ...
    @overload
    def map(
        self, fn: Callable[[Record[V]], Out], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[Record[V]], Out, Out]": ...
    @overload
    def map(
        self, fn: Callable[[V, E], Out], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[V, E], Out, Out]": ...
    @overload
    def map(
        self,
        fn: Callable[[Record[V], E], Out],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[Record[V], E], Out, Out]": ...
    def map(
        self, fn: Callable[..., Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> Any:
        """One value for each event, None included. `on_error`: see `process`."""
        fn_ = self._function(fn, name)
        value = serde_for(fn_.returns)
        return self._then(Map(self._node, fn_, value, self._failure(on_error, fn_)), fn, value)

    @overload
    def flat_map(
        self,
        fn: Callable[[V], Iterable[Out]],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[V], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self,
        fn: Callable[[Record[V]], Iterable[Out]],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[Record[V]], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self,
        fn: Callable[[V, E], Iterable[Out]],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[V, E], Iterable[Out], Out]": ...
    @overload
    def flat_map(
        self,
        fn: Callable[[Record[V], E], Iterable[Out]],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[Record[V], E], Iterable[Out], Out]": ...
    def flat_map(
        self, fn: Callable[..., Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> Any:
        """All values of the iterable (a list, say) that the function gives for each event.

        `on_error`: see `process`.
        """
        fn_ = self._function(fn, name)
        value = serde_for(fn_.item)
        return self._then(FlatMap(self._node, fn_, value, self._failure(on_error, fn_)), fn, value)

    @overload
    def filter(
        self, fn: "Callable[[V], TypeIs[U]]", *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[V], bool, U]": ...
    @overload
    def filter(
        self,
        fn: Callable[[V], TypeGuard[U]],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[V], bool, U]": ...
    @overload
    def filter(
        self, fn: Callable[[V], Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[V], Any, V]": ...
    @overload
    def filter(
        self, fn: Callable[[Record[V]], Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[Record[V]], Any, V]": ...
    @overload
    def filter(
        self, fn: Callable[[V, E], Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> "Step[[V, E], Any, V]": ...
    @overload
    def filter(
        self,
        fn: Callable[[Record[V], E], Any],
        *,
        on_error: OnError = "stop",
        name: str | None = None,
    ) -> "Step[[Record[V], E], Any, V]": ...
    def filter(
        self, fn: Callable[..., Any], *, on_error: OnError = "stop", name: str | None = None
    ) -> Any:
        """Only the events for which the function gives something true.

        What it returns may be annotated TypeIs[T] or TypeGuard[T]: then these are T.
        `on_error`: see `process`.
        """
        fn_ = self._function(fn, name)
        check_gives_one(fn_, "whether its event is kept")
        node = Filter(self._node, fn_, self._failure(on_error, fn_))
        value = serde_for(guarded) if (guarded := fn_.guards) is not None else self._value
        return self._then(node, fn, value, self._keyed_by)

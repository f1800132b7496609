"""Events grouped by key and window, and what can be made of a group."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamkit.dsl.decorators import Folding
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.nodes.windows import Aggregate, Emit
from streamkit.dsl.windows import Tumbling
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""


class WindowedStream(Generic[V]):
    """Events grouped by key and window, to be folded into one value."""

    def __init__(self, stream: "Stream[V]", window: Tumbling, close_after_idle: int | None) -> None:
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
    ) -> "Stream[int]":
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
        idle = self._close_after_idle
        node = Aggregate(stream._node, self._window, fn, name, value, emit, idle)
        step = stream._then(node, call, value, stream._keyed_by)
        return step if to is None else step._into(to)

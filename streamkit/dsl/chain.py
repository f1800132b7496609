"""What every stream is made of; the operations on streams stand on it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamkit.dsl.failures import Failure, OnError, Retry, Skip, failure
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.graph import Graph
from streamkit.dsl.nodes.node import StreamNode
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""


class Chain(Generic[V]):
    """A node of an app's graph, and of what types the keys and values of its events are.

    `keyed_by` is the field that its keys are, where it is known. Of its operations those that are
    about the same thing are in a module; `Stream` is all of them.
    """

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
        while node.name == "<lambda>" and node.above is not None:
            node = node.above
        return node.name

    @property
    def type(self) -> Any:
        """What its values are, as far as annotations tell; for steps that are made for any."""
        return self._value.type

    @property
    def _given(self) -> tuple[Any, str]:
        """What a function of its events is given, for `check_fit`."""
        return self._value.type, f"the values of {self.name!r}"

    def _function(
        self,
        call: Callable[..., Any],
        name: str | None = None,
        *,
        can_wait: bool = False,
        batched: bool = False,
    ) -> Function:
        """A function of one event, or of a batch of them.

        Raises TopologyError when it is made for other values.
        """
        batch_of = self._value.type if batched else None
        fn = function(call, name=name, can_wait=can_wait, batch_of=batch_of)
        check_fit(fn, [self._given])
        return fn

    def _failure(self, on_error: OnError, fn: Function, *, retries: bool = False) -> Failure | None:
        """What becomes of events that a function fails for. Raises TopologyError.

        `retries`: they may wait at the step to be tried again.
        """
        policy = failure(on_error, fn.described)
        if isinstance(policy, Retry) and not retries:
            raise TopologyError(
                f"{fn.described}: on_error=retry(...) is for process(...): have it do what may "
                "work later, and this what is made of it"
            )
        if policy is None or isinstance(policy, Skip):
            return policy
        if self._value.type is Untyped:
            raise TopologyError(
                f"{fn.described}: on_error={str(policy).split()[0]!r} keeps events, but the type "
                f"of the values of {self.name!r} is unknown; annotate what the function before it "
                "returns"
            )
        return policy

    if TYPE_CHECKING:  # of Stream, which is made of this

        def _then(
            self,
            node: StreamNode,
            call: Callable[..., Any],
            value: Serde,
            keyed_by: str | None = None,
        ) -> "Step[..., Any, Any]":
            """The stream of a node that a function makes, which is added to the graph."""

        def by(
            self, key: str | Callable[[V], Any], *, type_: Any = None, name: str | None = None
        ) -> "Stream[V]": ...

        def _keyed(
            self, key: str | Callable[[Any], Any], what: str, wanted: Any = None
        ) -> tuple[Function, Serde]:
            """How to get a key of an event, and the key's serde."""

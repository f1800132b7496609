"""Operations that make one stream of two, or several of one."""

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamkit.dsl.chain import Chain
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.fit import check_gives_one
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.steps import Filter
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped, type_name

if TYPE_CHECKING:
    from streamkit.dsl.nodes.node import StreamNode
    from streamkit.dsl.stream import Stream

V = TypeVar("V")
"""Values of the stream."""


class Flows(Chain[V], Generic[V]):
    """Part of Stream: which events go together."""

    def branch(self, *functions: Callable[[V], Any]) -> "tuple[Stream[V], ...]":
        """Each event in one of several streams: that of the first function which gives something
        true for its value, or, after all of those, that of the events for which none does.

            large, small, rest = orders.branch(is_large, is_small)

        Functions take the value and nothing else: they may be called more than once for an event.
        """
        if not functions:
            raise TopologyError(f"branch of {self.name!r}: give it functions of a value")
        known = [self._function(each) for each in functions]
        for fn in known:
            check_gives_one(fn, "whether its event is of that branch")
            if fn.extras or fn.wants_record:
                raise TopologyError(
                    f"branch of {self.name!r}: {fn.described} takes a value and nothing else; what "
                    "needs more can say in a field, in a step before, where its event belongs"
                )
        branches = [_first(known[:at], one) for at, one in enumerate(known)]
        every_one = (*branches, _first(known, None))
        return tuple(self._as(Filter(self._node, function)) for function in every_one)

    def merge(self, other: "Stream[V]", *, name: str | None = None) -> "Stream[V]":
        """The events of this stream and of another one of the same types, as they come.

        Both are in one task: topics need the same number of partitions, and events that got another
        key before move to its partition. Event time is that of the slower of the two. `name`, by
        which what follows is called, is `<stream>-<other>` unless given.
        """
        if not isinstance(other, Flows):
            raise TopologyError(
                f"merge of {self.name!r}: {other!r} is no stream; give it what app.stream(...) or "
                "a step gives"
            )
        where = f"merge of {self.name!r} with {other.name!r}"
        if self._graph is not other._graph:
            raise TopologyError(f"{where}: they are streams of two apps")
        for what, mine, theirs in (
            ("keys", self._key, other._key),
            ("values", self._value, other._value),
        ):
            if mine.type != theirs.type:
                raise TopologyError(
                    f"{where}: {what} are {type_name(mine.type)} here and {type_name(theirs.type)} "
                    "there; make them one type in a step before"
                )
        label = name or f"{self.name}-{other.name}"
        side = MergedSide(other._node, label)
        keyed_by = self._keyed_by if self._keyed_by == other._keyed_by else None
        merged = self._as(Merge(self._node, side, label), keyed_by)
        self._graph.add(side)
        return merged

    def through(
        self,
        topic: str,
        *,
        key: str | Callable[[V], Any] | None = None,
        out_of_order: Duration = "0s",
    ) -> "Stream[V]":
        """Write the events to a topic, as `to` does, and go on with what is read from there: with
        all that anybody writes there.

        `out_of_order` as of `app.stream`: several tasks write a partition, each at its own pace, so
        that events are behind others there. To bring events together by key there is `by`, which
        knows how far each task is.
        """
        if self._value.type is Untyped:
            raise TopologyError(
                f"through({topic!r}) of {self.name!r}: the type of its values is unknown; annotate "
                "what the function before returns"
            )
        serde = self._key if key is None else self._keyed(key, "through(key=...)")[1]
        self._written(topic, key)
        late = milliseconds(out_of_order, "out_of_order")
        source = StreamSource(topic, serde, self._value, out_of_order=late)
        return self._as(source, key if isinstance(key, str) else None, serde)

    if TYPE_CHECKING:  # of Stream, which is made of this

        def _as(
            self, node: StreamNode, keyed_by: str | None = None, key: Serde | None = None
        ) -> "Stream[V]":
            """The stream of a node with the same values, which is added to the graph."""

        def _written(self, topic: str, key: str | Callable[[V], Any] | None) -> None: ...


def _first(before: list[Function], function: Function | None) -> Function:
    """A function that is true where none of those before is, and this one, if there is one."""
    calls = [each.call for each in before]
    last: Callable[[Any], Any] = (lambda value: True) if function is None else function.call

    def is_first(value: Any) -> bool:
        return not any(call(value) for call in calls) and bool(last(value))

    one = before[-1] if function is None else function
    update_wrapper(is_first, one.call)  # who looks for the user's code finds it
    name = f"not-{one.name}" if function is None else one.name
    return Function(is_first, name, one.where, False, (), bool, False, one.takes)

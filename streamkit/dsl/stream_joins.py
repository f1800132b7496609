"""Operations that bring the events of two streams together."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamkit.dsl.chain import Chain
from streamkit.dsl.decorators import Meeting
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import function
from streamkit.dsl.nodes.stream_joins import AsOf, Direction, Kind, RightSide, StreamJoin, Within
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, serde_for, type_name, without_none

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""
T = TypeVar("T")
"""Values of the other stream."""


class StreamJoins(Chain[V], Generic[V]):
    """Part of Stream: joins with another stream."""

    @overload
    def join_as_of(
        self,
        other: "Stream[T]",
        *,
        tolerance: Duration,
        direction: Direction = "backward",
        allow_exact_matches: bool = True,
        on: str | None = None,
        how: Literal["inner"] = "inner",
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> "Meeting[V, T]": ...
    @overload
    def join_as_of(
        self,
        other: "Stream[T]",
        *,
        tolerance: Duration,
        direction: Direction = "backward",
        allow_exact_matches: bool = True,
        on: str | None = None,
        how: Literal["left"],
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> "Meeting[V, T | None]": ...
    def join_as_of(
        self,
        other: "Stream[Any]",
        *,
        tolerance: Duration,
        direction: Direction = "backward",
        allow_exact_matches: bool = True,
        on: str | None = None,
        how: Literal["inner", "left"] = "inner",
        grace: Duration = "0s",
        close_after_idle: Duration | None = None,
        to: str | None = None,
        name: str | None = None,
    ) -> Any:
        """Decorate a function of an event and the one event of another stream as of its time.

        That is the latest one of the same key that is not after the event ("backward"), the
        earliest that is not before it ("forward"), or the nearest, of two the earlier one; and at
        most `tolerance` away. Without `allow_exact_matches`, one of the same time does not count:
        as when a stream is joined with itself. With how="left" the function is called with None
        when there is none; with "inner" it is not called.

        The result comes when nothing that would change it is in time any more, and bears the later
        time of both. `on` is a field of both that they are brought together by; without it, their
        keys. `grace` is how much longer events that are behind are waited for; those that come
        even later go to `<app>-<name>-left-late` or `-right-late`.
        """
        if not isinstance(other, StreamJoins):
            raise TopologyError(
                f"join_as_of of {self.name!r}: {other!r} is no stream; give it what "
                "app.stream(...) or a step gives. With a table there is join(..., history=...)"
            )
        if direction not in ("backward", "forward", "nearest"):
            raise TopologyError(
                f"join_as_of: direction={direction!r}; it is 'backward', 'forward' or 'nearest'"
            )
        if how not in ("inner", "left"):
            raise TopologyError(f"join_as_of: how={how!r}; it is 'inner' or 'left'")
        away = milliseconds(tolerance, "tolerance")
        kind = AsOf(away, direction, bool(allow_exact_matches), how, milliseconds(grace, "grace"))
        return self._meet(other, kind, on, close_after_idle, to, name)

    def _within(
        self,
        other: "Stream[Any]",
        within: Duration | None,
        before: Duration | None,
        after: Duration | None,
        how: Any,
        grace: Duration,
    ) -> Within:
        """What the arguments of `join` say about how near events have to be."""
        where = f"join of {self.name!r} with {other.name!r}"
        if how not in ("inner", "left", "outer"):
            raise TopologyError(f"{where}: how={how!r}; it is 'inner', 'left' or 'outer'")
        if within is not None and before is None and after is None:
            before = after = within
        elif within is not None or before is after is None:
            raise TopologyError(
                f"{where}: say within=, how far apart two events may be; or before= and after=, "
                f"how much earlier and later those of {other.name!r} may be"
            )
        return Within(
            0 if before is None else milliseconds(before, "before"),
            0 if after is None else milliseconds(after, "after"),
            how,
            milliseconds(grace, "grace"),
        )

    def _meet(
        self,
        other: "Stream[Any]",
        kind: Kind,
        on: str | None,
        close_after_idle: Duration | None,
        to: str | None,
        name: str | None,
    ) -> Any:
        if on is not None and not isinstance(on, str):
            raise TopologyError(
                "join: on= is a field that both streams have; give them a key that a function "
                "makes with .by(function), each its own, and leave on= out"
            )
        left: Chain[Any] = self if on in (None, self._keyed_by) else self.by(on or "")
        right: Chain[Any] = other if on in (None, other._keyed_by) else other.by(on or "")
        where = f"join of {self.name!r} with {other.name!r}"
        if left._graph is not right._graph:
            raise TopologyError(f"{where}: they are streams of two apps")
        keys = [without_none(stream._key.type)[0] for stream in (left, right)]
        if keys[0] != keys[1]:
            raise TopologyError(
                f"{where}: the keys are {type_name(keys[0])} here and {type_name(keys[1])} there; "
                "say on=, or declare them with key="
            )
        for stream in (left, right):
            if stream._value.type is Untyped:
                raise TopologyError(
                    f"{where}: both keep events, but the type of the values of {stream.name!r} is "
                    "unknown; annotate what the function before returns"
                )
        idle = (
            None if close_after_idle is None else milliseconds(close_after_idle, "close_after_idle")
        )

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fn = function(call, leading=2, name=name)
            if fn.wants_record:
                raise TopologyError(
                    f"{fn.described}: of the two events of a join one was kept, and what is kept "
                    "is its value; take the value instead of the Record"
                )
            check_fit(fn, [left._given, right._given])
            value = serde_for(fn.returns)
            side = RightSide(right._node, fn.name, kind)
            node = StreamJoin(left._node, side, kind, fn, value, fn.name, idle)
            step = left._then(node, call, value, left._keyed_by)
            left._graph.add(side)
            return step if to is None else step._into(to)

        return decorate

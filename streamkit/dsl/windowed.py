"""Events grouped by key and window, and what can be made of a group."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from streamkit.dsl import aggregates as agg
from streamkit.dsl.aggregates import Aggregate, Fold, Of
from streamkit.dsl.decorators import Folding, Reducing
from streamkit.dsl.fit import check_fit
from streamkit.dsl.keywords import tells_keywords
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.together import together
from streamkit.dsl.windows import Emit, Hopping, WindowKind, check_emit
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""
R = TypeVar("R")


@tells_keywords
class WindowedStream(Generic[V]):
    """Events grouped by key and window, to be folded into one value.

    Every operation here takes `emit`: "final" gives one value per key and window, when the window
    closes; "update" one after each event; every("10s") what has changed, whenever event time
    passes a multiple of that, and the final value if it is another. A value's key is the group's,
    its timestamp the last millisecond of the window; a header names store, window and how many
    events are in it. Late events go, as they are, to `<app>-<name>-late`; `name` is the store's.
    """

    def __init__(
        self, stream: "Stream[V]", window: WindowKind, close_after_idle: int | None
    ) -> None:
        self._stream = stream
        self._window = window
        self._close_after_idle = close_after_idle

    # With a function of one's own.

    def aggregate(
        self,
        *,
        to: str | None = None,
        emit: Emit = "final",
        merge: Callable[[Any, Any], Any] | None = None,
        any_order: bool = False,
        name: str | None = None,
    ) -> "Folding[V]":
        """Decorate a function from what there is so far (None at first) and an event to what there
        is then. It may take the `Window` too.

        For sessions, `merge` makes one of what two sessions have come to, the earlier one first.
        Without it sessions keep their events, and fold them when a result is given; as sliding
        windows always do. Such a function is given values (and the Window), in order of time.

        Behind `by` final results are made of events in order of time, so that they are the same in
        every run. `any_order` says that the function comes to the same in any order, and saves it.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fold = agg.folded(call, name, merge, window=True, any_order=any_order)
            given = (fold.state, "what it returned before")
            check_fit(fold.function, [given, self._stream._given])
            return self._fold(fold, call, fold.function.name, to, emit)

        return decorate  # type: ignore[return-value]

    @overload
    def reduce(self, fn: Callable[[V, V], V], /) -> "Step[[V, V], V, V]": ...
    @overload
    def reduce(
        self,
        *,
        to: str | None = None,
        emit: Emit = "final",
        any_order: bool = False,
        name: str | None = None,
    ) -> "Reducing[V]": ...
    def reduce(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        any_order: bool = False,
        name: str | None = None,
    ) -> Any:
        """Decorate a function that makes one event of two; the first is taken as it is.

        `any_order`: see `aggregate`.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fold = agg.reduced(call, self._stream._value.type, name, any_order=any_order)
            check_fit(fold.function, [self._stream._given, self._stream._given])
            return self._fold(fold, call, fold.function.name, to, emit)

        return decorate if fn is None else decorate(fn)

    # Ready-made.

    def count(
        self, *, to: str | None = None, emit: Emit = "final", name: str | None = None
    ) -> "Stream[int]":
        """How many events there are; the store's name: `<stream>-count`."""
        return self._of(agg.count(), to, emit, name)

    def sum(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[Any]":
        """The sum of a field, or of what a function gives; the store: `<stream>-sum-<field>`.

        An event whose field is None is skipped, here and below. Of nothing the sum is 0.
        """
        return self._of(agg.sum_(of), to, emit, name)

    def mean(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[float | None]":
        """The arithmetic mean of a field; None when no event has a value there."""
        return self._of(agg.mean(of), to, emit, name)

    def min(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[Any]":
        """The least value of a field; None when no event has a value there."""
        return self._of(agg.min_(of), to, emit, name)

    def max(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[Any]":
        """The greatest value of a field; None when no event has a value there."""
        return self._of(agg.max_(of), to, emit, name)

    def first(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[Any]":
        """The value of a field in the earliest event, by its time, that has one; or that event."""
        return self._of(agg.first(of), to, emit, name)

    def last(
        self,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[Any]":
        """The value of a field in the latest event, by its time, that has one; or that event."""
        return self._of(agg.last(of), to, emit, name)

    def quantile(
        self,
        part: float,
        of: Of[V] = None,
        *,
        accuracy: float = 0.01,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[float | None]":
        """About the value of a field below which `part` (0 to 1) of the values are.

        It is off by at most `accuracy`, as a part of itself.
        """
        return self._of(agg.quantile(part, of, accuracy=accuracy), to, emit, name)

    def top_k(
        self,
        n: int,
        by: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[list[V]]":
        """The `n` events with the greatest value of a field, greatest first."""
        return self._of(agg.top_k(n, by), to, emit, name)

    def collect(
        self,
        limit: int,
        of: Of[V] = None,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
    ) -> "Stream[list[Any]]":
        """The first `limit` events, or values of a field of theirs, in a list."""
        return self._of(agg.collect(limit, of), to, emit, name)

    @overload
    def aggregates(
        self,
        into: type[R],
        /,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
        **parts: Aggregate[Any],
    ) -> "Stream[R]": ...
    @overload
    def aggregates(
        self,
        /,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
        **parts: Aggregate[Any],
    ) -> "Stream[Any]": ...
    def aggregates(
        self,
        into: type[Any] | None = None,
        /,
        *,
        to: str | None = None,
        emit: Emit = "final",
        name: str | None = None,
        **parts: Aggregate[Any],
    ) -> "Stream[Any]":
        """Several in one pass: `aggregates(n=count(), total=sum_("amount"))`.

        They are the fields of a Struct: of `into`, which a type checker knows then, or of one that
        is made up. The store's name: `<stream>-aggregates`.
        """
        stream = self._stream
        where = name or f"{stream.name}-aggregates"
        fold = together(parts, stream._value.type, f"the values of {stream.name!r}", into)
        return self._fold(fold, fold.function.call, where, to, emit)

    # How.

    def _of(
        self, aggregate: Aggregate[Any], to: str | None, emit: Emit, name: str | None
    ) -> "Stream[Any]":
        stream = self._stream
        fold = aggregate.fold(stream._value.type, f"the values of {stream.name!r}")
        return self._fold(
            fold, fold.function.call, name or f"{stream.name}-{aggregate.label}", to, emit
        )

    def _fold(
        self, fold: Fold, call: Callable[..., Any], name: str, to: str | None, emit: Emit
    ) -> "Step[..., Any, Any]":
        check_emit(emit, name)
        stream = self._stream
        again = self._folds_again(fold)
        if again is not None:
            function = fold.function
            if function.wants_record or [each for each in function.extras if each != "window"]:
                raise TopologyError(
                    f"{function.described}: {again} fold their events later than they come: the "
                    "function may take values and the Window, but no Record, Context or State"
                )
            if stream._value.type is Untyped:
                raise TopologyError(
                    f"{name}: {again} keep their events, but the type of the values of "
                    f"{stream.name!r} is unknown; annotate what the function before returns"
                )
        value = serde_for(fold.returns)
        node = WindowFold(
            stream._node, self._window, fold, name, value, emit, self._close_after_idle
        )
        step = stream._then(node, call, value, stream._keyed_by)
        return step if to is None else step._into(to)

    def _folds_again(self, fold: Fold) -> str | None:
        """The windows that keep their events, as messages call them; None: these do not."""
        match self._window:
            case Hopping():
                return None
            case kind:
                name = type(kind).__name__.lower()
        if name == "sliding":
            return "sliding windows"
        return "sessions without merge=" if fold.merge is None else None

"""What the events of a key come to, without a window: running values, given after each event."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from streamkit.dsl import aggregates as agg
from streamkit.dsl.aggregates import Aggregate, Fold, Of
from streamkit.dsl.chain import Chain
from streamkit.dsl.decorators import Folding, Reducing
from streamkit.dsl.failures import OnError
from streamkit.dsl.fit import check_fit
from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.together import together
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from streamkit.dsl.stream import Step, Stream

V = TypeVar("V")
"""Values of the stream."""
R = TypeVar("R")


class Totals(Chain[V], Generic[V]):
    """Part of Stream: folds over all events of a key.

    Each gives the key's value after each event; `to_table` makes a table of these values.
    Nothing is ever forgotten here; see `window` for what ends.
    """

    # With a function of one's own.

    def aggregate(
        self, *, to: str | None = None, name: str | None = None, on_error: OnError = "stop"
    ) -> "Folding[V]":
        """Decorate a function from what there is so far (None at first) and an event to what there
        is then. `on_error`: see `process`; the value of the key is then as it was."""

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fold = agg.folded(call, name)
            check_fit(fold.function, [(fold.state, "what it returned before"), self._given])
            return self._running(fold, call, fold.function.name, to, on_error)

        return decorate  # type: ignore[return-value]

    @overload
    def reduce(self, fn: Callable[[V, V], V], /) -> "Step[[V, V], V, V]": ...
    @overload
    def reduce(
        self, *, to: str | None = None, name: str | None = None, on_error: OnError = "stop"
    ) -> "Reducing[V]": ...
    def reduce(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        to: str | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
    ) -> Any:
        """Decorate a function that makes one event of two; the first is taken as it is.

        `on_error`: see `process`; the value of the key is then as it was.
        """

        def decorate(call: Callable[..., Any]) -> "Step[..., Any, Any]":
            fold = agg.reduced(call, self._value.type, name)
            check_fit(fold.function, [self._given, self._given])
            return self._running(fold, call, fold.function.name, to, on_error)

        return decorate if fn is None else decorate(fn)

    # Ready-made; see WindowedStream, which has the same.

    def count(self, *, to: str | None = None, name: str | None = None) -> "Stream[int]":
        """How many events a key had; the store's name: `<stream>-count`."""
        return self._total(agg.count(), to, name)

    def sum(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[Any]":
        """The sum of a field, or of what a function gives; the store: `<stream>-sum-<field>`.

        An event whose field is None is skipped, here and below. Of nothing the sum is 0.
        """
        return self._total(agg.sum_(of), to, name)

    def mean(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[float | None]":
        """The arithmetic mean of a field; None when no event has a value there."""
        return self._total(agg.mean(of), to, name)

    def min(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[Any]":
        """The least value of a field; None when no event has a value there."""
        return self._total(agg.min_(of), to, name)

    def max(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[Any]":
        """The greatest value of a field; None when no event has a value there."""
        return self._total(agg.max_(of), to, name)

    def first(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[Any]":
        """The value of a field in the earliest event, by its time, that has one; or that event."""
        return self._total(agg.first(of), to, name)

    def last(
        self, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[Any]":
        """The value of a field in the latest event, by its time, that has one; or that event."""
        return self._total(agg.last(of), to, name)

    def quantile(
        self,
        part: float,
        of: Of[V] = None,
        *,
        accuracy: float = 0.01,
        to: str | None = None,
        name: str | None = None,
    ) -> "Stream[float | None]":
        """About the value of a field below which `part` (0 to 1) of the values are.

        It is off by at most `accuracy`, as a part of itself.
        """
        return self._total(agg.quantile(part, of, accuracy=accuracy), to, name)

    def top_k(
        self, n: int, by: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[list[V]]":
        """The `n` events with the greatest value of a field, greatest first."""
        return self._total(agg.top_k(n, by), to, name)

    def collect(
        self, limit: int, of: Of[V] = None, *, to: str | None = None, name: str | None = None
    ) -> "Stream[list[Any]]":
        """The first `limit` events, or values of a field of theirs, in a list."""
        return self._total(agg.collect(limit, of), to, name)

    @overload
    def aggregates(
        self,
        into: type[R],
        /,
        *,
        to: str | None = None,
        name: str | None = None,
        **parts: Aggregate[Any],
    ) -> "Stream[R]": ...
    @overload
    def aggregates(
        self, /, *, to: str | None = None, name: str | None = None, **parts: Aggregate[Any]
    ) -> "Stream[Any]": ...
    def aggregates(
        self,
        into: type[Any] | None = None,
        /,
        *,
        to: str | None = None,
        name: str | None = None,
        **parts: Aggregate[Any],
    ) -> "Stream[Any]":
        """Several in one pass: `aggregates(n=count(), total=sum_("amount"))`.

        They are the fields of a Struct: of `into`, which a type checker knows then, or of one that
        is made up. The store's name: `<stream>-aggregates`.
        """
        where = f"the values of {self.name!r}"
        fold = together(parts, self._value.type, where, into)
        return self._running(fold, fold.function.call, name or f"{self.name}-aggregates", to)

    def _total(self, aggregate: Aggregate[Any], to: str | None, name: str | None) -> "Stream[Any]":
        fold = aggregate.fold(self._value.type, f"the values of {self.name!r}")
        return self._running(fold, fold.function.call, name or f"{self.name}-{aggregate.label}", to)

    def _running(
        self,
        fold: Fold,
        call: Callable[..., Any],
        name: str,
        to: str | None,
        on_error: OnError = "stop",
    ) -> "Step[..., Any, Any]":
        value = serde_for(fold.returns)
        failure = self._failure(on_error, fold.function)
        node = RunningFold(self._node, fold, name, value, failure)
        step = self._then(node, call, value, self._keyed_by)
        return step if to is None else step._into(to)

"""What the decorators of a stream take and give, for type checkers.

A function takes the event's value or its Record, then what its operation gives it, then whatever it
asks for by annotation. An iterator gives its items, None gives nothing.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from streamkit.records import Record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from msgspec import Struct

    from streamkit.dsl.stream import Step


class Framed(Protocol):
    """What pyarrow's RecordBatch and polars' DataFrame have, and no list."""

    @property
    def schema(self) -> Any: ...


V = TypeVar("V")
"""Values of the stream."""
T = TypeVar("T")
"""What a join gives beside the event."""
A = TypeVar("A")
"""What a window's events are folded into."""
Out = TypeVar("Out")
Plain = TypeVar(
    "Plain",
    bound="Struct | DataclassInstance | str | bytes | float | dict[Any, Any] | list[Any]",
)
"""What most functions give, and none that gives many or is async. It comes first: of functions that
fit nowhere a type checker tells what the first of several ways would be."""
P = ParamSpec("P")
F = TypeVar("F", bound=Framed)
Many: TypeAlias = Iterable[Out | None] | None
"""What is given for a batch."""


class Processing(Protocol[V]):
    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, P], Plain | None], /
    ) -> "Step[Concatenate[V, P], Plain | None, Plain]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, P], AsyncIterator[Out]], /
    ) -> "Step[Concatenate[V, P], AsyncIterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], P], AsyncIterator[Out]], /
    ) -> "Step[Concatenate[Record[V], P], AsyncIterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, P], Coroutine[Any, Any, Out | None]], /
    ) -> "Step[Concatenate[V, P], Coroutine[Any, Any, Out | None], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], P], Coroutine[Any, Any, Out | None]], /
    ) -> "Step[Concatenate[Record[V], P], Coroutine[Any, Any, Out | None], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, P], Iterator[Out]], /
    ) -> "Step[Concatenate[V, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], P], Iterator[Out]], /
    ) -> "Step[Concatenate[Record[V], P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, P], Out | None], /
    ) -> "Step[Concatenate[V, P], Out | None, Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], P], Out | None], /
    ) -> "Step[Concatenate[Record[V], P], Out | None, Out]": ...


class Batching(Protocol[V]):
    """A function of many events at once. Of what is in frames nothing is known."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[V], P], Many[Out]], /
    ) -> "Step[Concatenate[list[V], P], Many[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[Record[V]], P], Many[Out]], /
    ) -> "Step[Concatenate[list[Record[V]], P], Many[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[V], P], Coroutine[Any, Any, Many[Out]]], /
    ) -> "Step[Concatenate[list[V], P], Coroutine[Any, Any, Many[Out]], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[Record[V]], P], Coroutine[Any, Any, Many[Out]]], /
    ) -> "Step[Concatenate[list[Record[V]], P], Coroutine[Any, Any, Many[Out]], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[F, P], Any], /
    ) -> "Step[Concatenate[F, P], Any, Any]": ...


class Joining(Protocol[V, T]):
    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Plain | None], /
    ) -> "Step[Concatenate[V, T, P], Plain | None, Plain]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Iterator[Out]], /
    ) -> "Step[Concatenate[V, T, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], T, P], Iterator[Out]], /
    ) -> "Step[Concatenate[Record[V], T, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Out | None], /
    ) -> "Step[Concatenate[V, T, P], Out | None, Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Record[V], T, P], Out | None], /
    ) -> "Step[Concatenate[Record[V], T, P], Out | None, Out]": ...


class Meeting(Protocol[V, T]):
    """An event of each of two streams; only of one where the other may be None."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Plain | None], /
    ) -> "Step[Concatenate[V, T, P], Plain | None, Plain]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Iterator[Out]], /
    ) -> "Step[Concatenate[V, T, P], Iterator[Out], Out]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[V, T, P], Out | None], /
    ) -> "Step[Concatenate[V, T, P], Out | None, Out]": ...


class Folding(Protocol[V]):
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A | None, V, P], A], /
    ) -> "Step[Concatenate[A | None, V, P], A, A]": ...

    @overload
    def __call__(
        self, fn: Callable[Concatenate[A | None, Record[V], P], A], /
    ) -> "Step[Concatenate[A | None, Record[V], P], A, A]": ...


class Reducing(Protocol[V]):
    def __call__(self, fn: Callable[[V, V], V], /) -> "Step[[V, V], V, V]": ...

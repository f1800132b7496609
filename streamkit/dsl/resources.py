"""What an app opens once in each of its processes, for its functions to use: a client, a model."""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar, get_origin, get_type_hints, overload

from streamkit.dsl.functions import place_of
from streamkit.errors import TopologyError, UsageError

T = TypeVar("T")

_ITERATED = ("Iterator", "Generator", "Iterable", "AsyncIterator", "AsyncGenerator")


class Holder(Protocol):
    """Has what is open, as long as an app runs."""

    def value_of(self, resource: "Resource[T]") -> T: ...


class Resource(Generic[T]):
    """What an app opens once in each of its processes. Made by `app.resource`.

    Calling it, in a function that the app calls, gives what is open. Anywhere else it raises
    UsageError.
    """

    def __init__(self, call: Callable[[], Any], lazy: bool) -> None:
        self.__name__ = str(getattr(call, "__name__", type(call).__name__))
        self.__doc__ = call.__doc__
        self.__module__ = getattr(call, "__module__", __name__)
        self.__wrapped__ = call
        self.lazy = lazy
        self.holder: Holder | None = None
        where = place_of(call)
        self.described = f"{self.__name__} ({where})"
        self.generates = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
        self.is_async = inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
        self._check(call)

    def __call__(self) -> T:
        """What is open."""
        if self.holder is None:
            raise UsageError(unopened(self))
        return self.holder.value_of(self)

    def _check(self, call: Callable[[], Any]) -> None:
        what = f"resource {self.described}"
        if not self.generates and _generates_below(call):
            raise TopologyError(
                f"{what} is made a context manager already; leave that decorator out, "
                "app.resource does the same with what yields"
            )
        needed = [
            each.name
            for each in inspect.signature(call).parameters.values()
            if each.default is each.empty
            and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        if needed:
            raise TopologyError(
                f"{what}: there is nothing to give to parameter {needed[0]!r}; another resource, "
                "declared before, can be called in it"
            )
        if not self.generates and _says_that_it_generates(call):
            raise TopologyError(
                f"{what} is annotated as what yields, and returns; write `yield` where it returns, "
                "and close behind that, or annotate what it returns"
            )
        if self.lazy and self.is_async:
            raise TopologyError(
                f"{what} is async, and lazy=True: a function that asks for it cannot wait for it "
                "to open; leave lazy=True out, or make it a plain function"
            )


def unopened(resource: Resource[Any]) -> str:
    """What to say where one is asked for that is not open."""
    return (
        f"resource {resource.described} is not open: it is from the start of the app's run to its "
        "end, for what the app calls. Ask for it inside of a function, not where the module is "
        f"imported; a test gives one by app.test(resources={{{resource.__name__}: ...}})"
    )


class Opening(Protocol):
    """Decorates a function that opens a resource."""

    @overload
    def __call__(self, fn: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, fn: Callable[[], Iterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, fn: Callable[[], Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, fn: Callable[[], T], /) -> Resource[T]: ...


def _generates_below(call: Callable[[], Any]) -> bool:
    """Whether another decorator has made something else of a function that yields."""
    own = inspect.unwrap(call)
    return inspect.isgeneratorfunction(own) or inspect.isasyncgenfunction(own)


def _says_that_it_generates(call: Callable[[], Any]) -> bool:
    try:
        hint = get_type_hints(call).get("return") if inspect.isfunction(call) else None
    except NameError:
        return False  # of something that is only there for a type checker
    return getattr(get_origin(hint) or hint, "__name__", "") in _ITERATED

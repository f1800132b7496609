"""What of an event: a field by its name, or what a function makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

import msgspec

V = TypeVar("V")

Of: TypeAlias = str | Callable[[V], Any]


def getter(of: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    """How to get it. A field that a dict does not have is None."""
    if callable(of):
        return of
    name, attribute = of, attrgetter(of)
    return lambda event: event.get(name) if isinstance(event, Mapping) else attribute(event)


def as_dict(event: Any) -> dict[str, Any]:
    """The fields of a Struct, dataclass or dict. Raises TypeError for what has none."""
    if isinstance(event, msgspec.Struct):
        return msgspec.structs.asdict(event)
    if is_dataclass(event) and not isinstance(event, type):
        return asdict(event)
    if isinstance(event, Mapping):
        return dict(event)
    raise TypeError(f"a {type(event).__name__} has no fields")


def called(name: str, call: Callable[..., Any], returns: Any = None) -> Callable[..., Any]:
    """The function under another name, after which a step and its stores are called; `returns` is
    the type that its annotation could not say."""
    call.__name__ = call.__qualname__ = name
    if returns is not None:
        call.__annotations__["return"] = returns
    return call

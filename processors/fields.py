"""What of an event: a field by its name, or what a function makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, get_type_hints

import msgspec

from streamkit import Stream, TopologyError


def getter(of: str | Callable[[Any], Any], stream: Stream[Any]) -> Callable[[Any], Any]:
    """How to get it of the stream's values. A field that a dict does not have is None.

    Raises TopologyError for a field that they cannot have.
    """
    if callable(of):
        return of
    check_field(of, stream)
    name, attribute = of, attrgetter(of)
    return lambda event: event.get(name) if isinstance(event, Mapping) else attribute(event)


def check_field(field: str, stream: Stream[Any]) -> None:
    """Raises TopologyError for a field that the stream's values cannot have."""
    type_, known = stream.type, fields_of(stream.type)
    if known is None:
        return
    first = field.partition(".")[0]
    if first not in known and not hasattr(type_, first):
        near = get_close_matches(first, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}"
        raise TopologyError(
            f"the values of {stream.name!r}: {type_.__name__} has no field {first!r}{hint}"
        )


def fields_of(type_: Any) -> list[str] | None:
    """The fields that values of a type have; None: they are dicts, or nobody knows."""
    if isinstance(type_, type) and (is_dataclass(type_) or issubclass(type_, msgspec.Struct)):
        return list(get_type_hints(type_))
    return None


def as_dict(event: Any) -> dict[str, Any]:
    """The fields of a Struct, dataclass or dict. Raises TypeError for what has none."""
    if isinstance(event, msgspec.Struct):
        return msgspec.structs.asdict(event)
    if is_dataclass(event) and not isinstance(event, type):
        return {field.name: getattr(event, field.name) for field in fields(event)}
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

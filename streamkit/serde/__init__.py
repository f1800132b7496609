"""Keys and values to bytes and back, by type.

    serde_for(Order).encode(order)      # JSON, for a msgspec.Struct, dataclass, TypedDict, dict …
    serde_for(str)                      # UTF-8 without quotes
    serde_for(bytes)                    # as they are

Numbers are written as JSON numbers (`42`, `0.5`), tuples as JSON arrays, datetimes as ISO 8601.
"""

from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from streamkit.serde.json import JsonSerde
from streamkit.serde.plain import BytesSerde, TextSerde, UntypedSerde
from streamkit.serde.serde import Serde, Untyped, type_name

__all__ = ["Serde", "Untyped", "serde_for", "type_name", "without_none"]


def serde_for(type_: Any) -> Serde:
    """The serde of a type. Raises TopologyError for a type that JSON cannot carry."""
    plain, nullable = without_none(type_)
    if plain is Untyped:
        return UntypedSerde()
    if plain is str:
        return TextSerde(nullable)
    if plain is bytes:
        return BytesSerde(nullable)
    return JsonSerde(type_, nullable, plain)


def without_none(type_: Any) -> tuple[Any, bool]:
    """`str | None` is (str, True); `str` is (str, False); a wider union stays as it is."""
    if type_ is Any or type_ is object or type_ is None or type_ is NoneType:
        return type_, True
    if get_origin(type_) in (Union, UnionType):
        members = [member for member in get_args(type_) if member is not NoneType]
        nullable = len(members) < len(get_args(type_))
        return (members[0], nullable) if len(members) == 1 else (type_, nullable)
    return type_, False

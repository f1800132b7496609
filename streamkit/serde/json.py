"""Values as JSON, by msgspec: Structs, dataclasses, TypedDicts, dicts, numbers, unions."""

import dataclasses
from typing import Any

import msgspec

from streamkit.errors import SerdeError, TopologyError
from streamkit.serde.serde import type_name

_encoder = msgspec.json.Encoder(order="deterministic")
"""Deterministic: the same value always gives the same bytes, however a dict was filled."""


def _unreadable(type_: Any, why: str) -> TopologyError:
    return TopologyError(
        f"{type_name(type_)} cannot be read from JSON: {why}; use a msgspec.Struct, a dataclass, "
        "a TypedDict, or dict, str, bytes, int, float"
    )


class JsonSerde:
    """JSON of one type. None is the null value (a tombstone in a table), not the text `null`."""

    __slots__ = ("_class", "_decoder", "nullable", "type")

    def __init__(self, type_: Any, nullable: bool, plain: Any = None) -> None:
        """`plain` is the type without its None."""
        self.type = type_
        self.nullable = nullable
        plain = type_ if plain is None else plain
        # Only a plain class can be checked at the price of a pointer comparison; for the rest
        # (unions, generics) the type checker has seen the function that made the value.
        is_record = isinstance(plain, type) and (
            issubclass(plain, msgspec.Struct) or dataclasses.is_dataclass(plain)
        )
        self._class: type | None = plain if is_record else None
        try:
            self._decoder = msgspec.json.Decoder(type_)
            unknown = isinstance(msgspec.inspect.type_info(plain), msgspec.inspect.CustomType)
        except (TypeError, NameError) as error:
            raise _unreadable(type_, str(error)) from error
        if unknown:
            raise _unreadable(type_, "it has no typed fields")

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if self._class is not None and not isinstance(value, self._class):
            raise SerdeError(f"expected {type_name(self.type)}, got {type_name(type(value))}")
        try:
            return _encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerdeError(
                f"a {type_name(type(value))} cannot be written as JSON: {error}"
            ) from error

    def decode(self, data: bytes | None) -> Any:
        if data is None:
            if self.nullable:
                return None
            raise SerdeError(
                f"expected {type_name(self.type)}, got a null value; declare "
                f"`{type_name(self.type)} | None` to take null values"
            )
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SerdeError(f"expected {type_name(self.type)}: {error}") from error

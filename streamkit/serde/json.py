"""Values as JSON, by msgspec: Structs, dataclasses, TypedDicts, dicts, numbers, unions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from streamkit.codec import has_null
from streamkit.errors import SerdeError, TopologyError
from streamkit.serde.serde import type_name

_encode = msgspec.json.Encoder(order="deterministic").encode
"""Deterministic: the same value always gives the same bytes, however a dict was filled."""


def _encoded(value: Any) -> bytes:
    try:
        return _encode(value)
    except TypeError:
        # Keys that are no text, as of a dict[int, str], can only be sorted as text.
        return _encode(msgspec.to_builtins(value, str_keys=True))


def _unreadable(type_: Any, why: str) -> TopologyError:
    return TopologyError(
        f"{type_name(type_)} cannot be read from JSON: {why}; use a msgspec.Struct, a dataclass, "
        "a TypedDict, or dict, str, bytes, int, float"
    )


class JsonSerde:
    """JSON of one type. None is the null value (a tombstone in a table), not the text `null`."""

    __slots__ = ("_class", "_decoder", "nullable", "quick", "read", "type", "write")

    def __init__(self, type_: Any, nullable: bool, plain: Any = None) -> None:
        """`plain` is the type without its None."""
        self.type = type_
        self.nullable = nullable
        plain = type_ if plain is None else plain
        # Only a plain class can be checked at the price of a comparison; for the rest
        # (unions, generics) the type checker has seen the function that made the value.
        is_checked = isinstance(plain, type) and (
            issubclass(plain, msgspec.Struct)
            or dataclasses.is_dataclass(plain)
            or plain in (bool, int, float)
        )
        self._class: Any = (int, float) if plain is float else plain if is_checked else None
        try:
            self._decoder = msgspec.json.Decoder(type_)
            unknown = isinstance(msgspec.inspect.type_info(plain), msgspec.inspect.CustomType)
        except (TypeError, NameError) as error:
            raise _unreadable(type_, str(error)) from error
        if unknown:
            raise _unreadable(type_, "it has no typed fields")
        self.read: Callable[[Any], Any] = self._decoder.decode
        self.write = self.encode
        self.quick = (plain, _encode) if is_checked else None

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if self._class is not None and (
            not isinstance(value, self._class) or (type(value) is bool and self._class is not bool)
        ):
            raise SerdeError(f"expected {type_name(self.type)}, got {type_name(type(value))}")
        try:
            data = _encoded(value)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            msgspec.MsgspecError,
        ) as error:
            raise SerdeError(
                f"a {type_name(type(value))} cannot be written as JSON: {error}"
            ) from error
        if self._class is not None and has_null(data):
            # It may be a NaN or an infinity, which JSON does not have: nobody could read it again.
            self._refuse_lost(data)
        return data

    def _refuse_lost(self, data: bytes) -> None:
        try:
            self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise SerdeError(
                f"expected {type_name(self.type)}: {error} (NaN and infinity are null in JSON)"
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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SerdeError(f"expected {type_name(self.type)}: {error}") from error

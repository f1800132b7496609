"""Text, bytes, and values whose type nobody said."""

from collections.abc import Callable
from typing import Any

from streamkit.errors import SerdeError
from streamkit.serde.json import JsonSerde
from streamkit.serde.serde import Untyped, type_name


def _refuse_null(name: str) -> SerdeError:
    return SerdeError(
        f"expected {name}, got a null value; declare `{name} | None` to take null values"
    )


class TextSerde:
    """`str` as UTF-8, without quotes."""

    __slots__ = ("nullable", "read", "write")
    quick = (str, str.encode)

    def __init__(self, nullable: bool) -> None:
        self.nullable = nullable
        self.read: Callable[[Any], Any] = bytes.decode
        self.write: Callable[[Any], bytes | None] = str.encode

    @property
    def type(self) -> Any:
        return str | None if self.nullable else str

    def encode(self, value: Any) -> bytes | None:
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise SerdeError(f"expected str: {error}") from error
        if value is None:
            return None
        raise SerdeError(f"expected str, got {type_name(type(value))}")

    def decode(self, data: bytes | None) -> Any:
        if data is None:
            if self.nullable:
                return None
            raise _refuse_null("str")
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise SerdeError(f"expected str: not UTF-8 at byte {error.start}") from error


class BytesSerde:
    """`bytes` as they are."""

    __slots__ = ("nullable", "read", "write")
    quick = (bytes, bytes)

    def __init__(self, nullable: bool) -> None:
        self.nullable = nullable
        self.read = self.decode
        self.write = self.encode

    @property
    def type(self) -> Any:
        return bytes | None if self.nullable else bytes

    def encode(self, value: Any) -> bytes | None:
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        raise SerdeError(f"expected bytes, got {type_name(type(value))}")

    def decode(self, data: bytes | None) -> Any:
        if data is None and not self.nullable:
            raise _refuse_null("bytes")
        return data


_TEXT = TextSerde(nullable=True)


class UntypedSerde:
    """Values by what they are: text as UTF-8, bytes as they are, the rest as JSON. Write-only."""

    __slots__ = ("_json", "read", "write")

    type: Any = Untyped
    nullable = True
    quick = None

    def __init__(self) -> None:
        self._json = JsonSerde(Any, nullable=True)
        self.read = self.decode
        self.write = self.encode

    def encode(self, value: Any) -> bytes | None:
        if isinstance(value, str):
            return _TEXT.encode(value)
        if value is None or isinstance(value, bytes):
            return value
        return self._json.encode(value)

    def decode(self, data: bytes | None) -> Any:
        raise SerdeError("values of unknown type cannot be read; say their type")

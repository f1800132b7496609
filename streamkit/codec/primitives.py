"""The few primitive types that the records of Kafka's own topics are made of, big-endian.

A string is a 16-bit length (−1: null) and UTF-8; bytes and arrays have a 32-bit count. From their
"flexible" versions on, records use compact strings and counts (an unsigned varint, length + 1) and
end in tagged fields, each | tag | size | bytes |, which a reader may skip.
"""

import struct
from collections.abc import Mapping

from streamkit.errors import DataError, UsageError

_I8 = struct.Struct(">b")
_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_LONGEST = 0x7FFF


class Writer:
    """Appends primitives to a buffer; UsageError for a text or number that a field cannot hold.

    With `flexible`, strings and counts are written in their compact form.
    """

    def __init__(self, flexible: bool = False) -> None:
        self._out = bytearray()
        self.flexible = flexible

    def i8(self, number: int) -> None:
        self._out += _I8.pack(number)

    def i16(self, number: int) -> None:
        self._out += _I16.pack(number)

    def i32(self, number: int) -> None:
        self._out += _I32.pack(number)

    def i64(self, number: int) -> None:
        try:
            self._out += _I64.pack(number)
        except struct.error:
            raise UsageError(f"{number} is more than the 64 bits of an offset or time") from None

    def count(self, number: int) -> None:
        """How many elements follow; −1 for a null array."""
        if self.flexible:
            self.uvarint(number + 1)
        else:
            self.i32(number)

    def tags(self, fields: Mapping[int, bytes] | None = None) -> None:
        """The tagged fields that end a structure of a flexible version."""
        if self.flexible:
            self.uvarint(len(fields or ()))
            for tag, raw in sorted((fields or {}).items()):
                self.uvarint(tag)
                self.uvarint(len(raw))
                self._out += raw

    def string(self, text: str | None) -> None:
        if text is None:
            self._length(-1)
            return
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{text[:40]!r} cannot be written as UTF-8: {error.reason}") from None
        if len(raw) > _LONGEST:
            raise UsageError(
                f"a text of {len(raw)} bytes in a record, and {_LONGEST} are possible: "
                f"{text[:40]!r}…"
            )
        self._length(len(raw))
        self._out += raw

    def blob(self, raw: bytes | None) -> None:
        if raw is None:
            self.i32(-1)
            return
        self.i32(len(raw))
        self._out += raw

    def done(self) -> bytes:
        return bytes(self._out)

    def _length(self, size: int) -> None:
        if self.flexible:
            self.uvarint(size + 1)
        else:
            self.i16(size)

    def uvarint(self, number: int) -> None:
        """Seven bits to a byte, the lowest first."""
        while number > 0x7F:
            self._out.append(number & 0x7F | 0x80)
            number >>= 7
        self._out.append(number)


class Reader:
    """Takes primitives off a buffer; DataError when it ends early or a length lies.

    With `flexible`, strings, bytes and counts are read in their compact form.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self.flexible = False

    def i8(self) -> int:
        return int.from_bytes(self._take(1), "big", signed=True)

    def i16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def i32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def i64(self) -> int:
        return int.from_bytes(self._take(8), "big", signed=True)

    def string(self) -> str:
        return self.nullable_string() or ""

    def nullable_string(self) -> str | None:
        size = self._uvarint() - 1 if self.flexible else self.i16()
        if size < 0:
            return None
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"a record's string is not UTF-8: {error}") from None

    def blob(self) -> bytes:
        size = self.count()
        return self._take(size) if size > 0 else b""

    def count(self) -> int:
        """The length of what follows: bytes, or elements of at least one byte; null counts 0."""
        size = self._uvarint() - 1 if self.flexible else self.i32()
        if size > len(self._raw) - self._at:
            raise DataError(f"a record names {size} bytes or elements and ends before them")
        return max(size, 0)

    def tags(self) -> dict[int, bytes]:
        """The tagged fields that end a structure of a flexible version."""
        found: dict[int, bytes] = {}
        if self.flexible:
            for _ in range(self._uvarint()):
                tag = self._uvarint()
                found[tag] = self._take(self._uvarint())
        return found

    def _uvarint(self) -> int:
        number = 0
        for shift in range(0, 35, 7):
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise DataError("a record has a varint of more than five bytes")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._raw):
            raise DataError(f"a record of {len(self._raw)} bytes ends before its fields do")
        taken = self._raw[self._at : end]
        self._at = end
        return taken

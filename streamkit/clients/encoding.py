"""What is sent as keys and values, as the bytes that go into the log."""

from collections.abc import Iterable
from typing import Any

from streamkit import codec
from streamkit.serde import Untyped, serde_for

_encode_untyped = serde_for(Untyped).encode


def encode(value: Any) -> bytes | None:
    """What goes into the log for a key or value that is not bytes already."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return _encode_untyped(value)


def encode_all(values: Iterable[Any]) -> list[bytes | None]:
    """All of them as bytes; a list of such is given back as it is, for who reads it at once."""
    some = values if isinstance(values, list) else list(values)
    return some if codec.are_bytes(some) else [v if type(v) is bytes else encode(v) for v in some]

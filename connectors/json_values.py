"""Record values as JSON, with the record's coordinates in every complaint."""

from typing import Any

import msgspec

from streamkit.errors import SerdeError
from streamkit.records import Record

_decode = msgspec.json.Decoder().decode
_SHOWN = 80
"""Characters of a key in a message."""


def value_of(record: Record[bytes | None]) -> Any:
    """The value, which is JSON. Raises SerdeError."""
    try:
        return _decode(record.value or b"")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SerdeError(f"{record.coordinates}: the value is not JSON: {error}") from error


def object_of(record: Record[bytes | None]) -> dict[str, Any]:
    """The value as a JSON object. Raises SerdeError."""
    value = value_of(record)
    if not isinstance(value, dict):
        raise SerdeError(
            f"{record.coordinates}: expected a JSON object, found {type(value).__name__}"
        )
    return value


def key_fields_of(record: Record[bytes | None], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of the key: one name is the key itself as text, several are a JSON object's, or
    the elements of an array, as a tuple becomes one.

    Raises SerdeError.
    """
    key = record.key
    if key is None:
        raise SerdeError(
            f"{record.coordinates}: no key to take pk.fields ({', '.join(names)}) from"
        )
    if len(names) == 1:
        try:
            return {names[0]: key.decode()}
        except UnicodeDecodeError as error:
            raise SerdeError(f"{record.coordinates}: the key is not UTF-8") from error
    try:
        fields = _decode(key)
    except (msgspec.MsgspecError, RecursionError):
        fields = None  # text
    if isinstance(fields, list) and len(fields) == len(names):
        return dict(zip(names, fields, strict=True))
    if isinstance(fields, dict) and all(name in fields for name in names):
        return {name: fields[name] for name in names}
    raise SerdeError(
        f"{record.coordinates}: pk.fields names {len(names)} columns ({', '.join(names)}), so "
        "a key has to be a JSON object with these fields, or an array of as many; it is "
        f"{_shown(key)}"
        + ("" if isinstance(fields, dict | list) else ": pk.fields has one name for such a key")
    )


def _shown(key: bytes) -> str:
    text = key.decode(errors="backslashreplace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def compact(record: Record[bytes | None]) -> bytes:
    """The value as JSON on one line; null for a record without one. Raises SerdeError."""
    if record.value is None:
        return b"null"
    try:
        record.value.decode()  # `format` lets bytes that are no UTF-8 pass
        return msgspec.json.format(record.value, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SerdeError(f"{record.coordinates}: the value is not JSON: {error}") from error

"""Values that not everybody is to see, made unreadable."""

from dataclasses import is_dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from streamkit import Stream
from streamkit.processors.fields import as_dict, called, check_field

V = TypeVar("V")


def mask(
    stream: Stream[V],
    *fields: str,
    secret: str | None = None,
    keep: int = 0,
    name: str | None = None,
) -> Stream[V]:
    """The events with text fields masked: as `***`, of which the last `keep` characters are seen.

    With a `secret`, instead of the stars, there is a mark of 16 hex digits that is the same for
    equal values: it can be joined and counted by, and nobody without the secret can try which
    value it stands for. None stays None.
    """
    if not fields:
        raise ValueError("mask: name the fields to be masked")

    def hidden(value: object) -> str | None:
        if value is None:
            return None
        text = str(value)
        # Of something short, all would be seen.
        seen = text[-keep:] if 0 < keep < len(text) else ""
        if secret is None:
            return f"***{seen}"
        key = blake2b(secret.encode(), digest_size=32).digest()
        return blake2b(text.encode(), key=key, digest_size=8).hexdigest() + seen

    for field in fields:
        check_field(field, stream)

    def masked(event: Any) -> Any:
        known = as_dict(event)
        changed = {field: hidden(known[field]) for field in fields if field in known}
        if not isinstance(event, dict):
            for field in fields:
                if field not in known:
                    raise AttributeError(f"mask: {type(event).__name__} has no field {field!r}")
                if not isinstance(known[field], str | None):
                    # It would be text where its readers expect something else.
                    kind = type(known[field]).__name__
                    raise TypeError(f"mask: field {field!r} is of type {kind}; text can be masked")
        if isinstance(event, msgspec.Struct):
            return msgspec.structs.replace(event, **changed)
        if is_dataclass(event) and not isinstance(event, type):
            return replace(event, **changed)
        return {**event, **changed}

    return stream.map(called(name or f"{stream.name}-mask", masked, stream.type))

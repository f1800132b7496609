"""What an event goes back to, where the record at hand is another one in every run.

The root of an event is a name that no other has, the same whenever all is done again: of what was
handed over, the record from outside that it was made of, and which of those that were made of that;
of what comes of time, or of two events that met, what tells that from all of its kind. A Context
draws by it. An event without one is of the record at hand.

    orders-3@18231.0           the first that was handed over of that record
    orders-3@18231.0.2         of which that was the third; one that is too long is a digest
    spent:8f3c…                a window's result, a timer, or a pair: which one
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

_LONG = 96
"""Bytes; a longer one is shortened."""


def nth(root: bytes, number: int) -> bytes:
    """Of those that were made of an event, the one of that number."""
    made = b"%s.%d" % (root, number)
    return made if len(made) <= _LONG else digest(made)


def made(name: str, *parts: Any) -> bytes:
    """What a step made of something that these tell from all else there."""
    return b"%s:%s" % (name.encode(), digest(repr(parts).encode()))


def among_equals(events: Iterable[Any], encode: Callable[[Any], bytes | None]) -> list[bytes]:
    """A name of each of the events of one key and time, whatever order they came in."""
    count: dict[bytes, int] = {}
    names = []
    for event in events:
        data = digest(encode(event) or b"")
        count[data] = number = count.get(data, -1) + 1
        names.append(b"%s.%d" % (data, number))
    return names


def digest(data: bytes) -> bytes:
    """What tells bytes from all others, in 32 letters."""
    return blake2b(data, digest_size=16).hexdigest().encode()

"""Some events in place of all."""

from hashlib import blake2b
from typing import Any, TypeVar

from streamkit import Context, Stream
from streamkit.processors.fields import called

V = TypeVar("V")


def sample(
    stream: Stream[V], part: float, *, whole_keys: bool = False, name: str | None = None
) -> Stream[V]:
    """About `part` (0 to 1) of the events, the same ones whenever the stream is processed.

    They are chosen by their places in the topic. Behind `by`, where events of several partitions
    are handed over, those depend on the run: choose before it, or `whole_keys`.
    With that, all events of about that part of the keys; a larger part has the keys of a
    smaller one among its own.
    """
    if not 0 <= part <= 1:
        raise ValueError(f"sample: part={part}; it is from 0 to 1")

    def chosen(event: Any, context: Context) -> bool:
        if not whole_keys:
            return context.random() < part
        digest = blake2b(repr(context.key).encode(), digest_size=8).digest()
        return int.from_bytes(digest) < part * 2**64

    return stream.filter(called(name or f"{stream.name}-sample", chosen))

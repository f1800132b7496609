"""Records on their way into batches: by lists, and by a quick way for single ones.

The compiled `fill_batches` and `are_bytes` do the same as these. `QuickSend` exists compiled only:
where there is none, `Producer.send` is all there is.
"""

from collections.abc import Sequence
from typing import Any

from streamkit.codec.partitioner import partition_for
from streamkit.codec.pure import Builder


class Lane:
    """The batch that is being filled for one partition, as the quick way sees it.

    While `open` is true, a plain record may go straight into `builder`: the batch has begun,
    nothing older waits to be written, and nobody needs to be told. Whoever builds the batch, or
    has an error to raise, closes the lane before. At `limit` bytes the batch is full.
    """

    __slots__ = ("buffer", "builder", "limit", "open")

    def __init__(self, buffer: Any) -> None:
        """`buffer` is what is handed on when the batch is full."""
        self.buffer = buffer
        self.builder = Builder()
        self.limit = 0
        self.open = False


class Lanes:
    """The lanes of a topic, one per partition; `sticky` takes the records without a key."""

    __slots__ = ("lanes", "sticky")

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.sticky: Lane | None = None


def are_bytes(values: object) -> bool:
    """Whether it is a list of nothing but bytes and None."""
    return type(values) is list and all(type(one) is bytes or one is None for one in values)


def fill_batches(
    builders: list[Builder],
    values: list[bytes | None],
    keys: Sequence[bytes | None] | None,
    timestamps: Sequence[int] | int,
    start: int,
    limit: int,
) -> tuple[int, int]:
    """Add records from index `start` on, until a batch has `limit` bytes.

    Each goes to the builder of its key's partition, those without a key to the first. Returns
    where to go on and which builder is full (-1: none, and all were added). Raises InvalidRecord
    and RecordTooLarge as `Builder.append` does; what was added before stays.
    """
    number = 0
    for i in range(start, len(values)):
        key = None if keys is None else keys[i]
        if keys is not None and len(builders) > 1:
            number = 0 if key is None else partition_for(key, len(builders))
        when = timestamps if isinstance(timestamps, int) else timestamps[i]
        if builders[number].append(values[i], key, when) >= limit:
            return i + 1, number
    return len(values), -1

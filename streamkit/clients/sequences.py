"""A producer's id, and the numbers that keep its batches from being appended twice."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from streamkit import codec
from streamkit.codec.buffer import Encoded
from streamkit.codec.header import LAYOUT
from streamkit.records import TopicPartition
from streamkit.transactions.producer import sequence_after

Place: TypeAlias = tuple[str, TopicPartition]
"""A topic's id and a partition of it: one that was made anew begins with sequence 0 again."""


class _At(NamedTuple):
    """`last` is the batch that was appended last, at `offset`. `tried` has the next sequence, and
    nobody knows whether it was appended: it was interrupted."""

    sequence: int = 0
    last: Encoded | None = None
    offset: int = -1
    tried: Encoded | None = None


class Sequences:
    """The batches of one producer id and epoch. Not for use from two threads at once."""

    def __init__(self, producer: tuple[int, int], *, transactional: bool = False) -> None:
        """`producer`: id and epoch."""
        self.producer = producer
        self._transactional = transactional
        self._places: dict[Place, _At] = {}

    def append(self, place: Place, batch: Encoded, append: Callable[[Encoded], int]) -> int:
        """Append a batch by means of `append`, and give its first offset.

        The same object again is not appended again. An error of `append` means that it did not;
        after an interrupt it may have, and the next call finds out.
        """
        at = self._places.get(place, _At())
        if at.tried is not None and at.tried is not batch:
            self.append(place, at.tried, append)
            at = self._places[place]
        if at.last is batch:
            return at.offset
        # One store each: an interrupt comes before it or after it.
        self._places[place] = _At(at.sequence, at.last, at.offset, batch)
        try:
            stamped = codec.of_producer(
                batch, *self.producer, at.sequence, transactional=self._transactional
            )
            offset = append(stamped)
        except Exception:
            self._places[place] = at  # as unsure as before, if it had been tried before
            raise
        *_, count = LAYOUT.unpack_from(batch)  # of our own making: nothing to check
        self._places[place] = _At(sequence_after(at.sequence, count), batch, offset)
        return offset

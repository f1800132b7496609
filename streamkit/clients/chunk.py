"""A stretch of one partition's records on its way to the user."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any

from streamkit.records import Record, TopicPartition


@dataclass(slots=True)
class Chunk:
    """Records, from offset `start` up to `end`, and how far the user has taken them.

    Taking costs nothing but the list's own iterator: how many it has given out is read off it.
    """

    partition: TopicPartition
    records: list[Record[Any]]
    start: int
    end: int
    decoded: bool = False
    iterator: Iterator[Record[Any]] = field(init=False)
    done: int | None = None
    """The first record of the last `poll`, or the offset that the user has committed, as long as
    no other record was asked for since."""

    def __post_init__(self) -> None:
        self.iterator = iter(self.records)

    @property
    def taken(self) -> int:
        return len(self.records) - length_hint(self.iterator)

    @property
    def position(self) -> int:
        """The offset after everything that was taken."""
        taken = self.taken
        if taken == len(self.records):
            return self.end
        return self.records[taken].offset if taken else self.start

    @property
    def finished(self) -> int:
        """The offset after everything that the user has surely done with.

        Whoever is busy with a record has taken it, but has not asked for the next one yet.
        """
        if self.done is not None:
            return self.done
        taken = self.taken
        return self.records[taken - 1].offset if taken else self.start

    def cut(self, end: int) -> None:
        """Leave out what stands at `end` or after it."""
        if self.end > end:
            self.records = [record for record in self.records if record.offset < end]
            self.iterator = iter(self.records)
            self.end = end

    def split(self) -> "Chunk":
        """Give out nothing more of this one, and the rest of it as another."""
        taken, position = self.taken, self.position
        rest = Chunk(self.partition, self.records[taken:], position, self.end, self.decoded)
        del self.records[taken:]
        self.end = position
        return rest

    def stop(self) -> None:
        """Give out nothing more, also from a loop that is under way."""
        self.records.clear()
        self.start = self.end

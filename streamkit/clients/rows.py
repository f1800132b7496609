"""Records as columns, cut into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamkit import codec

_RECORD_BYTES = 8
"""About what a record takes beside its key and value."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Values of one topic, with their keys (None: none has one) and timestamps in ms."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None
    timestamps: Sequence[int] | int

    def __iter__(self) -> Iterator[tuple[bytes | None, bytes | None, int]]:
        for at, value in enumerate(self.values):
            when = self.timestamps if isinstance(self.timestamps, int) else self.timestamps[at]
            yield value, None if self.keys is None else self.keys[at], when

    def chunks(self, size: int) -> Iterator["Rows"]:
        """Pieces of about `size` bytes each, as if all records were of the same length."""
        total = sum(map(len, filter(None, self.values))) + _RECORD_BYTES * len(self.values)
        if self.keys is not None:
            total += sum(map(len, filter(None, self.keys)))
        step = max(1, size * len(self.values) // max(1, total))
        if step >= len(self.values):
            yield self
            return
        for at in range(0, len(self.values), step):
            yield self._part(slice(at, at + step))

    def by_partition(self, count: int) -> dict[int, "Rows"]:
        """Who goes where, by key; those without one go together to the partition of the first."""
        keys = self.keys
        assert keys is not None
        if count == 1:
            return {0: self}
        places: list[list[int]] = [[] for _ in range(count)]
        partition_for = codec.partition_for
        for at, key in enumerate(keys):
            places[0 if key is None else partition_for(key, count)].append(at)
        return {
            number: Rows(
                [self.values[at] for at in chosen],
                [keys[at] for at in chosen],
                self.timestamps
                if isinstance(self.timestamps, int)
                else [self.timestamps[at] for at in chosen],
            )
            for number, chosen in enumerate(places)
            if chosen
        }

    def _part(self, part: slice) -> "Rows":
        return Rows(
            self.values[part],
            None if self.keys is None else self.keys[part],
            self.timestamps if isinstance(self.timestamps, int) else self.timestamps[part],
        )

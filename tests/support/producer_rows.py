"""What producers with ids wrote to one partition, as a list; everything is looked up in it anew."""

from collections.abc import Iterable
from typing import NamedTuple

from streamkit.codec import columns, encode
from streamkit.log.partition import Partition

IDS = range(3)


class Row(NamedTuple):
    """A batch, or with an outcome (committed or not) a marker."""

    offset: int
    count: int
    producer: int = -1
    epoch: int = -1
    sequence: int = -1
    transactional: bool = False
    outcome: bool | None = None

    @property
    def end(self) -> int:
        return self.offset + self.count

    @property
    def values(self) -> list[bytes]:
        return [b"%d" % (self.offset + n) * 20 for n in range(self.count)]

    @property
    def encoded(self) -> bytes:
        return encode(
            self.values,
            timestamps=2**45,
            producer_id=self.producer,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=self.transactional,
        )


class Rows(list[Row]):
    @property
    def end(self) -> int:
        return self[-1].end if self else 0

    def of(self, producer: int) -> list[Row]:
        return [row for row in self if row.producer == producer]

    def open_from(self, producer: int) -> int | None:
        first = None
        for row in self.of(producer):
            if row.outcome is not None:
                first = None
            elif row.transactional and first is None:
                first = row.offset
        return first

    def epoch(self, producer: int) -> int:
        mine = self.of(producer)
        return mine[-1].epoch if mine else 0

    def sent(self, producer: int) -> list[Row]:
        """What the producer has sent in its present epoch."""
        epoch = self.epoch(producer)
        return [row for row in self.of(producer) if row.outcome is None and row.epoch == epoch]

    def next_sequence(self, producer: int) -> int:
        sent = self.sent(producer)
        return sent[-1].sequence + sent[-1].count if sent else 0

    @property
    def opened(self) -> dict[int, int]:
        """The producers that are in a transaction, and their epochs."""
        return {one: self.epoch(one) for one in IDS if self.open_from(one) is not None}

    @property
    def stable(self) -> int:
        firsts = [self.open_from(producer) for producer in IDS]
        return min((first for first in firsts if first is not None), default=self.end)

    @property
    def committed(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for n, row in enumerate(self):
            if row.offset >= self.stable or row.outcome is not None:
                continue
            after = (r for r in self[n:] if r.producer == row.producer)
            ended = next((r.outcome for r in after if r.outcome is not None), True)
            if not row.transactional or ended:
                found += enumerate(row.values, row.offset)
        return found

    # What comes next.

    def following(self, producer: int, counts: Iterable[int], *, transactional: bool) -> list[Row]:
        rows, at, sequence = [], self.end, self.next_sequence(producer)
        for count in counts:
            rows.append(Row(at, count, producer, self.epoch(producer), sequence, transactional))
            at, sequence = at + count, sequence + count
        return rows

    def plain(self, counts: Iterable[int]) -> list[Row]:
        rows, at = [], self.end
        for count in counts:
            rows.append(Row(at, count))
            at += count
        return rows

    def ending(self, producer: int, *, commit: bool) -> Row:
        return Row(self.end, 1, producer, self.epoch(producer) + 1, outcome=commit)


def decoded(pieces: list[bytes], offset: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for piece in pieces:
        some = columns(piece, offset)
        found += zip(some.offsets, some.values, strict=True)  # type: ignore[arg-type]
    return found


def read_all(partition: Partition) -> list[tuple[int, bytes]]:
    """All that is committed, with offsets."""
    found, offset = [], partition.start_offset
    while (some := partition.read_committed(offset)).next_offset > offset:
        found += decoded(some.pieces, offset)
        offset = some.next_offset
    return found
